"""Fixtures of the small apiserver."""

from support.fake_apiserver import background, client, server, watched

__all__ = ["background", "client", "server", "watched"]
