"""Identity: the digest by which a trace is known again, whatever file format it lies in.

It covers what a replay reads: every column as little-endian int64, the prefix blocks as spans, and the names the
columns index; not the trace's own name, its notes or its prompts. Read part by part, so that no trace need lie in
memory.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from gridctl.traces.trace import Traffic

PART_REQUESTS = 50_000
COLUMNS = ("arrival_ns", "input_tokens", "output_tokens", "origin", "workload", "tenant", "model", "session")


def trace_digest(traffic: Traffic) -> str:
    """`sha256:` and 64 hexadecimal digits. O(requests + spans)."""
    digest = hashlib.sha256()
    names = (traffic.origins, traffic.workloads, traffic.tenants, traffic.models)
    digest.update(msgspec.json.encode((len(traffic), traffic.block_tokens, names)))
    has_blocks = traffic.blocks.count > 0
    for start in range(0, len(traffic), PART_REQUESTS):
        stop = min(len(traffic), start + PART_REQUESTS)
        part = traffic.rows(start, stop)
        columns = [getattr(part, name) for name in COLUMNS]
        if has_blocks:
            spans = traffic.spans(start, stop)
            columns += [np.diff(spans.offsets), spans.first, spans.blocks]
        for column in columns:
            digest.update(np.ascontiguousarray(column, "<i8").view(np.uint8).data)
    return f"sha256:{digest.hexdigest()}"
