"""Signature: who vouches for a model, by an ed25519 key in a file, in the form that cosign verifies.

The signed text names the manifest's digest, and the manifest names every byte, so one signature covers the model. It
lies beside the model at a tag made of the digest. Invariant: what is signed or verified is bytes, never a parsed and
rewritten document; a text about another digest is no signature of this one.

Source: sigstore cosign, SIGNATURE_SPEC ("simple signing" payload, tag `sha256-<hex>.sig`); RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import msgspec

from gridctl.artifacts.contents import bytes_digest
from gridctl.artifacts.manifest import MANIFEST_TYPE, Manifest, to_bytes
from gridctl.errors import InputError

SIGNATURE_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_CONFIG = "application/vnd.oci.image.config.v1+json"
SIGNATURE_NOTE = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE = "cosign container image signature"
MAX_SIGNATURES = 32
MAX_PAYLOAD_BYTES = 1 << 16
CONFIG = b'{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]},"config":{}}'


def signature_tag(manifest_digest: str) -> str:
    """The tag at which the signatures of a manifest are."""
    return f"sha256-{manifest_digest[7:]}.sig"


def payload(manifest_digest: str, reference: str) -> bytes:
    """The text that is signed."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": manifest_digest},
        "type": PAYLOAD_TYPE,
    }
    return to_bytes({"critical": critical, "optional": {"creator": "gridctl"}})


def sign(text: bytes, key_file: Path) -> str:
    """The base64 signature of `text` by a private key in PEM. Raises: InputError.

    A key is made by `openssl genpkey -algorithm ed25519 -out key.pem`, its public half by
    `openssl pkey -in key.pem -pubout -out key.pub`.
    """
    serialization, ed25519, _ = _cryptography()
    try:
        key = serialization.load_pem_private_key(_key_bytes(key_file), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _no_key(key_file, "openssl genpkey -algorithm ed25519 -out key.pem")
    return base64.b64encode(key.sign(text)).decode()


def is_signed_by(text: bytes, signature: str, key_file: Path) -> bool:
    """Whether the public key in PEM vouches for exactly these bytes. Raises: InputError when there is no such key."""
    serialization, ed25519, invalid = _cryptography()
    try:
        key = serialization.load_pem_public_key(_key_bytes(key_file))
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _no_key(key_file, "openssl pkey -in key.pem -pubout -out key.pub")
    try:
        key.verify(base64.b64decode(signature, validate=True), text)
    except (invalid, binascii.Error):
        return False
    return True


def named_digest(text: bytes) -> str:
    """The manifest digest a signed text is about; empty when it is about none."""
    try:
        told = msgspec.json.decode(text)
        if told["critical"]["type"] != PAYLOAD_TYPE:
            return ""
        return str(told["critical"]["image"]["docker-manifest-digest"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def signature_manifest(text: bytes, signature: str) -> bytes:
    """The manifest of a signature, as cosign lays it out."""
    layer = {
        "mediaType": SIGNATURE_LAYER,
        "digest": bytes_digest(text),
        "size": len(text),
        "annotations": {SIGNATURE_NOTE: signature},
    }
    config = {"mediaType": SIGNATURE_CONFIG, "digest": bytes_digest(CONFIG), "size": len(CONFIG)}
    return to_bytes({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]})


def signatures(manifest: Manifest) -> list[tuple[str, int, str]]:
    """Digest and size of each signed text, and its signature."""
    return [
        (layer.digest, layer.size, layer.annotations[SIGNATURE_NOTE])
        for layer in manifest.layers[:MAX_SIGNATURES]
        if layer.mediaType == SIGNATURE_LAYER and SIGNATURE_NOTE in layer.annotations and layer.size < MAX_PAYLOAD_BYTES
    ]


def _cryptography() -> tuple[Any, Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise InputError(
            "signatures need cryptography", where="this Python", fix='pip install "gridctl[push]"'
        ) from None
    return serialization, ed25519, InvalidSignature


def _key_bytes(key_file: Path) -> bytes:
    try:
        return key_file.read_bytes()
    except OSError as error:
        raise InputError(
            f"the key cannot be read: {error.strerror}", where=str(key_file), fix="name the file"
        ) from None


def _no_key(key_file: Path, command: str) -> InputError:
    return InputError("no ed25519 key in PEM", where=str(key_file), fix=command)
