"""What every command prints with: data to stdout, talk to stderr.

Decides the shared `-o` option, colour, quiet and progress. The invariant: stdout is written once, at the end, by
`emit`, so a command that fails leaves it empty. `note` and `progress` go to stderr and are silent with `--quiet`;
progress shows only on a terminal and only when the work lasts over two seconds.

    from gridctl.cli.output import OutputOption, emit, note, progress

    def command(output: OutputOption = "table") -> None:
        with progress("replaying", total=n) as advance:
            for chunk in chunks:
                advance(len(chunk))
        emit(rows, COLUMNS, output, kind="ThingList")
        note("3 things; next: gridctl thing get NAME")
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer

from gridctl.errors import InputError
from gridctl.render.rows import FORMATS, Column, Format, Item, render_rows

OutputOption = Annotated[
    Format,
    typer.Option(
        "--output",
        "-o",
        metavar="FORMAT",
        envvar="GRIDCTL_OUTPUT",
        show_envvar=False,
        help="Print as " + ", ".join(FORMATS) + ".",
    ),
]
PROGRESS_AFTER_S = 2.0


class Talk:
    """How this process talks; set once from the global options."""

    quiet: bool = False
    color: Literal["auto", "always", "never"] = "auto"


talk = Talk()


def emit(
    items: Sequence[Item],
    columns: Sequence[Column],
    output: str,
    *,
    kind: str,
    name_key: str = "name",
    single: bool = False,
    documents: Sequence[object] | None = None,
) -> None:
    """Print rows to stdout in the chosen format; see `render_rows` for every argument. Call it last, and once."""
    width = _terminal_width(sys.stdout)
    write(
        render_rows(
            items,
            columns,
            output,
            kind=kind,
            name_key=name_key,
            single=single,
            documents=documents,
            width=width,
        )
    )


def write(text: str) -> None:
    """Print ready text (data) to stdout, whole. Raises: InputError when it cannot be written (a full disk)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"cannot write the output: {error.strerror}", where="stdout", fix="free space, or write elsewhere"
        ) from None


def write_file(path: Path, text: str) -> None:
    """Write ready text (data) to a file, whole or not at all. Raises: InputError when it cannot be written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"cannot write: {error.strerror}", where=str(path), fix="write elsewhere") from None


def note(text: str) -> None:
    """Say something to the person at the terminal: one line on stderr, nothing with `--quiet`."""
    if not talk.quiet:
        print(text, file=sys.stderr)  # noqa: T201 (this is the place that talks)


def is_interactive() -> bool:
    """Whether a person can answer a question: stdin and stderr are terminals and this is not CI."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


def painted(text: str, style: Literal["red", "green", "yellow", "bold"], stream: TextIO | None = None) -> str:
    """`text` in colour where `stream` (stdout unless given) takes colour, else unchanged.

    `--color` decides first, then NO_COLOR (any non-empty value; no-color.org), then whether it is a terminal."""
    stream = sys.stdout if stream is None else stream
    if talk.color == "never":
        return text
    if talk.color == "auto" and (os.environ.get("NO_COLOR") or not stream.isatty() or os.environ.get("TERM") == "dumb"):
        return text
    code = {"red": 31, "green": 32, "yellow": 33, "bold": 1}[style]
    return f"\x1b[{code}m{text}\x1b[0m"


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far a long job is: `advance(n)` says `n` more units of `total` are done.

    Nothing shows in the first two seconds, off a terminal, or with `--quiet`."""
    if talk.quiet or not sys.stderr.isatty():
        yield _silent
        return
    bar = _Bar(what, total)
    try:
        yield bar.advance
    finally:
        bar.close()


def _silent(_amount: int) -> None:
    return None


class _Bar:
    """A rich progress bar that appears once the work has lasted."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._since = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def advance(self, amount: int) -> None:
        self._done += amount
        if self._bar is None and time.monotonic() - self._since >= PROGRESS_AFTER_S:
            self._open()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True, no_color=talk.color == "never" or bool(os.environ.get("NO_COLOR")))
        self._bar = Progress(console=console, transient=True)
        self._task = self._bar.add_task(self._what, total=self._total, completed=self._done)
        self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def width_of_terminal() -> int | None:
    """Columns of the terminal that stdout is; None when it is none, where nothing is clipped."""
    return _terminal_width(sys.stdout)


def _terminal_width(stream: TextIO) -> int | None:
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns
