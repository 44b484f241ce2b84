"""Machine: what an event does to a rollout. Pure: time and the next generation are given, nothing is read or written.

Decides when a wave begins, when it has passed, when to stop and when to go back. Invariants, held by property tests
under any order of events:

- a wave begins only when the one before has passed its analysis, or an operator let it pass;
- no samples never pass; a site that cannot be reached neither passes nor fails, and too many of them pause;
- of a wave, and of a jurisdiction, no more sites are in trial than `max_unavailable` allows (one always may be);
- a site goes back only to what it had committed before; what is over stays as it is.

Source of the phases and of "inconclusive pauses": Argo Rollouts' analysis; of "commit is the point of no return":
Mender and RAUC.
"""

from __future__ import annotations

from collections import Counter

from gridctl.rollout import stopping
from gridctl.rollout.draft import Draft, allowance, listed
from gridctl.rollout.state import (
    TERMINAL,
    AnalysisResult,
    Event,
    Operated,
    Phase,
    Restarted,
    Rollout,
    SiteProgress,
    SiteReported,
    Step,
    Timer,
    Verb,
    WindowChanged,
)

WINDOW_SHUT = "outside its hours"


def step(rollout: Rollout, event: Event, now_s: float, generation: int) -> Step:
    """The rollout after the event, and what follows from it. `generation` is above any before."""
    draft = Draft(rollout, now_s, generation)
    if rollout.is_over:
        # Sites that were away go on coming in line; the rollout stays as it ended.
        if isinstance(event, SiteReported) and event.site in draft.sites:
            draft.hear(event.site, event.actual, event.generation, is_healthy=event.is_healthy)
        return draft.step()
    match event:
        case SiteReported(site, actual, seen, is_healthy):
            if site in draft.sites:
                draft.hear(site, actual, seen, is_healthy=is_healthy)
        case AnalysisResult():
            _judged(draft, event)
        case Timer():
            _heard(draft, event)
        case Operated():
            _operated(draft, event)
        case WindowChanged():
            _window(draft, event)
        case Restarted():
            if draft.phase == "baking":
                draft.set(since_s=now_s, verdict=None)
    if draft.has_changed or isinstance(event, Timer):
        _advance(draft)
    return draft.step()


def refusal(rollout: Rollout, verb: Verb) -> str | None:
    """Why an operator cannot do that now; None when it can."""
    return refusal_in(rollout.phase, verb)


def refusal_in(phase: Phase, verb: Verb) -> str | None:
    """Why an operator cannot do that to a rollout in a phase; None when it can."""
    if phase in TERMINAL:
        return f"it is {phase.replace('_', ' ')} already"
    if phase == "rolling_back":
        return "it is being rolled back already" if verb in ("undo", "abort") else "it is being rolled back"
    if verb == "resume" and phase != "paused":
        return f"it is not paused but {phase}"
    if verb == "pause" and phase == "paused":
        return "it is paused already"
    if verb == "promote" and phase not in ("baking", "paused"):
        return f"there is nothing to promote while it is {phase}"
    return None


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _judged(draft: Draft, event: AnalysisResult) -> None:
    is_baking = draft.phase == "baking" or (draft.phase == "paused" and draft.before.resume == "baking")
    if not is_baking or event.wave != draft.wave:
        return
    if draft.phase == "baking" and event.since_s != draft.since_s:
        return
    verdict = event.verdict
    draft.set(verdict=verdict)
    if verdict.word == "fail":
        stopping.go_wrong(draft, f"wave {draft.wave + 1} failed its analysis: {verdict.because}")
    elif draft.phase == "baking" and draft.now_s - draft.since_s >= draft.before.settings.soak_s:
        if verdict.word == "pass" and verdict.samples > 0:
            _next_wave(draft, f"wave {draft.wave + 1} passed: {verdict.because}")
        else:
            stopping.pause(draft, f"wave {draft.wave + 1} is inconclusive: {verdict.because}")


def _heard(draft: Draft, event: Timer) -> None:
    """Which sites have not been heard for too long. The lease of one that was trying the version is over by now; it
    tries again when it is back and there is room."""
    after_s = draft.before.settings.unreachable_after_s
    for name, site in list(draft.sites.items()):
        heard_s = event.heard_s.get(name, draft.before.created_s)
        if draft.now_s - heard_s > after_s and site.unreachable_since_s is None:
            if site.is_in_trial:
                draft.order(name, "stage")
            draft.change(name, unreachable_since_s=heard_s)


def _operated(draft: Draft, event: Operated) -> None:
    if refusal(draft.before, event.verb) is not None:
        return
    why = f"{event.verb} by {event.who}" + (f": {event.reason}" if event.reason else "")
    phase = draft.phase
    match event.verb:
        case "pause":
            draft.enter("paused", why, resume=phase)
        case "resume":
            resume = draft.before.resume or "planned"
            draft.enter("distributing" if stopping.try_again(draft) else resume, why, resume=None)
        case "promote":
            _promote(draft, why)
        case "abort":
            stopping.abort(draft, why)
        case "undo":
            stopping.roll_back(draft, why)


def _window(draft: Draft, event: WindowChanged) -> None:
    draft.set(is_window_open=event.is_open)
    if event.is_open and draft.phase == "paused" and draft.before.because == WINDOW_SHUT:
        draft.enter(draft.before.resume or "planned", "its hours have come", resume=None)
    elif not event.is_open and draft.phase in ("distributing", "activating"):
        draft.enter("paused", WINDOW_SHUT, resume=draft.phase)


# ── going on ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _advance(draft: Draft) -> None:
    """Do what has become possible, until nothing more is."""
    before = None
    while draft.phase != before:
        before = draft.phase
        match draft.phase:
            case "planned" if draft.is_window_open:
                draft.enter("distributing", "begun")
            case "distributing":
                _distribute(draft)
            case "activating":
                _activate(draft)
            case "baking":
                _go_wrong_if_reverted(draft, draft.in_wave())
            case "rolling_back":
                _come_back(draft)
    if draft.phase in ("distributing", "activating", "baking"):
        _bring_along(draft)


def _distribute(draft: Draft) -> None:
    for site in draft.in_wave():
        if site.order == "none" and not site.was_there and site.phase == "waiting":
            draft.order(site.site, "stage")
    sites = draft.in_wave()
    if stopping.has_too_many_lost(draft, sites, "failed"):
        return
    open_ = [
        one for one in sites if not one.has_it and one.phase in ("waiting", "fetching") and not stopping.is_lost(one)
    ]
    if open_:
        return
    if any(site.has_it for site in sites):
        count = sum(site.has_it for site in sites)
        draft.enter("activating", f"{count} of {len(sites)} sites of wave {draft.wave + 1} have it on disk")
    else:
        stopping.pause(draft, f"no site of wave {draft.wave + 1} has it: {stopping.failures(sites)}")


def _activate(draft: Draft) -> None:
    _start_trials(draft, draft.in_wave())
    sites = draft.in_wave()
    if _go_wrong_if_reverted(draft, sites):
        return
    if stopping.has_too_many_lost(draft, sites, "failed"):
        return
    open_ = [
        site
        for site in sites
        if site.phase in ("waiting", "fetching", "staged", "trial") and not stopping.is_lost(site)
    ]
    if open_:
        return
    if any(site.phase == "committed" for site in sites):
        count = sum(site.phase == "committed" for site in sites)
        draft.enter("baking", f"{count} of {len(sites)} sites of wave {draft.wave + 1} serve it", verdict=None)
    else:
        stopping.pause(draft, f"no site of wave {draft.wave + 1} serves it: {stopping.failures(sites)}")


def _go_wrong_if_reverted(draft: Draft, sites: list[SiteProgress]) -> bool:
    """Whether more sites went back by themselves than may; then the rollout goes back, or pauses."""
    reverted = [site for site in sites if site.phase == "reverted"]
    if len(reverted) <= allowance(draft.before.settings.max_failed, len(sites)):
        return False
    went = "the site" if len(reverted) == 1 else f"{len(reverted)} sites"
    stopping.go_wrong(draft, f"{stopping.failures(reverted)}; {went} went back alone")
    return True


def _bring_along(draft: Draft) -> None:
    """Sites that were away when their wave went by do it now."""
    gone_by = draft.wave + 1 if draft.phase == "baking" else draft.wave
    late = [site for site in draft.sites.values() if site.wave < gone_by and site.phase in ("staged", "trial")]
    if late and draft.is_window_open:
        _start_trials(draft, late)


def _start_trials(draft: Draft, sites: list[SiteProgress]) -> None:
    """Have sites that hold it try it, as many as may be unavailable at a time."""
    share = draft.before.settings.max_unavailable
    everywhere = list(draft.sites.values())
    of_group = Counter(site.group for site in everywhere)
    of_wave = Counter(site.wave for site in everywhere)
    in_group = Counter(site.group for site in everywhere if site.is_in_trial)
    in_wave = Counter(site.wave for site in everywhere if site.is_in_trial)
    for site in sites:
        if site.phase != "staged" or site.order != "stage" or stopping.is_lost(site):
            continue
        has_room = in_wave[site.wave] < max(1, allowance(share, of_wave[site.wave]))
        if has_room and in_group[site.group] < max(1, allowance(share, of_group[site.group])):
            draft.order(site.site, "trial")
            in_group[site.group] += 1
            in_wave[site.wave] += 1


def _come_back(draft: Draft) -> None:
    open_ = [site for site in draft.sites.values() if site.phase == "reverting"]
    if not open_:
        draft.enter("rolled_back", draft.because)
    elif draft.now_s - draft.since_s > draft.before.settings.stuck_after_s:
        draft.enter("stuck", f"{draft.because}; not back yet: {listed(site.site for site in open_)}")


def _next_wave(draft: Draft, because: str) -> None:
    if draft.wave + 1 < draft.before.waves:
        phase: Phase = "distributing" if draft.is_window_open else "paused"
        resume = None if draft.is_window_open else "distributing"
        draft.enter(phase, because if draft.is_window_open else WINDOW_SHUT, wave=draft.wave + 1, resume=resume)
        draft.set(verdict=None)
        return
    # Sites that are away now will find what they should hold when they come back.
    for name, site in draft.sites.items():
        if site.phase not in ("committed", "reverted", "left") and not site.was_there and site.order != "commit":
            draft.order(name, "commit")
    draft.enter("completed", because, resume=None)


def _promote(draft: Draft, why: str) -> None:
    if draft.phase == "baking" or draft.before.resume == "baking":
        _next_wave(draft, why)
        return
    for site in draft.in_wave():
        if site.phase in ("failed", "reverted") or stopping.is_lost(site):
            draft.change(site.site, phase="left")
    draft.enter(draft.before.resume or "distributing", why, resume=None)
