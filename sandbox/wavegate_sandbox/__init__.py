"""A real Kubernetes control plane on one machine, for the demo, the tests and the benchmarks.

This package knows nothing of the operator and the operator nothing of it: what is tried here is
what runs in production. Start with `Sandbox` and `Options` in `wavegate_sandbox.cluster`.
"""
