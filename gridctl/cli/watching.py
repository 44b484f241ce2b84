"""A screen that is drawn anew until the person leaves: rich on a terminal, read key by key.

Decides how to draw and how to leave (`q`, Ctrl-C). What is drawn, and what other keys mean, its caller says. The
terminal is left as it was found, whatever happens.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator

from gridctl.errors import UsageError

_ARROWS = re.compile(r"\x1b(\[[0-9;]*[ -/]*[@-~]|O.)")
"""What arrows and the like send: an escape that means no escape."""
LEAVE = ("q", "Q", "\x03", "\x04", "\x1b")


def watch(draw: Callable[[int, int], str], on_key: Callable[[str], bool], interval_s: float) -> None:
    """Draw the screen (`draw` gets columns and lines) every `interval_s` seconds until the person leaves.

    `on_key` gets every other key and says whether to draw at once. stdin and stdout must be terminals."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live, _quietly():
        while True:
            size = shutil.get_terminal_size()
            text = Text.from_ansi(draw(size.columns, size.lines))
            text.no_wrap, text.overflow = True, "crop"
            live.update(text, refresh=True)
            until = time.monotonic() + interval_s
            while (left_s := until - time.monotonic()) > 0:
                key = pressed(left_s)
                if key in LEAVE:
                    return
                if key and on_key(key):
                    break


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Ctrl-C is how one leaves a screen: no failure."""
    with contextlib.suppress(KeyboardInterrupt):
        yield


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and gives it, or nothing.

    Where the terminal cannot be read key by key (no termios), it only waits."""
    try:
        import select
        import termios
        import tty
    except ImportError:
        yield _wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    typed: list[str] = []

    def pressed(timeout_s: float) -> str:
        if not typed:
            ready, _, _ = select.select([descriptor], [], [], timeout_s)
            if not ready:
                return ""
            read = os.read(descriptor, 64).decode(errors="replace")
            if not read:
                return LEAVE[0]  # the terminal is gone
            typed.extend(_ARROWS.sub("", read))
        return typed.pop(0) if typed else ""

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _wait(timeout_s: float) -> str:
    time.sleep(timeout_s)
    return ""


def is_watchable() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def check_interval(seconds: float) -> None:
    """Raises: UsageError for what is no number; what is too short or too long the option itself refuses."""
    if not math.isfinite(seconds):
        raise UsageError(f"{seconds} is no time", where="--interval", fix="a number of seconds, for example 2")
