"""JSON-RPC 2.0, one object a frame, no batches, params by name (docs/protocol.md, section 5)."""

from struct import Struct
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from securedelivery.errors import Reason, RemoteProtocolError

__all__ = [
    "Id",
    "MalformedRequest",
    "decode_for_client",
    "decode_request",
    "encode_error",
    "encode_notification",
    "encode_request",
    "encode_result",
]

Id = int | str
MAX_ID = 2**53 - 1  # what every JSON implementation keeps exactly (RFC 8259, section 6)
MAX_ID_BYTES = 128
NO_PARAMS = Raw(b"{}")
OBJECT, ARRAY = b"{["  # how their JSON begins
_FIRST_BYTE = Struct("B")


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request; without an id it is a notification and gets no answer. params: an encoded JSON object or array."""

    id: Id | None
    method: str
    params: Raw


class Response(msgspec.Struct, frozen=True, gc=False):
    """A result. result: encoded JSON."""

    id: Id
    result: Raw


class ErrorObject(msgspec.Struct, frozen=True, gc=False):
    code: int
    message: str
    data: dict[str, Any] = {}


class ErrorResponse(msgspec.Struct, frozen=True, gc=False):
    """An error; id is None where the server could not read one."""

    id: Id | None
    error: ErrorObject


class MalformedRequest(Exception):  # noqa: N818 -- an answer to give, not a fault of ours
    """What came is no request; it is answered and the connection goes on. reason: PARSE_ERROR or INVALID_REQUEST."""

    def __init__(self, reason: Reason, message: str, request_id: Id | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.id = request_id


class _RequestEnvelope(msgspec.Struct, gc=False):
    jsonrpc: Literal["2.0"]
    method: str
    id: int | str | UnsetType | None = UNSET
    params: Raw = NO_PARAMS


class _IdEnvelope(msgspec.Struct, gc=False):
    id: int | str | None = None


class _ClientEnvelope(msgspec.Struct, gc=False):
    jsonrpc: Literal["2.0"]
    id: int | str | None = None
    method: str | None = None
    params: Raw = NO_PARAMS
    result: Raw | UnsetType = UNSET  # null is a result
    error: ErrorObject | None = None


_request_decoder = msgspec.json.Decoder(_RequestEnvelope)
_id_decoder = msgspec.json.Decoder(_IdEnvelope)
_syntax_decoder = msgspec.json.Decoder(Raw)
_client_decoder = msgspec.json.Decoder(_ClientEnvelope)
_encode = msgspec.json.Encoder().encode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_request(plaintext: bytes) -> Request:
    """Read what a client sent. Raises MalformedRequest, with the id where a usable one can be read."""
    try:
        if not plaintext.isascii():
            plaintext.decode()  # msgspec does not look into strings that it skips
        envelope = _request_decoder.decode(plaintext)
    except _UNDECODABLE as error:
        raise _malformed(plaintext, str(error)) from None
    request_id, params = envelope.id, envelope.params
    if request_id is UNSET:
        request_id = None
    elif (type(request_id) is not int or not -MAX_ID <= request_id <= MAX_ID) and not _is_usable(request_id):
        raise MalformedRequest(Reason.INVALID_REQUEST, "id is neither an integer of 53 bits nor a string of 128 bytes")
    (start,) = _FIRST_BYTE.unpack_from(params)
    if start != OBJECT:
        if bytes(params) == b"null":
            params = NO_PARAMS
        elif start != ARRAY:  # JSON-RPC 2.0, section 4.2 knows arrays: they are refused as parameters, after the method
            raise MalformedRequest(Reason.INVALID_REQUEST, "params is not an object", request_id)
    return Request(request_id, envelope.method, params)


def decode_for_client(plaintext: bytes) -> Response | ErrorResponse | Request:
    """Read what a server sent: a result, an error, or a notification (a Request without id).

    Raises RemoteProtocolError: a server that does not speak JSON-RPC cannot be answered.
    """
    try:
        _check_utf8(plaintext)
        envelope = _client_decoder.decode(plaintext)
    except _UNDECODABLE as error:
        raise RemoteProtocolError(f"the server's message is not JSON-RPC: {error}") from error
    if envelope.method is not None:
        return Request(None, envelope.method, envelope.params)
    if envelope.error is not None:
        return ErrorResponse(envelope.id, envelope.error)
    if envelope.result is not UNSET and envelope.id is not None:
        return Response(envelope.id, envelope.result)
    raise RemoteProtocolError("the server's message is neither a result nor an error nor a notification")


def _check_utf8(plaintext: bytes) -> None:
    if not plaintext.isascii():
        plaintext.decode()  # msgspec does not look into strings that it skips


def _malformed(plaintext: bytes, message: str) -> MalformedRequest:
    """Tell what is no JSON from what is no request: the decoder stops at whichever it meets first."""
    try:
        _check_utf8(plaintext)
        _syntax_decoder.decode(plaintext)
    except _UNDECODABLE as error:
        return MalformedRequest(Reason.PARSE_ERROR, f"not JSON: {error}")
    try:
        request_id = _id_decoder.decode(plaintext).id
    except _UNDECODABLE:  # it is no object, or its id is of no usable type
        request_id = None
    usable = request_id if _is_usable(request_id) else None
    return MalformedRequest(Reason.INVALID_REQUEST, message, usable)


def _is_usable(request_id: Id | None) -> bool:
    if type(request_id) is int:
        return -MAX_ID <= request_id <= MAX_ID
    return isinstance(request_id, str) and len(request_id.encode()) <= MAX_ID_BYTES


def encode_request(request_id: Id, method: str, params: object) -> bytes:
    return b"".join(
        (
            b'{"jsonrpc":"2.0","id":',
            _encode(request_id),
            b',"method":',
            _encode(method),
            b',"params":',
            _encode(params),
            b"}",
        )
    )


def encode_notification(method: str, params: object) -> bytes:
    return b"".join((b'{"jsonrpc":"2.0","method":', _encode(method), b',"params":', _encode(params), b"}"))


def encode_result(request_id: Id, result: object) -> bytes:
    return b"".join((b'{"jsonrpc":"2.0","id":', _encode(request_id), b',"result":', _encode(result), b"}"))


def encode_error(request_id: Id | None, reason: Reason, message: str, data: dict[str, Any]) -> bytes:
    """An error answer; `data.reason` is always there."""
    error = ErrorObject(reason.code, message, {"reason": reason.slug, **data})
    return _encode({"jsonrpc": "2.0", "id": request_id, "error": error})
