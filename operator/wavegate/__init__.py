"""Wavegate: gates security content on the crash evidence of the nodes that get it."""

__version__ = "0.1.0"
