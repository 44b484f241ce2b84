"""Orchestrator: the services the CLI calls."""
