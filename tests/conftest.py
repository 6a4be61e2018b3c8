"""Fixtures for all tests: the control plane and what comes with it."""

pytest_plugins = ["wavegate_sandbox.fixtures"]
