"""Failures as text and exit codes: the only place that turns an error into what a person reads.

Decides the layout (what, where, fix), the codes, and the wording of usage errors, which get a suggestion for a mistyped
command or option. Must not print to stdout: a failure leaves it empty.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import Any

from typer._click.exceptions import ClickException, NoArgsIsHelpError, NoSuchOption
from typer._click.exceptions import UsageError as ClickUsageError

from gridctl.cli.output import painted
from gridctl.errors import GridctlError, InputError, NotFoundError, UnreachableError, UsageError
from gridctl.render.cell import visible

SHOWN_RELATED = 20
_QUOTED = re.compile(r"'([^']*)'")
DEBUG_VARIABLE = "GRIDCTL_DEBUG"
INTERRUPTED = 130
ELSEWHERE = {
    verb: f"gridctl {noun} {verb}"
    for noun, verbs in (
        ("replay", ("compare", "requests", "decisions")),
        ("model", ("optimize", "package", "push", "pull", "verify")),
        ("rollout", ("promote", "abort", "undo", "history")),
        ("cache", ("purge", "forecast", "feedback")),
        ("trace", ("record", "convert", "generate", "overlay")),
        ("plan", ("breakeven", "place")),
        ("engine", ("mock",)),
        ("site", ("inspect",)),
    )
    for verb in verbs
}
"""Verbs that one noun alone has, for those who look for them under another."""
_SYSTEM_FIXES = {
    errno.ENOSPC: "free space, or write elsewhere",
    errno.EDQUOT: "free space, or write elsewhere",
    errno.EACCES: "check the owner and the permissions",
    errno.EPERM: "check the owner and the permissions",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a file in a folder that exists",
    errno.EMFILE: "raise the limit of open files: ulimit -n 65536",
}


def report(error: GridctlError) -> int:
    """Print the error and those it came with to stderr; its exit code."""
    errors = _flattened(error)
    for shown in errors[: SHOWN_RELATED + 1]:
        _say(shown)
    if (hidden := len(errors) - SHOWN_RELATED - 1) > 0:
        print(f"and {hidden} more", file=sys.stderr)  # noqa: T201
    return error.exit_code


def report_bug(error: BaseException) -> int:
    """An exception nobody foresaw: one line, or the traceback for those who ask; exit code 1."""
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
        return GridctlError.exit_code
    text = str(error).splitlines()[0] if str(error) else ""
    _say(
        GridctlError(
            f"gridctl failed unexpectedly: {type(error).__name__}{': ' if text else ''}{text}",
            fix=f"this is a bug; set {DEBUG_VARIABLE}=1 for the traceback and report it",
        )
    )
    return GridctlError.exit_code


def report_interrupt() -> int:
    """The user pressed Ctrl-C."""
    print("interrupted", file=sys.stderr)  # noqa: T201
    return INTERRUPTED


def system_error(error: OSError) -> GridctlError:
    """What the operating system refused, in the words of our error tree."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    where = str(error.filename) if error.filename is not None else None
    if isinstance(error, FileNotFoundError):
        return NotFoundError(reason, where=where, fix="check the path")
    if isinstance(error, (ConnectionError, TimeoutError)):
        return UnreachableError(reason, where=where)
    return InputError(reason, where=where, fix=_SYSTEM_FIXES.get(error.errno or 0, "check the path and the disk"))


def usage_error(error: ClickException) -> UsageError:
    """A parser's complaint in the words of our error tree, with a suggestion where one is near."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "gridctl"
    see = f"see: {command} --help"
    if isinstance(error, NoArgsIsHelpError):
        return UsageError("a verb is missing", where=command, fix=see)
    if isinstance(error, NoSuchOption):
        near = _near_option(error.option_name, context)
        return UsageError(
            f"there is no option {error.option_name}", where=command, fix=f"did you mean {near}?" if near else see
        )
    message, _, hint = error.format_message().partition(" Did you mean ")
    message = message.rstrip(".")
    if message.startswith("No such command ") and context is not None:
        return _unknown_command(message.removeprefix("No such command ").strip("'\""), context)
    choice = _near_choice(error)
    fix = f"did you mean {hint or choice}" + ("" if hint else "?") if hint or choice else see
    what = message[:1].lower() + message[1:] if isinstance(error, ClickUsageError) else message
    return UsageError(what, where=command, fix=fix)


def _unknown_command(word: str, context: Any) -> UsageError:
    known = context.command.list_commands(context)
    near = _near(word, known) or (_elsewhere(word) if context.parent is not None else None)
    return UsageError(
        f"there is no command {word!r}",
        where=context.command_path,
        fix=f"did you mean {near}?" if near else f"see: {context.command_path} --help",
    )


def _elsewhere(word: str) -> str | None:
    """The command of that name under another noun, or on its own."""
    from gridctl.cli.grammar import WORDS

    return f"gridctl {word}" if word in WORDS else ELSEWHERE.get(word)


def _near_option(name: str, context: Any) -> str | None:
    if context is None:
        return None
    known = [option for parameter in context.command.get_params(context) for option in parameter.opts]
    return _near(name, [option for option in known if option.startswith("--")])


def _near_choice(error: ClickException) -> str | None:
    """For a value that is not among an option's choices, the nearest choice."""
    choices = getattr(getattr(getattr(error, "param", None), "type", None), "choices", None)
    quoted = _QUOTED.search(error.message)
    return _near(quoted[1], [str(choice) for choice in choices]) if choices and quoted else None


def _near(word: str, known: list[str]) -> str | None:
    """The known word that `word` begins or is most like (`ls` is `list`, `sites` is `site`)."""
    from gridctl.errors import did_you_mean

    synonyms = {
        "ls": "list",
        "rm": "delete",
        "remove": "delete",
        "show": "get",
        "describe": "get",
        "create": "register",
    }
    if synonyms.get(word) in known:
        return synonyms[word]
    return did_you_mean(word, known)


def _flattened(error: GridctlError) -> list[GridctlError]:
    errors = [error]
    for related in error.related:
        errors.extend(_flattened(related))
    return errors


def _say(error: GridctlError) -> None:
    lines = [f"{painted('error:', 'red', sys.stderr)} {_lines(error.what)}"]
    if error.where:
        lines.append(f"  where: {_lines(error.where)}")
    if error.fix:
        lines.append(f"  fix: {_lines(error.fix)}")
    print("\n".join(lines), file=sys.stderr)  # noqa: T201


def _lines(text: str) -> str:
    """Text from outside made harmless; further lines stay lines, indented."""
    return "\n    ".join(visible(line) for line in text.splitlines()) or text
