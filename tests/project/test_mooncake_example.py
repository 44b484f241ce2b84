"""The Mooncake example: its commands on the real trace, where that is, end as its README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from console import Terminal

NAME = "mooncake_conversation_trace.first-half.jsonl.gz"


@pytest.fixture
def trace(root: Path) -> Path:
    """The published trace; skips where it is absent."""
    folder = Path(os.environ.get("GRIDCTL_DATA_DIR") or root.parent / "shared" / "data")
    if not (folder / "traces" / NAME).is_file():
        pytest.skip("the real traces are not here")
    return folder / "traces" / NAME


@pytest.mark.slow
def test_one_change_is_accepted_by_one_gate_file_and_refused_by_another(
    terminal: Terminal, root: Path, trace: Path
) -> None:
    here = root / "examples" / "mooncake"
    folder = terminal.folder / "mooncake"
    shutil.copytree(here, folder)
    readme = (here / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert found is not None
    codes, printed = [], ""
    for line in found[1].splitlines():
        if line.startswith("cd "):
            folder /= line.removeprefix("cd ")
            continue
        ran = subprocess.run(
            ["sh", "-c", line],
            cwd=folder,
            env={**terminal.environment, "TRACE": str(trace)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        codes.append(ran.returncode)
        printed += ran.stdout
    # Made, applied, replayed; accepted; refused; accepted by both.
    assert codes == [0, 0, 0, 0, 99, 0]
    for shown in re.findall(r"^    (?=✓|✗)(.*)$", readme, re.MULTILINE):
        assert shown in printed
