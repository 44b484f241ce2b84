"""Sealing: what leaves for a server that others may write to, and what comes back from it.

Decides nothing about content. Who holds the key can seal and open; who holds the server can lose or repeat what he was
given, but can neither read, change nor make one, nor hang it under another name: the name is sealed in. Each text has a
key of its own, keyed BLAKE2b (RFC 7693) of 24 random bytes, and is sealed once under it by ChaCha20-Poly1305 (RFC 8439)
with nonce 0; so no pair of key and nonce comes twice, however much is sealed. 41 bytes longer than the text.
"""

from __future__ import annotations

import hashlib
import os

VERSION = b"\x01"
SALT_BYTES = 24
OVERHEAD_BYTES = 1 + SALT_BYTES + 16
_NONCE = bytes(12)


class Sealing:
    """Seals under one key of 32 bytes. Needs the package `cryptography`."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        self._key = key
        self._cipher = ChaCha20Poly1305
        self._broken = InvalidTag

    def seal(self, name: bytes, text: bytes) -> bytes:
        """The text, for that name only."""
        salt = os.urandom(SALT_BYTES)
        return VERSION + salt + self._cipher(self._of(salt)).encrypt(_NONCE, text, VERSION + name)

    def open(self, name: bytes, sealed: bytes) -> bytes | None:
        """The text that was sealed for that name, None where it was not sealed here."""
        if len(sealed) < OVERHEAD_BYTES or sealed[:1] != VERSION:
            return None
        salt = sealed[1 : 1 + SALT_BYTES]
        try:
            return self._cipher(self._of(salt)).decrypt(_NONCE, sealed[1 + SALT_BYTES :], VERSION + name)
        except self._broken:
            return None

    def _of(self, salt: bytes) -> bytes:
        return hashlib.blake2b(salt, key=self._key, digest_size=32).digest()
