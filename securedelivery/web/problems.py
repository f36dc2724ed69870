"""Refusals as problem details (RFC 9457): the protocol's reasons, and the few that only HTTP has."""

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from securedelivery.errors import Reason, Refusal

__all__ = ["HTTP_REASONS", "MEDIA_TYPE", "HttpRefusal", "headers_of", "problem", "status_of"]

MEDIA_TYPE = "application/problem+json"

_STATUS = {
    Reason.PARSE_ERROR: 400,
    Reason.INVALID_REQUEST: 400,
    Reason.INVALID_PARAMS: 400,
    Reason.METHOD_NOT_FOUND: 404,
    Reason.INTERNAL: 500,
}
BUSY_SECONDS = 1

_RENAMED = {"status": "current_status"}
"""RFC 9457 has a member of that name: the number."""

HTTP_REASONS = {
    "method_not_allowed": 405,
    "request_timeout": 408,
    "precondition_failed": 412,
    "content_too_large": 413,
    "upgrade_required": 426,
    "unsupported_media_type": 415,
    "precondition_required": 428,
}
"""What only HTTP refuses for, with the status."""


class HttpRefusal(Exception):  # noqa: N818 -- as Refusal
    """Refused before the table was asked. reason: of HTTP_REASONS; data: as a Refusal's."""

    def __init__(self, reason: str, message: str, headers: dict[str, str] | None = None, **data: Any) -> None:
        super().__init__(message)
        self.status = HTTP_REASONS[reason]
        self.reason = reason
        self.message = message
        self.headers = headers or {}
        self.data = data


def status_of(reason: Reason) -> int:
    """1000 less than the protocol's code, or what stands for one of JSON-RPC's own."""
    return _STATUS.get(reason) or reason.code - 1_000


def problem(refusal: Refusal | HttpRefusal, status: int | None = None) -> Response:
    """status: another than the reason's."""
    if isinstance(refusal, HttpRefusal):
        slug, status, headers = refusal.reason, refusal.status, dict(refusal.headers)
    else:
        slug, status = refusal.reason.slug, status or status_of(refusal.reason)
        headers = headers_of(refusal)
    details = {
        "type": f"/api/docs#{slug}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": refusal.message,
        "reason": slug,
        **{_RENAMED.get(name, name): value for name, value in refusal.data.items()},
    }
    return Response(msgspec.json.encode(details), status, headers, MEDIA_TYPE)


def headers_of(refusal: Refusal) -> dict[str, str]:
    """What goes with the status of a refusal, in a problem or a page."""
    if status_of(refusal.reason) == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Session"}  # RFC 9110, section 11.6.1, asks for some challenge
    if refusal.reason is Reason.RATE_LIMITED:
        return {"Retry-After": str(refusal.data["retry_after"])}
    if refusal.reason is Reason.UNAVAILABLE:
        return {"Retry-After": str(BUSY_SECONDS)}
    return {}
