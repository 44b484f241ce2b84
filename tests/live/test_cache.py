"""The cache as an operator runs it: `gridctl up`, its workers and its keeper as processes, an engine, and clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from intentengine import IntentEngine, intent_engine
from livegrid import write_grid
from liveprograms import Orchestrator, apply_grid, descendants, gridctl, wait_for

from gridctl.orchestrator.context import home_of
from gridctl.orchestrator.live_client import local_client

ANSWERS = {
    "refund": "Refunds take five days.",
    "password": "Use the reset link.",
    "invoice": "Invoices are under billing.",
    "shipping": "Shipping costs four euros.",
    "warranty": "The warranty lasts two years.",
}
ASKINGS = {
    "refund": ("how does a refund work", "when do i get my refund", "refund duration", "what about the refund"),
    "password": ("how to change my password", "i lost the password", "password reset", "new password"),
    "invoice": ("where is my invoice", "find the invoice", "invoice download", "get an invoice"),
    "shipping": ("what does shipping cost", "shipping terms", "how much is shipping", "shipping fee"),
    "warranty": ("how long is the warranty", "warranty length", "warranty period", "does the warranty last"),
}
BEFORE = ("please tell me", "i would like to know", "can you say", "hello, question", "quick one", "explain")
AFTER = ("thanks", "please", "for my order", "as a customer", "in detail", "briefly")


@dataclass
class Told:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def cache(self) -> str:
        return self.headers.get("x-gridctl-cache", "")

    @property
    def kind(self) -> str:
        """hit; level=… or miss; reason=…, without what changes."""
        return "; ".join(self.cache.split("; ")[:2])

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def text(self) -> str:
        if not self.headers["content-type"].startswith("text/event-stream"):
            return str(json.loads(self.body)["choices"][0]["message"]["content"])
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        parts = [choice["delta"].get("content") or "" for line in lines for choice in json.loads(line)["choices"]]
        return "".join(parts)


@dataclass
class Grid:
    """A served grid with a cache, and its engine."""

    orchestrator: Orchestrator
    engine: IntentEngine
    manifests: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        text: str,
        workload: str = "exact",
        *,
        tenant: str = "",
        headers: dict[str, str] | None = None,
        timeout_s: float = 20.0,
        **more: Any,
    ) -> Told:
        body = {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": text}], **more}
        sent = {"content-type": "application/json", "x-gridctl-workload": workload, **(headers or {})}
        if tenant:
            sent["authorization"] = f"Bearer {self.tokens[tenant]}"
        url = f"{self.orchestrator.url}/v1/chat/completions"
        asked = urllib.request.Request(url, json.dumps(body).encode(), sent)
        try:
            with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
                return Told(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Told(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def asked_twice(self, text: str, workload: str = "exact", **more: Any) -> Told:
        """Ask until the answer is kept, then once more."""
        wait_for(
            f"{text!r} to be kept", lambda: self.ask(text, workload, **more).kind.startswith("hit"), 20, every_s=0.1
        )
        return self.ask(text, workload, **more)

    @property
    def keeper(self) -> int:
        """The process id of the cache's keeper."""
        return int(self.orchestrator.ask("cache", "status")["pid"])

    def is_up(self) -> bool:
        return bool(self.orchestrator.ask("cache", "status")["state"] == "up")


def grid_documents(path: Path, engine: IntentEngine) -> list[dict[str, Any]]:
    write_grid(path, {"paris": [engine.url]})
    documents = [json.loads(one) for one in path.read_text().split("---\n")]
    (chat,) = (one for one in documents if one["kind"] == "Workload")
    documents.remove(chat)
    for name, cache in (
        ("exact", {"mode": "exact", "stale_s": 5}),
        ("meaning", {"mode": "semantic", "error_rate": 0.2, "judge": "text", "audit_budget": 0.5}),
        ("open", {"mode": "exact", "sharing": "public", "public_after": 2}),
        ("plain", {"mode": "off"}),
    ):
        spec = {**chat["spec"], "cache": cache, "tenants": ["default", "a", "b", "c"]}
        documents.append({**chat, "metadata": {"name": name}, "spec": spec})
    return documents


def write(path: Path, documents: list[dict[str, Any]]) -> None:
    path.write_text("---\n".join(json.dumps(one) + "\n" for one in documents))


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[Grid]:
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(intent_engine(ANSWERS))
        manifests = folder / "grid"
        manifests.mkdir()
        write(manifests / "grid.yaml", grid_documents(manifests / "grid.yaml", engine))
        store = folder / "store"
        apply_grid(store, manifests)
        tokens = {}
        for tenant in ("a", "b", "c"):
            made = gridctl("token", "create", tenant, "--tenant", tenant, store=store)
            assert made.returncode == 0, made.stderr
            tokens[tenant] = made.stdout.strip()
        orchestrator = Orchestrator.start(folder, store, "--default-origin", "paris", "--anonymous", *options)
        stack.callback(orchestrator.end)
        orchestrator.wait_until_ready()
        grid = Grid(orchestrator, engine, manifests, tokens)
        wait_for("the keeper to be up", grid.is_up, 30)
        yield grid


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with served(tmp_path_factory.mktemp("cache")) as found:
        yield found


def test_a_repeat_is_answered_without_an_engine_whole_and_streamed(grid: Grid) -> None:
    before = grid.ask("how does a refund work")
    hit = grid.asked_twice("How does a REFUND work")
    streamed = grid.ask("how does a refund  work", stream=True, stream_options={"include_usage": True})
    assert before.kind == "miss; reason=absent"
    assert hit.cache.startswith("hit; level=exact; age=")
    assert hit.text == streamed.text == before.text == ANSWERS["refund"]
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    told, usage = json.loads(hit.body), json.loads(streamed.body.split(b"\n\n")[-3].removeprefix(b"data: "))["usage"]
    assert (told["object"], told["usage"]["completion_tokens"]) == ("chat.completion", 4)
    assert usage == told["usage"]
    assert grid.engine.prompts().count("how does a refund  work") == 0


def test_the_official_client_reads_hits(grid: Grid) -> None:
    openai = pytest.importorskip("openai")
    grid.asked_twice("find the invoice")
    with openai.OpenAI(base_url=f"{grid.orchestrator.url}/v1", api_key=grid.tokens["a"]) as client:
        headers = {"x-gridctl-workload": "exact"}
        asked: dict[str, Any] = {
            "model": "tiny",
            "temperature": 0,
            "messages": [{"role": "user", "content": "find the invoice"}],
        }
        first = client.chat.completions.create(**asked, extra_headers=headers)
        assert first.choices[0].message.content == ANSWERS["invoice"]

        def is_hit() -> bool:
            raw = client.chat.completions.with_raw_response.create(**asked, extra_headers=headers)
            return str(raw.headers["x-gridctl-cache"]).startswith("hit")

        wait_for("a hit of tenant a's own", is_hit, 20)
        events = list(client.chat.completions.create(**asked, stream=True, extra_headers=headers))
    assert "".join(event.choices[0].delta.content or "" for event in events) == ANSWERS["invoice"]


def test_no_tenant_gets_anothers_answer_but_where_the_workload_is_public(grid: Grid) -> None:
    assert grid.asked_twice("what does shipping cost", tenant="a").kind == "hit; level=exact"
    assert grid.ask("what does shipping cost", tenant="b").kind == "miss; reason=absent"
    text = "how is shipping paid for"

    def is_shared_with(tenant: str) -> bool:
        before = len(grid.engine.asked)
        told = grid.ask(text, "open", tenant=tenant)
        assert "x-gridctl-cache" not in told.headers, "a hit would tell what strangers asked"
        return len(grid.engine.asked) == before

    for _ in range(3):
        assert not is_shared_with("a"), "one caller alone opens nothing to others"
    wait_for("tenant c to get what a and b asked for", lambda: is_shared_with("b") and is_shared_with("c"), 20)


def test_what_says_no_store_is_not_stored_and_what_is_off_is_off(grid: Grid) -> None:
    for _ in range(2):
        told = grid.ask("password reset, secretly", headers={"cache-control": "no-store"})
        assert told.kind == "bypass; reason=no-store"
    assert grid.ask("password reset, secretly").kind == "miss; reason=absent"
    assert grid.ask("new password", "plain").cache == "bypass"


def test_a_purge_by_tag_is_in_force_at_once_and_an_event(grid: Grid) -> None:
    tagged = {"x-gridctl-cache-tags": "doc:4711"}
    grid.asked_twice("warranty length", headers=tagged)
    grid.asked_twice("warranty period")
    dry = grid.orchestrator.ask("cache", "purge", "--tag", "doc:4711", "--dry-run")
    assert (dry["entries"], dry["dry_run"]) == (1, True)
    assert grid.ask("warranty length", headers=tagged).kind == "hit; level=exact"
    done = grid.orchestrator.ask("cache", "purge", "--tag", "doc:4711", "--reason", "the document changed")
    assert done["entries"] == 1
    assert grid.ask("warranty length", headers=tagged).kind == "miss; reason=absent"
    assert grid.ask("warranty period").kind == "hit; level=exact"
    events = grid.orchestrator.ask("event", "list", "--for", "cache")["items"]
    assert ("tag:doc:4711", "the document changed") in {(one["name"], one["cause"]) for one in events}


def test_an_operator_traces_what_an_answer_served_and_takes_it_back(grid: Grid) -> None:
    hit = grid.asked_twice("shipping fee, please")

    def traced() -> Any:
        found = grid.orchestrator.ask("cache", "explain", hit.request_id)["entries"]
        return found if found and any(one["request"] == hit.request_id for one in found[0]["served"]) else None

    (entry,) = wait_for("the serving to be noted", traced, 10)
    assert (entry["site"], entry["model"], entry["workload"]) == ("paris", "tiny", "exact")
    assert entry["made_for"].startswith("req-")
    told = grid.orchestrator.ask("explain", "request", hit.request_id)
    assert (told["cache"], told["cache_reason"], told["reason"]) == ("hit", "exact", "cache-exact")
    assert told["saved_usd"] > 0
    grid.orchestrator.ask("cache", "feedback", hit.request_id, "--wrong", "--user", "someone")
    purged = grid.orchestrator.ask("cache", "purge", "--request", entry["made_for"])
    assert purged["entries"] in (0, 1)  # feedback may have taken it already
    assert grid.ask("shipping fee, please").kind == "miss; reason=absent"


def test_fifty_clients_who_ask_the_same_at_once_cost_one_engine_request(grid: Grid) -> None:
    grid.engine.delay_s = 1.0
    try:
        with ThreadPoolExecutor(50) as pool:
            streams = [pool.submit(grid.ask, "refund, all together", stream=bool(n % 2)) for n in range(50)]
            told = [one.result() for one in streams]
    finally:
        grid.engine.delay_s = 0.0
    assert grid.engine.prompts().count("refund, all together") == 1
    assert {one.text for one in told} == {ANSWERS["refund"]}
    kinds = Counter(one.kind for one in told)
    assert kinds["miss; reason=absent"] == 1
    assert kinds["hit; level=shared"] + kinds["hit; level=exact"] == 49


def test_a_client_that_leaves_takes_nothing_from_those_who_wait_with_it(grid: Grid) -> None:
    grid.engine.delay_s = 5.0

    def all_follow() -> bool:
        with local_client(home_of(grid.orchestrator.store, "test")) as client:
            return sum(worker.in_flight for worker in client.status().workers) >= 4

    async def leave() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", grid.orchestrator.port)
        body = json.dumps({"model": "tiny", "temperature": 0,
                           "messages": [{"role": "user", "content": "invoice, leaving"}]}).encode()  # fmt: skip
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-gridctl-workload: exact\r\n"
                     b"content-length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
        await writer.drain()
        while "invoice, leaving" not in grid.engine.prompts():
            await asyncio.sleep(0.01)
        followers = [asyncio.create_task(asyncio.to_thread(grid.ask, "invoice, leaving")) for _ in range(3)]
        await asyncio.to_thread(wait_for, "all to follow the leader's request", all_follow, 20)
        writer.close()
        for follower in followers:
            told = await follower
            assert told.text == ANSWERS["invoice"]

    try:
        asyncio.run(leave())
    finally:
        grid.engine.delay_s = 0.0
    assert grid.engine.prompts().count("invoice, leaving") == 1


def test_a_poisoned_leader_poisons_nobody(grid: Grid) -> None:
    grid.engine.delay_s, grid.engine.failures_left = 1.0, 1
    try:
        with ThreadPoolExecutor(6) as pool:
            told = [one.result() for one in [pool.submit(grid.ask, "password, poisoned") for _ in range(6)]]
    finally:
        grid.engine.delay_s = 0.0
    assert sorted(one.status for one in told) == [200] * 5 + [500]
    assert {one.text for one in told if one.status == 200} == {ANSWERS["password"]}
    assert {one.kind for one in told if one.status == 200} == {"miss; reason=leader-failed"}
    assert grid.engine.prompts().count("password, poisoned") == 6, "each went alone, once"
    assert grid.asked_twice("password, poisoned").text == ANSWERS["password"]


def test_by_meaning_once_it_has_learnt_and_never_wrongly_here(grid: Grid) -> None:
    from random import Random

    prompts = [
        (word, f"{before} {asking} {after}")
        for word, askings in ASKINGS.items()
        for asking in askings
        for before in BEFORE
        for after in AFTER
    ]
    Random(1).shuffle(prompts)
    kinds: Counter[str] = Counter()
    last: Told | None = None
    for word, prompt in prompts:
        told = grid.ask(prompt, "meaning")
        assert told.text == ANSWERS[word], (told.cache, prompt)
        kinds[told.kind] += 1
        if told.kind == "hit; level=semantic":
            last = told
            if kinds[told.kind] >= 120:
                break
    assert kinds["hit; level=semantic"] >= 120, kinds
    assert last is not None
    assert "similarity=0." in last.cache
    assert "bound=0." in last.cache
    (row,) = (one for one in grid.orchestrator.ask("cache", "status")["workloads"] if one["workload"] == "meaning")
    assert row["semantic_hits"] == kinds["hit; level=semantic"]
    assert 0 < row["bound"] <= row["error_rate"]
    assert row["asked_again"] == row["audits"] or row["audits"] - row["asked_again"] <= 8
    stopped = gridctl("cache", "stop", "meaning", store=grid.orchestrator.store)
    assert stopped.returncode == 0, stopped.stderr
    assert not any(grid.ask(prompt, "meaning").kind == "hit; level=semantic" for _, prompt in prompts[-20:]), (
        "stopped means stopped"
    )
    assert gridctl("cache", "resume", "meaning", store=grid.orchestrator.store).returncode == 0
    top = grid.orchestrator.ask("top", "--once", "--window", "30")
    assert top["cache"]["hit_share"] > 0
    assert str(grid.orchestrator.ask("status")["cache"]).endswith("answers")


def test_a_killed_keeper_costs_hits_by_meaning_and_no_request(grid: Grid) -> None:
    grid.asked_twice("warranty, still there")
    before = grid.keeper
    os.kill(before, signal.SIGKILL)
    for number in range(20):
        assert grid.ask(f"refund number word {'x' * number}").text == ANSWERS["refund"]
        assert grid.ask(f"refund by meaning {'y' * number}", "meaning").text == ANSWERS["refund"]
    wait_for("another keeper", lambda: grid.keeper not in (0, before) and grid.is_up(), 30)
    assert grid.ask("warranty, still there").text == ANSWERS["warranty"]
    wait_for(
        "what was kept to be served again", lambda: grid.ask("warranty, still there").kind == "hit; level=exact", 20
    )


def test_a_killed_worker_is_replaced_by_one_that_knows_what_is_kept(grid: Grid) -> None:
    grid.asked_twice("invoice, after all")
    workers = grid.orchestrator.ask("status")["workers"]
    os.kill(workers[0]["pid"], signal.SIGKILL)

    def answered() -> bool:
        with contextlib.suppress(OSError):
            return grid.ask("invoice, after all").kind == "hit; level=exact"
        return False

    wait_for("a hit from the worker that took its place", answered, 60, every_s=0.2)
    assert grid.ask("invoice, after all").text == ANSWERS["invoice"]


def test_a_changed_model_is_asked_anew(grid: Grid) -> None:
    grid.asked_twice("shipping, before the change")
    path = grid.manifests / "grid.yaml"
    documents = [json.loads(one) for one in path.read_text().split("---\n")]
    (model,) = (one for one in documents if one["kind"] == "Model")
    model["spec"]["variants"][0]["quality"] = 0.6
    write(path, documents)
    apply_grid(grid.orchestrator.store, grid.manifests)
    wait_for(
        "the former model's answer to be gone",
        lambda: grid.ask("shipping, before the change").kind != "hit; level=exact",
        20,
    )
    assert grid.ask("shipping, before the change").text == ANSWERS["shipping"]


def test_metrics_tell_what_the_cache_did(grid: Grid) -> None:
    import httpx

    socket = grid.orchestrator.live_folder / "admin.sock"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://admin") as client:
        text = client.get("/metrics").text
    assert 'gridctl_cache_lookups_total{workload="exact",result="exact"}' in text
    assert "gridctl_cache_saved_usd_total" in text
    assert 'gridctl_cache_error_bound_ratio{workload="meaning"}' in text


def test_nothing_is_left_when_it_has_gone(tmp_path: Path) -> None:
    with served(tmp_path) as grid:
        kept = grid.asked_twice("refund, over a restart")
        keeper = grid.keeper
        tree = descendants(grid.orchestrator.pid)
        assert keeper in tree
        store, engine = grid.orchestrator.store, grid.engine
        assert grid.orchestrator.end() == 0
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                assert state == "Z", f"process {pid} is left"
        again = Orchestrator.start(tmp_path, store, "--default-origin", "paris", "--anonymous")
        try:
            again.wait_until_ready()
            second = Grid(again, engine, grid.manifests, grid.tokens)
            asked = len(engine.asked)
            wait_for("the kept answer", lambda: second.ask("refund, over a restart").kind == "hit; level=exact", 30)
            assert second.ask("refund, over a restart").text == kept.text
            assert len(engine.asked) - asked <= 3
        finally:
            again.end()
