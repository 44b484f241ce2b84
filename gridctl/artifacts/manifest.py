"""Manifest: a model as an OCI artefact of the CNCF ModelPack specification, and back.

Decides bytes: the same files give the same manifest digest on every machine, so file times and owners never enter it.
Each weight file is one raw layer; every layer carries its path twice, because ORAS reads the OCI title and ModelPack
tools their own annotation. Our own facts (base, recipe, lineage) are annotations of the manifest: the config's schema
is closed. Must not do I/O.

Source: CNCF model-spec (manifest and config media types, `org.cncf.model.filepath`), OCI image-spec 1.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gridctl.artifacts.contents import MAX_FILES, ModelFile, bytes_digest, checked_name, is_digest
from gridctl.errors import InputError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
BASE = "dev.gridctl.base"
VARIANT = "dev.gridctl.variant"
RECIPE = "dev.gridctl.recipe"
TOOL = "dev.gridctl.tool"
MAX_MANIFEST_BYTES = 4_000_000
"""What the distribution specification asks every registry to take."""
MAX_LAYER_BYTES = 1 << 42


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a blob is: its type, its SHA-256, its bytes."""

    mediaType: str  # noqa: N815 (the specification's own key)
    digest: str
    size: int
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An OCI image manifest, as far as a model or one of its side artefacts needs it."""

    schemaVersion: int  # noqa: N815
    mediaType: str = ""  # noqa: N815
    artifactType: str = ""  # noqa: N815
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @property
    def total_bytes(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)


def to_bytes(document: object) -> bytes:
    """Canonical JSON: sorted keys, no blanks, ASCII; these bytes are what a digest names."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def model_config(files: Sequence[ModelFile], config_json: bytes | None) -> bytes:
    """The ModelPack config of these files; architecture and precision as the model's own config.json tells them."""
    told: dict[str, Any] = {}
    if config_json is not None:
        try:
            loaded = json.loads(config_json)
            told = loaded if isinstance(loaded, dict) else {}
        except ValueError as error:
            raise InputError(
                f"config.json is not JSON: {error}", where="config.json", fix="take it from the source again"
            ) from None
    quantization = told.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    weights = [file for file in files if file.role == "weight"]
    config = {
        "architecture": str(told.get("model_type") or ""),
        "format": "safetensors" if all(file.name.endswith(".safetensors") for file in weights) else "gguf",
        "precision": str(told.get("torch_dtype") or told.get("dtype") or ""),
        "quantization": str(method or ""),
    }
    return to_bytes(
        {
            "descriptor": {},
            "config": {key: value for key, value in config.items() if value},
            "modelfs": {"type": "layers", "diffIds": [file.digest for file in files]},
        }
    )


def model_manifest(files: Sequence[ModelFile], config: bytes, annotations: Mapping[str, str]) -> bytes:
    """The manifest of these files, weights first. Raises: InputError when registries would refuse its size."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": MODEL_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": bytes_digest(config), "size": len(config)},
        "layers": [
            {
                "mediaType": f"application/vnd.cncf.model.{file.role}.v1.raw",
                "digest": file.digest,
                "size": file.size,
                "annotations": {FILEPATH: file.name, TITLE: file.name},
            }
            for file in files
        ],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return _bounded(to_bytes(document))


def side_manifest(
    artifact_type: str, layer: Descriptor, subject: Descriptor, annotations: Mapping[str, str] | None = None
) -> bytes:
    """The manifest of something about a model (block index, delta): one layer, an empty config, and its subject."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": {"mediaType": EMPTY_TYPE, "digest": bytes_digest(EMPTY), "size": len(EMPTY)},
        "layers": [{"mediaType": layer.mediaType, "digest": layer.digest, "size": layer.size}],
        "subject": {"mediaType": subject.mediaType, "digest": subject.digest, "size": subject.size},
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return to_bytes(document)


def read_manifest(data: bytes, where: str) -> Manifest:
    """A manifest that any client may have written. Raises: InputError for anything that cannot be trusted to be one."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise InputError("the manifest is larger than 4 MB", where=where, fix="this is no model's manifest")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"not an OCI manifest: {error}", where=where, fix="name an artefact, not an index") from None
    for descriptor in (manifest.config, *manifest.layers):
        if not is_digest(descriptor.digest) or not 0 <= descriptor.size <= MAX_LAYER_BYTES:
            raise InputError("a layer has no valid SHA-256 or size", where=where, fix="push the artefact again")
    if len(manifest.layers) > MAX_FILES:
        raise InputError(f"more than {MAX_FILES} layers", where=where, fix="this is no model's manifest")
    return manifest


def layer_names(manifest: Manifest, where: str) -> tuple[str, ...]:
    """The file name of every layer of a model's manifest, in order.

    Raises: InputError for layers without a name, archives, unsafe names and names that meet, also on disks that
    ignore case or take one name for the folder of another.
    """
    names: list[str] = []
    for layer in manifest.layers:
        if not layer.mediaType.endswith(".raw"):
            raise InputError(
                f"a layer of type {layer.mediaType[:80]!r} is not a plain file",
                where=where,
                fix="package the model with raw layers",
            )
        name = layer.annotations.get(FILEPATH) or layer.annotations.get(TITLE) or ""
        names.append(checked_name(name, where))
    folded = {name.casefold() for name in names}
    folders = {parent for name in folded for parent in _parents(name)}
    if len(folded) < len(names) or folders & folded:
        raise InputError("two layers have the same file name", where=where, fix="package the model again")
    return tuple(names)


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_MANIFEST_BYTES:
        raise InputError("the manifest would be larger than registries take (4 MB)", fix="merge small files")
    return data
