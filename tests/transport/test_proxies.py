"""Behind a proxy that terminates TLS: the inner identity counts, if the proxy's certificate is one to trust."""

import ssl
from collections.abc import Iterator

import pytest
from certificate_authority import TRUST_DOMAIN, Issued
from transport.driver import Client, context_of, dial
from transport.relay import Relay
from transport.stage import Log, Stage

EDGE = f"spiffe://{TRUST_DOMAIN}/proxy/edge"


class Front:
    """A relay before the stage's server, and clients that come through it."""

    def __init__(self, stage: Stage, proxy: Issued) -> None:
        self._stage = stage
        outward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        outward.load_cert_chain(stage.certs / "server.crt", stage.certs / "server.key")
        outward.set_alpn_protocols(["securedelivery/1"])
        inward = context_of(stage.ca, proxy, stage.work)
        self.relay = Relay(stage.port, outward, inward)

    def client(self, issued: Issued | None, inner_as: Issued | None = None) -> Client:
        """inner_as: another certificate inside than outside."""
        stage = self._stage
        sock = dial(self.relay.port)
        stage.at_end(sock.close)
        return Client(sock, context_of(stage.ca, issued, stage.work), stage.ca, inner_as or issued)


@pytest.fixture
def edge(stage: Stage) -> Issued:
    return stage.ca.proxy("edge")


def through(stage: Stage, proxy: Issued) -> Iterator[Front]:
    front = Front(stage, proxy)
    with front.relay:
        yield front


@pytest.fixture
def trusted(stage: Stage, edge: Issued) -> Iterator[Front]:
    stage.serve(security=stage.load(proxies=(EDGE,)), connections_per_address=2)
    yield from through(stage, edge)


def refused(client: Client) -> str:
    client.tls()
    client.hello()
    client.transmit(client.core.send_auth())
    return client.close_reason()


def test_behind_a_trusted_proxy_the_inner_identity_holds_and_the_payload_stays_closed(
    stage: Stage, trusted: Front
) -> None:
    client = trusted.client(stage.alice).open()
    assert b'"identity":"alice"' in bytes(client.call("inline.who").result)
    client.call("inline.big", size=1_000)
    assert b"xxxx" not in trusted.relay.seen
    assert b"inline" not in trusted.relay.seen
    assert b"alice" not in trusted.relay.seen


def test_the_connections_of_a_trusted_proxy_do_not_count_for_its_address(stage: Stage, trusted: Front) -> None:
    clients = [trusted.client(stage.alice).open() for _ in range(4)]
    assert all(client.is_served() for client in clients)
    assert not stage.server._per_address


def test_without_the_trust_the_identities_do_not_match(stage: Stage, edge: Issued, log: Log) -> None:
    stage.serve(security=stage.load(proxies=(f"spiffe://{TRUST_DOMAIN}/proxy/other",)))
    for front in through(stage, edge):
        assert refused(front.client(stage.alice)) == "identity_mismatch"
    assert EDGE in log.wait_for("! refused", reason="identity_mismatch")["why"]
    assert len(stage.server._per_address) <= 1


def test_a_client_without_certificate_behind_a_proxy_is_refused_where_one_is_required(
    stage: Stage, trusted: Front
) -> None:
    assert refused(trusted.client(None)) == "certificate_required"


def test_a_client_without_certificate_behind_a_proxy_is_nobody_where_it_is_optional(stage: Stage, edge: Issued) -> None:
    stage.serve(security=stage.load(required=False, proxies=(EDGE,)))
    for front in through(stage, edge):
        client = front.client(None).open()
        assert b'"identity":null' in bytes(client.call("inline.who").result)


def test_a_proxy_is_no_customer(stage: Stage, edge: Issued) -> None:
    stage.serve(security=stage.load(proxies=(EDGE,)))
    assert refused(stage.client(edge)) == "certificate_untrusted"


def test_a_revoked_proxy_loses_its_connections(stage: Stage, trusted: Front, edge: Issued) -> None:
    client = trusted.client(stage.alice).open()
    stage.ca.revoke(edge)
    stage.ca.write_crl(stage.certs)
    stage.server.use(stage.load(proxies=(EDGE,)))
    assert client.close_reason() == "certificate_revoked"


def test_an_identity_of_another_trust_domain_is_none(stage: Stage) -> None:
    stage.serve(security=stage.load(domain="other.test"))
    assert refused(stage.client(stage.alice)) == "certificate_untrusted"


@pytest.mark.parametrize("required", [True, False])
def test_two_certificates_that_differ_are_a_mismatch(stage: Stage, *, required: bool) -> None:
    stage.serve(security=stage.load(required=required))
    bob = stage.ca.client("bob")
    outside = stage.client(stage.alice)
    assert refused(Client(outside.sock, context_of(stage.ca, stage.alice, stage.work), stage.ca, bob)) == (
        "identity_mismatch"
    )


@pytest.mark.parametrize("outer", [True, False])
def test_a_certificate_in_one_layer_alone_is_a_mismatch(stage: Stage, *, outer: bool) -> None:
    stage.serve(security=stage.load(required=False))
    outside, inside = (stage.alice, None) if outer else (None, stage.alice)
    sock = stage.dial()
    assert refused(Client(sock, context_of(stage.ca, outside, stage.work), stage.ca, inside)) == "identity_mismatch"
