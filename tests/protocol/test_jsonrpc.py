"""JSON-RPC 2.0, one object a frame: what a server makes of any text, what a client does, and what both write."""

import json

import msgspec
import pytest

from securedelivery.errors import Reason, RemoteProtocolError
from securedelivery.protocol.jsonrpc import (
    ErrorObject,
    ErrorResponse,
    MalformedRequest,
    Request,
    Response,
    decode_for_client,
    decode_request,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)

PARSE_ERROR, INVALID_REQUEST = Reason.PARSE_ERROR, Reason.INVALID_REQUEST
HEAD = b'{"jsonrpc":"2.0","method":"m"'
DEEP = b"[" * 30_000 + b"]" * 30_000


def start_of(value: object) -> str:
    return repr(value)[:60]


def request(members: bytes) -> bytes:
    return HEAD + b"," + members + b"}"


def refusal(text: bytes) -> tuple[Reason, object]:
    with pytest.raises(MalformedRequest) as caught:
        decode_request(text)
    return caught.value.reason, caught.value.id


# The server's side


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + b"}", (None, b"{}")),
        (HEAD + b"}" + b" " * 64, (None, b"{}")),
        (b"\t\r\n " + HEAD + b"}\n", (None, b"{}")),
        (request(b'"id":7'), (7, b"{}")),
        (request(b'"id":0'), (0, b"{}")),
        (request(b'"id":-0'), (0, b"{}")),
        (request(b'"id":""'), ("", b"{}")),
        (request(b'"id":9007199254740991'), (2**53 - 1, b"{}")),
        (request(b'"id":-9007199254740991'), (1 - 2**53, b"{}")),
        (request(b'"id":"' + b"x" * 128 + b'"'), ("x" * 128, b"{}")),
        (request('"id":"{}"'.format("ü" * 64).encode()), ("ü" * 64, b"{}")),
        (request(rb'"id":"\u00fc"'), ("ü", b"{}")),
        (request(b'"params":{"a":1}'), (None, b'{"a":1}')),
        (request(b'"params": {"a" : [1, 2]} '), (None, b'{"a" : [1, 2]}')),
        (request(b'"params":null'), (None, b"{}")),
        (request(b'"params" : null '), (None, b"{}")),
        (request(b'"params":[]'), (None, b"[]")),
        (request(b'"params":[1,{"a":2}]'), (None, b'[1,{"a":2}]')),
        (request(b'"unknown":{"deep":[1,"\xc3\xbc"]},"id":1'), (1, b"{}")),
        (request(b'"id":1,"id":2,"params":{},"params":{"a":1}'), (2, b'{"a":1}')),
        (request(b'"result":1,"error":null,"id":1'), (1, b"{}")),
        (request(b'"params":{"a":' + b"1" * 5_000 + b"}"), (None, b'{"a":' + b"1" * 5_000 + b"}")),
    ],
    ids=start_of,
)
def test_a_request_is_read(text: bytes, expected: tuple[object, bytes]) -> None:
    decoded = decode_request(text)
    assert (decoded.id, bytes(decoded.params)) == expected
    assert decoded.method == "m"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" " * 64,
        b"{",
        b"GET / HTTP/1.1\r\n\r\n",
        HEAD,
        HEAD + b"}}",
        HEAD + b"} {}",
        HEAD + b"}\0",
        HEAD + b",}",
        b"\xef\xbb\xbf" + HEAD + b"}",
        (HEAD + b"}").decode().encode("utf-16"),
        b"{'jsonrpc':'2.0'}",
        b'{jsonrpc:"2.0"}',
        request(b'"params":NaN'),
        request(b'"params":{"a":NaN}'),
        request(b'"params":{"a":Infinity}'),
        request(b'"params":{"a":-Infinity}'),
        request(b'"params":{"a":01}'),
        request(b'"params":{"a":1.}'),
        request(b'"params":{"a":+1}'),
        request(b'"params":{"a":"\x01"}'),
        request(rb'"params":{"a":"\q"}'),
        request(rb'"params":{"a":"\ud800"}'),
        request(b'"params":{"a":1}/* comment */'),
        request(b'"id":NaN'),
        request(b'"id":01'),
        request(b'"params":' + DEEP),
        request(b'"unknown":' + DEEP),
        DEEP,
        # Invalid UTF-8 anywhere
        b"\xff" + HEAD + b"}",
        HEAD + b"}\xff",
        b'{"jsonrpc":"2.0","method":"\xff"}',
        b'{"jsonrpc":"2.0","method":"m","\xff":1}',
        request(b'"id":"\xff"'),
        request(b'"unknown":"\xff"'),
        request(b'"params":{"a":"\xc3"}'),
        request(b'"params":{"a":["\xed\xa0\x80"]}'),
        request(b'"params":{"\xc0\xaf":1}'),
        # Where an invalid request comes before the end of the JSON
        b'{"jsonrpc":1,"id":7,',
        b'{"jsonrpc":1,"id":7} x',
        b'{"jsonrpc":1,"id":7,"x":NaN}',
        b'{"jsonrpc":1,"id":7,"x":"\xff"}',
        b'{"jsonrpc":1,"id":7,"x":' + DEEP + b"}",
        b'{"jsonrpc":1,"id":7,"x":' + b"[" * 60_000,
        b'{"id":1.5,"method"}',
        b"[1,",
        b"null x",
        b'"text',
    ],
    ids=start_of,
)
def test_what_is_no_json_is_a_parse_error_without_id(text: bytes) -> None:
    assert refusal(text) == (PARSE_ERROR, None)


@pytest.mark.parametrize(
    ("text", "request_id"),
    [
        # Not an object: batches too
        (b"null", None),
        (b"true", None),
        (b"7", None),
        (b"1e999", None),
        (b'"jsonrpc"', None),
        (b"[]", None),
        (b"[" + request(b'"id":1') + b"]", None),
        # Members missing or wrong
        (b"{}", None),
        (b'{"id":7}', 7),
        (b'{"jsonrpc":"2.0","id":7}', 7),
        (b'{"method":"m","id":7}', 7),
        (b'{"jsonrpc":"2.0","method":null,"id":7}', 7),
        (b'{"jsonrpc":"2.0","method":5,"id":"seven"}', "seven"),
        (b'{"jsonrpc":"1.0","method":"m","id":7}', 7),
        (b'{"jsonrpc":2.0,"method":"m","id":7}', 7),
        (b'{"jsonrpc":null,"method":"m","id":7}', 7),
        (b'{"JSONRPC":"2.0","method":"m","id":7}', 7),
        (b'{"jsonrpc":1,"x":' + b"1" * 5_000 + b',"id":7}', 7),
        (b'{"jsonrpc":1,"x":1e999,"id":7}', 7),
        (b'{"jsonrpc":1,"id":7,"id":8}', 8),
        (b'{"jsonrpc":1,"id":7,"id":true}', None),
        (b'{"jsonrpc":1,"id":"' + b"x" * 129 + b'"}', None),
        (b'{"jsonrpc":1,"id":9007199254740992}', None),
        (b'{"jsonrpc":1,"id":null}', None),
        (b'{"jsonrpc":1,"id":' + b"1" * 5_000 + b"}", None),
        # params
        (request(b'"id":7,"params":5'), 7),
        (request(b'"id":7,"params":"x"'), 7),
        (request(b'"id":7,"params":""'), 7),
        (request(b'"id":7,"params":true'), 7),
        (request(b'"id":7,"params":false'), 7),
        (request(b'"id":7,"params":-1'), 7),
        (request(b'"params":5'), None),
        # ids
        (request(b'"id":null'), None),
        (request(b'"id":true'), None),
        (request(b'"id":false'), None),
        (request(b'"id":1.5'), None),
        (request(b'"id":1.0'), None),
        (request(b'"id":1e3'), None),
        (request(b'"id":{}'), None),
        (request(b'"id":[1]'), None),
        (request(b'"id":9007199254740992'), None),
        (request(b'"id":-9007199254740992'), None),
        (request(b'"id":18446744073709551616'), None),
        (request(b'"id":' + b"1" * 400), None),
        (request(b'"id":' + b"1" * 5_000), None),
        (request(b'"id":1e999'), None),
        (request(b'"id":"' + b"x" * 129 + b'"'), None),
        (request('"id":"{}x"'.format("ü" * 64).encode()), None),
        (request(rb'"id":"' + rb"\u00fc" * 65 + b'"'), None),
    ],
    ids=start_of,
)
def test_what_is_no_request_is_refused_with_its_id_where_there_is_a_usable_one(text: bytes, request_id: object) -> None:
    assert refusal(text) == (INVALID_REQUEST, request_id)


@pytest.mark.parametrize("around", range(-8, 8))
def test_at_the_limit_of_nesting_too_the_answer_is_an_answer(around: int) -> None:
    """The deepest nesting that can be read depends on the stack: whatever it is, nothing else is raised."""

    def depth_is_readable(depth: int) -> bool:
        try:
            decode_request(b'{"jsonrpc":"2.0","method":"m","x":' + b"[" * depth + b"]" * depth + b"}")
        except MalformedRequest:
            return False
        return True

    low, high = 1, 30_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if depth_is_readable(middle) else (low, middle)
    depth = low + around
    reason, _ = refusal(b'{"jsonrpc":1,"id":7,"x":' + b"[" * depth + b"]" * depth + b"}")
    assert reason in (PARSE_ERROR, INVALID_REQUEST)


# The client's side


def test_a_client_reads_results_errors_and_notifications() -> None:
    response = decode_for_client(b'{"jsonrpc":"2.0","id":7,"result":{"a":[1]}}' + b" " * 20)
    assert response == Response(7, response.result)
    assert bytes(response.result) == b'{"a":[1]}'
    nothing = decode_for_client(b'{"jsonrpc":"2.0","id":"seven","result":null,"error":null,"unknown":1}')
    assert nothing == Response("seven", nothing.result)
    assert bytes(nothing.result) == b"null"
    error = b'{"jsonrpc":"2.0","id":7,"error":{"code":1404,"message":"gone","data":{"reason":"not_found","sku":"X"}}}'
    assert decode_for_client(error) == ErrorResponse(7, ErrorObject(1404, "gone", {"reason": "not_found", "sku": "X"}))
    bare = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no JSON"}}'
    assert decode_for_client(bare) == ErrorResponse(None, ErrorObject(-32700, "no JSON", {}))
    notification = decode_for_client(b'{"jsonrpc":"2.0","method":"order.changed","params":{"order":1}}')
    assert notification == Request(None, "order.changed", notification.params)
    assert bytes(notification.params) == b'{"order":1}'
    assert bytes(decode_for_client(b'{"jsonrpc":"2.0","method":"m"}').params) == b"{}"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{" * 100,
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":7}',
        b'{"jsonrpc":"2.0","id":7,"error":null}',
        b'{"jsonrpc":"2.0","id":null,"result":1}',
        b'{"jsonrpc":"2.0","result":1}',
        b'{"id":7,"result":1}',
        b'{"jsonrpc":"1.0","id":7,"result":1}',
        b'{"jsonrpc":"2.0","id":1.5,"result":1}',
        b'{"jsonrpc":"2.0","id":7,"error":"gone"}',
        b'{"jsonrpc":"2.0","id":7,"error":{"code":"1404","message":"gone"}}',
        b'{"jsonrpc":"2.0","id":7,"error":{"message":"gone"}}',
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1404,"message":"gone","data":[]}}',
        b'{"jsonrpc":"2.0","id":7,"result":"\xff"}',
        b'{"jsonrpc":"2.0","id":7,"result":NaN}',
        b'{"jsonrpc":"2.0","id":7,"result":' + DEEP + b"}",
        b'{"jsonrpc":"2.0","method":5}',
    ],
    ids=start_of,
)
def test_a_server_that_does_not_speak_json_rpc_breaks_the_protocol(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_for_client(text)
    assert caught.value.reason == "protocol_error"


# What is written


@pytest.mark.parametrize("request_id", [0, -7, 2**53 - 1, "", 'a"b\\ü\n'])
def test_what_is_written_is_json_rpc(request_id: int | str) -> None:
    params = {"text": 'ü"\n', "none": None, "number": 1}
    expected = {"jsonrpc": "2.0", "id": request_id, "method": "a.b", "params": params}
    assert json.loads(encode_request(request_id, "a.b", params)) == expected
    assert decode_request(encode_request(request_id, "a.b", params)).id == request_id
    expected = {"jsonrpc": "2.0", "id": request_id, "result": params}
    assert json.loads(encode_result(request_id, params)) == expected
    expected = {"jsonrpc": "2.0", "method": "a.b", "params": params}
    assert json.loads(encode_notification("a.b", params)) == expected
    error = {"code": 1409, "message": "no", "data": {"reason": "out_of_stock", "sku": "X", "available": 0}}
    written = encode_error(request_id, Reason.OUT_OF_STOCK, "no", {"sku": "X", "available": 0})
    assert json.loads(written) == {"jsonrpc": "2.0", "id": request_id, "error": error}


def test_an_error_may_have_no_id() -> None:
    written = encode_error(None, PARSE_ERROR, "no JSON", {})
    error = {"code": -32700, "message": "no JSON", "data": {"reason": "parse_error"}}
    assert json.loads(written) == {"jsonrpc": "2.0", "id": None, "error": error}


def test_encoded_json_is_passed_on_as_it_is() -> None:
    assert encode_result(1, msgspec.Raw(b'{"a" : 1}')) == b'{"jsonrpc":"2.0","id":1,"result":{"a" : 1}}'
