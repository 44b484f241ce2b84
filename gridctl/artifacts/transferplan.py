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

from gridctl.artifacts.blockindex import build_index, bytes_missing, known_blocks, segments
from gridctl.artifacts.delta import encode, is_tensor_file
from gridctl.artifacts.package import Package
from gridctl.artifacts.recipe import Derivation, recipe_for
from gridctl.artifacts.registry_client import RegistryClient
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


def published_bytes(client: RegistryClient, package: Package) -> int:
    """Bytes of the package that the registry does not hold yet: what a push would send."""
    sizes = {file.digest: file.size for file in package.files}
    sizes[package.manifest.config.digest] = package.manifest.config.size
    return sum(size for digest, size in sizes.items() if not client.has_blob(digest))


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
