"""Traces: requests as columns. Readers, writers, generators, statistics and overlays; no routing."""
