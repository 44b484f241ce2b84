"""What the tests of the project as a whole share: the repository, and a shell in which its README's commands run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from console import Terminal


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def terminal(tmp_path: Path, root: Path) -> Terminal:
    """A terminal in an empty folder, with a home of its own and no grid anywhere."""
    return Terminal(tmp_path, root)
