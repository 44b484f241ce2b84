"""What is done aside: a look never waits for what is learnt from many prompts, and gets it once it is learnt."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import numpy as np
from answer_parts import NOW, until

from gridctl.answers import aside
from gridctl.answers.entries import Entry
from gridctl.answers.keeper import Keeper
from gridctl.answers.shelf import Shelf
from gridctl.cache.kinship import FIRST_PAIRS

PARTITION = bytes(32)


def entry(number: int, founder: int, vector: np.ndarray) -> Entry:
    fields: dict[str, object] = {
        "number": number, "exact": number.to_bytes(16, "big"), "partition": PARTITION, "workload": "chat",
        "tenant": "acme", "jurisdiction": "eu", "stamp": 0, "born": NOW, "ttl_s": 60.0, "stale_s": 0.0, "tags": (),
        "content": b"{}", "finish_reason": "stop", "model": "m", "variant": "v", "prompt_tokens": 1,
        "output_tokens": 2, "usd": 0.1, "founder": founder, "user": "", "text": f"prompt {number}", "embedder": "e",
        "vector": vector.astype(np.float16).tobytes(), "digest": "", "request_id": "r", "site": "", "cluster": "",
        "endpoint": "chat",
    }  # fmt: skip
    return Entry(**fields)  # type: ignore[arg-type]


def filled(shelf: Shelf, groups: int, each: int) -> None:
    """Answers with so many prompts each, scattered about their place."""
    generator = np.random.default_rng(5)
    number = 0
    for _ in range(groups):
        place, founder = generator.normal(size=16), number + 1
        for _ in range(each):
            number += 1
            vector = place + generator.normal(size=16) * 0.3
            shelf.put(entry(number, founder, vector / np.linalg.norm(vector)), "e")


class OnlyShelf(Keeper):
    """As much of a keeper as learning needs."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf


def test_a_look_does_not_learn_and_the_work_aside_does(monkeypatch) -> None:
    monkeypatch.setattr(aside, "LEARN_EVERY_S", 0.001)
    shelf = Shelf(1 << 30, learns_aside=True)
    filled(shelf, groups=FIRST_PAIRS // 3, each=5)
    section = shelf.section(PARTITION)
    assert section is not None
    assert section.groups is not None
    groups = section.groups
    assert groups.kinship() is None

    async def go() -> None:
        work = aside.Aside(OnlyShelf(shelf))
        task = asyncio.create_task(work.learn_often())
        await until(lambda: groups.kinship() is not None, "what is learnt aside")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        work.close()

    asyncio.run(go())
    assert shelf.to_learn() is None


def test_without_somebody_aside_the_look_learns(tmp_path: Path) -> None:
    shelf = Shelf(1 << 30)
    filled(shelf, groups=FIRST_PAIRS // 3, each=5)
    section = shelf.section(PARTITION)
    assert section is not None
    assert section.groups is not None
    assert section.groups.kinship() is not None
    assert shelf.to_learn() is None
