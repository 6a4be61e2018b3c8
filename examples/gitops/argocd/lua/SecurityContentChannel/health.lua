-- Says what the operator wrote into status, and judges nothing. A release that rolls out has its own health.
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not looked at this generation yet"}
end

local ready, current
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  elseif condition.type == "AgentCurrent" then
    current = condition
  end
end
if ready == nil or ready.status == nil then
  return {status = "Progressing", message = "The operator has not said yet whether the channel is valid"}
end

local message = ready.message or ""
if ready.status ~= "True" then
  local health = "Degraded"
  if ready.reason == "HandsOff" then
    health = "Suspended"
  end
  return {status = health, message = (ready.reason or "not ready") .. ": " .. message}
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true, so no node is moved. " .. message}
end

-- A change of the agent has no release that could say how it goes.
local agent = status.agentRollout or {}
if current ~= nil and current.reason == "AgentTemplateFailed" then
  return {status = "Degraded", message = "AgentTemplateFailed: " .. (current.message or "")}
end
if agent.phase == "Paused" or agent.phase == "Pending" or agent.phase == "Rolling" or agent.phase == "Reverting" then
  local health = "Progressing"
  if agent.incident ~= nil and agent.incident.reason ~= "AgentTemplateChanged" then
    health = "Degraded"
  elseif agent.phase == "Paused" or agent.waitingFor == "Person" then
    health = "Suspended"
  end
  return {status = health, message = "The agent's change: " .. agent.phase .. ": " .. (agent.message or "")}
end
return {status = "Healthy", message = message}
