"""Manifest: YAML, JSON, JSONL, CSV ⇄ resources, with errors at file:line:col.

Decides how a declared thing is written down and read back, and nothing about what it means to the grid: references
between resources, the database and the router are other rooms. Every problem of every file is found in one pass and
raised together. The same shapes drive `explain` and the JSON Schemas.
"""

from gridctl.manifest.explanation import explain
from gridctl.manifest.locating import located
from gridctl.manifest.reader import Declared, parse_manifest, read_manifests
from gridctl.manifest.schemas import schema
from gridctl.manifest.writer import dump

__all__ = ["Declared", "dump", "explain", "located", "parse_manifest", "read_manifests", "schema"]
