"""Release key: the orchestrator signs what sites should hold; agents pin its public half and verify.

An ed25519 key in a PEM file of mode 0600 beside the rollouts. Invariant: the bytes that are verified are made from the
document itself (`protocol.signed_bytes`), so a signature never covers less than an agent reads.

Source: RFC 8032 (Ed25519), RFC 8410 (its PEM form).
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from gridctl.errors import InputError
from gridctl.rollout.protocol import Desired, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_FILE = "release.pem"
PUBLIC_FILE = "release.pub"


class ReleaseKey:
    """The private half. `public_pem` is what agents pin."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        serialization, _, _ = _cryptography()
        self._key = key
        self.public_pem: str = (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(self, desired: Desired) -> Desired:
        """The document with its signature."""
        return msgspec.structs.replace(
            desired, signature=base64.b64encode(self._key.sign(signed_bytes(desired))).decode()
        )


def open_release_key(folder: Path) -> ReleaseKey:
    """The key of a folder; made where there is none, with its public half beside it. Raises: InputError."""
    serialization, ed25519, _ = _cryptography()
    path = folder / KEY_FILE
    try:
        if not path.exists():
            made = ed25519.Ed25519PrivateKey.generate()
            pem = made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            _write_once(path, pem)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ValueError("another kind of key")
        release = ReleaseKey(key)
        public = folder / PUBLIC_FILE
        if not public.exists() or public.read_text(encoding="ascii") != release.public_pem:
            public.write_text(release.public_pem, encoding="ascii")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"the release key cannot be used: {reason}", where=str(path), fix="free it, or its disk"
        ) from None
    except (ValueError, TypeError):
        raise InputError(
            "no ed25519 key in PEM", where=str(path), fix="put the key back from a backup; agents have pinned it"
        ) from None
    return release


def is_signed_by(desired: Desired, public_pem: str) -> bool:
    """Whether the pinned public key vouches for exactly this document. Raises: InputError when it is no such key."""
    key = read_public_key(public_pem, "release key")
    _, _, invalid = _cryptography()
    try:
        key.verify(base64.b64decode(desired.signature, validate=True), signed_bytes(desired))
    except (invalid, binascii.Error, ValueError):
        return False
    return True


def read_public_key(pem: str, where: str) -> Ed25519PublicKey:
    """The release key's public half. Raises: InputError when the text is none, or cryptography is not installed."""
    serialization, ed25519, _ = _cryptography()
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError):
        key = None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return cast("Ed25519PublicKey", key)
    raise InputError(
        "this is no release key (an ed25519 public key in PEM)", where=where, fix="gridctl rollout key > FILE"
    )


def _write_once(path: Path, content: bytes) -> None:
    """Write whole or not at all, readable by the owner only; a key that another process made first stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink(missing_ok=True)


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
