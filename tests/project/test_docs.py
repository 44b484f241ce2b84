"""Topics and READMEs: every topic is listed, and every command and option they show exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from gridctl.cli.help_topics import TOPICS, topics
from gridctl.cli.main import hoisted, root

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([*TOPICS.glob("*.md"), REPOSITORY / "README.md", *(REPOSITORY / "examples").rglob("README.md")])
SHOWN = re.compile(r"(?:^ {4}|^\$ |`|&& |\.venv/bin/)gridctl ([^`\n]+)", re.MULTILINE)
END_OF_COMMAND = re.compile(r"\s(?:\||>|2>|&&|#|;)|;|$")
PLACEHOLDER = re.compile(r"[A-Z]+$")


def commands_of(text: str) -> list[list[str]]:
    """The words of every gridctl command a page shows, up to a pipe or a comment."""
    return [found[: END_OF_COMMAND.search(found).start()].split() for found in SHOWN.findall(text)]  # type: ignore[union-attr]


def command_named(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the leading words name, and the words left."""
    context = typer.Context(root(), info_name="gridctl")
    words = [word for word in hoisted(words) if word not in ("-q", "--quiet")]
    while words and words[0] in ("--store", "--context", "--color"):
        words = words[2:]
    while words and hasattr(context.command, "get_command"):
        found = context.command.get_command(context, words[0])
        if found is None:
            break
        context, words = typer.Context(found, parent=context, info_name=words[0]), words[1:]
    return context.command, words


def options_of(command: Any) -> set[str]:
    return {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help",
        "-h",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_command_and_option_shown_exists(page: Path) -> None:
    shown = [words for words in commands_of(page.read_text(encoding="utf-8")) if words]
    for words in shown:
        if words[0].startswith("--") or PLACEHOLDER.match(words[0]):
            continue
        command, rest = command_named(words)
        assert command.name != "gridctl", f"{page.name}: gridctl {' '.join(words)}"
        if hasattr(command, "list_commands"):
            known = "|".join(command.list_commands(typer.Context(command)))
            assert not rest or all(word in known.split("|") for word in rest[0].split("|")), f"{page.name}: {words}"
            continue
        for word in rest:
            if word.startswith("-") and len(word) > 1 and not word[1].isdigit():
                assert word.split("=")[0] in options_of(command), f"{page.name}: gridctl {' '.join(words)}"


def test_every_topic_is_listed_with_a_title() -> None:
    listed = topics()
    assert set(listed) == {path.stem for path in TOPICS.glob("*.md")}
    assert all(title for title in listed.values())
    needed = {"concepts", "manifests", "traces", "router", "twin", "tokenomics", "sla", "ci", "security", "exit-codes"}
    assert needed | {"formats", "network", "accuracy"} <= set(listed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_topics_that_a_page_sends_the_reader_to_exist(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    for name in re.findall(r"`gridctl help ([a-z-]+)`", text):
        assert name in topics(), f"{page.name}: gridctl help {name}"


@pytest.mark.parametrize("page", sorted(TOPICS.glob("*.md")), ids=lambda page: page.stem)
def test_topics_are_short_and_fit_a_terminal(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= 100
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]
