"""Against a real registry: push, break, resume, pull; other tools read what we write."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from gridctl.artifacts.blockindex import index_tag
from gridctl.artifacts.delta import encode
from gridctl.artifacts.manifest import BASE, MANIFEST_TYPE, RECIPE
from gridctl.artifacts.package import Package, build, load, write_layout
from gridctl.artifacts.pull import PullReport, pull
from gridctl.artifacts.push import PushReport, push
from gridctl.artifacts.recipe import Recipe, Value
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.errors import GridctlError, InputError, NotFoundError

if TYPE_CHECKING:
    from tests.artifacts.conftest import Registry

MakeModel = Callable[..., Path]


def pushed(package: Package, registry: Registry, name: str, **options: object) -> PushReport:
    with RegistryClient(parse_reference(f"{registry.host}/{name}"), pause=lambda _s: None) as client:
        return push(package, client, **options)  # type: ignore[arg-type]


def pulled(registry: Registry, name: str, out: Path, **options: object) -> PullReport:
    with RegistryClient(parse_reference(f"{registry.host}/{name}"), pause=lambda _s: None) as client:
        return pull(client, out, **options)  # type: ignore[arg-type]


def same_files(folder: Path, other: Path) -> bool:
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and ".gridctl" not in p.parts)
    return all((folder / name).read_bytes() == (other / name).read_bytes() for name in names) and len(names) > 0


def test_what_is_pushed_comes_back_byte_for_byte(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    source = make_model()
    package = build(source)
    report = pushed(package, registry, "a/whole:v1")
    assert report.present_bytes == 0
    assert report.sent_bytes > sum(file.size for file in package.files)
    back = pulled(registry, "a/whole:v1", tmp_path / "out")
    assert same_files(source, tmp_path / "out")
    assert back.package.digest == package.digest == report.digest
    assert set(back.ways.values()) == {"whole"}
    again = pushed(package, registry, "a/whole:v1")
    assert again.sent_bytes == 0


def test_a_layout_is_what_the_folder_is(make_model: MakeModel, tmp_path: Path) -> None:
    package = build(make_model())
    assert write_layout(package, tmp_path / "layout").digest == package.digest
    assert load(tmp_path / "layout").files[0].path.parent.name == "sha256"


def test_blobs_of_another_repository_are_mounted(registry: Registry, make_model: MakeModel) -> None:
    package = build(make_model(seed=5))
    pushed(package, registry, "a/first:v1")
    report = pushed(package, registry, "a/second:v1", mount_from=["a/first"], with_index=False)
    assert report.sent_bytes == 0
    assert report.mounted_bytes == package.manifest.total_bytes + package.manifest.config.size


def test_chunks_go_on_where_a_killed_registry_was(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    package = write_layout(build(make_model(seed=6, tensors=2, shards=1, rows=8192)), tmp_path / "layout")
    sent = 0

    def kill_midway(count: int) -> None:
        nonlocal sent
        before, sent = sent, sent + count
        if before < 5_000_000 <= sent:
            registry.stop()
            registry.start()

    report = pushed(package, registry, "a/killed:v1", chunk_bytes=1 << 20, advance=kill_midway, with_index=False)
    assert report.digest == package.digest
    size = package.manifest.total_bytes
    # A registry killed before it wrote a chunk's state down knows the upload no more: then what it had is sent again.
    assert size < sent < size + 7_000_000, "nothing is sent twice but what the killed registry may have lost"
    assert pulled(registry, "a/killed:v1", tmp_path / "out").package.digest == package.digest


PUSHER = """
import sys
from pathlib import Path
from gridctl.artifacts.manifest import BASE, MANIFEST_TYPE, RECIPE
from gridctl.artifacts.package import load
from gridctl.artifacts.push import push
from gridctl.artifacts.recipe import Recipe, Value
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.artifacts.pace import Pace
with RegistryClient(parse_reference(sys.argv[2]), parallel=1) as client:
    print("go", flush=True)
    push(load(Path(sys.argv[1])), client, chunk_bytes=1 << 20, pace=Pace(float(sys.argv[3])), with_index=False)
"""


def test_a_push_killed_at_any_point_goes_on(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    package = write_layout(build(make_model(seed=7, tensors=2, shards=1, rows=8192)), tmp_path / "layout")
    name = f"{registry.host}/a/pushkill:v1"
    for share in (0.2, 0.5, 0.8):
        process = subprocess.Popen(
            [sys.executable, "-c", PUSHER, str(package.folder), name, "20000000"], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        journal = package.folder / ".gridctl" / "uploads.json"
        deadline = time.monotonic() + share
        while time.monotonic() < deadline or not journal.exists():
            time.sleep(0.02)
        process.kill()
        process.wait()
        process.stdout.close()
    sent: list[int] = []
    pushed(package, registry, "a/pushkill:v1", chunk_bytes=1 << 20, advance=sent.append, with_index=False)
    assert sum(sent) < package.manifest.total_bytes, "something was there already"
    assert pulled(registry, "a/pushkill:v1", tmp_path / "out").package.digest == package.digest


def merge_files(paths: list[Path], out: Path) -> None:
    """The tensors of all files in one, in another order and under other names."""
    header: dict[str, object] = {}
    data = b""
    for path in reversed(paths):
        raw = path.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        for name, told in json.loads(raw[8 : 8 + length]).items():
            start, end = told["data_offsets"]
            header[f"renamed.{name}"] = {**told, "data_offsets": [len(data), len(data) + end - start]}
            data += raw[8 + length + start : 8 + length + end]
        path.unlink()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write_bytes(struct.pack("<Q", len(text)) + text + data)


class StoppedError(Exception):
    """Ends a pull in the middle."""


@pytest.mark.parametrize("stop_at", [1, 1_500_000, 4_000_000])
def test_a_broken_pull_goes_on_and_shows_no_mark_before(
    registry: Registry, make_model: MakeModel, tmp_path: Path, stop_at: int
) -> None:
    source = make_model(seed=8)
    package = build(source)
    pushed(package, registry, "a/broken:v1")
    out = tmp_path / "out"
    seen = 0

    def stop(count: int) -> None:
        nonlocal seen
        seen += count
        if seen >= stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        pulled(registry, "a/broken:v1", out, advance=stop)
    with pytest.raises(NotFoundError):
        load(out)
    back = pulled(registry, "a/broken:v1", out)
    assert same_files(source, out)
    if stop_at > 1_000_000:
        assert back.moved_bytes < package.manifest.total_bytes


PULLER = """
import sys
from pathlib import Path
from gridctl.artifacts.pull import pull
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.artifacts.pace import Pace
with RegistryClient(parse_reference(sys.argv[2])) as client:
    pull(client, Path(sys.argv[1]), pace=Pace(5e6))
"""


def test_a_pull_killed_at_any_point_goes_on(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    source = make_model(seed=19)
    package = build(source)
    pushed(package, registry, "a/pullkill:v1")
    out = tmp_path / "out"
    for reached in (100_000, 1_500_000, 3_000_000):
        process = subprocess.Popen([sys.executable, "-c", PULLER, str(out), f"{registry.host}/a/pullkill:v1"])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            if sum(path.stat().st_size for path in (out / ".gridctl/partial").glob("*")) >= reached:
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
        with pytest.raises(NotFoundError):
            load(out)
    back = pulled(registry, "a/pullkill:v1", out)
    assert back.moved_bytes < package.manifest.total_bytes / 2
    assert same_files(source, out)


def test_files_that_are_not_the_model_s_are_never_touched(
    registry: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    package = build(make_model(seed=20))
    pushed(package, registry, "a/home:v1")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".profile").write_text("mine")
    left_over = home / f".{package.files[0].name}.123"
    left_over.write_text("ours")
    with pytest.raises(InputError, match="not the model's"):
        pulled(registry, "a/home:v1", home)
    assert (home / ".profile").read_text() == "mine"
    (home / ".profile").unlink()
    pulled(registry, "a/home:v1", home)
    assert not left_over.exists()


def test_a_corrupt_blob_is_refused_and_the_next_pull_begins_again(
    registry: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    package = build(make_model(seed=9))
    pushed(package, registry, "a/corrupt:v1")
    stored = registry.blob_file(package.files[0].digest)
    good = stored.read_bytes()
    stored.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match="not what its digest says"):
        pulled(registry, "a/corrupt:v1", tmp_path / "out")
    assert not (tmp_path / "out" / package.files[0].name).exists()
    stored.write_bytes(good)
    assert pulled(registry, "a/corrupt:v1", tmp_path / "out").package.digest == package.digest


def test_a_changed_file_is_refused_by_the_registry(registry: Registry, make_model: MakeModel) -> None:
    source = make_model(seed=10)
    package = build(source)
    path = source / package.files[0].name
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match="DIGEST_INVALID"):
        pushed(package, registry, "a/changed:v1")
    with pytest.raises(NotFoundError):
        pulled(registry, "a/changed:v1", source.parent / "out")


def test_a_resharded_model_moves_only_headers(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    pushed(build(make_model("two", shards=2, rows=16384)), registry, "a/shards:two")
    source = tmp_path / "one"
    shutil.copytree(tmp_path / "two", source)
    merge_files(sorted(source.glob("*.safetensors")), source / "model.safetensors")
    package = build(source)
    pushed(package, registry, "a/shards:one")
    base = pulled(registry, "a/shards:two", tmp_path / "site").package
    back = pulled(registry, "a/shards:one", tmp_path / "out", base=base)
    assert back.ways["model.safetensors"] == "blocks"
    assert back.moved_bytes < 0.001 * package.manifest.total_bytes
    assert same_files(source, tmp_path / "out")


def test_a_published_delta_is_used_and_a_damaged_one_is_not(
    registry: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    base = build(make_model("base", seed=11))
    pushed(base, registry, "a/tuned:v1")
    tuned = tmp_path / "tuned"
    shutil.copytree(base.folder, tuned)
    path = tuned / base.files[0].name
    data = bytearray(path.read_bytes())
    for offset in range(len(data) - 400_000, len(data), 64):  # the lowest bit of some numbers
        data[offset] ^= 1
    path.write_bytes(data)
    package = build(tuned)
    delta = tmp_path / "delta"
    summary = encode(base, package, delta)
    pushed(package, registry, "a/tuned:v2", delta=delta)
    site = pulled(registry, "a/tuned:v1", tmp_path / "site").package
    back = pulled(registry, "a/tuned:v2", tmp_path / "out", base=site)
    assert back.ways[base.files[0].name] == "delta"
    assert back.moved_bytes < summary.delta_bytes + 5_000
    assert same_files(tuned, tmp_path / "out")
    damaged = site.folder / base.files[0].name
    stored = damaged.read_bytes()
    damaged.write_bytes(stored[:-1000] + bytes(1000))
    second = pulled(registry, "a/tuned:v2", tmp_path / "second", base=site)
    assert second.notes
    assert second.ways[base.files[0].name] in ("blocks", "whole")
    assert same_files(tuned, tmp_path / "second")


def test_a_model_that_the_site_can_make_again_moves_next_to_nothing(
    registry: Registry, make_model: MakeModel, tmp_path: Path
) -> None:
    base = build(make_model("base", seed=18, rows=16384))
    pushed(base, registry, "a/made:v1")

    def negated(source: Path, out: Path, parameters: Mapping[str, Value]) -> None:
        for path in source.glob("[a-z]*"):
            data = np.fromfile(path, np.uint8)
            length = 8 + int(data[:8].view("<u8")[0]) if path.suffix == ".safetensors" else data.size
            data[length + 1 :: 2] ^= np.uint8(parameters["mask"])  # the sign bit of every bf16
            data.tofile(out / path.name)

    made = tmp_path / "made"
    made.mkdir()
    negated(base.folder, made, {"mask": 128})
    recipe = Recipe("negate", 1, {"mask": 128})
    package = build(made, {BASE: base.digest, RECIPE: recipe.text})
    pushed(package, registry, "a/made:v2")
    site = pulled(registry, "a/made:v1", tmp_path / "site").package
    back = pulled(registry, "a/made:v2", tmp_path / "out", base=site, derivations={"negate/1": negated})
    assert back.moved_bytes < 0.001 * package.manifest.total_bytes
    assert same_files(made, tmp_path / "out")
    wrong = {"negate/1": lambda source, out, _: negated(source, out, {"mask": 64})}
    other = pulled(registry, "a/made:v2", tmp_path / "other", base=site, derivations=wrong)
    assert other.notes[0].startswith("negate/1 made another")
    assert same_files(made, tmp_path / "other"), "what comes out wrong is fetched"


def test_signed_models_are_taken_and_others_refused(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    private, public, other = (tmp_path / name for name in ("key.pem", "key.pub", "other.pub"))
    for key, half in ((private, public), (tmp_path / "other.pem", other)):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
        subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(half)], check=True)
    package = build(make_model(seed=12))
    pushed(package, registry, "a/signed:v1", key=private)
    assert pulled(registry, "a/signed:v1", tmp_path / "out", key=public).package.digest == package.digest
    with pytest.raises(InputError, match="no signature by this key"):
        pulled(registry, "a/signed:v1", tmp_path / "no", key=other)
    pushed(build(make_model("plain", seed=13)), registry, "a/plain:v1")
    with pytest.raises(InputError, match="not signed"):
        pulled(registry, "a/plain:v1", tmp_path / "no", key=public)


def test_a_folder_of_another_model_is_not_mixed(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    pushed(build(make_model("x", seed=14)), registry, "a/x:v1")
    pushed(build(make_model("y", seed=15)), registry, "a/y:v1")
    pulled(registry, "a/x:v1", tmp_path / "out")
    with pytest.raises(InputError, match="another model"):
        pulled(registry, "a/y:v1", tmp_path / "out")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "stray.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="not the model's"):
        pulled(registry, "a/y:v1", tmp_path / "third")


def test_the_index_tag_leads_to_an_index_with_its_subject(registry: Registry, make_model: MakeModel) -> None:
    package = build(make_model(seed=16, rows=8192))
    pushed(package, registry, "a/indexed:v1")
    tag = index_tag(package.files[0].digest)
    answer = httpx.get(
        f"http://{registry.host}/v2/a/indexed/manifests/{tag}", trust_env=False, headers={"accept": MANIFEST_TYPE}
    )
    found = answer.json()
    assert found["subject"]["digest"] == package.digest


def test_oras_pulls_what_we_push(registry: Registry, make_model: MakeModel, tmp_path: Path) -> None:
    python = os.environ.get("GRIDCTL_ORAS_PYTHON")
    if python is None:
        pytest.skip("GRIDCTL_ORAS_PYTHON names no Python with oras installed")
    source = make_model(seed=17)
    pushed(build(source), registry, "a/oras:v1")
    code = "import oras.client,sys;oras.client.OrasClient(insecure=True).pull(target=sys.argv[1],outdir=sys.argv[2])"
    subprocess.run([python, "-c", code, f"{registry.host}/a/oras:v1", str(tmp_path / "out")], check=True)
    assert same_files(source, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == len(list(source.iterdir()))


def test_what_is_not_there_is_said(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(GridctlError, match="no such artefact"):
        pulled(registry, "a/nothing:v1", tmp_path / "out")
