"""Manifests, folders and recipes: reproducible bytes, and nothing that leaves the folder or runs code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gridctl.artifacts.manifest import BASE, RECIPE, layer_names, read_manifest
from gridctl.artifacts.package import build, keep_mark, load, write_layout
from gridctl.artifacts.recipe import Recipe, Value, read_recipe, recipe_for, rederive
from gridctl.errors import InputError

DIGEST = "sha256:" + "0" * 64


def manifest_of(*names: str, kind: str = "application/vnd.cncf.model.weight.v1.raw") -> bytes:
    layers = [
        {"mediaType": kind, "digest": DIGEST, "size": 1, "annotations": {"org.cncf.model.filepath": name}}
        for name in names
    ]
    config = {"mediaType": "application/vnd.cncf.model.config.v1+json", "digest": DIGEST, "size": 2}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def test_the_manifest_is_as_modelpack_writes_it(make_model: Callable[..., Path]) -> None:
    package = build(make_model(), {"dev.gridctl.variant": "bf16"})
    told = json.loads(package.manifest_bytes)
    assert told["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert told["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert told["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert [layer["mediaType"].split(".model.")[1] for layer in told["layers"]] == [
        "weight.v1.raw",
        "weight.v1.raw",
        "weight.config.v1.raw",
        "weight.config.v1.raw",
    ]
    for layer in told["layers"]:
        notes = layer["annotations"]
        assert notes["org.cncf.model.filepath"] == notes["org.opencontainers.image.title"]
    config = json.loads(package.config_bytes)
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in told["layers"]]


def test_times_and_places_do_not_enter_the_digest(make_model: Callable[..., Path], tmp_path: Path) -> None:
    source = make_model()
    first = build(source)
    copy = tmp_path / "elsewhere" / "under-another-name"
    shutil.copytree(source, copy)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    assert build(copy).digest == first.digest


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "a\\b", "", ".", "a//b", "c:/x", "x\n", ".gridctl/manifest.json", "a" * 300],
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="could leave"):
        layer_names(read_manifest(manifest_of(name), "here"), "here")


@pytest.mark.parametrize("names", [("a", "A"), ("a", "a"), ("a", "a/b")])
def test_names_that_meet_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="same file name"):
        layer_names(read_manifest(manifest_of(*names), "here"), "here")


def test_archives_are_refused() -> None:
    data = manifest_of("a.tar", kind="application/vnd.cncf.model.weight.v1.tar+gzip")
    with pytest.raises(InputError, match="not a plain file"):
        layer_names(read_manifest(data, "here"), "here")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"schemaVersion":2}', b"[" * 100_000, manifest_of("a").replace(b'"size": 1', b'"size": -1'),
     manifest_of("a").replace(DIGEST.encode(), b"sha256:../../x"), b" " * 5_000_000],
    ids=["empty", "list", "cut", "bare", "deep", "negative", "path", "large"],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read_manifest(data, "here")


def test_pickles_and_links_do_not_travel(make_model: Callable[..., Path]) -> None:
    source = make_model()
    odd = source / "weights.txt"
    odd.write_bytes(b"\x80\x04\x95abc")
    with pytest.raises(InputError, match="pickle"):
        build(source)
    odd.unlink()
    (source / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="pickle"):
        build(source)
    (source / "pytorch_model.bin").unlink()
    (source / "link.json").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="symbolic"):
        build(source)


def test_a_package_is_not_written_into_something_else(make_model: Callable[..., Path]) -> None:
    source = make_model()
    with pytest.raises(InputError, match="something else"):
        write_layout(build(source), source)
    assert not (source / "oci-layout").exists()


def test_a_damaged_layout_is_refused(make_model: Callable[..., Path], tmp_path: Path) -> None:
    package = write_layout(build(make_model()), tmp_path / "layout")
    (tmp_path / "layout/blobs/sha256" / package.digest[7:]).write_bytes(b"{}")
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path / "layout")


def blanked(base: Path, out: Path, parameters: Mapping[str, Value]) -> None:
    """A derivation for these tests: eight blanks after every file."""
    for path in base.iterdir():
        if path.suffix == ".json" and parameters.get("miss") == path.name:
            (out / path.name).write_bytes(b"another")
        elif path.is_file():
            (out / path.name).write_bytes(path.read_bytes() + b" " * 8)


@pytest.mark.parametrize("miss", ["", "config.json"])
def test_a_recipe_gives_only_what_has_the_right_digest(
    make_model: Callable[..., Path], tmp_path: Path, miss: str
) -> None:
    base = write_layout(build(make_model("base")), tmp_path / "layout")
    wanted = tmp_path / "wanted"
    wanted.mkdir()
    blanked(tmp_path / "base", wanted, {})
    recipe = Recipe("blanked", 1, {"miss": miss})
    target = build(wanted, {BASE: base.digest, RECIPE: recipe.text})
    known = {"blanked/1": blanked}
    assert recipe_for(target.manifest, base, known) == recipe
    assert recipe_for(target.manifest, base, {}) is None, "an unknown recipe is not followed"
    assert recipe_for(target.manifest, target, known) is None, "nor one for another base"
    expected = {file.name: (file.size, file.digest) for file in target.files}
    made = rederive(recipe, base, expected, tmp_path / "out", tmp_path / "scratch", known)
    assert made == set(expected) - {miss}
    for name in made:
        assert (tmp_path / "out" / name).read_bytes() == (wanted / name).read_bytes()
    assert not (tmp_path / "out" / miss).is_file()


def test_a_recipe_is_data_only() -> None:
    with pytest.raises(InputError, match="not a recipe"):
        read_recipe('{"name":"x","run":"rm"}', "here")


def test_a_mark_names_the_folder_s_model(make_model: Callable[..., Path]) -> None:
    source = make_model()
    package = build(source)
    keep_mark(source, package.manifest_bytes, package.config_bytes)
    assert load(source).digest == package.digest
    (source / package.files[0].name).write_bytes(b"short")
    with pytest.raises(InputError, match="not as packaged"):
        load(source)
