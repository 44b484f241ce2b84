"""`gridctl model push --to … --dry-run` and the flags of a rollout, as a user runs them; nothing is moved."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.render.schemas import schema_of

REPOSITORY = Path(__file__).resolve().parents[2]
Ran = subprocess.CompletedProcess[str]
Gridctl = Callable[..., Ran]


@pytest.fixture(scope="module")
def gridctl(tmp_path_factory: pytest.TempPathFactory) -> Gridctl:
    """Commands in a folder with the metro grid and a package of 4,000 bytes of weights."""
    tmp_path = tmp_path_factory.mktemp("rollouts")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def run(*arguments: str) -> Ran:
        command = [sys.executable, "-m", "gridctl", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    assert run("init", "grid", "--example", "metro").returncode == 0
    assert run("--store", "grid", "apply", "-f", "grid/").returncode == 0
    source = tmp_path / "source"
    source.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    (source / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4000))
    (source / "config.json").write_text('{"model_type": "llama"}')
    made = run("model", "package", "source", "--out", "v1.package", "--variant", "fp8")
    assert made.returncode == 0, made.stderr
    return run


PUSH = ("--store", "grid", "model", "push", "localhost:1/llama-3.1-8b:v1", "--from", "v1.package", "--to", "tier!=core")


def test_the_plan_says_what_each_site_would_fetch_when_and_for_how_much(gridctl: Gridctl) -> None:
    given = ("--waves", "1,100%", "--dry-run", "--bandwidth", "500kB/s", "--egress-usd-per-gb", "0.1", "-o", "json")
    planned = gridctl(*PUSH, *given)
    assert planned.returncode == 0, planned.stderr
    printed = json.loads(planned.stdout)
    schema = schema_of("RolloutPlanList")
    assert _complaints(printed, schema) == []
    sites = {item["site"]: item for item in printed["items"]}
    assert set(sites) == {"fr-paris-01", "gb-london-01", "es-madrid-01", "it-milan-01"}  # who serves it, but the core
    assert sorted(item["wave"] for item in sites.values()) == [1, 2, 2, 2]
    for item in sites.values():
        assert item["method"] == "whole"
        assert item["bytes"] > 4000
        assert item["seconds"] == pytest.approx(item["bytes"] / 500_000)
        assert item["usd"] == pytest.approx(item["bytes"] * 0.1 / 1e9)
    assert "100.00% of whole copies" in planned.stderr


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--waves", "5%"), 2, "must reach all sites"),
        (("--soak", "soon"), 2, "not an amount"),
        (("--window", "nights"), 2, "not a window"),
        (("--max-unavailable", "nan%"), 2, "not a share"),
        (("--min-samples", "0"), 2, "min-samples"),
        (("--max-ttft-ratio", "1.1"), 2, "1.2 to 1000"),
        (("--max-ttft-ratio", "nan"), 2, "cannot be judged"),
        (("--waves", "50%,150%"), 2, "more sites than there are"),
        (("--name", "Bad Name"), 2, "no rollout can be called"),
        (("--waves", "1,100%", "--dry-run", "--variant", "fp9"), 3, "no variant fp9"),
        (("--variant", "fp9"), 3, "no variant fp9"),
        (("--model", "lama"), 4, "no model lama"),
        ((), 5, "no orchestrator runs"),
    ],
    ids=range(13),
)
def test_what_a_rollout_cannot_be_is_refused_before_anything_moves(
    gridctl: Gridctl, flags: tuple[str, ...], code: int, words: str
) -> None:
    ran = gridctl(*PUSH, *flags)
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    assert words in ran.stderr


def test_sites_that_do_not_serve_the_model_and_flags_without_sites_are_refused(gridctl: Gridctl) -> None:
    push = ("--store", "grid", "model", "push", "localhost:1/llama-3.1-8b:v1", "--from", "v1.package")
    nowhere = gridctl(*push, "--to", "country=IE")
    assert nowhere.returncode == 4
    assert "none of the 1 chosen sites serves llama-3.1-8b" in nowhere.stderr
    alone = gridctl(*push, "--wait")
    assert alone.returncode == 2
    assert "add --to SITES" in alone.stderr
    alone = gridctl(*push, "--require-signature")
    assert (alone.returncode, "add --to SITES" in alone.stderr) == (2, True)


def test_a_signature_that_is_required_is_looked_for_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from gridctl.artifacts.pull import UnsignedError
    from gridctl.cli import rollingout
    from gridctl.orchestrator import context, rollouts

    class Unsigned:
        """A registry that holds the model and no signature of it."""

        reference = "localhost:1/llama-3.1-8b:v1"
        asked: tuple[str, ...] = ()

        def manifest(self, tag: str) -> None:
            self.asked += (tag,)

    class Home:
        database = Path("grid/.gridctl/gridctl.db")

    monkeypatch.setattr(context, "current_grid", Home)
    monkeypatch.setattr(rollouts, "release_key", lambda home: "")
    registry = Unsigned()
    with pytest.raises(UnsignedError) as refused:
        rollingout.check_signed(registry, "sha256:" + "1" * 64)  # type: ignore[arg-type]
    assert "sites would refuse it: the model is not signed" in refused.value.what
    assert "grid/.gridctl/live/release.pem" in str(refused.value.fix)
    # The tag that cosign gives a signature.
    assert registry.asked == ("sha256-" + "1" * 64 + ".sig",)


def _complaints(printed: object, schema: object) -> list[str]:
    """By the checker that stands beside the tests of commands."""
    path = Path(__file__).resolve().parents[1] / "cli" / "test_schemas.py"
    spec = importlib.util.spec_from_file_location("schemas_of_rollout_commands", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.complaints(printed, schema, schema)
    return found
