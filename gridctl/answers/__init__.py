"""Answers: what engines said, kept on disk and found again; one process writes, the workers read. Knows no HTTP."""
