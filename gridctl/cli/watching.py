"""A screen that is drawn anew until the person leaves: rich on a terminal, read key by key.

Decides how to draw and how to leave (`q`, Ctrl-C). What is drawn, and what other keys mean, its caller says. The
terminal is left as it was found, whatever happens.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

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

    def pressed(timeout_s: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        if not ready:
            return ""
        import os

        typed = os.read(descriptor, 64).decode(errors="replace")
        # Nothing to read is a terminal that is gone; more than an escape is an arrow or the like.
        return typed[:1] if len(typed) == 1 or not typed.startswith("\x1b") else "" if typed else "q"

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
