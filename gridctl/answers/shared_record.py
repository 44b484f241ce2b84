"""What gateways tell each other through the shared tier: an answer to an exact question, and what was ordered of it.

Decides the names on the server and what of an entry travels: everything that an operator can trace or purge it by, and
nothing of the prompt. `number` is how many notices the gateway had read before it asked its engine; `user` is
whose it is, or who asked for a public one, as digests.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from gridctl.answers.entries import Entry
from gridctl.answers.question import Question

LONGEST_LIFE_S = 30 * 86_400.0
"""What an answer may stand on the server."""
_EPOCH = frozenset("0123456789abcdef")
_EPOCH_DIGITS = 32


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One gateway's answer, for the others. Times are Unix nanoseconds."""

    number: int
    born: int
    ttl_s: float
    stale_s: float
    content: bytes
    finish_reason: str
    model: str
    variant: str
    digest: str
    prompt_tokens: int
    output_tokens: int
    usd: float
    tenant: str
    user: str
    tags: tuple[str, ...]
    request_id: str
    site: str
    cluster: str


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """What was ordered at one gateway and holds at all: `purge` of a tag, `key` of one exact question (its key in
    hexadecimal digits), `stop` and `resume` of a workload; `begin` is the first of its list and orders nothing."""

    kind: Literal["begin", "purge", "key", "stop", "resume"]
    value: str = ""
    sender: str = ""
    unix_ns: int = 0


decode_record = msgspec.msgpack.Decoder(Record).decode
decode_notice = msgspec.msgpack.Decoder(Notice).decode
encode = msgspec.msgpack.Encoder().encode


def is_epoch(text: str) -> bool:
    """Whether a text can be an epoch's: 32 hexadecimal digits."""
    return len(text) == _EPOCH_DIGITS and _EPOCH.issuperset(text)


def state_name(prefix: str) -> bytes:
    """Where the server holds which epoch it is."""
    return f"{prefix}:state".encode()


def notices_name(prefix: str, epoch: str) -> bytes:
    """Where the server holds an epoch's notices."""
    return f"{prefix}:{epoch}:notices".encode()


def answer_name(prefix: str, epoch: str, key: bytes, question: Question | Entry) -> bytes:
    """Where the server holds the answer to a question, or would. `key` is the one of names."""
    partition = question.partition if isinstance(question.partition, bytes) else bytes.fromhex(question.partition)
    parts = (partition, question.exact, question.workload.encode(), question.jurisdiction.encode())
    told = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{prefix}:{epoch}:{hashlib.blake2b(told, key=key, digest_size=20).hexdigest()}".encode()


def record_of(entry: Entry, number: int) -> Record:
    """What travels of an entry."""
    return Record(
        number=number,
        born=entry.born,
        ttl_s=entry.ttl_s,
        stale_s=entry.stale_s,
        content=entry.content,
        finish_reason=entry.finish_reason,
        model=entry.model,
        variant=entry.variant,
        digest=entry.digest,
        prompt_tokens=entry.prompt_tokens,
        output_tokens=entry.output_tokens,
        usd=entry.usd,
        tenant=entry.tenant,
        user=entry.user,
        tags=entry.tags,
        request_id=entry.request_id,
        site=entry.site,
        cluster=entry.cluster,
    )


def lives_ms(record: Record) -> int:
    """How long the server keeps it."""
    return int(min(LONGEST_LIFE_S, record.ttl_s + record.stale_s) * 1000)


def entry_from(record: Record, question: Question, number: int, stamp: int) -> Entry:
    """An entry of this gateway from another one's answer to the same question. It is found by exact repeats only, and
    can be purged by what this question is tagged with, too."""
    return Entry(
        number=number,
        exact=question.exact,
        partition=bytes.fromhex(question.partition),
        workload=question.workload,
        tenant=record.tenant,
        jurisdiction=question.jurisdiction,
        stamp=stamp,
        born=record.born,
        ttl_s=record.ttl_s,
        stale_s=record.stale_s,
        tags=(*record.tags, *(tag for tag in (f"tag:{one}" for one in question.tags) if tag not in record.tags)),
        content=record.content,
        finish_reason=record.finish_reason,
        model=record.model,
        variant=record.variant,
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        usd=record.usd,
        founder=0,
        user=record.user,
        text="",
        embedder="",
        vector=None,
        digest=record.digest,
        request_id=record.request_id,
        site=record.site,
        cluster=record.cluster,
        endpoint=question.endpoint,
    )
