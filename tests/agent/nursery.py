"""Forks agents on demand: a line of JSON in, a process id or an ending out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gridctl.agent import collecting, engine, fetching, probing, site_agent, startup  # noqa: F401 (before the fork)
from gridctl.agent.order import Order, Probe

FOLDERS = ("token_file", "folder", "certificates")


def read_order(told: dict[str, Any]) -> Order:
    fields = {name: Path(value) if name in FOLDERS and value else value for name, value in told.items()}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    fields["probes"] = tuple(Probe(**probe) for probe in fields["probes"])
    return Order(**fields)


async def live(orders: list[Order], die_at: str, nth: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    left = nth

    def reached(step: str) -> None:
        nonlocal left
        if step == die_at:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    await asyncio.gather(*(site_agent.run_agent(order, lambda _text: None, stop, reached=reached) for order in orders))


def ending_of(child: int) -> int:
    """How it ended; 1000 when it does not."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1000


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401 (before the fork)
    import httpx  # noqa: F401 (before the fork)

    children: set[int] = set()
    for line in sys.stdin:
        told = json.loads(line)
        if "wait" in told:
            answer(ending_of(told["wait"]))
            children.discard(told["wait"])
            continue
        child = os.fork()
        if child == 0:
            os.close(0)
            asyncio.run(live([read_order(order) for order in told["orders"]], told["at"], told["nth"]))
            os._exit(0)
        children.add(child)
        answer(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
