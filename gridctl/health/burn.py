"""Burn rates: how fast a promise's error budget is spent, over a long and a short window at once.

Decides whether an alarm fires, is quiet, or cannot be told; must not count anything itself. With S the promised share
of good requests, T the budget's period and bad of valid requests in a window:

    burn = (bad / valid) / (1 − S)          1 spends the budget exactly in T
    budget = (1 − S) · valid over T,  time to empty = left share · T / burn
    threshold = share · T / window          the burn that spends `share` of the budget within the window

An alarm fires when the burn reaches the threshold over the long window and over the short one (a twelfth of it), so
that it ends soon after the trouble does. Source: The Site Reliability Workbook, chapter 5, table 5-8: page at 2 % in
1 h (14.4) and 5 % in 6 h (6), ticket at 10 % in 3 d (1), of 30 days.

Three traps are states and errors of their own. Burn cannot exceed 1/(1 − S): an alarm whose threshold is above it can
never fire and is refused. One failure of ten requests is a burn of 100 at S = 99.9 %: an alarm needs five bad requests.
And little traffic proves nothing: with fewer requests than make five bad ones at the threshold, or with a window the
counts do not cover yet, the verdict is `insufficient-data`, never `quiet`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from gridctl.errors import InputError

HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S
PERIOD_S = 30 * DAY_S
SHORT_PART = 12
LEAST_BAD = 5
CAP_PART = 0.7
"""Of the highest possible burn, where a threshold is capped instead of refused."""

Severity = Literal["page", "ticket"]
Verdict = Literal["firing", "quiet", "insufficient-data"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Fire when `share` of the period's budget would be spent within `long_s`."""

    severity: Severity
    share: float
    long_s: float

    @property
    def short_s(self) -> float:
        return self.long_s / SHORT_PART

    def threshold(self, period_s: float = PERIOD_S) -> float:
        """The burn at which it fires.

        >>> [round(rule.threshold(), 1) for rule in RULES]
        [14.4, 6.0, 1.0]
        """
        return self.share * period_s / self.long_s


RULES = (
    Rule(severity="page", share=0.02, long_s=HOUR_S),
    Rule(severity="page", share=0.05, long_s=6 * HOUR_S),
    Rule(severity="ticket", share=0.10, long_s=3 * DAY_S),
)


class Count(msgspec.Struct, frozen=True):
    """Requests that ended in the last `window_s`; `covered_s` is how much of it the counts reach back."""

    valid: int
    bad: int
    covered_s: float

    @property
    def bad_share(self) -> float | None:
        """Bad of valid, None without any."""
        return self.bad / self.valid if self.valid else None


Counting = Callable[[float], Count]
"""The count of a window that ends now, by its length in seconds."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One rule applied to what was counted. A burn is None where nothing was counted."""

    severity: Severity
    long_s: float
    short_s: float
    threshold: float
    long_burn: float | None
    short_burn: float | None
    bad: int
    valid: int
    requests_to_judge: int
    verdict: Verdict
    why: str


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The error budget of one promise. Shares are of the budget; more than all of it can be spent."""

    name: str
    target: float
    period_s: float
    covered_s: float
    valid: int
    bad: int
    attained: float | None
    spent_share: float | None
    left_share: float | None
    burn: float | None  # over the first rule's long window
    empty_in_s: float | None  # at that burn; 0 when it is empty, None when it lasts
    verdict: Verdict
    severity: Severity | None  # of the worst alarm that fires
    alarms: tuple[Alarm, ...]


def burn_rate(valid: int, bad: int, target: float) -> float | None:
    """How many times faster than allowed the budget is spent; None when nothing was counted.

    >>> round(burn_rate(10_000, 50, 0.999), 6)
    5.0
    """
    return bad / valid / (1 - target) if valid else None


def highest_burn(target: float) -> float:
    """The burn of a total outage.

    >>> round(highest_burn(0.9), 6)
    10.0
    """
    return 1 / (1 - target)


def fires_after_s(rule: Rule, target: float, bad_share: float, period_s: float = PERIOD_S) -> float | None:
    """Seconds from the start of trouble of which `bad_share` of requests suffer until `rule`'s long window fires.

    None when it never does. Until then the traffic was good and is even.

    >>> round(fires_after_s(RULES[0], 0.999, 1.0))
    52
    """
    allowed = rule.threshold(period_s) * (1 - target)
    return allowed * rule.long_s / bad_share if bad_share >= allowed else None


def thresholds(
    target: float, rules: Sequence[Rule] = RULES, period_s: float = PERIOD_S, *, cap: bool = False, where: str = ""
) -> tuple[float, ...]:
    """The burn at which each rule fires; with `cap`, at most 0.7 of what a total outage would burn.

    Raises: InputError for a promise that is none and, without `cap`, for rules that could never fire."""
    if not 0 < target < 1:
        raise InputError(
            f"a promise must be above 0 and below 1, not {target:g}",
            where=where or None,
            fix="write 0.999 for 99.9 %; a promise of 1 leaves no budget to spend",
        )
    highest = highest_burn(target)
    found = []
    for rule in rules:
        threshold = rule.threshold(period_s)
        if rule.share <= 0 or rule.long_s <= 0 or rule.long_s > period_s:
            raise InputError(
                f"an alarm over {span_text(rule.long_s)} of a budget of {span_text(period_s)} makes no sense",
                where=where or None,
                fix="give a window above 0 and within the period, and a share above 0",
            )
        if threshold > highest and not cap:
            raise InputError(
                f"the {rule.severity} at burn {threshold:.3g} over {span_text(rule.long_s)} can never fire: "
                f"with a promise of {target:.4g} a total outage burns {highest:.3g}",
                where=where or None,
                fix=f"promise more than {1 - 1 / threshold:.2%}, or cap the threshold at {CAP_PART * highest:.3g}",
            )
        found.append(min(threshold, CAP_PART * highest) if cap else threshold)
    return tuple(found)


def budget(
    name: str,
    target: float,
    counting: Counting,
    rules: Sequence[Rule] = RULES,
    period_s: float = PERIOD_S,
    *,
    cap: bool = False,
) -> Budget:
    """The budget and alarms of one promise, now. Raises: InputError as `thresholds` does."""
    limits = thresholds(target, rules, period_s, cap=cap, where=name)
    alarms = tuple(_alarm(rule, limit, target, counting) for rule, limit in zip(rules, limits, strict=True))
    whole = counting(period_s)
    attained = 1 - whole.bad / whole.valid if whole.valid else None
    spent = burn_rate(whole.valid, whole.bad, target)
    burn = alarms[0].long_burn if alarms else spent
    left = None if spent is None else 1 - spent
    return Budget(
        name=name,
        target=target,
        period_s=period_s,
        covered_s=whole.covered_s,
        valid=whole.valid,
        bad=whole.bad,
        attained=attained,
        spent_share=spent,
        left_share=left,
        burn=burn,
        empty_in_s=_empty_in_s(left, burn, period_s),
        verdict=_worst(alarms),
        severity=next((alarm.severity for alarm in alarms if alarm.verdict == "firing"), None),
        alarms=alarms,
    )


def _alarm(rule: Rule, threshold: float, target: float, counting: Counting) -> Alarm:
    long, short = counting(rule.long_s), counting(rule.short_s)
    long_burn, short_burn = burn_rate(long.valid, long.bad, target), burn_rate(short.valid, short.bad, target)
    needed = math.ceil(round(LEAST_BAD / min(1.0, threshold * (1 - target)), 6))
    is_burning = (long_burn or 0.0) >= threshold and (short_burn or 0.0) >= threshold
    if is_burning and long.bad >= LEAST_BAD and long.covered_s >= rule.short_s:
        verdict: Verdict = "firing"
        why = f"burn {long_burn:.3g} over {span_text(rule.long_s)}, {short_burn:.3g} over {span_text(rule.short_s)}"
    elif long.valid < needed:
        verdict = "insufficient-data"
        why = f"{long.valid} of the {needed} requests it takes in {span_text(rule.long_s)}"
    elif long.covered_s < rule.long_s:
        verdict = "insufficient-data"
        why = f"counted for {span_text(long.covered_s)} of {span_text(rule.long_s)}"
    else:
        verdict = "quiet"
        why = f"burn {long_burn:.3g} over {span_text(rule.long_s)}, below {threshold:.3g}"
        if (long_burn or 0.0) >= threshold:
            why = f"over: burn {long_burn:.3g} over {span_text(rule.long_s)} but not over {span_text(rule.short_s)}"
    return Alarm(
        severity=rule.severity,
        long_s=rule.long_s,
        short_s=rule.short_s,
        threshold=threshold,
        long_burn=long_burn,
        short_burn=short_burn,
        bad=long.bad,
        valid=long.valid,
        requests_to_judge=needed,
        verdict=verdict,
        why=why,
    )


def _worst(alarms: Sequence[Alarm]) -> Verdict:
    """Firing if one fires, quiet if one can be judged and none fires."""
    verdicts = [alarm.verdict for alarm in alarms]
    if "firing" in verdicts:
        return "firing"
    return "quiet" if "quiet" in verdicts else "insufficient-data"


def _empty_in_s(left: float | None, burn: float | None, period_s: float) -> float | None:
    if left is None or not burn:
        return None
    return max(0.0, left) * period_s / burn


def span_text(seconds: float) -> str:
    """A length of time in the largest unit that tells it, to two digits.

    >>> [span_text(s) for s in (0.4, 52, 300, 5400, 3600, 84.6, 259200, 2592000)]
    ['0.4 s', '52 s', '5 min', '1.5 h', '1 h', '1.4 min', '3 d', '30 d']
    """
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("min", 60.0)):
        if seconds >= size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 9.95 else f"{value:.0f}"
