"""The keeper's process: file, table, ledger and service put together, and the channel to the control process.

    python -m gridctl.answers.process --folder DIR --plan FILE --presence NAME --listen-fd N --channel-fd M
        [--shared URL --shared-key-file FILE]

Started by the control process only, which holds the listener over the keeper's lives. The channel carries JSON lines as
a gateway worker's does: to it {"do": "plan", "path": …} and {"do": "stop"}; from it {"event": "ready"}, {"event":
"planned"}, {"event": "refused", "message": …}. It ends, with everything written, when told to or when the channel does.
"""

from __future__ import annotations

import os

# One thread for each look: the others are the workers' and the engines', and waking them costs more than they bring.
for _library in ("OPENBLAS", "MKL", "OMP", "VECLIB_MAXIMUM"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# ruff: noqa: E402 (numpy reads the numbers above when it is imported)
import argparse
import asyncio
import contextlib
import gc
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gridctl.answers.keeper import Keeper
from gridctl.answers.ledger import Ledger
from gridctl.answers.presence import Presence
from gridctl.answers.service import Service
from gridctl.answers.settings import KeeperSettings, settings_of_plan
from gridctl.answers.shared_place import SharedKeys, SharedPlace, keys_of, place_of
from gridctl.answers.solitude import alone_in
from gridctl.answers.store import Store
from gridctl.errors import GridctlError

GARBAGE_THRESHOLDS = (50_000, 50, 1_000)
"""Entries are held for hours: looking through a million of them for garbage would stop everybody."""


SWITCH_INTERVAL_S = 0.0005
"""What a look waits at most for a thread that embeds or computes a bound."""


class _Said(msgspec.Struct):
    """A line from the control process."""

    do: str
    path: str = ""


async def run(options: argparse.Namespace) -> int:
    """Keep until told to stop; the exit status."""
    settings = settings_of_plan(Path(options.plan))
    shared = (place_of(options.shared), keys_of(Path(options.shared_key_file))) if options.shared else None
    folder = Path(options.folder)
    with alone_in(folder):
        return await _run(options, settings, folder, shared)


async def _run(
    options: argparse.Namespace,
    settings: KeeperSettings,
    folder: Path,
    shared: tuple[SharedPlace, SharedKeys] | None,
) -> int:
    store = Store(folder)
    ledger = Ledger(folder)
    presence = Presence.create(options.presence, store.identity, settings.slots)
    keeper = Keeper(store, presence, ledger, settings, secrets.randbits(63), learns_aside=True)
    service = Service(keeper, ledger, folder, shared)
    if store.aside:
        _complain(store.aside)
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(status: int) -> None:
        if not done.done():
            done.set_result(status)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: _failed(context, end))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, 0)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=options.channel_fd))
    await service.start(socket.socket(fileno=options.listen_fd))
    _say(writer, "ready")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    hearing = loop.create_task(_hear(reader, writer, service, end))
    status = await done
    hearing.cancel()
    await service.stop()
    presence.close()
    writer.close()
    return status


async def _hear(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: Service, end: Callable[[int], None]
) -> None:
    decoder = msgspec.json.Decoder(_Said)
    with contextlib.suppress(OSError, ValueError):  # a line beyond the limit is the end of understanding
        while line := await reader.readline():
            with contextlib.suppress(msgspec.MsgspecError):
                said = decoder.decode(line)
                if said.do == "stop":
                    break
                if said.do == "plan":
                    await _follow(said.path, writer, service)
    end(0)


async def _follow(path: str, writer: asyncio.StreamWriter, service: Service) -> None:
    try:
        await service.follow(settings_of_plan(Path(path)))
    except GridctlError as error:
        _say(writer, "refused", message=error.what)
    else:
        _say(writer, "planned")


def _say(writer: asyncio.StreamWriter, event: str, **fields: object) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode({"event": event, **fields}) + b"\n")


def _failed(context: dict[str, Any], end: Callable[[int], None]) -> None:
    error = context.get("exception")
    _complain(f"{context.get('message', 'failed')}: {error!r}")
    if context.get("is_fatal"):
        end(1)


def _complain(text: str) -> None:
    print(f"gridctl cache: {text}", file=sys.stderr)  # noqa: T201


def options_of(words: Sequence[str]) -> argparse.Namespace:
    """The command line. Not for operators: `gridctl up` writes it."""
    parser = argparse.ArgumentParser(prog="gridctl cache keeper")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--plan", required=True)
    parser.add_argument("--presence", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--shared", default="", help="the server that gateways share")
    parser.add_argument("--shared-key-file", default="")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the keeper; the exit status."""
    options = options_of(sys.argv[1:] if words is None else words)
    try:
        with asyncio.Runner(loop_factory=_event_loop()) as runner:
            return runner.run(run(options))
    except GridctlError as error:
        place = f"{error.where}: " if error.where else ""
        _complain(f"{place}{error.what}{f' ({error.fix})' if error.fix else ''}")
        return error.exit_code


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
