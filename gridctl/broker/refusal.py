"""Refusal: why a request gets no engine, in the words its client and the operator's counters need.

Raised by the broker, rendered by the gateway in the shape the client's API expects. Never holds text of the prompt.
`should_retry` is what `x-should-retry` tells the official clients: they retry 429 and 5xx by themselves, which is worth
nothing where the same request would be refused again. Statuses: LIVE wire rules, after the OpenAI API's own.
"""

from __future__ import annotations

INVALID_REQUEST = "invalid_request_error"
AUTHENTICATION = "authentication_error"
PERMISSION = "permission_error"
RATE_LIMIT = "rate_limit_error"
UNAVAILABLE = "service_unavailable_error"
_WHY_NOT = {"outage": "outage", "unhealthy": "unhealthy"}
"""Codes of 503 that say which rule left nobody; the others are all `service_unavailable`."""


class Refusal(Exception):  # noqa: N818 (an answer, not an error of ours)
    """A request that is answered by us. `reason` is a word for counters; `message` a sentence for people."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str,
        type: str = INVALID_REQUEST,  # noqa: A002 (the wire name)
        code: str | None = None,
        param: str | None = None,
        retry_after_ms: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.should_retry = should_retry
        self.reason = reason


def bad_request(
    message: str, *, param: str | None = None, code: str | None = None, reason: str = "bad-request"
) -> Refusal:
    """The client's own mistake: 400, and no use in trying again."""
    return Refusal(400, message, reason=reason, param=param, code=code, should_retry=False)


def unknown_model(model: str, hint: str) -> Refusal:
    """A model that does not exist, or not for this caller: the two are not told apart."""
    return Refusal(
        404,
        f"The model `{model}` does not exist or you do not have access to it.{hint}",
        reason="unknown-model",
        param="model",
        code="model_not_found",
        should_retry=False,
    )


def unauthorized(message: str) -> Refusal:
    """No key, or none that is known and in date."""
    return Refusal(401, message, reason="unauthorized", type=AUTHENTICATION, code="invalid_api_key", should_retry=False)


def forbidden(message: str, *, reason: str, param: str | None = None) -> Refusal:
    """A known caller who asks for what it may not have, or a request that a hard constraint keeps from everywhere."""
    return Refusal(403, message, reason=reason, type=PERMISSION, code=reason, param=param, should_retry=False)


def unavailable(message: str, *, reason: str, retry_after_ms: int, code: str | None = None) -> Refusal:
    """Nobody can serve it now; somebody may soon. The code says why where that is no more than a word."""
    return Refusal(
        503,
        message,
        reason=reason,
        type=UNAVAILABLE,
        code=code or _WHY_NOT.get(reason, "service_unavailable"),
        retry_after_ms=retry_after_ms,
        should_retry=True,
    )


def too_busy(message: str, *, reason: str, retry_after_ms: int) -> Refusal:
    """Refused early, because it would come too late everywhere: 429, and worth another try later."""
    return Refusal(
        429,
        message,
        reason=reason,
        type=RATE_LIMIT,
        code="rate_limit_exceeded",
        retry_after_ms=retry_after_ms,
        should_retry=True,
    )
