"""Pairing: whether two runs served the same requests, so that they may be compared request by request.

Decides from the requests themselves, not from the trace's name: arrival, origin, workload, tenant and tokens asked for
must be the same. Origins and workloads that were drawn with another seed make other requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import Run


def unpaired(ours: Run, theirs: Run) -> str:
    """Why the runs' requests are not the same, in words; empty when they are."""
    one, other = ours.rows, theirs.rows
    if len(one) != len(other):
        return f"{len(one):,} requests against {len(other):,}"
    if not np.array_equal(one.arrival_ns, other.arrival_ns):
        return "the requests arrive at other times"
    if not np.array_equal(one.input_tokens, other.input_tokens):
        return "the prompts have other lengths"
    if not np.array_equal(one.output_tokens, other.output_tokens):
        return "the answers have other lengths"
    named = (
        ("origins", one.origin, [place.name for place in ours.info.origins],
         other.origin, [place.name for place in theirs.info.origins]),
        ("workloads", one.workload, ours.info.workload_names, other.workload, theirs.info.workload_names),
        ("tenants", one.tenant, ours.info.tenant_names, other.tenant, theirs.info.tenant_names),
    )  # fmt: skip
    for what, codes, names, other_codes, other_names in named:
        if not _same_names(codes, names, other_codes, other_names):
            seeds = "" if ours.info.seed == theirs.info.seed else f" (seeds {ours.info.seed} and {theirs.info.seed})"
            return f"the requests have other {what}{seeds}"
    return ""


def _same_names(
    codes: NDArray[np.int32], names: Sequence[str], other_codes: NDArray[np.int32], other_names: Sequence[str]
) -> bool:
    """Whether two columns of indices name the same things, each by its own tuple; −1 names nothing."""
    position = {name: index for index, name in enumerate(dict.fromkeys((*names, *other_names)))}

    def common(own: Sequence[str]) -> NDArray[np.int64]:
        return np.array([*(position[name] for name in own), -1], dtype=np.int64)

    return bool(np.array_equal(common(names)[codes], common(other_names)[other_codes]))
