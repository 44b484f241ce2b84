"""Artifacts: model files optimised, packaged, moved and activated; routes nothing."""
