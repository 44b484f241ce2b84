"""An embedder behind a URL that answers well, badly, slowly or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from gridctl.cache.embedders import HashedEmbedder, embed, open_embedder
from gridctl.cache.endpoint import EndpointEmbedder
from gridctl.errors import GridctlError, InputError, UnreachableError

Answer = Callable[[dict], object]


class Service:
    """A service whose answers the test writes; `asked` is what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer = well
        self.status = 200
        self.drips = False
        self.asked: list[dict] = []
        service = self

        class Reply(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.asked.append(body)
                found = service.answer(body)
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(service.status)
                if service.status == 302:
                    self.send_header("location", service.url)
                self.end_headers()
                if not service.drips:
                    self.wfile.write(data)
                    return
                try:
                    for one in data:
                        self.wfile.write(bytes([one]))
                        self.wfile.flush()
                        if stopped.wait(0.02):
                            return
                except OSError:
                    return

            def log_message(self, *words: object) -> None:
                pass

        stopped = self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Reply)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/embeddings"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def well(body: dict) -> object:
    rows = HashedEmbedder(16).embed(body["input"])
    # Out of order, as the interface allows.
    return {"data": [{"index": place, "embedding": rows[place].tolist()} for place in reversed(range(len(rows)))]}


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.close()


def test_vectors_come_in_the_order_of_the_texts(service: Service) -> None:
    embedder = open_embedder(f"{service.url}#small")
    assert isinstance(embedder, EndpointEmbedder)
    texts = ["one thing", "another", "a third"]
    assert np.allclose(embed(embedder, texts), HashedEmbedder(16).embed(texts), atol=1e-6)
    assert embedder.dimension == 16
    assert service.asked[-1]["model"] == "small"
    embedder.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: b"not json",
        lambda body: {"data": []},
        lambda body: {"data": [{"index": 1, "embedding": [1.0] * 16}]},
        lambda body: {"data": [{"index": 0, "embedding": [1.0] * 15}]},
        lambda body: {"data": [{"index": 0, "embedding": ["NaN"] * 16}]},
        lambda body: b'{"data":[{"index":0,"embedding":[NaN,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}]}',
        lambda body: {"data": [{"index": 0, "embedding": [0.0] * 16}]},
        lambda body: {"data": [{"index": 0, "embedding": [1e300] * 16}]},
    ],
    ids=["no json", "none", "wrong index", "other dimension", "words", "NaN", "zeros", "huge"],
)
def test_what_cannot_be_used_is_an_error_in_words(service: Service, answer: Answer) -> None:
    embedder = EndpointEmbedder(service.url)
    service.answer = answer
    with pytest.raises(InputError):
        embed(embedder, ["one"])
    embedder.close()


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_another_status_than_200_is_an_error_and_redirects_are_not_followed(service: Service, status: int) -> None:
    embedder = EndpointEmbedder(service.url)
    asked = len(service.asked)
    service.status = status
    with pytest.raises(InputError, match=str(status)):
        embedder.embed(["one"])
    assert len(service.asked) == asked + 1
    embedder.close()


def test_a_service_that_hangs_or_drips_is_given_up_at_the_deadline(service: Service) -> None:
    embedder = EndpointEmbedder(service.url, deadline_s=0.3)
    service.drips = True
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        embedder.embed(["one"])
    service.answer = lambda body: service.stopped.wait(5.0) and {}
    with pytest.raises(UnreachableError):
        embedder.embed(["one"])
    assert time.monotonic() - began < 4.0
    embedder.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1/embeddings",
        "https://user:secret@example.com/v1",
        "http://127.0.0.1@example.com/",
        "https:///v1",
    ],
)
def test_prompts_go_nowhere_they_should_not(url: str) -> None:
    with pytest.raises(InputError):
        EndpointEmbedder(url)


def test_nobody_there_is_said_in_words() -> None:
    with pytest.raises(GridctlError, match="embedder"):
        EndpointEmbedder("http://127.0.0.1:1/v1/embeddings")
