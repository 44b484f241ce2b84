"""Head: what the broker reads of a request's head. The gateway parses it; names of headers are in lower case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Head(Protocol):
    """Method, target and headers of one request, and the peer's address without its port ("" on a Unix socket)."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def query(self) -> str: ...

    @property
    def headers(self) -> Mapping[bytes, bytes]: ...

    @property
    def peer(self) -> str: ...
