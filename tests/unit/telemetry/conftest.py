"""Fixtures of the small apiserver."""

from support.fake_apiserver import background, client, objects, server

__all__ = ["background", "client", "objects", "server"]
