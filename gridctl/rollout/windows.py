"""Windows: the hours in which models may travel and engines may be reloaded, by the clocks of a place.

Decides whether a moment lies in a window. Hours are those that clocks on the wall show: where a night has a change to
or from summer time, a window is an hour shorter or longer, as the people who chose it would say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gridctl.errors import UsageError
from gridctl.rollout.protocol import Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE = "'Mon-Fri 22:00-06:00 Europe/Paris'"
_FORM = re.compile(
    r"^(?:(?P<days>[A-Za-z]{3}(?:-[A-Za-z]{3})?(?:,[A-Za-z]{3}(?:-[A-Za-z]{3})?)*)\s+)?"
    r"(?P<start>\d{1,2}:\d{2})-(?P<end>\d{1,2}:\d{2})(?:\s+(?P<zone>[A-Za-z0-9_+/-]+))?$"
)


def parse_window(text: str, flag: str = "--window") -> Window:
    """The window that is written so. Raises: UsageError.

    >>> parse_window("Fri-Sun 22:00-6:00 Europe/Paris")
    Window(days=('fri', 'sat', 'sun'), start='22:00', end='06:00', timezone='Europe/Paris')
    """
    found = _FORM.match(text.strip())
    if found is None:
        raise _wrong(f"not a window: {text[:60]!r}", flag)
    days = tuple(day for part in (found["days"] or "").split(",") if part for day in _days(part, flag))
    start, end = (_hour(found[end], flag) for end in ("start", "end"))
    if start == end:
        raise _wrong("the window has no length", flag)
    zone = found["zone"] or "UTC"
    _zone(zone, flag)
    chosen = tuple(day for day in DAYS if day in days)
    return Window(chosen, f"{start:%H:%M}", f"{end:%H:%M}", zone)


def is_open(windows: Sequence[Window], now_unix_s: float) -> bool:
    """Whether the moment lies in one of the windows; always, when there are none."""
    return not windows or any(_contains(window, now_unix_s) for window in windows)


def text_of(window: Window) -> str:
    """The window as `parse_window` reads it."""
    days = ",".join(day.capitalize() for day in window.days)
    return " ".join(part for part in (days, f"{window.start}-{window.end}", window.timezone) if part)


def _contains(window: Window, now_unix_s: float) -> bool:
    here = datetime.fromtimestamp(now_unix_s, UTC).astimezone(_zone(window.timezone, "--window"))
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    clock = here.time().replace(tzinfo=None)
    if start < end:
        return start <= clock < end and _begins(window, here)
    # Over midnight: what begins on one day ends on the next, and belongs to the one it began on.
    if clock >= start:
        return _begins(window, here)
    return clock < end and _begins(window, here - timedelta(days=1))


def _begins(window: Window, day: datetime) -> bool:
    return not window.days or DAYS[day.weekday()] in window.days


def _days(part: str, flag: str) -> list[str]:
    words = [word.lower() for word in part.split("-")]
    unknown = [word for word in words if word not in DAYS]
    if unknown:
        raise _wrong(f"there is no day {unknown[0]!r}", flag)
    first, last = DAYS.index(words[0]), DAYS.index(words[-1])
    count = (last - first) % len(DAYS) + 1
    return [DAYS[(first + number) % len(DAYS)] for number in range(count)]


def _hour(text: str, flag: str) -> time:
    hour, minute = (int(part) for part in text.split(":"))
    if hour == 24 and minute == 0:
        hour = 0
    if hour > 23 or minute > 59:
        raise _wrong(f"no clock shows {text}", flag)
    return time(hour, minute)


def _zone(name: str, flag: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise _wrong(f"there is no time zone {name[:40]!r}", flag) from None


def _wrong(what: str, flag: str) -> UsageError:
    return UsageError(what, where=flag, fix=f"write {EXAMPLE}, or 01:00-05:00 for every day in UTC")
