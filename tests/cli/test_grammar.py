"""Every command is documented: a summary, an example that names it, help that costs no import."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import typer

from gridctl.cli.grammar import WORDS, Word, keep_examples
from gridctl.cli.main import root

REPOSITORY = Path(__file__).resolve().parents[2]


def _is_there(word: Word) -> bool:
    module = word.module or ("kind" if word.kind else word.name)
    return importlib.util.find_spec(f"gridctl.cli.{module}") is not None


def _leaves(command: Any, path: str, context: Any) -> list[tuple[str, Any]]:
    here = typer.Context(command, parent=context, info_name=path.rsplit(" ", 1)[-1])
    if not hasattr(command, "list_commands"):
        return [(path, command)]
    found = []
    for name in command.list_commands(here):
        found += _leaves(command.get_command(here, name), f"{path} {name}", here)
    return found


@pytest.mark.parametrize("name", [name for name, word in WORDS.items() if _is_there(word)])
def test_every_command_has_help_and_an_example_that_names_it(name: str) -> None:
    group = root()
    context = typer.Context(group, info_name="gridctl")
    for path, command in _leaves(group.get_command(context, name), f"gridctl {name}", context):
        text = command.help or ""
        summary = text.strip().splitlines()[0] if text.strip() else ""
        assert summary.endswith("."), f"{path} has no summary sentence"
        assert "Example" in text, f"{path} has no example"
        assert path in text.split("Example", 1)[1], f"the example of {path} does not show it"
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert parameter.help, f"{path} {parameter.opts[-1]} has no help"


def test_the_names_in_examples_are_those_of_the_metro_example() -> None:
    from gridctl.cli.kind import SAMPLES
    from gridctl.manifest import read_manifests
    from gridctl.manifest.shipped import shipped_profiles
    from gridctl.resources import BUILTIN_GPUS, KINDS

    metro = {(one.resource.noun, one.resource.name) for one in read_manifests([REPOSITORY / "examples" / "metro"])}
    known = metro | {("gpu", name) for name in BUILTIN_GPUS} | {("profile", name) for name in shipped_profiles()}
    assert set(SAMPLES) == {kind.noun for kind in KINDS.values()}
    assert {(noun, name) for noun, name in SAMPLES.items() if noun != "gate"} <= known


def test_the_table_names_every_resource_kind() -> None:
    from gridctl.resources import KINDS

    assert {word.kind for word in WORDS.values() if word.kind} == set(KINDS)


def test_top_level_help_shows_every_word_without_importing_its_module() -> None:
    import sys

    before = set(sys.modules)
    group = root()
    text = typer.Context(group, info_name="gridctl").get_help()
    assert all(f"\n  {name} " in text for name in WORDS)
    assert not {module for module in set(sys.modules) - before if module.startswith("gridctl.cli.")}


def test_example_lines_keep_their_breaks() -> None:
    assert keep_examples("Do it.\n\nExample:\n  gridctl a\n  gridctl b") == (
        "Do it.\n\n\b\nExample:\n  gridctl a\n  gridctl b"
    )
