"""Routing: candidate rows + policy → one choice. Pure and compiled: no clock, no I/O, no random state."""
