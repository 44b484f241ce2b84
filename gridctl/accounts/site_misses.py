"""Where requests were bad: the serving sites with most of them, and why.

A site answers for the requests sent to it, wherever they came from; those that were sent nowhere stand under `-`.
Good, bad and causes are `goodness`'s.
"""

from __future__ import annotations

import numpy as np

from gridctl.accounts.goodness import count_causes, judge
from gridctl.accounts.groups import UNNAMED, grouped, labels
from gridctl.accounts.rows import Run
from gridctl.accounts.tables import SiteMisses


def worst_sites(run: Run, k: int) -> tuple[SiteMisses, ...]:
    """The `k` serving sites with most bad requests, worst first; sites without any are left out."""
    goodness = judge(run)
    engines = run.info.engines
    tiers = {engine.site: engine.tier for engine in engines}
    workloads = labels(run.info.workload_names, run.rows.workload)
    found = []
    for group in grouped([labels([engine.site for engine in engines], run.rows.engine)], len(run.rows)):
        causes = count_causes(goodness.cause[group.members])
        bad = sum(causes.values())
        if bad == 0:
            continue
        missed = workloads.codes[group.members[~goodness.good[group.members]]]
        (site,) = group.key
        found.append(
            SiteMisses(
                site=site,
                tier=tiers.get(site, UNNAMED),
                requests=len(group.members),
                bad=bad,
                bad_share=bad / len(group.members),
                main_cause=next(iter(causes)),
                main_workload=workloads.names[int(np.bincount(missed).argmax())],
                causes=causes,
            )
        )
    return tuple(sorted(found, key=lambda row: (-row.bad, row.site))[:k])
