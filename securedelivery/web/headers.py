"""What every answer carries: what the browser may do with it, and what it must not."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders

__all__ = ["secure"]

_POLICY = "; ".join(  # noqa: FLY002 -- one a line
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS: Mapping[str, str] = {
    # A year, as browsers want it; no subdomains, which may be somebody else's business.
    "Strict-Transport-Security": "max-age=31536000",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def secure(headers: MutableHeaders) -> None:
    """What a page shows is somebody's own: nothing between keeps it, unless the answer says that it may."""
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
