"""Ordering: the control process's side: one order to the keeper, and what it says.

Decides nothing. See `orders` for the words. Raises UnreachableError when there is no keeper or it does not answer in
time, InputError with the keeper's own words when it does not obey.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from gridctl.answers.wire import LONGEST_FRAME, Hello, Obeyed, Order, connect, decode_from_keeper, frame
from gridctl.errors import InputError, UnreachableError

DEADLINE_S = 10.0


async def order(folder: Path, word: str, *, deadline_s: float = DEADLINE_S, **words: Any) -> dict[str, Any]:
    """Give the keeper in `folder` an order: `await order(folder, "purge", by="tag", value="prices")`."""
    try:
        async with asyncio.timeout(deadline_s):
            return await _ask(folder, word, words)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
        raise UnreachableError(
            f"the cache's keeper does not answer: {error or 'no answer in time'}",
            where=str(folder),
            fix="it is started again by itself; see `gridctl cache status` in a few seconds",
        ) from error


async def _ask(folder: Path, word: str, words: dict[str, Any]) -> dict[str, Any]:
    connection = connect(folder)
    try:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
    try:
        writer.write(frame(Hello()) + frame(Order(1, word, words)))
        while True:
            length = int.from_bytes(await reader.readexactly(4), "little")
            if length > LONGEST_FRAME:
                raise OSError("what it says is too long")
            message = decode_from_keeper(await reader.readexactly(length))
            if isinstance(message, Obeyed):
                if message.problem is not None:
                    what, where, fix = message.problem
                    raise InputError(what, where=where or None, fix=fix or None)
                return message.told
    finally:
        writer.close()
