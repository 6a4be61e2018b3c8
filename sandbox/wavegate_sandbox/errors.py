# ruff: noqa: N818 - each name is what happened
"""Errors of the sandbox. Each says what happened and what can be done about it."""


class SandboxError(Exception):
    """Base of all errors raised by this package."""


class BuildFailed(SandboxError):
    """A tool could not be compiled, or there is no Go to compile it with."""


class ComponentFailed(SandboxError):
    """A component of the control plane ended, or did not get ready in time."""


class PortTaken(ComponentFailed):
    """Another program took the component's port between choice and use; try another port."""


class NotOurs(SandboxError):
    """The cluster was not started by us, so its processes and machines are not ours to touch."""


class ContextRefused(SandboxError):
    """An existing cluster was named without saying that this very context may be touched."""


class TimedOut(SandboxError):
    """A condition did not come true in time. The message has what was awaited and last seen."""


class ApiError(SandboxError):
    """The apiserver answered with an error.

    `status` is the HTTP status code, `reason` the Kubernetes reason (`NotFound`, `Conflict`, …).
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
