"""A positive control, then one thing broken at a time: refused, logged, and a good client beside it notices nothing."""

import random
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta

import pytest
from certificate_authority import CertificateAuthority, Issued
from transport.driver import Client, Ended, context_of, read_to_end
from transport.stage import Log, Stage

HANDSHAKE_SECONDS = 0.3


@pytest.fixture
def bystander(stage: Stage) -> Iterator[Client]:
    """A good client that is there before and after, with the server as it comes out of the box but impatient."""
    stage.serve(handshake_seconds=HANDSHAKE_SECONDS)
    client = stage.connect()
    yield client
    assert client.is_served()
    assert stage.connect().is_served()
    stage.wait_idle()


def refused_by_tls(client: Client) -> str:
    """The alert. A TLS 1.3 client learns of a refused certificate only at its first read."""
    client.tls()
    with pytest.raises(Ended) as end:
        client.hello()
    return end.value.how


def test_positive_control(bystander: Client) -> None:
    assert bystander.is_served()


def test_no_certificate_where_one_is_required(bystander: Client, stage: Stage, log: Log) -> None:
    assert "certificate required" in refused_by_tls(stage.client(None))
    assert "peer did not return a certificate" in log.wait_for("! refused", reason="tls")["why"]


def test_no_certificate_where_it_is_optional(stage: Stage) -> None:
    stage.serve(security=stage.load(required=False))
    assert b'"identity":null' in bytes(stage.connect(None).call("inline.who").result)
    assert b'"identity":"alice"' in bytes(stage.connect().call("inline.who").result)


def unknown_ca(ca: CertificateAuthority) -> Issued:
    return CertificateAuthority("another CA").client("alice")


def same_name_other_ca(ca: CertificateAuthority) -> Issued:
    return CertificateAuthority(ca.common_name).client("alice")


def expired(ca: CertificateAuthority) -> Issued:
    return ca.client("alice", start=timedelta(days=-9), end=timedelta(days=-1))


def not_yet_valid(ca: CertificateAuthority) -> Issued:
    return ca.client("alice", start=timedelta(days=1))


def servers_own(ca: CertificateAuthority) -> Issued:
    return ca.server()


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("issue", "alert", "logged"),
    [
        (unknown_ca, "unknown ca", "unable to get local issuer certificate"),
        (same_name_other_ca, "", "certificate verify failed"),
        (expired, "certificate expired", "certificate has expired"),
        (not_yet_valid, "bad certificate", "certificate is not yet valid"),
        (servers_own, "unsupported certificate", "certificate purpose"),
    ],
)
def test_a_certificate_that_is_wrong_in_one_thing(
    stage: Stage, log: Log, issue: object, alert: str, logged: str, *, required: bool
) -> None:
    stage.serve(security=stage.load(required=required))
    bystander = stage.connect()
    assert callable(issue)
    assert alert in refused_by_tls(stage.client(issue(stage.ca)))
    assert logged in log.wait_for("! refused", reason="tls")["why"]
    assert bystander.is_served()


@pytest.mark.parametrize("required", [True, False])
def test_a_revoked_certificate(stage: Stage, log: Log, *, required: bool) -> None:
    mallory = stage.ca.client("mallory")
    stage.ca.revoke(mallory)
    stage.ca.write_crl(stage.certs)
    stage.serve(security=stage.load(required=required))
    assert "certificate revoked" in refused_by_tls(stage.client(mallory))
    assert "certificate revoked" in log.wait_for("! refused", reason="tls")["why"]
    assert stage.connect().is_served()


@pytest.mark.parametrize("name", ["Alice", "a", "a/b"])
def test_a_certificate_whose_name_is_none(bystander: Client, stage: Stage, log: Log, name: str) -> None:
    client = stage.client(stage.ca.client(name))
    client.tls()
    client.hello()
    client.transmit(client.core.send_auth())
    assert client.close_reason() == "certificate_untrusted"
    log.wait_for("! refused", reason="certificate_untrusted")


def test_a_client_that_does_not_accept_the_server_says_so(bystander: Client, stage: Stage, log: Log) -> None:
    client = stage.client()
    client.tls()
    client.hello()
    client.transmit(client.core.send_close("certificate_untrusted", "who are you?"))
    client.listen()
    assert client.close_reason() == "bye"
    assert "who are you?" in log.wait_for("! refused", reason="bye")["why"]


def test_tls_1_2(bystander: Client, stage: Stage, log: Log) -> None:
    context = context_of(stage.ca, stage.alice, stage.work)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        context.wrap_socket(stage.dial(), server_hostname="localhost").close()
    assert "unsupported protocol" in log.wait_for("! refused", reason="tls")["why"]


@pytest.mark.parametrize("names", [[], ["h2"], ["securedelivery/2", "http/1.1"]])
def test_no_agreement_on_the_protocol(bystander: Client, stage: Stage, log: Log, names: list[str]) -> None:
    context = ssl.create_default_context(cafile=str(stage.certs / "ca.crt"))
    stage.alice.write(stage.work / "a.crt", stage.work / "a.key")
    context.load_cert_chain(stage.work / "a.crt", stage.work / "a.key")
    if names:
        context.set_alpn_protocols(names)
    with context.wrap_socket(stage.dial(), server_hostname="localhost") as sock:
        assert sock.recv(1) == b""  # close_notify: without it this would raise
    assert "ALPN" in log.wait_for("! refused", reason="tls")["why"]


def test_two_protocol_names_with_ours_second(bystander: Client, stage: Stage) -> None:
    client = stage.client()
    context = context_of(stage.ca, stage.alice, stage.work)
    context.set_alpn_protocols(["h2", "securedelivery/1"])
    assert Client(client.sock, context, stage.ca, stage.alice).open().is_served()


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", random.Random(7).randbytes(50_000), b"\x16\x03\x01\xff\xff"],
    ids=["plain HTTP", "random bytes", "a record that is too long"],
)
def test_what_is_not_tls(bystander: Client, stage: Stage, log: Log, words: bytes) -> None:
    sock = stage.dial()
    sock.sendall(words)
    read_to_end(sock)
    log.wait_for("! refused", reason="tls")


def test_silence(bystander: Client, stage: Stage, log: Log) -> None:
    assert read_to_end(stage.dial()) == b""
    assert "handshake took longer" in log.wait_for("! refused", reason="too_slow")["why"]


@pytest.mark.parametrize("part", [1, 5, 100])
def test_half_a_tls_handshake(bystander: Client, stage: Stage, log: Log, part: int) -> None:
    client = stage.client()
    assert not client.channel.handshake()
    client.sock.sendall(client.channel.take_raw()[:part])
    assert read_to_end(client.sock) == b""
    log.wait_for("! refused", reason="too_slow")


@pytest.mark.parametrize("part", [1, 1_000, 1_219])
def test_half_an_inner_handshake(bystander: Client, stage: Stage, log: Log, part: int) -> None:
    client = stage.client()
    client.tls()
    client.transmit(client.core.send_handshake()[:part])
    assert client.rest() == ([], "close_notify")  # there are no keys yet for a CLOSE
    log.wait_for("! refused", reason="too_slow")


def test_an_inner_handshake_without_auth_is_closed_as_too_slow(bystander: Client, stage: Stage, log: Log) -> None:
    client = stage.client()
    client.tls()
    client.hello()
    client.listen()
    assert client.close_reason() == "too_slow"
    log.wait_for("! refused", reason="too_slow")


def test_an_inner_handshake_that_is_wrong(bystander: Client, stage: Stage, log: Log) -> None:
    client = stage.client()
    client.tls()
    client.transmit(b"\1\0\4\xc0" + bytes(1_216))  # an all-zero X25519 key
    events, end = client.rest()
    assert (events, end) == ([], "close_notify")
    log.wait_for("! refused", reason="protocol_error")


def test_an_auth_that_is_wrong(bystander: Client, stage: Stage, log: Log) -> None:
    client = stage.client()
    client.tls()
    client.hello()
    frame = bytearray(client.core.send_auth())
    frame[-1] ^= 1
    client.transmit(bytes(frame))
    assert client.close_reason() == "protocol_error"
    log.wait_for("! refused", reason="protocol_error")


@pytest.mark.parametrize("stage_reached", ["nothing", "half a hello", "tls", "tls and close_notify", "keys"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_hanging_up_during_the_handshake(
    bystander: Client, stage: Stage, log: Log, stage_reached: str, how: str
) -> None:
    client = stage.client()
    if stage_reached == "half a hello":
        client.sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    elif stage_reached != "nothing":
        client.tls()
        if stage_reached == "keys":
            client.hello()
        elif stage_reached != "tls":
            client.channel.close()
            client.sock.sendall(client.channel.take_raw())
    if how == "rst":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sock.close()
    log.wait_for("! refused")


def test_a_bug_during_a_handshake_is_an_incident_of_that_connection(
    bystander: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.expected_incidents = 1
    client = stage.client()
    with monkeypatch.context() as patch:
        patch.setattr("securedelivery.transport.handshake.ServerConnection", None)
        client.tls()
        assert client.rest() == ([], "close_notify")


def test_a_bug_after_the_keys_are_there_is_told_as_internal(bystander: Client, stage: Stage) -> None:
    stage.expected_incidents = 1
    stage.application.server_name = object()
    client = stage.client()
    client.tls()
    client.hello()
    client.transmit(client.core.send_auth())
    assert client.close_reason() == "internal"
    stage.application.server_name = "puppet/1"
