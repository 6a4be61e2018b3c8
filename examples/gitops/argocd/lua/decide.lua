-- For all kinds. An action creates a SecurityContentDecision: nothing that Git also says is changed, so that
-- self-heal has nothing to undo. Kubernetes sees Argo CD's account, and so does the record.
local shown = {
  approve = {"Approve", "fa fa-fw fa-check-circle", "Approve the wave that waits"},
  pause = {"Pause", "fa fa-fw fa-pause-circle", "Pause for 24 hours"},
  resume = {"Resume", "fa fa-fw fa-play-circle", "Resume"},
  revert = {"Revert", "fa fa-fw fa-undo", "Revert: take the content back from all nodes"}
}
local usual = "an action in Argo CD; its event ResourceActionRan has the person"

local function discovery()
  local actions = {}
  for _, name in ipairs(names) do
    actions[name] = {
      disabled = why_not(name) ~= nil,
      iconClass = shown[name][2],
      displayName = shown[name][3],
      params = {{name = "reason", default = usual}}
    }
  end
  return actions
end

-- Argo CD runs an action that discovery disables when a client asks for it all the same.
local function decide(name)
  local why = why_not(name)
  if why ~= nil then
    error(name .. " makes no sense: " .. why, 0)
  end
  local reason = actionParams ~= nil and actionParams["reason"] or nil
  if reason == nil or reason == "" then
    reason = usual
  end
  local spec = details(name)
  spec.release, spec.digest, spec.action, spec.reason = release, digest, shown[name][1], reason
  local decision = {
    apiVersion = obj.apiVersion,
    kind = "SecurityContentDecision",
    metadata = {
      generateName = "argocd-" .. name .. "-",
      namespace = obj.metadata.namespace,
      -- A child, so that it is shown below what it was made from, and not pruned for not being in Git.
      ownerReferences = {
        {apiVersion = obj.apiVersion, kind = obj.kind, name = obj.metadata.name, uid = obj.metadata.uid}
      }
    },
    spec = spec
  }
  return {{operation = "create", resource = decision}}
end
