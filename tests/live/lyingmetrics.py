"""A proxy before a real engine that answers /metrics itself, and not with the truth.

    python lyingmetrics.py PORT ENGINE_PORT idle|absurd

`idle` always says that nothing runs and nothing waits; `absurd` gives numbers that cannot be. Everything else passes
through to the engine, byte for byte.
"""

from __future__ import annotations

import asyncio
import sys

LIES = {
    "idle": 'vllm:num_requests_running{engine="0"} 0\nvllm:num_requests_waiting{engine="0"} 0\n'
    'vllm:kv_cache_usage_perc{engine="0"} 0\n',
    "absurd": 'vllm:num_requests_running{engine="0"} NaN\nvllm:num_requests_waiting{engine="0"} -1e300\n'
    'vllm:kv_cache_usage_perc{engine="0"} +Inf\nvllm:num_requests_running{engine="0" 7\n\x00\xff\n',
}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: a lie if its first request asks for metrics, else the engine's for good."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
        return
    if head.startswith(b"GET /metrics"):
        body = LIES[sys.argv[3]].encode("latin-1")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        writer.write(body)
        writer.close()
        return
    try:
        engine_reader, engine_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        writer.close()
        return
    engine_writer.write(head)
    await asyncio.gather(pump(reader, engine_writer), pump(engine_reader, writer))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
