"""`gridctl help`: topics, which are Markdown files inside the package, and the help of any command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gridctl.cli.output import emit, write
from gridctl.errors import NotFoundError, did_you_mean
from gridctl.render.rows import Column

TOPICS = Path(__file__).resolve().parent.parent / "topics"


def topics() -> dict[str, str]:
    """Topic names and their titles."""
    return {path.stem: _title(path) for path in sorted(TOPICS.glob("*.md"))}


def _complete(incomplete: str) -> list[str]:
    return [name for name in topics() if name.startswith(incomplete)]


def command(
    context: typer.Context,
    topic: Annotated[list[str] | None, typer.Argument(metavar="[TOPIC | COMMAND...]", autocompletion=_complete)] = None,
) -> None:
    """Read about a topic, or about a command. With no argument, list the topics.

    Example:
      gridctl help concepts
      gridctl help site register
    """
    if not topic:
        rows = [{"name": name, "title": title} for name, title in topics().items()]
        emit(rows, (Column("name", "topic"), Column("title", "about")), "table", kind="TopicList")
        return
    if len(topic) == 1 and topic[0] in topics():
        write((TOPICS / f"{topic[0]}.md").read_text(encoding="utf-8"))
        return
    write(_command_help(context.find_root(), topic) + "\n")


def _command_help(root: Any, words: list[str]) -> str:
    here = root
    for depth, word in enumerate(words):
        known = here.command.list_commands(here) if hasattr(here.command, "list_commands") else []
        if word not in known:
            raise _unknown(word, [*known, *(topics() if depth == 0 else ())])
        found = here.command.get_command(here, word)
        here = typer.Context(found, parent=here, info_name=word)
    return str(here.get_help())


def _unknown(word: str, known: list[str]) -> NotFoundError:
    near = did_you_mean(word, known)
    return NotFoundError(
        f"there is no topic or command {word!r}", fix=f"did you mean {near}?" if near else "see them: gridctl help"
    )


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return lines.readline().lstrip("# ").strip()
