"""Whom to trust in TLS alone: behind a proxy that ends TLS with a certificate of another authority than the shop's."""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from certificate_authority import DAY, TRUST_DOMAIN, CertificateAuthority, Issued
from client.scripted_server import Customer, Listener, TlsFailure, customer_script
from client.test_diagnosis import failure, refused, renamed, works
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from transport.relay import Relay

from securedelivery.client import Profile
from securedelivery.client.deadline import Deadline
from securedelivery.client.handshake import open_line
from securedelivery.errors import ConfigurationError, PeerClosed
from securedelivery.protocol.certificates import Trust
from securedelivery.protocol.connection import PeerAuthenticated
from securedelivery.transport.tls import ServerFiles, ServerSecurity

PROXY = f"spiffe://{TRUST_DOMAIN}/proxy/edge"
WRONG_CA = "is not from the CA that is trusted here"
INSIDE = "the server behind {} cannot be trusted"


@dataclass
class World:
    """The shop's files and those of another authority, in folders; what a test wants is given, the rest is sound.

    TLS_CA: the other authority's certificate alone, and together with the shop's, as a file.
    """

    folder: Path
    shop: CertificateAuthority = field(default_factory=CertificateAuthority)
    other: CertificateAuthority = field(default_factory=lambda: CertificateAuthority("another CA"))

    def __post_init__(self) -> None:
        self.files = self.shop.write(self.folder / "shop")
        self.other_files = self.other.write(self.folder / "other")
        alone = self.other_files / "ca.crt"
        together = self.folder / "together.crt"
        together.write_bytes((self.files / "ca.crt").read_bytes() + alone.read_bytes())
        self.tls_ca = {"alone": alone, "together": together}
        self.shop.client("alice").write(self.folder / "alice.crt", self.folder / "alice.key")

    def profile(self, server: str, tls_ca: Path | None, *, crl: bool = True) -> Profile:
        """Alice's."""
        pair = self.folder / "alice.crt", self.folder / "alice.key"
        return Profile(server, self.files / "ca.crt", *pair, self.files / "crl.pem" if crl else None, tls_ca)

    def security(self) -> ServerSecurity:
        """The shop's."""
        return ServerSecurity.load(
            ServerFiles.in_directory(self.files),
            trust_domain=TRUST_DOMAIN,
            certificates_required=True,
            trusted_proxies=frozenset((PROXY,)),
        )

    def shows(self, shown: Path) -> ServerSecurity:
        """As the shop, but in TLS it shows server.crt of a folder."""
        security = self.security()
        security.context.load_cert_chain(shown / "server.crt", shown / "server.key")
        return security

    def signs(self, issued: Issued, *appended: x509.Certificate) -> ServerSecurity:
        """As the shop, but it signs AUTH with issued; the certificates are appended to the chain."""
        folder = self.shop.write(self.folder / "signs", issued)
        with (folder / "server.crt").open("ab") as file:
            file.writelines(one.public_bytes(Encoding.PEM) for one in appended)
        return ServerSecurity.load(
            ServerFiles.in_directory(folder),
            trust_domain=TRUST_DOMAIN,
            certificates_required=True,
            trusted_proxies=frozenset(),
        )

    def relay(self, port: int) -> Relay:
        """A proxy that ends TLS, shows a certificate of the other authority, and has one of the shop's inward."""
        outward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        outward.load_cert_chain(self.other_files / "server.crt", self.other_files / "server.key")
        inward = ssl.create_default_context(cafile=self.files / "ca.crt")
        pair = self.folder / "proxy.crt", self.folder / "proxy.key"
        self.shop.proxy("edge").write(*pair)
        inward.load_cert_chain(*pair)
        for context in (outward, inward):
            context.set_alpn_protocols(["securedelivery/1"])
        return Relay(port, outward, inward)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["alone", "together"])
def tls_ca(request: pytest.FixtureRequest, world: World) -> Path:
    return world.tls_ca[request.param]


@pytest.fixture
def shop(world: World) -> Iterator[Listener]:
    """The shop itself, which trusts the proxy."""
    with Listener(customer_script(world.security(), attend)) as listener:
        yield listener


@pytest.fixture
def proxy(world: World, shop: Listener) -> Iterator[Relay]:
    with world.relay(shop.port) as relay:
        yield relay


def attend(customer: Customer) -> None:
    """As a server does, whoever may hang up on it; behind a relay it is not told of that, so it waits for CLOSE."""
    with contextlib.suppress(TlsFailure, OSError):
        customer.begin_tls()
        customer.event()
        customer.say(customer.core.send_handshake())
        if isinstance(event := customer.event(), PeerAuthenticated):
            customer.welcome(identity=event.identity.uri)
            customer.serve()


def at(relay: Relay) -> str:
    return f"localhost:{relay.port}"


Serve = Callable[[ServerSecurity, ServerSecurity], str]


@pytest.fixture
def believed() -> Iterator[Serve]:
    """Starts a server that shows the first in TLS, signs AUTH as the second, and is taken for the shop."""
    yield from serving(attend)


@pytest.fixture
def disbelieved() -> Iterator[Serve]:
    """Starts one that hears certificate_untrusted, and not a word more, as soon as it has sent AUTH."""
    yield from serving(refused)


def serving(script: Callable[[Customer], None]) -> Iterator[Serve]:
    listeners: list[Listener] = []

    def start(outer: ServerSecurity, inner: ServerSecurity) -> str:
        listeners.append(Listener(customer_script(outer, script, inner)).__enter__())
        return listeners[-1].server

    yield start
    for listener in listeners:
        listener.__exit__(None, None, None)


# The proxy forwards frames


def test_through_a_proxy_of_another_authority(world: World, tls_ca: Path, proxy: Relay) -> None:
    """The list, which is the shop's, is given as well and is in nobody's way."""
    profile = world.profile(at(proxy), tls_ca)
    works(profile)
    works(renamed(profile, crl=None))
    line = open_line(profile, Deadline(5.0))
    with line.sock:
        assert line.welcome.identity == f"spiffe://{TRUST_DOMAIN}/account/alice"  # and not the proxy's
        shown = x509.load_pem_x509_certificate((world.other_files / "server.crt").read_bytes())
        assert line.channel.peer_certificate() == shown.public_bytes(Encoding.DER)
        line.channel.write(line.core.send_close("bye"))
        line.sock.sendall(line.channel.take_raw())
    assert b"system.ping" not in proxy.seen


def test_without_it_the_proxy_is_refused_in_tls(world: World, proxy: Relay, shop: Listener) -> None:
    error = failure(world.profile(at(proxy), None))
    assert str(error) == f"the certificate of {at(proxy)} {WRONG_CA}"
    assert error.hint == (
        "get ca.crt from the operator, then: securedelivery profile set --ca FILE (and where a proxy ends TLS, its CA: "
        "--tls-ca FILE). Do not go on with another certificate"
    )
    assert not error.temporary
    assert proxy.seen == b""
    assert shop.accepted == 0


def test_without_it_and_without_a_proxy_all_is_as_before(world: World, shop: Listener) -> None:
    profile = world.profile(shop.server, None)
    works(profile)
    world.shop.revoke(server_of(world.files))
    world.shop.write_crl(world.files)
    assert "the certificate of localhost" in str(failure(profile))  # in TLS: the list counts there
    assert "has been revoked" in str(failure(profile))
    works(renamed(profile, crl=None))


def test_the_server_itself_is_trusted_in_tls_by_the_same_file(world: World, shop: Listener) -> None:
    works(world.profile(shop.server, world.tls_ca["together"]))
    works(world.profile(shop.server, world.files / "ca.crt"))
    error = failure(world.profile(shop.server, world.tls_ca["alone"]))
    assert str(error) == f"the certificate of {shop.server} {WRONG_CA}"
    assert error.hint == (
        "get the CA of the proxy that ends TLS from the operator, then: securedelivery profile set --tls-ca FILE "
        '("" without a proxy). Do not go on with another certificate'
    )


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("of another name", "for another name than localhost"),
        ("a customer's", "is not a server's"),
        ("expired", "has expired"),
    ],
)
def test_in_tls_all_else_is_checked_too(world: World, tls_ca: Path, shop: Listener, broken: str, words: str) -> None:
    with world.relay(shop.port) as relay:
        works(world.profile(at(relay), tls_ca))
    bad = {
        "of another name": lambda: world.other.server("shop.example.org"),
        "a customer's": world.other.client,
        "expired": lambda: world.other.server(end=-DAY / 1440),
    }[broken]()
    bad.write(world.other_files / "server.crt", world.other_files / "server.key")
    with world.relay(shop.port) as relay:
        assert words in str(failure(world.profile(at(relay), tls_ca)))


# The proxy would like to be the server


@pytest.mark.parametrize("appended", ["", "its authority", "the shop's certificate"])
def test_auth_of_the_other_authority_is_refused(
    world: World, tls_ca: Path, disbelieved: Serve, monkeypatch: pytest.MonkeyPatch, appended: str
) -> None:
    monkeypatch.setattr(Trust, "verify_own_server", lambda *_: ())  # our own server would not start with it
    chain = {
        "": (),
        "its authority": (world.other.certificate,),
        "the shop's certificate": (server_of(world.files).certificate,),
    }[appended]
    own = server_of(world.other_files)
    address = disbelieved(world.shows(world.other_files), world.signs(own, *chain))
    error = failure(world.profile(address, tls_ca))
    assert str(error).startswith(INSIDE.format(address))
    assert "the certificate is not trusted" in str(error)
    assert error.hint.startswith("TLS ends before the server")
    assert not isinstance(error, PeerClosed)
    assert not error.temporary


def test_the_same_server_is_believed_by_who_trusts_that_authority_inside(
    world: World, tls_ca: Path, believed: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the refusal above hangs on: ca, and nothing else."""
    monkeypatch.setattr(Trust, "verify_own_server", lambda *_: ())
    address = believed(world.shows(world.other_files), world.signs(server_of(world.other_files)))
    profile = world.profile(address, tls_ca)
    works(renamed(profile, ca=world.other_files / "ca.crt", crl=world.other_files / "crl.pem"))


def test_whoever_has_a_servers_certificate_of_the_shops_authority_is_the_server(
    world: World, tls_ca: Path, believed: Serve
) -> None:
    """As docs/threat-model.md says: it is for this that the proxy's certificate is of another authority."""
    second = world.shop.server()
    address = believed(world.shows(world.other_files), world.signs(second))
    profile = world.profile(address, tls_ca)
    works(profile)
    world.shop.revoke(second)
    world.shop.write_crl(world.files)
    works(renamed(profile, crl=None))
    error = failure(profile)
    assert str(error).startswith(INSIDE.format(address))
    assert "is revoked" in str(error)


# The list


def test_the_list_is_applied_inside(world: World, tls_ca: Path, proxy: Relay) -> None:
    profile = world.profile(at(proxy), tls_ca)
    works(profile)
    server = server_of(world.files)
    world.shop.revoke(server)
    world.shop.write_crl(world.files)
    error = failure(profile)
    serial = server.certificate.serial_number
    assert str(error) == f"{INSIDE.format(at(proxy))} (the certificate with serial {serial:X} is revoked)"
    works(renamed(profile, crl=None))


def test_an_outdated_list_is_refused_inside(world: World, tls_ca: Path, proxy: Relay) -> None:
    profile = world.profile(at(proxy), tls_ca)
    works(profile)
    world.shop.write_crl(world.files, start=-2 * DAY, end=-DAY)
    assert "there is no current revocation list of its issuer" in str(failure(profile))
    works(renamed(profile, crl=None))


def test_the_list_is_that_of_the_shops_authority(world: World, tls_ca: Path, proxy: Relay) -> None:
    """What the other authority has revoked is its own affair: its list is not looked for, and not taken."""
    world.other.revoke(server_of(world.other_files))
    world.other.write_crl(world.other_files)
    profile = world.profile(at(proxy), tls_ca)
    works(profile)
    with pytest.raises(ConfigurationError, match="not made by") as caught:
        open_line(renamed(profile, crl=world.other_files / "crl.pem"), Deadline(5.0))
    assert str(world.files / "ca.crt") in str(caught.value)


# Files


@pytest.mark.parametrize(("content", "words"), [(None, "there is no such file"), (b"nothing", "not a PEM certificate")])
def test_a_file_that_cannot_be_used(world: World, proxy: Relay, content: bytes | None, words: str) -> None:
    file = world.folder / "public-ca.crt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_line(world.profile(at(proxy), file), Deadline(5.0))
    assert caught.value.key == str(file)
    assert caught.value.hint


def test_it_does_not_stand_in_for_the_ca(world: World, tls_ca: Path, proxy: Relay) -> None:
    with pytest.raises(ConfigurationError, match="which CA to trust"):
        open_line(renamed(world.profile(at(proxy), tls_ca), ca=None), Deadline(5.0))


def server_of(folder: Path) -> Issued:
    certificate = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    return Issued(certificate, load_pem_private_key((folder / "server.key").read_bytes(), None))
