"""The wall between answers: two requests may share one only if everything but the last user turn's wording is equal.

Decides equality, hard and before any search: a partition's entries live in an index of their own, so no similarity can
cross it. Who asks comes from the checked key of the caller, never from the request. The key is an HMAC under a secret
of the cache, so it tells nothing about a prompt to who reads a log or a file. Fields are length-prefixed: no two
different partitions have one encoding.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import msgspec

from gridctl.errors import InputError

SHARED_TENANT = "*"
"""Tenant of a partition that every tenant of a public workload shares."""
LEAST_SECRET_BYTES = 16


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that must be equal. `user` is set for workloads whose users are private to each other. `earlier_turns`
    is the conversation before the last user turn, `parameters` what of the sampling changes the answer; all four texts
    are canonical JSON, made by `canonical`. `policy` is the version of the workload's cache policy."""

    tenant: str
    jurisdiction: str
    workload: str
    policy: str
    model: str
    variant: str
    quality_tier: str
    embedder: str
    embedder_version: str
    system_prompt: str = ""
    earlier_turns: str = ""
    tools: str = ""
    response_format: str = ""
    parameters: str = ""
    language: str = ""
    user: str = ""

    def key(self, secret: bytes) -> str:
        """HMAC-SHA-256 in 64 hexadecimal digits; equal for equal partitions only."""
        return digest(secret, (getattr(self, name) for name in self.__struct_fields__))


def digest(secret: bytes, texts: Iterable[str]) -> str:
    """HMAC-SHA-256 of texts, each after its length in bytes."""
    if len(secret) < LEAST_SECRET_BYTES:
        raise InputError(f"a cache secret of {len(secret)} bytes protects nothing", fix="use 32 random bytes")
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    framed = b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])
    return hmac.digest(secret, framed, "sha256").hex()


def canonical(value: object) -> str:
    """JSON with sorted keys: equal texts for equal values, whatever order a client wrote them in.

    >>> canonical({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"a part of the request is not JSON: {error}") from error


def sharing_tenant(tenant: str, is_public: bool, shares: bool) -> str:
    """The partition's tenant: shared only where the workload is declared public and the tenant declares to share."""
    if tenant == SHARED_TENANT or not tenant:
        raise InputError(f"{tenant!r} is no tenant's name")
    return SHARED_TENANT if is_public and shares else tenant
