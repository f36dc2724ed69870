"""What the log says, and what it keeps to itself."""

import json

from end_to_end.customers import RingOf, StartServer, order, refusal
from wire_client import WireClient

ADDRESS = "9 Unlogged Lane, Nowhere"
PASSWORD = "not for the log, ever"
KEY = "a-key-that-is-not-logged"


def test_the_log_is_one_json_object_a_line_and_tells_no_secret(start_server: StartServer, ring: RingOf) -> None:
    settings = {"log": {"format": "json", "level": "debug"}, "server": {"client_certificates": "optional"}}
    server = start_server(settings, stock={"CPU-1": 10})
    with WireClient.connect(server.address, ring("alice")) as client:
        client.call("account.create", username="alice", password=PASSWORD, address=ADDRESS, email="a@example.org")
        client.call("order.place", **order(KEY, CPU_1=1))
        assert refusal(lambda: client.call("account.login", username="alice", password=PASSWORD + "?")) is not None
        assert refusal(lambda: client.call("order.place", nonsense=ADDRESS)) is not None
    with WireClient.connect(server.address, ring("alice")) as client:
        client.socket.sendall(b"this is not TLS: " + ADDRESS.encode())
        assert client.wait_for_end().reason in (None, "protocol_error")
    server.stop()

    lines = [json.loads(line) for line in server.log.text.splitlines()]

    assert lines
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert {line["event"] for line in lines} >= {"= serving", "= stopped"}
    text = server.log.text
    assert not [secret for secret in (ADDRESS, PASSWORD, KEY, "a@example.org") if secret in text]
