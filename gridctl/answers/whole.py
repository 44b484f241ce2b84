"""Whole: what of an engine's answer is kept, whichever API it was given in. Data only.

Apart from the modules that read answers, one for each API, because all of them make one.
"""

from __future__ import annotations

import msgspec


class Whole(msgspec.Struct):
    """What of an answer is kept. Without content it is none that could be."""

    content: bytes = b""
    finish_reason: str = ""
    model: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    has_tool_call: bool = False

    @property
    def is_understood(self) -> bool:
        """Whether there is an answer."""
        return bool(self.content)
