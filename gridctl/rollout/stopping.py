"""Stopping: what a rollout does when something is wrong, or an operator has had enough: pause, go back, stand still.

Must not decide when a wave has passed; that is the machine's.
"""

from __future__ import annotations

from gridctl.rollout.draft import Draft, allowance, listed
from gridctl.rollout.state import SiteProgress


def has_too_many_lost(draft: Draft, sites: list[SiteProgress], phase: str) -> bool:
    """Pause when more sites failed, or cannot be reached, than may."""
    settings = draft.before.settings
    failed = [site for site in sites if site.phase == phase]
    if len(failed) > allowance(settings.max_failed, len(sites)):
        pause(draft, failures(failed))
        return True
    away = [site for site in sites if is_lost(site)]
    if len(away) > allowance(settings.max_unreachable, len(sites)):
        names = listed(site.site for site in away)
        pause(draft, f"{len(away)} of {len(sites)} sites of wave {draft.wave + 1} cannot be reached: {names}")
        return True
    return False


def is_lost(site: SiteProgress) -> bool:
    """Whether nobody knows what it is at."""
    return site.unreachable_since_s is not None and site.phase not in ("committed", "reverted", "failed", "left")


def failures(sites: list[SiteProgress]) -> str:
    """What the sites say, in words."""
    told = [
        f"{site.site}: {site.failure.reason}" + (f" ({site.failure.detail})" if site.failure.detail else "")
        for site in sites
        if site.failure is not None
    ]
    return listed(told) or "they do not say why"


def pause(draft: Draft, because: str) -> None:
    """Begin nothing new, and wait for a person."""
    draft.enter("paused", because, resume=draft.phase)


def go_wrong(draft: Draft, because: str) -> None:
    """Go back by itself, or pause where that is not wanted."""
    if draft.before.settings.auto_rollback:
        roll_back(draft, because)
    elif draft.phase != "paused":
        pause(draft, because)


def roll_back(draft: Draft, because: str) -> None:
    """Send every site back to what it had."""
    for name in draft.sites:
        draft.send_back(name)
    draft.enter("rolling_back", because, resume=None)


def abort(draft: Draft, because: str) -> None:
    """Stop where it stands: who has committed it keeps it, nobody else gets it."""
    for name, site in draft.sites.items():
        if site.phase != "committed":
            draft.send_back(name)
    draft.enter("aborted", because, resume=None)


def try_again(draft: Draft) -> bool:
    """What failed may be right now. Whether there was anything."""
    again = ("failed", "reverted", "left")
    failed = [site for site in draft.in_wave() if site.phase in again and site.order != "back"]
    for site in failed:
        draft.change(site.site, phase="waiting", order="none", failure=None, attempts=0)
    return bool(failed)
