"""An embedder behind a URL: any service that answers POST /v1/embeddings as OpenAI's does.

Decides nothing of its vectors (`embedders.embed` checks them) and trusts nothing else: one deadline for the whole
answer, which an endpoint that sends byte after byte does not stretch; no redirects; a bounded answer; as many vectors
of one dimension as were asked for, in the order asked. The model is named behind a `#`: https://host/v1/embeddings#bge.
A key is taken from the environment variable GRIDCTL_EMBEDDER_KEY. Plain http goes to this machine only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urldefrag, urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError, UnreachableError
from gridctl.resources.hosts import is_loopback

Floats = NDArray[np.float32]
DEADLINE_S = 2.0
MOST_ANSWER_BYTES = 64 << 20
MOST_DIMENSION = 8_192
KEY_VARIABLE = "GRIDCTL_EMBEDDER_KEY"


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int


class _Answer(msgspec.Struct):
    data: list[_Row]


class EndpointEmbedder:
    """The service at a URL. Opening it embeds one sentence, so that its dimension is known. Raises InputError for a
    URL or an answer that cannot be used, UnreachableError when it does not answer in time."""

    def __init__(self, url: str, deadline_s: float = DEADLINE_S) -> None:
        self._url, self._model = urldefrag(url)
        parts = urlsplit(self._url)
        is_near = is_loopback(parts.hostname or "")
        if not parts.hostname or parts.username or parts.scheme not in (("http", "https") if is_near else ("https",)):
            raise InputError(
                f"{self._url!r} is no place to send prompts to",
                where="cache.embedder",
                fix="give an https URL without a user name, as https://host/v1/embeddings#MODEL",
            )
        self._deadline_s = deadline_s
        self._client: Any = None
        self.name = url
        self.dimension = 0
        rows = self.embed(["a first sentence"])
        self.dimension = int(rows.shape[1])
        self.version = self._model or "1"

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors as the service gives them, shape (len(texts), dimension)."""
        body = {"input": list(texts), "encoding_format": "float", **({"model": self._model} if self._model else {})}
        data = self._ask(msgspec.json.encode(body))
        try:
            rows = sorted(msgspec.json.decode(data, type=_Answer).data, key=lambda row: row.index)
        except msgspec.MsgspecError as error:
            raise self._unusable(f"its answer is not a list of embeddings: {error}") from error
        if [row.index for row in rows] != list(range(len(texts))):
            raise self._unusable(f"it gave {len(rows)} embeddings for {len(texts)} texts")
        wanted = self.dimension or len(rows[0].embedding)
        if not 1 <= wanted <= MOST_DIMENSION or any(len(row.embedding) != wanted for row in rows):
            raise self._unusable(f"its embeddings do not all have {wanted} numbers")
        with np.errstate(over="ignore"):  # infinite then, and refused as such
            return np.array([row.embedding for row in rows], np.float32)

    def _ask(self, body: bytes) -> bytes:
        import httpx

        if self._client is None:
            self._client = httpx.Client(follow_redirects=False, trust_env=False, timeout=self._deadline_s)
        headers = {"content-type": "application/json"}
        key = os.environ.get(KEY_VARIABLE)
        if key:
            headers["authorization"] = f"Bearer {key}"
        ends = time.monotonic() + self._deadline_s
        found = bytearray()
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                if answer.status_code != 200:
                    raise self._unusable(f"it answered with status {answer.status_code}")
                for part in answer.iter_bytes():
                    found += part
                    if len(found) > MOST_ANSWER_BYTES:
                        raise self._unusable("its answer is too long")
                    if time.monotonic() > ends:
                        raise self._late()
        except httpx.TimeoutException as error:
            raise self._late() from error
        except httpx.HTTPError as error:
            raise UnreachableError(f"the embedder cannot be reached: {error}", where=self._url) from error
        return bytes(found)

    def _unusable(self, why: str) -> InputError:
        return InputError(f"the embedder cannot be used: {why}", where=self._url, fix="check the service and its model")

    def _late(self) -> UnreachableError:
        return UnreachableError(
            f"the embedder did not answer within {self._deadline_s:g} s",
            where=self._url,
            fix="look after it; until then nothing is served by meaning",
        )
