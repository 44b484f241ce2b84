"""Analysis: whether sites that serve a new version do worse than sites that do not, at the same time.

Decides pass, fail or inconclusive from counts; must not count anything itself. Concurrent control sites see the same
hour, the same demand and the same weather of the network, so a busy evening fails nobody. For a share of bad requests
p₁ of n₁ (canary) against p₂ of n₂ (control) the difference d = p₁ − p₂ has the lower bound

    d − √((p₁ − l₁)² + (u₂ − p₂)²)

with l and u the ends of Wilson's score intervals. Source: Newcombe 1998, "Interval estimation for the difference
between independent proportions", method 10; z = 1.645, one-sided 95 %.

Fail: the bound is above what is tolerated. Pass: d itself is not, of at least `min_samples` requests. Between the two,
or with fewer requests, nothing is known. TTFTs and TPOTs are judged in the same way, by the ratio of their quantiles
(`latency`); a model that answers with single tokens has no TPOT, so too few of them leave the verdict to the rest.
Invariant: no samples never pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec

from gridctl.rollout.latency import ratio_of

Word = Literal["pass", "fail", "inconclusive"]
Z = 1.645


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of some sites over one time: `valid` that count, of which `bad` broke a promise or failed, and `failed`
    got no answer; how long they took to the first token and for each one after, in the cells of `buckets`, empty where
    that is not to be compared; and what the sites' own probes measured, by site."""

    valid: int = 0
    bad: int = 0
    failed: int = 0
    sites: int = 0
    ttft: tuple[int, ...] = ()
    tpot: tuple[int, ...] = ()
    probes: Mapping[str, Mapping[str, float]] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is tolerated: points of failed and of bad requests more than at control sites; the requests' TTFT and
    TPOT, and the probes' latencies, as a multiple of the control sites'; the share of probe answers that must agree
    with the version before."""

    min_samples: int = 100
    max_failed_points: float = 0.01
    max_bad_points: float = 0.02
    max_ttft_ratio: float = 1.5
    max_tpot_ratio: float = 1.5
    max_latency_ratio: float = 1.3
    min_match_share: float = 0.9


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. `canary` and `control` in the unit of `what`; None where there is nothing to compare."""

    what: str
    word: Word
    canary: float | None
    control: float | None
    text: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Something to know beside a verdict, which it has no part in."""

    what: str
    canary: float | None
    control: float | None
    text: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result: `because` names what decided it. `samples` are the canary's requests."""

    word: Word
    because: str
    samples: int
    checks: tuple[Check, ...] = ()
    figures: tuple[Figure, ...] = ()


def judge(canary: Sample, control: Sample, limits: Limits) -> Verdict:
    """The verdict on the canary sites. Without control sites only what must hold anywhere is checked."""
    checks = [
        _shares(
            "failed requests", canary.failed, canary.valid, control.failed, control.valid, limits.max_failed_points
        ),
        _shares("broken promises", canary.bad, canary.valid, control.bad, control.valid, limits.max_bad_points),
        *(_ttft(what, share, canary, control, limits) for what, share in TTFTS),
        *(_tpot(what, share, canary, control, limits) for what, share in TPOTS),
        *(_latency(name, canary.probes, control.probes, limits.max_latency_ratio) for name in LATENCIES),
        _match(canary.probes, limits.min_match_share),
    ]
    told = tuple(check for check in checks if check is not None)
    bad = [check for check in told if check.word == "fail"]
    least = max(1, limits.min_samples)
    if bad and (canary.valid >= least or any(check.what not in COUNTED for check in bad)):
        return Verdict(word="fail", because="; ".join(check.text for check in bad), samples=canary.valid, checks=told)
    if canary.valid < least:
        places = "1 site" if canary.sites == 1 else f"{canary.sites} sites"
        because = f"{canary.valid} requests at {places}, {least} are needed"
        return Verdict(word="inconclusive", because=because, samples=canary.valid, checks=told)
    open_ = [check for check in told if check.word == "inconclusive"]
    if open_:
        because = "; ".join(check.text for check in open_)
        return Verdict(word="inconclusive", because=because, samples=canary.valid, checks=told)
    because = "; ".join(check.text for check in told)
    return Verdict(word="pass", because=because, samples=canary.valid, checks=told)


LATENCIES = ("ttft_ms_p95", "tpot_ms_p50")
TTFTS = (("TTFT p50", 0.5), ("TTFT p95", 0.95))
LEAST_TTFT_RATIO = 1.2
"""Of what is known to 5 % either way, less is no difference."""
MOST_TTFT_RATIO = 1000.0
TPOTS = (("TPOT p50", 0.5), ("TPOT p95", 0.95))
COUNTED = ("failed requests", "broken promises", *(what for what, _ in (*TTFTS, *TPOTS)))


def lower_bound(bad: int, valid: int, control_bad: int, control_valid: int, z: float = Z) -> float:
    """The lower bound of the difference of two shares; −1 where one of them is a share of nothing.

    Newcombe's own example, 56 of 70 against 48 of 80, two-sided 95 %:

    >>> round(lower_bound(56, 70, 48, 80, z=1.959964), 4)
    0.0524
    """
    if not valid or not control_valid:
        return -1.0
    share, control = bad / valid, control_bad / control_valid
    low, _ = wilson(bad, valid, z)
    _, high = wilson(control_bad, control_valid, z)
    return share - control - math.sqrt((share - low) ** 2 + (high - control) ** 2)


def wilson(bad: int, valid: int, z: float = Z) -> tuple[float, float]:
    """The score interval of a share. `valid` > 0."""
    share, spread = bad / valid, z * z / valid
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / valid + spread / (4 * valid))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def _shares(what: str, bad: int, valid: int, control_bad: int, control_valid: int, most: float) -> Check | None:
    if not valid:
        return None
    share = bad / valid
    if not control_valid:
        # Nobody to compare with: what would be bad beside perfect sites is at least not known to be good.
        low, _ = wilson(bad, valid)
        word: Word = "fail" if low > most else "pass" if share <= most else "inconclusive"
        text = f"{what} {share:.1%} ({bad} of {valid}), with no site to compare with"
        return Check(what=what, word=word, canary=share, control=None, text=text)
    control, least = control_bad / control_valid, lower_bound(bad, valid, control_bad, control_valid)
    word = "fail" if least > most else "pass" if share - control <= most else "inconclusive"
    text = f"{what} {share:.1%} ({bad} of {valid}) against {control:.1%} ({control_bad} of {control_valid}) elsewhere"
    return Check(what=what, word=word, canary=share, control=control, text=text)


def _ttft(what: str, share: float, canary: Sample, control: Sample, limits: Limits) -> Check | None:
    """How long requests took to their first token, beside those of like sites; of none at either nothing is said."""
    return _times(what, share, canary.ttft, control.ttft, limits.max_ttft_ratio, limits, digits=0)


def _tpot(what: str, share: float, canary: Sample, control: Sample, limits: Limits) -> Check | None:
    """How long each further token took, beside like sites; of too few answers with several tokens nothing is said."""
    if min(sum(canary.tpot), sum(control.tpot)) < max(1, limits.min_samples):
        return None
    return _times(what, share, canary.tpot, control.tpot, limits.max_tpot_ratio, limits, digits=1)


def _times(
    what: str, share: float, canary: Sequence[int], control: Sequence[int], most: float, limits: Limits, *, digits: int
) -> Check | None:
    found, least = ratio_of(canary, control, share), max(1, limits.min_samples)
    if found is None:
        return None
    here, there = sum(canary), sum(control)
    text = (
        f"{what} {found.canary_ms:.{digits}f} ms against {found.control_ms:.{digits}f} ms elsewhere "
        f"({found.times:.2f} times"
    )
    word: Word = "pass"
    if min(here, there) < least:
        word, text = "inconclusive", f"{text}; of {here} and {there} requests, {least} are needed)"
    elif found.times > most:
        word = "fail" if found.at_least > most else "inconclusive"
        text += f", at least {found.at_least:.2f} with 95% confidence; {most:g} are tolerated)"
    else:
        text += ")"
    return Check(what=what, word=word, canary=found.canary_ms, control=found.control_ms, text=text)


def _latency(name: str, canary: _Probes, control: _Probes, most: float) -> Check | None:
    here, there = _typical(name, canary), _typical(name, control)
    if here is None or there is None or there <= 0:
        return None
    ratio = here / there
    word: Word = "fail" if ratio > most else "pass"
    text = f"probes' {name} {here:.0f} against {there:.0f} elsewhere ({ratio:.2f} times)"
    return Check(what=name, word=word, canary=here, control=there, text=text)


def _match(canary: _Probes, least: float) -> Check | None:
    worst = min((figures["match_share"] for figures in canary.values() if "match_share" in figures), default=None)
    if worst is None:
        return None
    text = f"{worst:.0%} of probe answers as before, {least:.0%} are needed"
    return Check(what="match_share", word="fail" if worst < least else "pass", canary=worst, control=None, text=text)


_Probes = Mapping[str, Mapping[str, float]]


def _typical(name: str, probes: _Probes) -> float | None:
    """The median over sites."""
    values: Sequence[float] = [
        figures[name] for figures in probes.values() if name in figures and math.isfinite(figures[name])
    ]
    return median(values) if values else None
