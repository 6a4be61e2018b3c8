-- Says what the operator wrote into status, and judges nothing. A release that rolls out has its own health.
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not looked at this generation yet"}
end

local ready
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
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
return {status = "Healthy", message = message}
