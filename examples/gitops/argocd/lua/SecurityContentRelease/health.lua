-- Says what the operator wrote into status, and judges nothing. Only base Lua: Argo CD has no string.* for scripts
-- from argocd-cm.
local status = obj.status
if status == nil or status.phase == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not looked at this generation yet"}
end

local phase, message = status.phase, status.phase
if status.reason ~= nil then
  message = message .. ", " .. status.reason
end
local wave = status.wave
if wave ~= nil and wave.number ~= nil and wave.of ~= nil then
  message = message .. ", wave " .. wave.number .. " of " .. wave.of
end
if status.message ~= nil then
  message = message .. ": " .. status.message
end

local valid = true
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" and condition.status == "False" then
    valid = false
  end
end

local reason = status.reason
local health = "Progressing"
if phase == "Superseded" or (phase == "Completed" and reason ~= "BakeFailed") then
  health = "Healthy"
elseif phase == "Reverting" and reason == "Replaced" then
  health = "Progressing" -- it makes room for a newer one, and did no harm
elseif phase == "Completed" or phase == "Reverting" or phase == "Reverted" or phase == "Rejected" then
  health = "Degraded"
elseif phase == "Paused" and status.incident ~= nil then
  health = "Degraded" -- harm was seen, and the channel says: only pause
elseif phase == "Pending" and not valid then
  health = "Degraded" -- somebody has to correct it
elseif phase == "Paused" or status.waitingFor == "Person" then
  health = "Suspended"
end
return {status = health, message = message}
