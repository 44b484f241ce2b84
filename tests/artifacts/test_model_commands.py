"""`gridctl model package | push | pull` as an operator runs them: exit codes, stdout, stderr, schemas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gridctl.render.schemas import schema_of

if TYPE_CHECKING:
    from tests.artifacts.conftest import Registry


def gridctl(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDCTL_")}
    command = [sys.executable, "-m", "gridctl", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def answered(*words: object) -> dict[str, object]:
    done = gridctl(*words, "-o", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    promised = schema_of(document["kind"])
    assert set(document) == set(promised["required"]) == set(promised["properties"])
    for item in document.get("items", []):
        assert set(item) == set(promised["properties"]["items"]["items"]["required"])
    found: dict[str, object] = document
    return found


def test_a_model_goes_out_and_comes_back(registry: Registry, make_model: Callable[..., Path], tmp_path: Path) -> None:
    first, second = make_model("one", seed=1), make_model("two", seed=2)
    made = answered("model", "package", first, "--out", tmp_path / "v1", "--variant", "bf16")
    answered("model", "package", second, "--out", tmp_path / "v2", "--base", tmp_path / "v1")
    reference = f"{registry.host}/cli/model"
    pushed = answered("model", "push", f"{reference}:v1", "--from", tmp_path / "v1")
    assert pushed["digest"] == made["digest"]
    plan = answered(
        "model", "push", f"{reference}:v2", "--from", tmp_path / "v2", "--base", tmp_path / "v1", "--dry-run",
        "--link-mbit", "8", "--egress-usd-per-gb", "2",
    )  # fmt: skip
    rows = {row["method"]: row for row in plan["items"]}  # type: ignore[attr-defined]
    assert rows["whole"]["seconds_per_site"] == rows["whole"]["bytes_per_site"] / 1e6, "8 Mbit/s is 1 MB/s"
    assert rows["whole"]["usd"] == pytest.approx(rows["whole"]["bytes_per_site"] * 2 / 1e9)
    assert set(rows) == {"whole", "blocks", "delta"}
    answered("model", "push", f"{reference}:v2", "--from", tmp_path / "v2", "--base", tmp_path / "v1")
    answered("model", "pull", f"{reference}:v1", "--out", tmp_path / "site")
    words = ["model", "pull", f"{reference}:v2", "--base", tmp_path / "site"]
    told = answered(*words, "--out", tmp_path / "o", "--dry-run")
    assert {row["method"] for row in told["items"]} == {"whole", "blocks", "delta"}  # type: ignore[attr-defined]
    assert not (tmp_path / "o").exists()
    back = answered(*words, "--out", tmp_path / "out")
    for path in second.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert back["moved_bytes"] < plan["items"][0]["bytes_per_site"] + 5_000  # type: ignore[operator,index]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pull", "not a reference", "--out", "x"], 2, "HOST/NAME:TAG"),
        (["pull", "127.0.0.1:1/nothing:v1", "--out", "x", "--bandwidth", "0"], 2, "0 bytes"),
        (["push", "127.0.0.1:1/a:v1", "--from", "/nonexistent"], 4, "not a package"),
        (["package", "/nonexistent", "--out", "x"], 4, "no such folder"),
        (["package", ".", "--out", "x", "--recipe", "r.json"], 2, "--base"),
    ],
)
def test_wrong_words_are_refused_with_a_way_out(
    words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = gridctl("model", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
