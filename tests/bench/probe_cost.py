"""CPU time of probing 4,400 endpoints every 30 s, beside httpx: probe_cost.py [--tls ec|rsa] [--closes]

One listener on all of 127.0.0.0/8 in a process of its own stands for the endpoints; with `--tls` it has a certificate
of that kind of key for `localhost`, as engines at sites would. With `--closes` it ends every connection.
Prints the CPU time of the probing process: a probe, and the share of a core at 4,400 in 30 s. Timings are of the
machine at hand; the ratio carries over. Measured 2026-11-24 on two cores shared with others: 241 µs a probe, 3.5 % of
a core (httpx 6.0 times as much); with TLS and connections that endpoints leave open 147 µs, 2.2 % (httpx 17.5 times as
much), with TLS and endpoints that close 672 µs, 9.8 % (httpx 3.2 times as much): sessions are resumed, which needs no
certificate, and the session object is made once in twenty probes, for making one costs as much as it saves.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from gridctl.health.condition import Condition
from gridctl.health.outcome import Outcome
from gridctl.health.probe import Prober, Settings, Target

ENDPOINTS = 4_400
PERIOD_S = 30.0
HTTPX_REQUESTS = 1_500
KEYS = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}
LISTENER = """
import asyncio, ssl, sys
context = None
CLOSES = sys.argv[1] == "closes"
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
        if CLOSES:
            self.transport.close()
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "0.0.0.0", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def certificate(folder: str, kind: str) -> tuple[str, str]:
    """A certificate for localhost that is its own authority, and its key, as files."""
    files = f"{folder}/cert.pem", f"{folder}/key.pem"
    command = ["openssl", "req", "-x509", "-newkey", *KEYS[kind], "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", files[1], "-out", files[0]]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return files


def url_of(number: int, port: int, *, is_tls: bool) -> str:
    """An address of its own for each endpoint; with TLS all are the one that the certificate is for."""
    if is_tls:
        return f"https://localhost:{port}"
    return f"http://127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}:{port}"


async def probing(port: int, authority: str | None) -> tuple[float, Counter[str], int]:
    """CPU seconds of one whole period after the first round, the causes found, and how many are healthy."""
    conditions = {str(number): Condition() for number in range(ENDPOINTS)}
    causes: Counter[str] = Counter()

    def take(outcome: Outcome) -> None:
        causes[outcome.cause] += 1
        if outcome.event is not None:
            conditions[outcome.key].observe(outcome.event, outcome.at_ns, outcome.detail)

    prober = Prober(take, Settings(period_s=PERIOD_S, ca_file=authority))
    is_tls = authority is not None
    prober.retarget(Target(key=str(number), url=url_of(number, port, is_tls=is_tls)) for number in range(ENDPOINTS))
    task = asyncio.create_task(prober.run())
    await asyncio.sleep(1.5 * PERIOD_S)
    causes.clear()
    before = time.process_time()
    await asyncio.sleep(PERIOD_S)
    spent = time.process_time() - before
    found = Counter(causes)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return spent, found, sum(condition.state == "healthy" for condition in conditions.values())


async def through_httpx(port: int, authority: str | None) -> float:
    """CPU seconds a request, a new connection each, two at a time as the pace of 147 a second makes it."""
    limits = httpx.Limits(max_keepalive_connections=0)
    context = ssl.create_default_context(cafile=authority) if authority is not None else False
    async with httpx.AsyncClient(limits=limits, timeout=5.0, trust_env=False, verify=context) as client:
        gate = asyncio.Semaphore(2)

        async def one(number: int) -> None:
            async with gate:
                url = url_of(number, port, is_tls=authority is not None)
                (await client.get(f"{url}/health")).raise_for_status()

        await one(0)
        before = time.process_time()
        await asyncio.gather(*(one(number) for number in range(HTTPX_REQUESTS)))
        return (time.process_time() - before) / HTTPX_REQUESTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tls", choices=sorted(KEYS))
    parser.add_argument("--closes", action="store_true", help="the endpoints leave no connection open")
    options = parser.parse_args()
    kind, manner = options.tls, "closes" if options.closes else "keeps"
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, kind) if kind is not None else ()
        authority = str(Path(files[0])) if files else None
        listener = subprocess.Popen([sys.executable, "-c", LISTENER, manner, *files], stdout=subprocess.PIPE, text=True)
        try:
            assert listener.stdout is not None
            port = int(listener.stdout.readline())
            spent, causes, healthy = asyncio.run(probing(port, authority))
            probes = causes.total()
            httpx_s = asyncio.run(through_httpx(port, authority))
        finally:
            listener.terminate()
            listener.wait()
    each = spent / probes
    print(f"{probes:,} probes in {PERIOD_S:g} s, {dict(causes)}; {healthy:,} of {ENDPOINTS:,} healthy")
    print(f"gridctl  {each * 1e6:7.0f} µs CPU a probe   {spent / PERIOD_S:6.1%} of a core")
    print(f"httpx    {httpx_s * 1e6:7.0f} µs CPU a request {httpx_s * ENDPOINTS / PERIOD_S:6.1%} of a core")
    print(f"ratio    {httpx_s / each:7.1f}")


if __name__ == "__main__":
    main()
