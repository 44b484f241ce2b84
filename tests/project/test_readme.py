"""README and examples tell the truth: their commands run, print what is shown, and CI runs the test command shown."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from console import Step, Terminal, matches, steps, steps_of

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "examples").rglob("README.md"))]
WITH_CONSOLES = [document for document in DOCUMENTS if steps(document)]
TEST_COMMAND = re.compile(r"^python3 -m venv .* -m pytest$", re.MULTILINE)
DEMO_COMMAND = re.compile(r"^python3 -m venv .*/gridctl demo$", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_CONSOLES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_commands_print_what_the_document_shows(document: Path, terminal: Terminal) -> None:
    for step in steps(document):
        printed = terminal.run(step.command)
        if step.expected:
            assert matches(step.expected, printed), f"$ {step.command}\nprints\n{printed}"


def test_every_example_is_listed_and_has_a_page(root: Path) -> None:
    index = (root / "examples" / "README.md").read_text(encoding="utf-8")
    for folder in (path for path in (root / "examples").iterdir() if path.is_dir()):
        assert f"]({folder.name}/README.md)" in index
        assert folder / "README.md" in DOCUMENTS
    shown = {path.parent.name for path in WITH_CONSOLES}
    assert {root.name, "examples", "metro", "voice-burst"} <= shown


def test_two_commands_set_everything_up(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert len(DEMO_COMMAND.findall(readme)) == 1
    assert len(TEST_COMMAND.findall(readme)) == 1


def test_ci_runs_the_test_command_of_the_readme(root: Path) -> None:
    """`.ci/run` takes the line from README.md, so the two cannot differ; it names no index of its own."""
    script = root / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert script.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in text
    assert f"grep -m 1 -E '{TEST_COMMAND.pattern}' \"$root/README.md\"" in text
    assert not re.search(r"pip install|-m pytest\b(?!\$)|https?://|--index-url", text)


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document} → {target}"


def test_a_command_ends_where_the_next_begins() -> None:
    block = "$ gridctl init a\n$ gridctl tokenomics a\nIN TOTAL  A\n$ per M tokens  3\n"
    assert list(steps_of(block)) == [
        Step("gridctl init a", ()),
        Step("gridctl tokenomics a", ("IN TOTAL  A", "$ per M tokens  3")),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (("a", "b"), "a\nb\n", True),
        (("a", "b"), "a  \nb\n", True),
        (("a", "b"), "a\nc\n", False),
        (("a", "…", "d"), "a\nb\nc\nd\n", True),
        (("a", "…", "d"), "a\nb\nc\n", False),
        (("a.c",), "abc\n", False),
        (("a",), "a\nb\n", False),
    ],
)
def test_shown_lines_are_compared_whole(expected: tuple[str, ...], printed: str, same: bool) -> None:
    assert matches(expected, printed) is same
