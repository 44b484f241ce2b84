"""Variants made again at a site that holds the base: next to no bytes, the right digest, or the ordinary way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gridctl.artifacts.checkpoint import read_checkpoint
from gridctl.artifacts.manifest import BASE, RECIPE
from gridctl.artifacts.optimizing import optimize
from gridctl.artifacts.package import Package, build, keep_mark
from gridctl.artifacts.pruning import read_pruning
from gridctl.artifacts.pull import PullReport, pull
from gridctl.artifacts.push import push
from gridctl.artifacts.recipe import Recipe
from gridctl.artifacts.record import REPORT, record_quality, recorded_recipe
from gridctl.artifacts.rederivation import DERIVATIONS, is_rederivable, make_variant
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.artifacts.variant import Request, plan_variant
from gridctl.errors import GridctlError, InputError, Interrupted

if TYPE_CHECKING:
    from tests.artifacts.conftest import Registry

MakeModel = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]


def gridctl(*words: str, at: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "gridctl", *words], cwd=at, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pushed(package: Package, registry: Registry, name: str) -> None:
    with RegistryClient(parse_reference(f"{registry.host}/{name}"), pause=lambda _s: None) as client:
        push(package, client)


def pulled(registry: Registry, name: str, out: Path, **options: Any) -> PullReport:
    with RegistryClient(parse_reference(f"{registry.host}/{name}"), pause=lambda _s: None) as client:
        return pull(client, out, **options)


def layered(folder: Path) -> Path:
    """The fixture's models name no number of layers."""
    config = {"model_type": "llama", "num_hidden_layers": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def made(source: Path, out: Path, request: Request) -> Path:
    found = read_checkpoint(source)
    optimize(found, plan_variant(found, request), request, out)
    return out


def held(folder: Path) -> Package:
    package = build(folder)
    keep_mark(folder, package.manifest_bytes, package.config_bytes)
    return package


def test_a_site_that_holds_the_base_makes_the_variant_and_fetches_next_to_nothing(
    registry: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    make_model("base", tensors=8)
    host = f"{registry.host}/made"
    gridctl("model", "optimize", "base", "--out", "fp8", "--scheme", "fp8", at=tmp_path)
    gridctl("model", "package", "base", "--out", "base.package", at=tmp_path)
    gridctl("model", "push", f"{host}:base", "--from", "base.package", at=tmp_path)
    gridctl("model", "package", "fp8", "--out", "fp8.package", "--base", "base.package", at=tmp_path)
    gridctl("model", "push", f"{host}:fp8", "--from", "fp8.package", "--base", "base.package", at=tmp_path)
    gridctl("model", "pull", f"{host}:base", "--out", "site/base", at=tmp_path)
    plan = json.loads(
        gridctl(
            "model", "pull", f"{host}:fp8", "--out", "site/fp8", "--base", "site/base", "--dry-run", "-o", "json",
            at=tmp_path,
        )
    )  # fmt: skip
    assert next(way["method"] for way in plan["items"] if way["is_cheapest"]) == "rederive"
    out = gridctl("model", "pull", f"{host}:fp8", "--out", "site/fp8", "--base", "site/base", "-o", "json", at=tmp_path)
    row = json.loads(out)
    assert set(row["ways"].split(",")) == {"copied", "rederived"}
    assert row["moved_bytes"] < 0.001 * row["bytes"]
    for path in (tmp_path / "fp8").iterdir():
        assert (tmp_path / "site/fp8" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("request_", "changed"),
    [
        (Request(scheme="w4a16", ignore=("re:.*1$",)), "w4a16"),
        (Request(scheme="int8-w8a8", drop=(1, 2)), "int8"),
        (Request(prune=read_pruning("magnitude=0.2")), "pruned"),
        (Request(prune=read_pruning("2:4"), scheme="fp8"), "both"),
    ],
    ids=["w4a16", "int8-dropped", "magnitude", "two-of-four"],
)
def test_a_recipe_says_all_that_words_can(
    make_model: MakeModel, tmp_path: Path, request_: Request, changed: str
) -> None:
    base = layered(make_model("base", rows=64))
    variant = made(base, tmp_path / changed, request_)
    recipe = recorded_recipe(variant, held(base))
    assert isinstance(recipe, Recipe)
    again = tmp_path / "again"
    again.mkdir()
    make_variant(base, again, recipe.parameters)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in variant.iterdir()}


def test_a_measured_quality_travels_and_the_weights_do_not(
    registry: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    base = make_model("base")
    variant = made(base, tmp_path / "fp8", Request(scheme="fp8"))
    record_quality(variant, 0.75, {"predictions": 10})
    package = held(base)
    recipe = recorded_recipe(variant, package)
    assert isinstance(recipe, Recipe)
    pushed(build(variant, {BASE: package.digest, RECIPE: recipe.text}), registry, "made/measured:v1")
    report = pulled(registry, "made/measured:v1", tmp_path / "site", base=package)
    assert report.ways[REPORT] == "whole"
    assert report.ways["model-00001-of-00002.safetensors"] == "rederived"
    assert json.loads((tmp_path / "site" / REPORT).read_text())["quality"] == 0.75


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"scheme": "int8-w8a8"}, "made another"),
        ({"scheme": "fp9"}, "not known"),
        ({"scheme": "fp8", "run": "rm"}, "more than"),
        ({"scheme": "fp8", "ignore": ("re:(a+)+$",)}, "for ever"),
        ({"scheme": "fp8", "ignore": ("re:(",)}, "no pattern"),
        ({"scheme": "fp8", "ignore": "x"}, "no short list"),
        ({"drop_layers": ("9",)}, "no layer 9|how many layers"),
        ({"prune": "wanda=0.4"}, "activations"),
        ({}, "nothing to do"),
    ],
    ids=["other", "unknown", "more", "slow", "broken", "text", "layer", "wanda", "empty"],
)
def test_a_recipe_that_lies_costs_time_and_no_correctness(
    registry: Registry, make_model: MakeModel, tmp_path: Path, parameters: dict[str, Any], says: str
) -> None:
    base = make_model("base", tensors=2, rows=64)
    variant = made(base, tmp_path / "fp8", Request(scheme="fp8"))
    package = held(base)
    liar = build(variant, {BASE: package.digest, RECIPE: Recipe("optimize", 1, parameters).text})
    name = f"made/liar:{'-'.join(parameters) or 'none'}{len(says)}"
    pushed(liar, registry, name)
    report = pulled(registry, name, tmp_path / "site", base=package)
    assert report.package.digest == liar.digest
    assert "rederived" not in report.ways.values() or "another" in says
    assert any(re.search(says, text) for text in report.notes), report.notes
    assert not list((tmp_path / "site").glob("**/*partial*"))


def test_patterns_that_take_for_ever_are_not_published(make_model: MakeModel, tmp_path: Path) -> None:
    assert is_rederivable(("lm_head", r"re:.*\.(gate|router)$", "re:.*mlp.*"))
    assert not is_rederivable(("re:(a|aa)+$",))
    assert not is_rederivable(("re:.*a.*a.*a",))
    base = make_model("base", rows=8)
    variant = made(base, tmp_path / "fp8", Request(scheme="fp8", ignore=("re:(l+)+x",)))
    assert isinstance(recorded_recipe(variant, held(base)), str)


def test_no_recipe_for_another_base_or_for_what_takes_more_than_a_base(make_model: MakeModel, tmp_path: Path) -> None:
    base, other = make_model("base", rows=8), make_model("other", rows=16)
    variant = made(base, tmp_path / "fp8", Request(scheme="fp8"))
    assert recorded_recipe(variant, held(other)) == "it was made of another base"
    record = json.loads((variant / REPORT).read_text())
    (variant / REPORT).write_text(json.dumps({**record, "recipe": None}))
    assert "more than the base" in str(recorded_recipe(variant, held(base)))
    assert "not made by" in str(recorded_recipe(other, held(base)))


def test_a_user_who_stops_a_derivation_stops_the_pull(
    registry: Registry, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_model("base", tensors=2, rows=64)
    package = held(base)
    recipe = Recipe("optimize", 1, {"scheme": "fp8"})
    variant = made(base, tmp_path / "fp8", Request(scheme="fp8"))
    pushed(build(variant, {BASE: package.digest, RECIPE: recipe.text}), registry, "made/stopped:v1")

    def stop(*_words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gridctl.artifacts.optimizing._carry_out", stop)
    with pytest.raises(Interrupted):
        pulled(registry, "made/stopped:v1", tmp_path / "site", base=package)
    monkeypatch.undo()
    report = pulled(registry, "made/stopped:v1", tmp_path / "site", base=package)
    assert report.ways["model-00001-of-00002.safetensors"] == "rederived"


def test_what_a_site_can_make_is_a_closed_list(make_model: MakeModel, tmp_path: Path) -> None:
    assert set(DERIVATIONS) == {"optimize/1"}
    base = make_model("base", rows=8)
    for bad in ({"merge_lora": "/etc"}, {"activations": "x"}):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(InputError):
            make_variant(base, tmp_path / "out", bad)
    with pytest.raises(GridctlError):
        make_variant(base, tmp_path / "out", {"scheme": True})
