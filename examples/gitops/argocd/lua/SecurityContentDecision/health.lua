-- Says what the operator wrote into status, and judges nothing.
local status = obj.status
if status == nil or status.phase == nil then
  return {status = "Progressing", message = "The operator has not looked at it yet"}
end

local message = status.phase
if status.message ~= nil then
  message = message .. ": " .. status.message
end
if obj.spec ~= nil and obj.spec.decidedBy ~= nil then
  message = message .. " (decided by " .. obj.spec.decidedBy .. ")"
end
if status.phase == "Refused" then
  return {status = "Degraded", message = message}
end
return {status = "Healthy", message = message}
