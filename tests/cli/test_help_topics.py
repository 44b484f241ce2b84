"""help: topics are files, and every command they show exists."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import typer

from gridctl.cli.grammar import WORDS
from gridctl.cli.help_topics import TOPICS, topics
from gridctl.cli.main import root


def test_topics_are_listed_with_their_titles(shell: Callable) -> None:
    out = shell("help").out
    assert {"concepts", "exit-codes", "formats", "manifests"} <= set(topics())
    assert all(name in out for name in topics())


def test_a_topic_prints_its_file(shell: Callable) -> None:
    assert shell("help", "formats").out == (TOPICS / "formats.md").read_text(encoding="utf-8")


def test_help_of_a_command_is_its_help(shell: Callable) -> None:
    assert shell("help", "site", "register").out.startswith("Usage: gridctl site register")


@pytest.mark.parametrize("name", ["concepts", "exit-codes", "formats", "manifests"])
def test_every_command_a_topic_shows_exists(name: str) -> None:
    text = (TOPICS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    group = root()
    context = typer.Context(group, info_name="gridctl")
    shown = re.findall(r"gridctl ([a-z]+)(?: ([a-z]+))?", text)
    assert shown
    for noun, verb in shown:
        if noun not in WORDS:
            continue  # prose: "gridctl itself"
        if WORDS[noun].kind and verb:
            assert group.get_command(context, noun).get_command(context, verb) is not None, (noun, verb)
