"""Live load: a trace sent to a running gateway, open loop, and what came back as a run."""
