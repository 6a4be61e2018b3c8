"""Telemetry: reads the customer's Prometheus, and serves our own metrics and probes."""
