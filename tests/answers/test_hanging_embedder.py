"""An embedder service that hangs: exact repeats are served on, looks by meaning are misses until it is back."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from answer_parts import KeeperProcess, fresh_of, plan_at, question_of, until

from gridctl.answers.client import Answers, Found
from gridctl.answers.ordering import order
from gridctl.cache.embedders import HashedEmbedder


class Embeddings:
    """POST /v1/embeddings, until it is told to hang."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                texts = json.loads(await reader.readexactly(length))["input"]
                self.asked += 1
                await self.answers.wait()
                rows = HashedEmbedder(32).embed(texts)
                data = [{"index": place, "embedding": row.tolist()} for place, row in enumerate(rows)]
                body = json.dumps({"data": data}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def test_a_service_that_hangs_never_stalls_serving(tmp_path: Path) -> None:
    async def looked(answers: Answers, text: str, budget_ns: int = 30_000_000) -> Found:
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        answers.look(question_of(text), found.set_result, budget_ns)
        return await found

    async def go() -> None:
        embeddings = Embeddings()
        server = await asyncio.start_server(embeddings.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        plan = plan_at(tmp_path / "plan.json", embedder=f"http://127.0.0.1:{port}/v1/embeddings#small")
        keeper = KeeperProcess(tmp_path / "live" / "cache", plan)
        answers = None
        try:
            keeper.start()
            answers = Answers(keeper.folder, keeper.presence, asyncio.get_running_loop())
            await until(lambda: answers.is_up, "the greeting", 30.0)
            question = question_of("how do i reset the heater")
            answers.keep(question, fresh_of("hold the knob", stamp=answers.stamp()))
            await until(lambda: answers.exact(question, time.time_ns()), "the answer")
            assert embeddings.asked >= 2
            embeddings.answers.clear()
            slow = await looked(answers, "a prompt that was never embedded")
            assert slow.reason == "keeper-slow"
            began = time.monotonic()
            assert (await looked(answers, "how do i reset the heater", 5_000_000_000)).kind == "hit"
            assert answers.exact(question, time.time_ns()) is not None
            assert time.monotonic() - began < 1.5, "the keeper's loop does not wait for the service"
            # After its deadline the service is left alone, and looks are misses at once.
            ends = time.monotonic() + 10.0
            while (found := await looked(answers, "another prompt", 1_000_000_000)).reason != "no-vector":
                assert time.monotonic() < ends, found
            told = await order(keeper.folder, "status")
            assert "did not answer" in next(iter(told["embedder_problems"].values()))
            embeddings.answers.set()
            ends = time.monotonic() + 15.0
            while (found := await looked(answers, "a third prompt", 1_000_000_000)).reason in (
                "no-vector",
                "keeper-slow",
            ):
                assert time.monotonic() < ends, found
                await asyncio.sleep(0.05)
        finally:
            if answers is not None:
                answers.close()
            keeper.close()
            server.close()
        await asyncio.sleep(0.05)

    asyncio.run(go())
