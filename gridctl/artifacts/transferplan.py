"""Transfer plan: what bringing a model to sites costs, by each way it could travel, before anything moves.

Decides nothing: it counts. Bytes are exact for a base at hand (the delta is made, the block indexes are compared), and
seconds are bytes over the link's speed: protocol overhead and other traffic come on top. Dollars are the egress of
whoever serves the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from gridctl.artifacts.blockindex import (
    MAX_INDEX_BYTES,
    BlockIndex,
    build_index,
    bytes_missing,
    index_tag,
    known_blocks,
    read_index,
    segments,
)
from gridctl.artifacts.contents import bytes_digest
from gridctl.artifacts.delta import encode, is_tensor_file
from gridctl.artifacts.download import fetch_small
from gridctl.artifacts.manifest import Descriptor, layer_names, read_manifest
from gridctl.artifacts.package import Package
from gridctl.artifacts.push import delta_tag
from gridctl.artifacts.recipe import Derivation, recipe_for
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.errors import NotFoundError
from gridctl.units import BYTES_PER_GB

Method = Literal["whole", "blocks", "delta", "rederive"]
BITS_PER_BYTE = 8
BITS_PER_MBIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Way:
    """One way for a model to reach sites. `share` is of the whole model's bytes."""

    method: Method
    bytes_per_site: int
    share: float
    seconds_per_site: float
    sites: int
    total_bytes: int
    usd: float
    is_cheapest: bool


def bytes_by_method(
    package: Package, base: Package | None, delta: Path, derivations: Mapping[str, Derivation]
) -> dict[Method, int]:
    """Bytes one site fetches, by method; with a base, the delta to the package is written to `delta`."""
    always = len(package.manifest_bytes) + len(package.config_bytes)
    found: dict[Method, int] = {"whole": always + package.manifest.total_bytes}
    if base is None:
        return found
    held = {file.digest for file in base.files}
    missing = [file for file in package.files if file.digest not in held]
    known = known_blocks(base.files)
    blocks = always
    for file in missing:
        if is_tensor_file(file):
            index = build_index(file)
            blocks += bytes_missing(segments(index, known)) + len(msgspec.json.encode(index))
        else:
            blocks += file.size
    found["blocks"] = blocks
    found["delta"] = always + encode(base, package, delta).delta_bytes
    if recipe_for(package.manifest, base, derivations) is not None:
        found["rederive"] = always
    return found


def published_methods(
    client: RegistryClient, base: Package | None, derivations: Mapping[str, Derivation]
) -> dict[Method, int]:
    """Bytes a pull of the client's reference fetches, by method, from manifests and indexes alone: no weight moves.

    Raises: NotFoundError, InputError, UnreachableError.
    """
    where = str(client.reference)
    data = client.manifest()
    if data is None:
        raise NotFoundError("no such artefact", where=where, fix="check the repository and the tag")
    manifest = read_manifest(data, where)
    names = layer_names(manifest, where)
    always = len(data) + manifest.config.size
    found: dict[Method, int] = {"whole": always + manifest.total_bytes}
    if base is None:
        return found
    held = {file.digest for file in base.files}
    known = known_blocks(base.files)
    blocks = always
    for name, layer in zip(names, manifest.layers, strict=True):
        if layer.digest not in held:
            index = _published_index(client, layer) if name.endswith(".safetensors") else None
            blocks += layer.size if index is None else bytes_missing(segments(index, known))
    found["blocks"] = blocks
    side = client.manifest(delta_tag(base.digest, bytes_digest(data)))
    if side is not None:
        found["delta"] = always + len(side) + read_manifest(side, where).total_bytes
    if recipe_for(manifest, base, derivations) is not None:
        found["rederive"] = always
    return found


def _published_index(client: RegistryClient, layer: Descriptor) -> BlockIndex | None:
    tag = index_tag(layer.digest)
    data = client.manifest(tag)
    if data is None:
        return None
    text = fetch_small(client, read_manifest(data, tag).layers[0], MAX_INDEX_BYTES)
    return read_index(text, layer, tag)


def ways(
    methods: Mapping[Method, int], sites: int, link_mbit_per_s: float, egress_usd_per_gb: float
) -> tuple[Way, ...]:
    """The table of a plan, in order of bytes.

    >>> ways({"whole": 2_000_000_000}, 10, 50.0, 0.02)[0].seconds_per_site
    320.0
    """
    return tuple(
        Way(
            method,
            count,
            count / methods["whole"],
            count * BITS_PER_BYTE / (link_mbit_per_s * BITS_PER_MBIT),
            sites,
            count * sites,
            count * sites * egress_usd_per_gb / BYTES_PER_GB,
            position == 0,
        )
        for position, (method, count) in enumerate(_ordered(methods.items()))
    )


def _ordered(items: Iterable[tuple[Method, int]]) -> list[tuple[Method, int]]:
    return sorted(items, key=lambda item: item[1])
