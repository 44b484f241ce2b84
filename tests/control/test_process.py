"""A control process and its workers, from the first request to the last signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.live import down, running
from gridctl.orchestrator.live_client import LiveClient, Remote, local_client
from gridctl.registry import Registry
from gridctl.resources import Cluster, Gate, ResourceKey

Start = Callable[..., Any]


def test_it_serves_until_a_signal_and_leaves_nothing_behind(
    start: Start, home: GridHome, is_alive: Callable[[int], bool]
) -> None:
    up = start(workers=2)
    file = up.ready()
    assert up.asked()["generation"] == 1
    with local_client(home) as client:
        status = client.status()
    assert (status.state, status.backends, status.sites, status.generation) == ("ready", 3, 2, 1)
    assert [worker.state for worker in status.workers] == ["ready", "ready"]
    pids = [worker.pid for worker in status.workers]
    board = Path("/dev/shm") / file.board
    assert board.exists()
    assert up.end() == 0
    assert not any(is_alive(pid) for pid in pids)
    left = {path.name for path in up.folder.path.iterdir()}
    assert {"history.bin", "lock", "log", "recordings", "salt"} <= left
    passing = ("control.json", "admin.sock", "quota.bin", "plan-", ".")
    assert not [name for name in left if name.startswith(passing)], left
    assert not board.exists()
    assert running(home) is None


def test_a_worker_that_dies_is_started_anew_and_its_rows_are_cleared(
    start: Start, wait_until: Callable[..., Any]
) -> None:
    up = start(workers=1)
    first = up.asked()
    os.kill(first["pid"], signal.SIGKILL)
    again = wait_until(lambda: _answer(up))
    assert again["pid"] != first["pid"]
    assert again["worker"] == 0
    with local_client(up.home) as client:
        (worker,) = wait_until(lambda: [one for one in client.status().workers if one.state == "ready"])
    assert worker.restarts == 1
    up.end()
    assert f"worker 0 (process {first['pid']}) was ended by signal 9" in "".join(up.said)


def test_a_worker_that_stands_still_is_ended_and_started_anew(start: Start, wait_until: Callable[..., Any]) -> None:
    up = start("beats", stuck_after_s=1.5)
    first = up.asked()
    with local_client(up.home) as client:
        wait_until(lambda: client.status().workers[0].beat_age_s is not None)
        os.kill(first["pid"], signal.SIGSTOP)
        wait_until(lambda: client.status().workers[0].restarts == 1)
    assert wait_until(lambda: _answer(up))["pid"] != first["pid"]
    up.end()
    assert "has stood still for" in "".join(up.said)


def _answer(up: Any) -> Any:
    try:
        return up.asked()
    except OSError:
        return None


def test_workers_that_die_at_once_fail_the_start_with_what_they_said(start: Start) -> None:
    up = start("die", workers=2)
    text = up.rest()
    assert up.process.returncode == 1
    assert "this worker dies" in text
    assert "ended with status 7" in text
    assert "ended before it was ready" in text
    assert not list(up.folder.path.glob("*.json"))


def test_a_worker_that_is_killed_before_it_is_ready_is_started_again(start: Start) -> None:
    up = start("killed", workers=2)
    assert up.asked()["generation"] == 1
    up.end()
    assert "".join(up.said).count("was ended by signal 9") == 2


def test_a_change_of_the_grid_reaches_the_workers_and_rows_stay(
    start: Start, home: GridHome, wait_until: Callable[..., Any]
) -> None:
    up = start()
    assert up.asked()["generation"] == 1
    rows = _rows(home, 1)
    with Registry.open(home.database) as registry:
        registry.update(ResourceKey("Cluster", "oslo-gpu"), _with_endpoints("http://127.0.0.1:7999"), cause="moved")
    wait_until(lambda: up.asked()["generation"] == 2)
    moved = _rows(home, 2)
    assert {url: row for url, row in moved.items() if "7999" not in url} == {
        url: row for url, row in rows.items() if "7103" not in url
    }
    assert moved["http://127.0.0.1:7999"] not in rows.values()
    # What workers do not see makes no plan; the status knows of it all the same.
    with Registry.open(home.database) as registry:
        registry.apply([_gate()], cause="a gate")
        version = registry.version()
    with local_client(home) as client:
        wait_until(lambda: client.status().registry_version == version)
    assert [path.name for path in up.folder.plans()] == ["plan-2.json"]


def _rows(home: GridHome, generation: int) -> dict[str, int]:
    from gridctl.broker.plan import read_plan
    from gridctl.control.folder import LiveFolder

    path = LiveFolder(home.database).plan(generation)
    assert path.stat().st_mode & 0o777 == 0o600
    return {backend.url: backend.row for backend in read_plan(path).backends}


def _with_endpoints(*urls: str) -> Callable[[Any], Cluster]:
    return lambda old: msgspec.structs.replace(old, spec=msgspec.structs.replace(old.spec, endpoints=urls))


def _gate() -> Gate:
    from gridctl.manifest import parse_manifest

    text = (
        b"apiVersion: gridctl/v1\nkind: Gate\nmetadata: {name: g}\nspec: {metric: attainment, op: '>=', value: 0.9}\n"
    )
    (one,) = parse_manifest(text, name="gate.yaml")
    assert isinstance(one.resource, Gate)
    return one.resource


def test_a_grid_that_cannot_be_served_leaves_the_last_plan_and_says_why(
    start: Start, home: GridHome, wait_until: Callable[..., Any]
) -> None:
    up = start()
    up.ready()
    with Registry.open(home.database) as registry:
        kept = {stored.key: stored.resource for stored in registry.list(Cluster)}
        registry.delete(list(kept), cause="by mistake")
    with local_client(home) as client:
        status = wait_until(lambda: found if (found := client.status()).problem else None)
        assert "none of the grid's 0 clusters says where its engines listen" in status.problem
        assert status.backends == 3
        assert up.asked()["generation"] == 1
        with Registry.open(home.database) as registry:
            registry.apply(list(kept.values()), cause="back")
        wait_until(lambda: client.status().problem is None)
    assert up.asked()["generation"] == 1


def test_a_worker_that_refuses_a_plan_is_told_of(start: Start, home: GridHome, wait_until: Callable[..., Any]) -> None:
    up = start("refuse")
    up.ready()
    with Registry.open(home.database) as registry:
        registry.update(ResourceKey("Cluster", "oslo-gpu"), _with_endpoints("http://127.0.0.1:7999"), cause="moved")
    with local_client(home) as client:
        status = wait_until(lambda: found if (found := client.status()).problem else None)
    assert status.problem == "worker 0 refuses it: it is in that mood"


def test_a_request_under_way_ends_well_when_the_orchestrator_is_told_to_stop(
    start: Start, wait_until: Callable[..., Any]
) -> None:
    up = start("slow")
    up.ready()
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(up.asked()))
    asking.start()
    url = up.ready().data_url
    wait_until((up.folder.log / "asked").exists)
    up.process.send_signal(signal.SIGTERM)
    asking.join(timeout=10)
    up.rest()
    assert up.process.returncode == 0
    assert len(answers) == 1
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1):
        pass


def test_a_second_signal_ends_at_once(
    start: Start, wait_until: Callable[..., Any], is_alive: Callable[..., bool]
) -> None:
    up = start("deaf", grace_s=3600.0)
    pid = up.asked()["pid"]
    up.process.send_signal(signal.SIGINT)
    wait_until(lambda: up.folder.running().state == "draining")
    began = time.monotonic()
    assert up.end(signal.SIGINT) == 130
    assert time.monotonic() - began < 10
    assert not is_alive(pid)
    assert "cut off" in "".join(up.said)


def test_workers_end_with_a_control_process_that_was_killed_and_a_new_one_starts(
    start: Start, home: GridHome, wait_until: Callable[..., Any], is_alive: Callable[..., bool]
) -> None:
    up = start()
    pid = up.asked()["pid"]
    up.end(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert up.folder.control.exists()
    assert running(home) is None
    again = start()
    assert again.asked()["generation"] == 1
    assert again.end() == 0


def test_a_second_orchestrator_of_one_grid_is_refused(start: Start) -> None:
    first = start()
    file = first.ready()
    second = start()
    text = second.rest()
    assert second.process.returncode == 3
    assert f"runs already: process {file.pid}, {file.data_url}" in text
    assert first.asked()["generation"] == 1


def test_down_stops_it_and_waits_and_none_running_is_no_failure(start: Start, home: GridHome) -> None:
    assert down(home, grace_s=None, now=False, say=print) is None
    up = start()
    file = up.ready()
    ended = down(home, grace_s=1.0, now=False, say=print)
    assert ended is not None
    assert ended.pid == file.pid
    assert running(home) is None
    up.rest()
    assert up.process.returncode == 0


def test_a_request_is_found_by_asking_every_worker(start: Start, home: GridHome) -> None:
    from gridctl.errors import NotFoundError

    start(workers=2).ready()
    with local_client(home) as client:
        assert client.request("known")["request_id"] == "known"
        with pytest.raises(NotFoundError, match="no worker remembers"):
            client.request("other")


def test_every_worker_is_asked_which_requests_to_a_site_went_worst(start: Start) -> None:
    up = start(workers=3)
    up.ready()
    with local_client(up.home) as client:
        site = client.site("fr-paris-01")
    assert [one.request_id for one in site.worst] == ["of-worker-1", "of-worker-0", "of-worker-2"]
    (routed,) = site.routed
    assert (routed.recent, routed.because, routed.origins) == (3, {"cheapest": 3}, {"fr-paris-01": 3})
    assert site.recent_s == pytest.approx(60, abs=10)


def test_a_restart_goes_on_with_the_salt_and_only_who_asks_for_it_gets_another(start: Start) -> None:
    first = _salt(start())
    assert _salt(start()) == first
    renewed = _salt(start(renews_salt=True))
    assert renewed != first
    assert _salt(start()) == renewed


def _salt(up: Any) -> str:
    """The salt of an orchestrator's plan; it is ended."""
    up.ready()
    salt = json.loads(up.folder.plan(1).read_bytes())["salt"]
    assert up.end() == 0
    assert len(salt) == 32
    return str(salt)


def test_a_port_that_is_taken_is_said_before_anything_starts(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        up = start(listen=f"127.0.0.1:{port}")
        text = up.rest()
    assert up.process.returncode == 3
    assert f"port {port} is taken" in text
    assert not up.folder.control.exists()


def test_an_engine_at_our_own_address_is_refused(start: Start, home: GridHome) -> None:
    with socket.socket() as other:  # keeps the port for who says, as we do, that it may be shared
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with Registry.open(home.database) as registry:
            change = _with_endpoints(f"http://localhost:{port}/v1")
            registry.update(ResourceKey("Cluster", "oslo-gpu"), change, cause="by mistake")
        up = start(listen=f"127.0.0.1:{port}")
        text = up.rest()
    assert up.process.returncode == 3
    assert "is this orchestrator itself" in text


def test_who_connects_to_the_admin_api_and_asks_nothing_is_hung_up_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process, because the deadline is 10 s.
    import asyncio

    from gridctl.control import admin_server
    from gridctl.control.listening import Address, open_listener

    monkeypatch.setattr(admin_server, "HEAD_TIMEOUT_S", 0.2)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def ask() -> tuple[bytes, bytes]:
        listener, address = open_listener(Address("127.0.0.1", 0), "--admin")
        server = admin_server.AdminServer(app, listener, None)
        server.start()
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        silent = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        await server.close()
        return silent, answered

    silent, answered = asyncio.run(ask())
    assert silent == b""
    assert b"204" in answered


def test_a_token_opens_the_tcp_address_as_far_as_its_role_from_its_making_to_its_end(
    start: Start, home: GridHome
) -> None:
    from gridctl.errors import InputError
    from gridctl.registry import WantedKey

    with Registry.open(home.database) as registry:
        _, viewer = registry.create_key(WantedKey(name="eye", role="viewer"), cause="test")
    up = start(admin="127.0.0.1:0")
    url = up.ready().admin_url
    with LiveClient(Remote(url, viewer)) as client:
        assert client.status().backends == 3
        with pytest.raises(InputError, match="token eye is a viewer; this needs the role admin"):
            client.stop(0.0)
    with LiveClient(Remote(url)) as client, pytest.raises(InputError, match="wants a token"):
        client.status()
    with Registry.open(home.database) as registry:
        for turn in range(5):
            _, made = registry.create_key(WantedKey(name=f"ear-{turn}", role="viewer"), cause="test")
            with LiveClient(Remote(url, made)) as client:
                assert client.status().backends == 3
                registry.revoke_key(f"ear-{turn}", cause="test")
                with pytest.raises(InputError, match="this token is not known"):
                    client.status()
