"""Target: where a load goes, what it must show to be let in, and which models are served there.

One small request before the load tells an address where nobody listens, a key that is not taken and a model that is
not served from each other, so that no load of a thousand failures has to. The API key is kept out of every text.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from gridctl.errors import InputError, NotFoundError, UnreachableError, did_you_mean

UNIX = "unix:"
CONNECT_S = 10.0
SHOWN_MODELS = 8


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible endpoint. `socket_path` is that of a Unix socket; `path` is what stands before `/v1`."""

    url: str
    host: str = ""
    port: int = 0
    is_tls: bool = False
    path: str = ""
    socket_path: str = ""
    api_key: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """What the host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.is_tls else 80
        return "localhost" if self.socket_path else host if self.port == usual else f"{host}:{self.port}"

    @property
    def base(self) -> str:
        """The URL without `/v1`, for a client of any kind."""
        return f"http{'s' if self.is_tls else ''}://{self.authority}{self.path}"


def target_of(url: str, api_key: str | None = None) -> Target:
    """The target a person names. Raises InputError for what is no http address, or a key no header can hold."""
    import httpx

    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
        raise InputError(
            "the API key is empty, or holds spaces, line ends or other characters no key has",
            where="--api-key-env",
            fix="check the variable it comes from",
        )
    if url.startswith(UNIX) and len(url) > len(UNIX):
        return Target(url=url, socket_path=url[len(UNIX) :], api_key=api_key)
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"not a URL: {error}", where=url[:200], fix="--live http://HOST:PORT") from None
    if parsed.userinfo:
        raise InputError(
            "the URL holds credentials", where=f"{parsed.scheme}://{parsed.host}", fix="use --api-key-env VARIABLE"
        )
    is_tls = parsed.scheme == "https"
    port = (443 if is_tls else 80) if parsed.port is None else parsed.port
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 < port < 65536:
        raise InputError(
            "the URL is no http address", where=url[:200], fix="--live http://HOST:PORT, https://HOST or unix:PATH"
        )
    path = parsed.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    return Target(url=url, host=parsed.host, port=port, is_tls=is_tls, path=path, api_key=api_key)


def models_at(target: Target) -> tuple[str, ...]:
    """The models served there; none where the endpoint does not say.

    Raises UnreachableError when nobody answers, InputError when the key is not taken."""
    import httpx

    headers = {"authorization": f"Bearer {target.api_key}"} if target.api_key is not None else {}
    transport = httpx.HTTPTransport(uds=target.socket_path) if target.socket_path else None
    timeout = httpx.Timeout(CONNECT_S)
    try:
        # The certificates that the load itself trusts, and no proxy: it knows none.
        verify = ssl.create_default_context() if target.is_tls else False
        with httpx.Client(
            headers=headers, timeout=timeout, transport=transport, trust_env=False, verify=verify
        ) as client:
            response = client.get(f"{target.base}/v1/models")
    except httpx.TimeoutException:
        raise UnreachableError(
            f"no answer within {CONNECT_S:g} s", where=target.url, fix="check the address, and that it answers"
        ) from None
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"nobody answers: {str(error)[:160] or type(error).__name__}",
            where=target.url,
            fix="start what should listen there: gridctl up, gridctl engine mock; or check the address",
        ) from None
    if response.status_code in (401, 403):
        has_key = target.api_key is not None
        raise InputError(
            f"the endpoint {'does not take the key' if has_key else 'asks for a key'} ({response.status_code})",
            where=target.url,
            fix="--api-key-env VARIABLE, with a variable that holds a key of it" + (" in date" if has_key else ""),
        )
    return _listed(response.json) if response.status_code == 200 else ()


def _listed(read: Any) -> tuple[str, ...]:
    try:
        entries = read()["data"]
        return tuple(str(entry["id"]) for entry in entries)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def model_for(asked: str | None, said: str | None, workload: str | None, served: tuple[str, ...], where: str) -> str:
    """The name to ask for: what the command line says, else the trace, else the workload where a gateway offers that,
    else the only one there is. Raises NotFoundError when that is none, or is not served."""
    if asked:
        wanted = asked
    elif said:
        wanted = said
    elif workload and f"workload:{workload}" in served:
        return f"workload:{workload}"
    elif len(served) == 1:
        return served[0]
    else:
        raise NotFoundError(
            "neither the trace nor the command says which model to ask for", where=where, fix=_choice(served)
        )
    if served and wanted not in served:
        close = did_you_mean(wanted, served)
        raise NotFoundError(
            f"the endpoint serves no {wanted[:80]}",
            where=where,
            fix=f"did you mean --model {close}?" if close else _choice(served),
        )
    return wanted


def _choice(served: tuple[str, ...]) -> str:
    if not served:
        return "--model NAME"
    more = ", …" if len(served) > SHOWN_MODELS else ""
    return f"--model NAME; it has {', '.join(served[:SHOWN_MODELS])}{more}"
