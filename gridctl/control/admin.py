"""The admin API as an ASGI application: every route guarded alike, every answer typed, every error one shape.

The order is fixed: who is it, may it do this, is the body within bounds and well formed; only then the route's own
function runs. Invariants: what no rule allows is refused; a caller nobody knows learns nothing, not even which routes
there are; an exception that nobody foresaw becomes a 500 without its text.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from gridctl.control.live import Live
from gridctl.control.principal import AdminRole, Principal, principal_of, require
from gridctl.control.problems import MEDIA_TYPE, DeniedError, problem_of
from gridctl.errors import GridctlError, InputError, NotFoundError, UsageError

LONGEST_BODY = 64 << 20
"""Bytes: tens of thousands of resources in one apply."""
LONGEST_SMALL_BODY = 64 << 10
BODY_TIMEOUT_S = 30.0
JSON = "application/json"
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON."""

    content: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """A JSON answer with its entity tag; None: as the caller has it already."""

    content: bytes | None
    etag: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a route: who calls, the names in the path, the query, the decoded body (None: it takes none), what
    the caller accepts, and the tag of what it has."""

    live: Live
    principal: Principal
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    accept: str = ""
    if_none_match: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query."""

    name: str
    description: str
    is_integer: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A route: what it needs, what it takes and gives, and what answers it. `answer` None: plain text."""

    method: str
    path: str
    role: AdminRole
    summary: str
    run: Callable[[Call], Awaitable[object]]
    answer: Callable[[], Any] | None
    body: Callable[[], Any] | None = None
    query: tuple[Parameter, ...] = ()
    longest_body: int = LONGEST_SMALL_BODY
    status: int = 200


def admin_app(live: Live, routes: Sequence[Route]) -> Starlette:
    """The application over `routes`."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    app = Starlette(
        routes=[
            StarletteRoute(path, _endpoint(live, {route.method: route for route in here}), methods=None)
            for path, here in by_path.items()
        ],
        exception_handlers={HTTPException: _unknown_path(live), Exception: _broken},
    )
    # A redirect to the path without its slash would tell strangers which paths there are.
    app.router.redirect_slashes = False
    return app


class _Endpoint:
    """One path, whatever its methods. A class, because Starlette lets those answer every method."""

    def __init__(self, live: Live, routes: Mapping[str, Route]) -> None:
        self._live = live
        self._routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except GridctlError as error:
            response = _problem(error)
        except ClientDisconnect:
            return
        except Exception as error:
            response = await _broken(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if self._live.renew_keys is not None:
            await self._live.renew_keys()
        principal = _caller(self._live, request)
        route = self._routes.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = ", ".join(sorted(self._routes))
            response = _problem(DeniedError(405, "method", f"{request.method[:16]} is not allowed here", fix=allowed))
            response.headers["allow"] = allowed
            return response
        require(principal, route.role)
        query, accept = _query(request, route), request.headers.get("accept", "")
        tag = request.headers.get("if-none-match", "")
        call = Call(self._live, principal, request.path_params, query, await _body(request, route), accept, tag)
        return _rendered(await route.run(call), route.status)


def _endpoint(live: Live, routes: Mapping[str, Route]) -> Any:
    return _Endpoint(live, routes)


def _caller(live: Live, request: Request) -> Principal:
    headers = request.headers
    for name in ("authorization", "x-api-key"):
        if len(headers.getlist(name)) > 1:
            raise DeniedError(401, "unauthorized", f"the header {name} stands twice")
    peer_uid = request.scope.get("state", {}).get("peer_uid")
    return principal_of(headers, peer_uid, live.keys.get, time.time_ns())


def _query(request: Request, route: Route) -> dict[str, str]:
    """The query's parameters, each known, each once."""
    known = {parameter.name: parameter for parameter in route.query}
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known or name in found:
            what = f"there is no parameter {name[:64]!r}" if name not in known else f"{name} stands twice"
            raise UsageError(what, where="query", fix=f"parameters: {', '.join(known) or 'none'}")
        if known[name].is_integer and not (value.isascii() and value.isdecimal() and len(value) < 19):
            raise UsageError(f"{name} must be a whole number", where="query", fix=f"{name}=0 or more")
        found[name] = value
    return found


async def _body(request: Request, route: Route) -> Any:
    if route.body is None:
        return None
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media_type != JSON:
        raise DeniedError(415, "media-type", f"the body must be {JSON}", where="content-type")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            content = await _content(request, route.longest_body)
    except TimeoutError:
        raise DeniedError(408, "timeout", f"the body did not come in {BODY_TIMEOUT_S:g} s", fix="try again") from None
    try:
        return msgspec.json.decode(content, type=route.body())
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            f"the body is not what this route takes: {error}", where="body", fix="see /openapi.json"
        ) from None


async def _content(request: Request, longest: int) -> bytes:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > longest:
            raise DeniedError(413, "too-large", f"the body is longer than {longest} bytes", fix="send it in parts")
    return bytes(content)


def _rendered(answer: object, status: int) -> Response:
    if isinstance(answer, Text):
        return Response(answer.content, status, HEADERS, answer.media_type)
    if isinstance(answer, Tagged):
        headers = {**HEADERS, "etag": answer.etag}
        if answer.content is None:
            return Response(None, 304, headers)
        return Response(answer.content, status, headers, JSON)
    return Response(msgspec.json.encode(answer), status, HEADERS, JSON)


def _problem(error: GridctlError) -> Response:
    problem = problem_of(error)
    headers = dict(HEADERS)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


def _unknown_path(live: Live) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        try:
            _caller(live, request)
        except GridctlError as denied:
            return _problem(denied)
        return _problem(NotFoundError("there is no such route", fix="see /openapi.json"))

    return answer


async def _broken(request: Request, error: Exception) -> Response:
    """Our own bug: the log has the traceback, the caller does not."""
    traceback.print_exception(error, file=sys.stderr)
    return _problem(
        GridctlError(f"gridctl failed unexpectedly: {type(error).__name__}", fix="see the log of gridctl up")
    )
