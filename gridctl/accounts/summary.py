"""Summary: the table numbers of one replay, for every way the tables can be asked for, without its requests.

Decides which tables a draw keeps: tokenomics for every choice of `--by`, SLA for every choice that stays within
`MOST_ROWS`. Computes nothing of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import msgspec

from gridctl.accounts import sla, tokenomics
from gridctl.accounts.rows import Run
from gridctl.accounts.tables import SlaRow, SlaTotal, TokenomicsRow

MOST_ROWS = 2_000
"""Tables of more rows (a trace with thousands of tenants) are left out of a summary: it stands for a run many times
its size."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One replay's tables. `tokenomics` and `sla` hold the rows of each `--by`, under `table_key`."""

    draw: int  # its number; 0 is the plain replay
    seed: int  # of everything that was drawn for it
    digest: str
    window_s: float
    total: TokenomicsRow
    tokenomics: dict[str, tuple[TokenomicsRow, ...]]
    sla_total: SlaTotal
    sla: dict[str, tuple[SlaRow, ...]]


def table_key(by: Sequence[str]) -> str:
    """What rows tell apart, in one word whatever the order.

    >>> table_key(["workload", "tier"]) == table_key(["tier", "workload"]) == "tier+workload"
    True
    """
    return "+".join(sorted(by))


def summarize(run: Run, *, draw: int, seed: int) -> Summary:
    """The tables of a run. Costs about what printing each of them once costs."""
    choices = [by for size in (1, 2, 3) for by in combinations(tokenomics.DIMENSIONS, size)]
    finer = [by for size in (0, 1, 2) for by in combinations(sla.DIMENSIONS[1:], size)]
    total, tables = tokenomics.tables_by(run, choices)
    sla_total, promises = sla.tables_by(run, [("workload", *by) for by in finer], MOST_ROWS)
    return Summary(
        draw=draw,
        seed=seed,
        digest=run.info.digest,
        window_s=run.info.window_ns / 1e9,
        total=total,
        tokenomics={table_key(by): rows for by, rows in tables.items()},
        sla_total=sla_total,
        sla={table_key(by): rows for by, rows in promises.items()},
    )
