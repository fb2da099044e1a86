"""What replies, resets and trailers mean, as data: gRPC's tables of status codes."""

from __future__ import annotations

from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._headers import Header
from jumpstarter_proto.rpc._metadata import decode_details, decode_metadata
from jumpstarter_proto.rpc._types import Metadata, StatusCode

__all__ = ["RESET_CODES", "status_of_http", "status_of_trailers"]

_HTTP_CODES = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "502": StatusCode.UNAVAILABLE,
    "503": StatusCode.UNAVAILABLE,
    "504": StatusCode.UNAVAILABLE,
}
"""Status for a reply that is not gRPC's (the specification's http-grpc-status-mapping.md)."""

RESET_CODES: dict[int, tuple[StatusCode, str]] = {
    ErrorCodes.NO_ERROR: (StatusCode.INTERNAL, "the peer ended the call without a status"),
    ErrorCodes.REFUSED_STREAM: (
        StatusCode.UNAVAILABLE,
        "the peer refused the call, it has too many; try again",
    ),
    ErrorCodes.CANCEL: (StatusCode.CANCELLED, "the peer cancelled the call"),
    ErrorCodes.ENHANCE_YOUR_CALM: (
        StatusCode.RESOURCE_EXHAUSTED,
        "the peer wants fewer calls; try again later",
    ),
    ErrorCodes.INADEQUATE_SECURITY: (StatusCode.PERMISSION_DENIED, "the peer wants a safer connection"),
}
"""Status and details of a call that its server reset (the specification's table of HTTP/2 error codes)."""


def status_of_http(status: str) -> tuple[StatusCode, str]:
    """The status for an HTTP reply that does not come from a gRPC server."""
    return _HTTP_CODES.get(status, StatusCode.UNKNOWN), f"the peer answered HTTP {status}, which is not gRPC"


def status_of_trailers(headers: list[Header]) -> tuple[StatusCode, str, Metadata]:
    """Code, details and trailing metadata."""
    found = dict(headers)
    text = found.get("grpc-status")
    details = decode_details(found.get("grpc-message", ""))
    if text is None:
        return StatusCode.UNKNOWN, details or "the peer ended the call without a status", ()
    code = _BY_NUMBER.get(text, StatusCode.UNKNOWN)
    try:
        return code, details, decode_metadata(headers)
    except ValueError:
        return code, details, ()


_BY_NUMBER = {str(int(code)): code for code in StatusCode}
