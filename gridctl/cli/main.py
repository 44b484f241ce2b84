"""The door: `gridctl` and `python -m gridctl`.

Decides the global options and the order of a command's life: parse, choose the grid, run, answer with one exit code.
Every exception ends here: our errors as text, anything else as our bug. A reader that closes the pipe early (`| head`)
has what it wanted: that is no failure. SIGTERM, a pipeline's time limit, unwinds as Ctrl-C does, so that temporary
folders and workers are gone afterwards.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer._click.exceptions import ClickException
from typer.core import TyperGroup

from gridctl.cli import failure
from gridctl.cli.grammar import LazyGroup, keep_examples
from gridctl.cli.output import talk
from gridctl.errors import GridctlError

PROGRAM = "gridctl"
TERMINATED = 128 + signal.SIGTERM
GLOBAL_VALUES = ("--store", "--context", "--color")
GLOBAL_FLAGS = ("-q", "--quiet")
HELP = """Drive an AI inference grid from one command line: register, replay, price, and hold the SLA.

Examples:
  gridctl init mygrid --example metro
  gridctl apply -f mygrid/
  gridctl site list
"""

app = typer.Typer(
    name=PROGRAM,
    cls=LazyGroup,
    help=HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:
    if value:
        from gridctl import __version__

        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Option(metavar="PATH", help="Work on the grid in this folder (or set GRIDCTL_STORE).")
    ] = None,
    grid_context: Annotated[
        str | None, typer.Option("--context", metavar="NAME", help="Work on the grid of this context.")
    ] = None,
    color: Annotated[
        Literal["auto", "always", "never"] | None, typer.Option(help="Colour the output (NO_COLOR is honoured).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print data and errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit
    if context.resilient_parsing:
        return
    from gridctl.orchestrator.context import choose

    choose(store=store, context=grid_context)
    talk.quiet = quiet
    if context.invoked_subcommand not in ("config", "help", "completion"):
        _apply_settings(color)


def _apply_settings(color: str | None) -> None:
    from gridctl.orchestrator.config import KEYS, setting

    talk.color = setting("color", flag=color).value  # type: ignore[assignment]
    output = setting("output")
    if output.origin != "default":
        os.environ[KEYS["output"].variable] = output.value


def root() -> TyperGroup:
    """The whole command tree, nothing of it imported yet."""
    group = typer.main.get_group(app)
    group.help = keep_examples(group.help or "")
    return group


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    # A command lives for milliseconds and makes no cycles worth collecting before it ends; heavy ones outlive this.
    gc.set_threshold(200_000)
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_told = _unwinds_when_told() if arguments is None else lambda: False
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    code = _flushed(_guarded(given))
    code = TERMINATED if is_told() else code
    if arguments is None:
        _leave(code)
    sys.exit(code)


def _unwinds_when_told() -> Callable[[], bool]:
    """Make SIGTERM end the command as Ctrl-C does, a second one at once; whether one came. Commands that serve answer
    it in their own way."""
    told: list[int] = []

    def unwind(number: int, _frame: object) -> None:
        told.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, unwind)
    return lambda: bool(told)


def _open_closed_streams() -> None:
    """Stand /dev/null in for standard streams that the caller closed (`>&-`), so that no file that is opened later
    takes their numbers, and nothing that talks or asks finds no stream."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (open as long as the process)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _leave(code: int) -> None:
    """End the process without freeing its memory piece by piece, which takes longer than many a command.

    What was registered for the exit still runs; with other threads alive the interpreter must end in its own way."""
    if threading.active_count() > 1:
        return
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def _guarded(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except GridctlError as error:
        return failure.report(error)
    except typer.Exit as exit_:
        return exit_.exit_code
    except ClickException as error:
        return failure.report(failure.usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        return failure.report_interrupt()
    except BrokenPipeError:
        _silence_stdout()
        return 0
    except OSError as error:
        return failure.report(failure.system_error(error))
    except Exception as error:
        return failure.report_bug(error)


def _run(arguments: list[str]) -> int:
    group = root()
    with group.make_context(PROGRAM, hoisted(arguments)) as context:
        group.invoke(context)
    return 0


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Global options moved to the front, so that they may stand anywhere before `--`.

    >>> hoisted(["site", "list", "--store", "g", "-q"])
    ['--store', 'g', '-q', 'site', 'list']
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word in GLOBAL_FLAGS or word.startswith(tuple(f"{name}=" for name in GLOBAL_VALUES)):
            front.append(word)
        elif word in GLOBAL_VALUES:
            front.extend([word, *_next(words)])
        else:
            rest.append(word)
    return front + rest


def chosen_by(arguments: Sequence[str]) -> None:
    """Choose the grid that the global options among `arguments` name, without parsing the rest."""
    from gridctl.orchestrator.context import choose

    words = hoisted(arguments)
    given = {name: value for name, value in itertools.pairwise(words) if name in GLOBAL_VALUES}
    given |= dict(word.split("=", 1) for word in words if word.startswith(("--store=", "--context=")))
    choose(store=given.get("--store"), context=given.get("--context"))


def _next(words: Any) -> list[str]:
    return [value for value in [next(words, None)] if value is not None]


def _flushed(code: int) -> int:
    """Empty stdout's buffer while what goes wrong can still be reported as ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    except OSError as error:
        _silence_stdout()
        return failure.report(failure.system_error(error)) if code == 0 else code
    return code


def _silence_stdout() -> None:
    """Send what is left of stdout nowhere, so that the interpreter's last flush does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
