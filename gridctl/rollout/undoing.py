"""Undoing: a rollout that is over, taken back by another one. What ended stays as it ended.

Decides which sites go back: those that have the version because of that rollout. Each goes to what it had committed
before, under a new and higher counter.
"""

from __future__ import annotations

import msgspec

from gridctl.errors import ConflictError
from gridctl.rollout.state import Rollout, SiteProgress

KEPT = ("committed", "waiting", "fetching", "staged", "trial", "failed")
"""Phases, at the end, of sites that have the version or were told to."""


def undo_of(rollout: Rollout, name: str, who: str) -> Rollout:
    """The rollout that takes an ended one back once `Operated("undo")` happens to it. Raises ConflictError."""
    sites = {
        site.site: _as_committed(site)
        for site in rollout.sites.values()
        if site.order != "back" and site.is_touched and site.phase in KEPT
    }
    if not sites:
        raise ConflictError(
            f"rollout {rollout.name} is {rollout.phase.replace('_', ' ')} and left its version at no site",
            where=f"rollout {rollout.name}",
            fix=f"see: gridctl rollout status {rollout.name}",
        )
    return msgspec.structs.replace(
        rollout,
        name=name,
        phase="paused",
        resume="baking",
        wave=0,
        waves=1,
        because="",
        verdict=None,
        created_by=who,
        sites=sites,
    )


def _as_committed(site: SiteProgress) -> SiteProgress:
    return SiteProgress(
        site=site.site,
        wave=0,
        group=site.group,
        phase="committed",
        order="commit",
        before=site.before,
        is_known=True,
        was_tried=True,
    )
