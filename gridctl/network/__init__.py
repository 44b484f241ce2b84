"""Network: geography → round-trip time."""
