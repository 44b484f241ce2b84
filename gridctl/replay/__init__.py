"""Replay: virtual time over trace, network, routing and engine."""
