-- Which decisions make sense now. A decision names the digest and the wave that the person saw, so that a click on an
-- old page decides nothing about what came since.
local names = {"approve", "pause", "resume", "revert"}
local status = obj.status or {}
local wave = status.wave or {}
local release, digest = obj.metadata.name, status.digest

local function why_not(action)
  local phase = status.phase
  if phase == nil or digest == nil then
    return "the operator has not looked at this release yet"
  end
  if action == "approve" then
    if phase == "Rolling" and wave.state == "AwaitingApproval" and wave.name ~= nil then
      return nil
    end
    return "no wave of it waits for an approval"
  elseif action == "pause" then
    if phase == "Rolling" then
      return nil
    end
    return "it does not roll out now: it is " .. phase
  elseif action == "resume" then
    if phase ~= "Paused" then
      return "it is not paused: it is " .. phase
    end
    local reason = status.reason
    if reason == "Suspended" or reason == "ChannelSuspended" or reason == "HandsOff" or reason == "StateLost" then
      return "no decision ends this pause (" .. reason .. "): take back what caused it"
    end
    return nil
  end
  if phase == "Rolling" or phase == "Paused" then
    return nil
  end
  return "it does not roll out now: it is " .. phase
end

local function details(action)
  if action == "approve" then
    return {wave = wave.name}
  end
  return {}
end
