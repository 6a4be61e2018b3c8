-- A pause that was decided can be ended from here.
local names = {"resume"}
local spec, status = obj.spec or {}, obj.status or {}
local release, digest = spec.release, spec.digest

local function why_not(_)
  if spec.action ~= "Pause" then
    return "only a pause can be ended, and this is no pause"
  end
  if status.phase ~= "Accepted" then
    return "this pause is not in force"
  end
  return nil
end

local function details(_)
  return {}
end
