"""What pip installs: everything the commands need, and not a file more."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(root)],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's files, as site-packages would."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_source_and_nothing_else(wheel: Path, root: Path) -> None:
    names = {name for name in names_in(wheel) if ".dist-info/" not in name}
    code = {path.relative_to(root).as_posix() for path in (root / "gridctl").rglob("*.py")}
    topics = {path.relative_to(root).as_posix() for path in (root / "gridctl" / "topics").glob("*.md")}
    schemas = {path.relative_to(root).as_posix() for path in (root / "gridctl" / "schemas").glob("*.json")}
    profiles = {path.relative_to(root).as_posix() for path in (root / "gridctl" / "manifest" / "profiles").iterdir()}
    measured = {path.relative_to(root).as_posix() for path in (root / "gridctl" / "cache" / "measured").iterdir()}
    examples = {
        f"gridctl/{path.relative_to(root).as_posix()}"
        for path in (root / "examples").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert code <= names
    assert topics <= names
    assert schemas <= names
    assert profiles <= names
    assert examples <= names
    assert measured <= names
    assert names == code | topics | schemas | profiles | measured | examples | {"gridctl/py.typed"} & names


def test_nothing_in_the_wheel_runs_at_python_start(wheel: Path) -> None:
    """A .pth file runs in every Python of the environment: the way stolen packages steal keys."""
    names = names_in(wheel)
    assert not [name for name in names if name.endswith((".pth", ".so", ".pyd", ".dll", ".pyc", ".exe"))]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gridctl"}


def test_only_the_one_command_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert archive.read(entry_points).decode().split() == [
            "[console_scripts]",
            "gridctl",
            "=",
            "gridctl.cli.main:main",
        ]


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The entry point, from the installed files and from nowhere else."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", "from gridctl.cli.main import main; main()", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_the_installed_command_says_its_version(installed: Path, wheel: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "--version").stdout.split()[1] == wheel.name.split("-")[1]


def test_the_installed_command_knows_its_examples_and_topics(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "init", "here", "--example", "metro")
    assert (tmp_path / "here" / "trace.jsonl.gz").is_file()
    run(installed, tmp_path, "validate", "-f", "here")
    assert run(installed, tmp_path, "help", "router").stdout.startswith("# Router")
