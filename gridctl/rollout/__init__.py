"""Rollout: which site should hold which version of a model, and when to go on or back. Touches no disk of a site."""
