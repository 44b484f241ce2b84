"""Manifest: YAML, JSON, JSONL, CSV ⇄ resources, with errors at file:line:col."""
