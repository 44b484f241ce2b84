"""Endpoint: where an OpenAI-compatible engine listens, what dialect it accepts, and what its refusals mean.

Decides addresses, request bodies and the error an operator sees; opens no connection. The API key is kept out of every
text. Engines differ in the optional fields they take: vLLM and SGLang know `ignore_eos` and `min_tokens`, others answer
400 or 422 to a field they do not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gridctl.errors import GridctlError, InputError, NotFoundError, UnreachableError, did_you_mean
from gridctl.resources.hosts import is_loopback

SHOWN_MODELS = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine listens, the model's name there, and the longest one request may take."""

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0

    @property
    def base(self) -> str:
        """The URL that ends in `/v1`. Raises InputError for what is no http address."""
        import httpx

        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise InputError(f"not a URL: {error}", where=self.url[:200], fix="give http://HOST:PORT") from None
        bare = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        if url.userinfo:
            raise InputError("the endpoint holds credentials", where=bare, fix="use --api-key-env VARIABLE")
        if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65536:
            raise InputError(
                "the endpoint is no http address", where=self.url[:200], fix="give http://HOST:PORT or https://HOST"
            )
        for tail in ("/chat/completions", "/completions"):
            bare = bare.removesuffix(tail)
        return bare if bare.endswith("/v1") else bare + "/v1"

    @property
    def authorization(self) -> str | None:
        """The header that carries the key. Raises InputError, without the key, for one no header can hold."""
        if self.api_key is None:
            return None
        if not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key.strip() == self.api_key != ""):
            raise InputError(
                "the API key is empty, or holds spaces, line ends or other characters no key has",
                where=self.base,
                fix="check the variable or file it comes from",
            )
        return f"Bearer {self.api_key}"

    @property
    def is_key_in_the_clear(self) -> bool:
        """Whether the API key would cross a network unencrypted."""
        import httpx

        url = httpx.URL(self.base)
        return self.api_key is not None and url.scheme == "http" and not is_loopback(url.host)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an engine accepts: the path of its completions, and which optional fields of a request."""

    path: str
    options: tuple[str, ...]

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        """The JSON of a streamed request for exactly `output_tokens`, as far as the engine can be told so."""
        body: dict[str, Any] = {"model": model, "max_tokens": output_tokens, "temperature": 0.0, "stream": True}
        if self.path == "/chat/completions":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        values: dict[str, Any] = {
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
            "min_tokens": output_tokens,
        }
        body.update({name: values[name] for name in self.options})
        return body


DIALECTS = tuple(
    Dialect(path, options)
    for path in ("/completions", "/chat/completions")
    for options in (("stream_options", "ignore_eos", "min_tokens"), ("stream_options", "ignore_eos"),
                    ("stream_options",), ())
)  # fmt: skip
"""From the most exact to the plainest; text completions come first because no template adds to their prompt."""


class RefusedError(Exception):
    """The engine answered with an error status. `retry_after_s` is what a 429 asks to wait."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class BrokenError(Exception):
    """No usable answer: connection refused or lost, silence, or bytes that are no completion stream."""


def refusal(error: RefusedError, endpoint: Endpoint, models: tuple[str, ...]) -> GridctlError:
    """The error that an answer with an error status stands for; `models` are those the endpoint lists."""
    where, model = endpoint.base, endpoint.model
    said = f"the endpoint answered {error.status}: {error.message}"
    if error.status in (401, 403):
        return InputError(said, where=where, fix="name the variable that holds its key: --api-key-env VARIABLE")
    is_unknown = bool(models) and model not in models
    if error.status == 404 or (is_unknown and error.status < 500):
        listed = ", ".join(models[:SHOWN_MODELS]) + (", …" if len(models) > SHOWN_MODELS else "")
        fix = f"--model {did_you_mean(model, models) or models[0]}; it has {listed}" if models else "check the address"
        return NotFoundError(f"{said} (asked for model {model})", where=where, fix=fix)
    if error.status >= 500:
        return UnreachableError(said, where=where, fix="look at the engine's log; calibrate when it answers again")
    if error.status == 429:
        return UnreachableError(said, where=where, fix="measure when others leave the engine alone, or raise its limit")
    if 300 <= error.status < 400:
        return InputError(said, where=where, fix="give the address it redirects to")
    return InputError(said, where=where, fix="check --model, and that it is a text model")
