"""The way to a real server over TLS, with a user who may do no more than the topic says."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ports import free_port
from shared_parts import Server

from gridctl.answers.shared_place import PASSWORD_VARIABLE, SharedPlace, place_of
from gridctl.answers.shared_server import Line, LostError, Refused, open_line

REPOSITORY = Path(__file__).resolve().parents[2]
OPENSSL = shutil.which("openssl")


def certificate_at(folder: Path, name: str) -> tuple[Path, Path]:
    if OPENSSL is None:
        pytest.skip("openssl makes the certificates")
    found = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", found[1], "-out", found[0]],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return found


async def said(place: SharedPlace, *commands: tuple[str | bytes | int, ...]) -> list[object]:
    line: Line = await open_line(place)
    try:
        return await line.ask(commands)
    finally:
        await line.close()


def test_it_is_reached_over_tls_if_the_authority_signed_it_and_the_password_is_right(
    server: Server, tmp_path: Path
) -> None:
    good, strange = certificate_at(tmp_path, "good"), certificate_at(tmp_path, "strange")
    port = free_port()
    server.kill()
    server.more = (
        "--tls-port", str(port), "--bind", "127.0.0.1", "--tls-cert-file", str(good[0]), "--tls-key-file",
        str(good[1]), "--tls-ca-cert-file", str(good[0]), "--tls-auth-clients", "no", "--requirepass", "hunter2",
    )  # fmt: skip
    server.start()
    password = {PASSWORD_VARIABLE: "hunter2"}
    url = f"rediss://127.0.0.1:{port}/3"
    place = place_of(f"{url}?ca={good[0]}", password)
    assert asyncio.run(said(place, ("SET", "a", "b"), ("GET", "a"))) == [b"OK", b"b"]
    for wrong, problem in (
        (place_of(f"{url}?ca={strange[0]}", password), "certificate"),
        (place_of(url, password), "certificate"),
        (place_of(f"{url}?ca={good[0]}", {PASSWORD_VARIABLE: "hunter3"}), "password"),
        (place_of(f"{url}?ca={good[0]}", {}), "uthentication"),
        (place_of(f"redis://127.0.0.1:{port}", password), "."),
        (place_of(f"rediss://127.0.0.1:{free_port()}", password), "connect"),
    ):
        with pytest.raises(LostError, match=problem) as caught:
            asyncio.run(said(wrong, ("PING",)))
        assert "hunter" not in str(caught.value)


def test_the_rights_that_the_topic_names_are_enough_and_no_more_is_needed(server: Server) -> None:
    topic = (REPOSITORY / "gridctl/topics/shared-cache.md").read_text()
    (rights,) = re.findall(r"^    (~gridctl:\* .*)$", topic, re.MULTILINE)
    with server.hands() as hands:
        hands.execute_command("ACL", "SETUSER", "gridctl", "on", ">hunter2", *rights.split())
    place = SharedPlace(path=str(server.path), user="gridctl", password="hunter2", database=1)
    answers = asyncio.run(
        said(
            place,
            ("RPUSH", "gridctl:1", "a"), ("RPUSHX", "gridctl:1", "b"), ("LLEN", "gridctl:1"),
            ("LRANGE", "gridctl:1", 0, -1), ("SET", "gridctl:2", "x", "PX", 9_000), ("SET", "gridctl:3", "x", "NX"),
            ("GET", "gridctl:3"), ("GETRANGE", "gridctl:2", 0, 5), ("DEL", "gridctl:1"),
            ("SET", "other", "x"), ("KEYS", "*"), ("FLUSHALL",),
        )
    )  # fmt: skip
    assert answers[:9] == [1, 2, 2, [b"a", b"b"], b"OK", b"OK", b"x", b"x", 1]
    assert all(isinstance(one, Refused) for one in answers[9:])


def test_a_connection_that_was_cut_is_never_made_anew_unseen(server: Server) -> None:
    async def go() -> None:
        line = await open_line(place_of(server.url(), {}))
        assert await line.ask([("PING",)]) == [b"PONG"]
        before = line.life
        server.kill()
        server.start()
        for _ in range(2):
            with pytest.raises(LostError):
                await line.ask([("PING",)])
        await line.close()
        again = await open_line(place_of(server.url(), {}))
        assert again.life != before
        await again.close()

    asyncio.run(go())


def test_an_answer_that_takes_too_long_ends_the_connection(server: Server) -> None:
    async def go() -> None:
        line = await open_line(place_of(server.url(), {}))
        with server.hands() as hands:
            hands.client_pause(300)
        with pytest.raises(LostError, match=r"0\.05 s"):
            await line.ask([("PING",)], 0.05)
        with pytest.raises(LostError, match="hung up"):
            await line.ask([("PING",)])
        await line.close()

    asyncio.run(go())
