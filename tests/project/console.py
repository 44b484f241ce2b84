"""Console blocks of Markdown files: commands and what they print, as a reader sees them, run and compared.

In a fenced block marked `console`, a line that starts with `$ ` and the name of a program is a command; the lines up to
the next command are its stdout. A command without lines below it is run and its output not compared; a line `…` stands
for any lines.

    python tests/project/console.py README.md examples/*/README.md     write what the commands print now
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_LINES = "…"
PROMPT = "$ "
COMMAND = re.compile(r"\$ (?=(gridctl|python|cd|sed|grep|head|gunzip) )")  # tables have lines that start with `$ `, too
OWN_VARIABLES = ("GRIDCTL_", "XDG_CONFIG", "NO_COLOR", "PYTHON", "VIRTUAL_ENV", "COVERAGE")


@dataclass(frozen=True)
class Step:
    """A command and the lines shown below it."""

    command: str
    expected: tuple[str, ...]


@dataclass
class Terminal:
    """Runs commands one after another, as in one terminal window: `cd` lasts. Its `gridctl` is the repository's."""

    home: Path
    root: Path
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.home / "work"
        self.folder.mkdir(parents=True)
        programs = self.home / "bin"
        programs.mkdir()
        for name, words in (("gridctl", "-m gridctl"), ("python", "")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        self.environment = {
            **kept,
            # Compiled kernels are the machine's, not the home's: compiling them again proves nothing.
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
            "HOME": str(self.home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, command: str) -> str:
        """What the command prints. Raises: AssertionError with its stderr when it fails."""
        if command.startswith("cd "):
            self.folder = (self.folder / command.removeprefix("cd ")).resolve(strict=True)
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\nexit code {done.returncode}\n{done.stderr}"
        return done.stdout


def steps_of(block: str) -> Iterator[Step]:
    """The commands of one block."""
    command, lines = "", []
    for line in block.splitlines():
        if COMMAND.match(line):
            if command:
                yield Step(command, tuple(lines))
            command, lines = line.removeprefix(PROMPT), []
        else:
            lines.append(line)
    if command:
        yield Step(command, tuple(lines))


def steps(document: Path) -> list[Step]:
    """Every command of a document's console blocks, in order."""
    return [step for block in BLOCK.findall(document.read_text(encoding="utf-8")) for step in steps_of(block)]


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether the lines shown are the lines printed; `…` stands for any."""
    pattern = "\n".join(".*" if line.strip() == ANY_LINES else re.escape(line.rstrip()) for line in expected)
    return (
        re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.rstrip("\n").split("\n")), re.DOTALL)
        is not None
    )


def rewrite(document: Path, terminal: Terminal) -> None:
    """Put what the commands print now in place of the lines shown; lines with `…` and empty answers stay."""

    def block(found: re.Match[str]) -> str:
        lines: list[str] = []
        for step in steps_of(found[1]):
            printed = terminal.run(step.command)
            lines.append(PROMPT + step.command)
            if step.expected and all(line.strip() != ANY_LINES for line in step.expected):
                lines += [line.rstrip() for line in printed.rstrip("\n").split("\n")]
            else:
                lines += step.expected
        return "```console\n" + "\n".join(lines) + "\n```"

    document.write_text(BLOCK.sub(block, document.read_text(encoding="utf-8")), encoding="utf-8")


def main(documents: list[str]) -> None:
    """Rewrite each document, in a terminal of its own."""
    repository = Path(__file__).resolve().parents[2]
    for name in documents:
        with tempfile.TemporaryDirectory() as home:
            rewrite(Path(name).resolve(), Terminal(Path(home), repository))


if __name__ == "__main__":
    main(sys.argv[1:])
