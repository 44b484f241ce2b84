"""Blocks: a prompt cut into windows, each named by a hash of itself and everything before it.

Two prompts share their first n blocks exactly when their first n windows are the same bytes and their tenants are the
same, up to SHA-256 cut to 62 bits. Windows are of the prompt's JSON as it was sent: a conversation that goes on repeats
its earlier text byte for byte, so its blocks repeat, too. A last window that is not whole has no block.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridctl.broker.ask import NO_BLOCKS

WINDOW_BYTES: Final = 512
"""About 128 tokens: a small multiple of engines' blocks, so that a short system prompt still fills one."""
HASHED_BYTES: Final = 64 * 1024
"""What is looked at of a prompt; hashing more would hold up other requests."""
BLOCK_BITS: Final = 62
_MASK: Final = (1 << BLOCK_BITS) - 1


def tenant_seed(salt: str, tenant: str) -> bytes:
    """What the hashes of a tenant's prompts begin with."""
    return hashlib.sha256(f"{salt}\0{tenant}".encode()).digest()


def prompt_blocks(seed: bytes, text: bytes) -> NDArray[np.int64]:
    """The blocks of a prompt, first window first, shape (windows,). O(bytes)."""
    windows = min(len(text), HASHED_BYTES) // WINDOW_BYTES
    if windows == 0:
        return NO_BLOCKS
    digest, found = seed, []
    sha256 = hashlib.sha256
    for start in range(0, windows * WINDOW_BYTES, WINDOW_BYTES):
        digest = sha256(digest + text[start : start + WINDOW_BYTES]).digest()
        found.append(digest[:8])
    blocks: NDArray[np.int64] = np.frombuffer(b"".join(found), "<i8") & _MASK
    return blocks
