-- Where releases come from a feed and not from Git, the channel is what people see in Argo CD: from here they stop
-- what rolls out on it. Its status does not say which wave waits, nor why it is paused, so the rest is at the release.
local names = {"pause", "revert"}
local candidate = (obj.status or {}).candidate or {}
local release, digest = candidate.release, candidate.digest
if candidate.kind == "Agent" then
  digest = candidate.agent -- a change of the agent is named by its template
end

local function why_not(_)
  if release == nil or digest == nil then
    return "nothing rolls out on this channel now"
  end
  return nil
end

local function details(_)
  return {}
end
