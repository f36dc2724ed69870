"""Whom to believe. Each test begins with what is sound and breaks one thing, or two to see which is said first."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from certificate_authority import DAY, TRUST_DOMAIN, CertificateAuthority, Issued
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from protocol.pair import Shop

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol import certificates
from securedelivery.protocol.certificates import (
    UNREADABLE,
    Identity,
    Trust,
    account_identity,
    end_of_life,
    load_certificate,
    uri_names,
)

SECOND = timedelta(seconds=1)
CLIENT_AUTH, SERVER_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
EXPIRED, REVOKED, UNTRUSTED = "certificate_expired", "certificate_revoked", "certificate_untrusted"
ALICE = x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/account/alice")
LOCALHOST = x509.DNSName("localhost")


def rebuilt(
    issuer: CertificateAuthority,
    issued: Issued,
    drop: tuple[type[x509.ExtensionType], ...] = (),
    add: tuple[x509.ExtensionType, ...] = (),
) -> x509.Certificate:
    """The certificate signed anew by the issuer, with other extensions."""
    certificate = issued.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        if not isinstance(extension.value, drop):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    for value in add:
        builder = builder.add_extension(value, critical=False)
    return builder.sign(issuer.key, SHA256())


def reason(verify: Callable[..., None], *arguments: object) -> str | None:
    """What verification says; None where it is content."""
    try:
        verify(*arguments)
    except RemoteProtocolError as error:
        return error.reason
    return None


@pytest.fixture
def authority() -> CertificateAuthority:
    return CertificateAuthority()


# Both roles


def issue(authority: CertificateAuthority, role: str, **wrong: object) -> Issued:
    return authority.client(**wrong) if role == "client" else authority.server(**wrong)


def verify(trust: Trust, role: str, *chain: x509.Certificate, now: object = None) -> str | None:
    at = now or trust.authorities[0].not_valid_before_utc + 365 * DAY  # the authority's own now
    if role == "client":
        return reason(trust.verify_client, chain, at)
    return reason(trust.verify_server, chain, "localhost", at)


both_roles = pytest.mark.parametrize("role", ["client", "server"])


@both_roles
def test_a_sound_certificate_is_believed(authority: CertificateAuthority, role: str) -> None:
    assert verify(authority.trust(), role, issue(authority, role).certificate) is None


@both_roles
def test_a_certificate_of_another_authority_is_untrusted(authority: CertificateAuthority, role: str) -> None:
    for name in ("test CA", "another CA"):
        other = CertificateAuthority(name)
        stranger = issue(other, role).certificate
        assert verify(authority.trust(), role, stranger) == UNTRUSTED
        assert verify(authority.trust(), role, stranger, other.certificate) == UNTRUSTED


@both_roles
def test_a_certificate_that_signed_itself_is_untrusted(authority: CertificateAuthority, role: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(authority.now - DAY)
        .not_valid_after(authority.now + DAY)
        .sign(key, SHA256())
    )
    assert verify(authority.trust(), role, certificate) == UNTRUSTED


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@both_roles
def test_every_bit_of_a_certificate_is_signed(authority: CertificateAuthority, role: str) -> None:
    certificate = issue(authority, role).certificate
    sound = certificate.public_bytes(Encoding.DER)
    trust = authority.trust()
    # How many bits of the signature's last byte are unused is no part of what is signed, nor does it say anything.
    unused_bits = len(sound) - len(certificate.signature) - 1
    for bit in set(range(8 * len(sound))) - set(range(8 * unused_bits, 8 * unused_bits + 8)):
        spoilt = bytearray(sound)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            certificate = load_certificate(bytes(spoilt))
        except UNREADABLE:
            continue
        # No date can be read as expired or revoked either: the signature is checked before they are.
        assert verify(trust, role, certificate) == UNTRUSTED


@both_roles
def test_the_dates_hold_to_the_second(authority: CertificateAuthority, role: str) -> None:
    certificate = issue(authority, role, start=-DAY, end=DAY).certificate
    trust = Trust((authority.certificate,), (authority.crl(start=-9 * DAY),))
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    for now, expected in ((begin - SECOND, EXPIRED), (begin, None), (end, None), (end + SECOND, EXPIRED)):
        assert verify(trust, role, certificate, now=now) == expected


@both_roles
def test_the_other_roles_purpose_is_untrusted(authority: CertificateAuthority, role: str) -> None:
    other = SERVER_AUTH if role == "client" else CLIENT_AUTH
    names = [ALICE, LOCALHOST]
    wrong = authority.issue("x", names=names, purpose=other)
    assert verify(authority.trust(), role, wrong.certificate) == UNTRUSTED
    both = rebuilt(authority, wrong, (x509.ExtendedKeyUsage,), (x509.ExtendedKeyUsage([CLIENT_AUTH, SERVER_AUTH]),))
    assert verify(authority.trust(), role, both) is None
    unlimited = rebuilt(authority, wrong, (x509.ExtendedKeyUsage,))
    assert verify(authority.trust(), role, unlimited) is None
    nothing = rebuilt(
        authority, wrong, (x509.ExtendedKeyUsage,), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),)
    )
    assert verify(authority.trust(), role, nothing) == UNTRUSTED


@both_roles
def test_a_revoked_certificate_is_refused_and_its_neighbour_is_not(authority: CertificateAuthority, role: str) -> None:
    revoked, neighbour = issue(authority, role), issue(authority, role)
    authority.revoke(revoked)
    trust = authority.trust()
    assert verify(trust, role, revoked.certificate) == REVOKED
    assert verify(trust, role, neighbour.certificate) is None
    without = authority.trust(with_crl=False)
    assert verify(without, role, revoked.certificate) is None


@both_roles
@pytest.mark.parametrize(
    ("expired", "wrong_purpose", "revoked", "expected"),
    [
        (True, True, True, EXPIRED),
        (True, True, False, EXPIRED),
        (True, False, True, EXPIRED),
        (False, True, True, UNTRUSTED),
        (False, False, True, REVOKED),
    ],
)
def test_chain_dates_purpose_and_list_are_checked_in_this_order(
    authority: CertificateAuthority, role: str, expected: str, *, expired: bool, wrong_purpose: bool, revoked: bool
) -> None:
    right, wrong = (CLIENT_AUTH, SERVER_AUTH) if role == "client" else (SERVER_AUTH, CLIENT_AUTH)
    times = {"start": -2 * DAY, "end": -DAY} if expired else {}
    issued = authority.issue("x", names=[ALICE, LOCALHOST], purpose=wrong if wrong_purpose else right, **times)
    if revoked:
        authority.revoke(issued)
    assert verify(authority.trust(), role, issued.certificate) == expected
    stranger = CertificateAuthority("another CA").trust()
    assert verify(stranger, role, issued.certificate) == UNTRUSTED


@both_roles
def test_revocation_lists_must_be_there_and_current_and_of_the_issuer(
    authority: CertificateAuthority, role: str
) -> None:
    certificate = issue(authority, role).certificate
    trust = authority.trust()
    other = CertificateAuthority("another CA")
    for crls, expected in (
        ((), UNTRUSTED),
        ((authority.crl(start=-9 * DAY, end=-SECOND),), UNTRUSTED),
        ((authority.crl(start=SECOND),), UNTRUSTED),
        ((other.crl(),), UNTRUSTED),
        ((authority.crl(start=-DAY, end=timedelta(0)),), None),
        ((authority.crl(start=timedelta(0), end=DAY),), None),
        ((other.crl(), authority.crl()), None),
        ((authority.crl(end=-SECOND, start=-DAY), authority.crl()), None),
        (None, None),
    ):
        assert verify(replace(trust, crls=crls), role, certificate) == expected


@both_roles
def test_a_list_without_an_end_is_not_current(authority: CertificateAuthority, role: str) -> None:
    der = authority.crl(start=-2 * DAY, end=-DAY).public_bytes(Encoding.DER)
    next_update = der.index(b"\x17\x0d", der.index(b"\x17\x0d") + 1)  # the second date
    shortened = bytearray(der[:next_update] + der[next_update + 15 :])
    for at in (2, 4):  # the length of the list, after 0x81, and that of what is signed
        shortened[at] -= 15
    crl = x509.load_der_x509_crl(bytes(shortened))
    assert crl.next_update_utc is None
    trust = Trust((authority.certificate,), (crl,))
    assert verify(trust, role, issue(authority, role).certificate) == UNTRUSTED


def test_a_list_of_another_issuer_revokes_nothing(authority: CertificateAuthority) -> None:
    alice = authority.client()
    other = CertificateAuthority("another CA")
    other.revoke(alice)
    trust = Trust((authority.certificate, other.certificate), (authority.crl(), other.crl()))
    assert verify(trust, "client", alice.certificate) is None
    authority.revoke(alice)
    trust = replace(trust, crls=(other.crl(), authority.crl()))
    assert verify(trust, "client", alice.certificate) == REVOKED


# Intermediate authorities


def authority_below(root: CertificateAuthority | None, **wrong: object) -> CertificateAuthority:
    """An authority whose certificate the root has issued; without one a root that allows authorities below it."""
    below = CertificateAuthority("root CA" if root is None else "intermediate CA")
    root = root or below
    purpose, start, end = wrong.get("purpose"), wrong.get("start", -DAY), wrong.get("end", 365 * DAY)
    ski = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    builder = (
        x509.CertificateBuilder()
        .subject_name(below.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(below.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(root.now + start)
        .not_valid_after(root.now + end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(aki, critical=False)
    )
    for kind in (x509.KeyUsage, x509.SubjectKeyIdentifier):
        extension = below.certificate.extensions.get_extension_for_class(kind)
        builder = builder.add_extension(extension.value, critical=extension.critical)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    below.certificate = builder.sign(root.key, SHA256())
    return below


@both_roles
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, None),
        ({"start": -3 * DAY, "end": -SECOND}, EXPIRED),
        ({"start": SECOND}, EXPIRED),
        ({"purpose": CLIENT_AUTH}, {"client": None, "server": UNTRUSTED}),
        ({"purpose": SERVER_AUTH}, {"client": UNTRUSTED, "server": None}),
    ],
)
def test_an_intermediate_authority_is_held_to_dates_and_purpose_too(role: str, wrong: dict, expected: object) -> None:
    root = authority_below(None)
    below = authority_below(root, **wrong)
    leaf = issue(below, role).certificate
    trust = Trust((root.certificate,), (below.crl(),))
    expected = expected[role] if isinstance(expected, dict) else expected
    assert verify(trust, role, leaf, below.certificate, now=root.now) == expected
    assert verify(trust, role, leaf, now=root.now) == UNTRUSTED  # it cannot be left out


@both_roles
def test_the_pathlen_of_gen_certs_forbids_an_intermediate(authority: CertificateAuthority, role: str) -> None:
    below = authority_below(authority)
    trust = Trust((authority.certificate,), (below.crl(),))
    assert verify(trust, role, issue(below, role).certificate, below.certificate, now=authority.now) == UNTRUSTED


@both_roles
def test_a_leaf_is_no_authority(authority: CertificateAuthority, role: str) -> None:
    alice = authority.client()
    mallory = CertificateAuthority("alice", key=alice.key)
    forged = issue(mallory, role).certificate
    trust = Trust((authority.certificate,), None)
    assert verify(trust, role, forged, alice.certificate, now=authority.now) == UNTRUSTED


# The name of the server


@pytest.mark.parametrize(
    ("names", "dialled", "expected"),
    [
        (["localhost"], "localhost", None),
        (["shop.test", "127.0.0.1"], "shop.test", None),
        (["shop.test", "127.0.0.1"], "SHOP.test", None),
        (["shop.test", "127.0.0.1"], "127.0.0.1", None),
        (["::1"], "::1", None),
        (["::1"], "0:0:0:0:0:0:0:1", None),
        (["*.shop.test"], "eu.shop.test", None),
        (["shop.test", "*.shop.test"], "eu.shop.test", None),
        (["*.shop.test"], "shop.test", "identity_mismatch"),
        (["*.shop.test"], "a.b.shop.test", "identity_mismatch"),
        (["shop.test"], "eu.shop.test", "identity_mismatch"),
        (["shop.test"], "127.0.0.1", "identity_mismatch"),
        (["127.0.0.1"], "127.0.0.2", "identity_mismatch"),
        (["127.0.0.1"], "localhost", "identity_mismatch"),
        (["127.0.0.1"], "::ffff:127.0.0.1", "identity_mismatch"),
        (["shop.test"], "", "identity_mismatch"),
        (["shop.test"], "shöp.test", "identity_mismatch"),
        (["shop.test"], "not a name", "identity_mismatch"),
    ],
)
def test_the_dialled_name_must_be_in_the_servers_certificate(
    shop: Shop, names: list[str], dialled: str, expected: str | None
) -> None:
    server = shop.authority.server(*names)
    assert reason(shop.authority.trust().verify_server, [server.certificate], dialled, shop.authority.now) == expected


def test_another_name_is_told_with_those_that_the_certificate_has(shop: Shop) -> None:
    chain = [shop.authority.server("shop.test", "127.0.0.1").certificate]
    with pytest.raises(RemoteProtocolError, match=r"is for shop\.test, 127\.0\.0\.1, not for localhost"):
        shop.authority.trust().verify_server(chain, "localhost", shop.authority.now)


def test_the_common_name_is_no_name_of_the_server(shop: Shop) -> None:
    trust = shop.authority.trust()
    certificate = shop.authority.issue("localhost", names=[ALICE], purpose=SERVER_AUTH).certificate
    assert reason(trust.verify_server, [certificate], "localhost", shop.authority.now) == "identity_mismatch"
    without = rebuilt(shop.authority, shop.host, (x509.SubjectAlternativeName,))
    assert reason(trust.verify_server, [without], "localhost", shop.authority.now) == UNTRUSTED


def test_revocation_is_said_before_the_name(authority: CertificateAuthority) -> None:
    server = authority.server()
    authority.revoke(server)
    assert reason(authority.trust().verify_server, [server.certificate], "other", authority.now) == REVOKED


# Identities


def uri(value: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(value)


@pytest.mark.parametrize("name", ["abc", "a.b_c-9", "a" * 32, "alice"])
def test_the_single_uri_is_the_identity(shop: Shop, name: str) -> None:
    leaf = shop.authority.client(name).certificate
    assert account_identity(leaf, TRUST_DOMAIN) == Identity(f"spiffe://shop.test/account/{name}", name)


@pytest.mark.parametrize(
    "names",
    [
        [uri("spiffe://other.test/account/alice")],
        [uri("spiffe://shop.test.evil/account/alice")],
        [uri("spiffe://shop.testaccount/alice")],
        [uri("SPIFFE://shop.test/account/alice")],
        [uri("spiffe://SHOP.test/account/alice")],
        [uri("https://shop.test/account/alice")],
        [uri("spiffe://shop.test/proxy/edge")],
        [uri("spiffe://shop.test/account/")],
        [uri("spiffe://shop.test/account/al")],
        [uri("spiffe://shop.test/account/" + "a" * 33)],
        [uri("spiffe://shop.test/account/Alice")],
        [uri("spiffe://shop.test/account/1alice")],
        [uri("spiffe://shop.test/account/alice/")],
        [uri("spiffe://shop.test/account/alice/x")],
        [uri("spiffe://shop.test/account/alice\n")],
        [uri("spiffe://shop.test/account/alice?x")],
        [uri("spiffe://shop.test/account/al%69ce")],
        [uri(" spiffe://shop.test/account/alice")],
        [ALICE, ALICE],
        [ALICE, uri("spiffe://shop.test/account/bob")],
        [uri("https://shop.test"), ALICE],
        [x509.DNSName("alice")],
        [x509.RFC822Name("alice@shop.test")],
    ],
    ids=lambda names: " and ".join(name.value for name in names),
)
def test_anything_else_is_no_identity(shop: Shop, names: list[x509.GeneralName]) -> None:
    leaf = shop.authority.issue("alice", names=names, purpose=CLIENT_AUTH).certificate
    assert reason(account_identity, leaf, TRUST_DOMAIN) == UNTRUSTED


def test_other_names_beside_the_single_uri_do_not_matter(shop: Shop) -> None:
    names = [x509.DNSName("alice.test"), ALICE, x509.RFC822Name("alice@shop.test")]
    leaf = shop.authority.issue("alice", names=names, purpose=CLIENT_AUTH).certificate
    assert account_identity(leaf, TRUST_DOMAIN).name == "alice"


def test_a_leaf_without_names_or_with_unreadable_ones_has_no_uris(shop: Shop) -> None:
    assert uri_names(shop.alice.certificate) == ["spiffe://shop.test/account/alice"]
    drop = (x509.SubjectAlternativeName,)
    assert uri_names(rebuilt(shop.authority, shop.alice, drop)) == []
    for value in (b"\x30\x05\xa3\x03\x01\x01\x00", b"\xff", b"\x30\x03\x87\x01\x00"):
        unreadable = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value)
        assert uri_names(rebuilt(shop.authority, shop.alice, drop, (unreadable,))) == []


# Open connections


def test_standing_is_checked_again_while_a_connection_is_open(authority: CertificateAuthority) -> None:
    alice, bob = authority.client("alice", start=-DAY, end=DAY), authority.client("bob")
    trust, now = authority.trust(), authority.now
    assert trust.standing(alice.certificate, now) is None
    assert trust.standing(alice.certificate, now + DAY) is None
    assert trust.standing(alice.certificate, now + DAY + SECOND) == EXPIRED
    assert trust.standing(alice.certificate, now - DAY - SECOND) == EXPIRED
    authority.revoke(alice)
    assert trust.standing(alice.certificate, now) is None
    trust = authority.trust()
    assert trust.standing(alice.certificate, now) == REVOKED
    assert trust.standing(alice.certificate, now + DAY + SECOND) == EXPIRED
    assert trust.standing(bob.certificate, now) is None
    assert authority.trust(with_crl=False).standing(alice.certificate, now) is None


def test_a_chain_ends_with_its_first_certificate_to_end(authority: CertificateAuthority) -> None:
    sooner, later = authority.client(end=DAY).certificate, authority.client(end=2 * DAY).certificate
    assert end_of_life([later, sooner]) == end_of_life([sooner, later]) == authority.now + DAY


# What is remembered of chains that were verified


def verified_again(authority: CertificateAuthority, trust: Trust, issued: Issued, *, later: timedelta) -> str | None:
    return reason(trust.verify_client, (load_certificate(encoded(issued)),), authority.now + later)


def encoded(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


def test_a_chain_that_comes_again_is_searched_no_path_for(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust, alice, bob = authority.trust(), authority.client(), authority.client("bob")
    assert verified_again(authority, trust, alice, later=SECOND) is None
    monkeypatch.setattr(Trust, "_find_path", None)
    assert verified_again(authority, trust, alice, later=2 * SECOND) is None
    with pytest.raises(TypeError):
        verified_again(authority, trust, bob, later=2 * SECOND)
    with pytest.raises(TypeError):  # another purpose is another question
        trust.verify_own_server([alice.certificate], authority.now)


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (-2 * DAY, EXPIRED),
        (-SECOND - DAY, EXPIRED),
        (-DAY, None),
        (20 * DAY, None),
        (89 * DAY, None),
        (90 * DAY, EXPIRED),
    ],
)
def test_a_chain_that_was_verified_has_to_be_valid_all_the_same(
    authority: CertificateAuthority, later: timedelta, expected: str | None
) -> None:
    crl = authority.crl(start=-30 * DAY, end=300 * DAY)
    trust, alice = Trust((authority.certificate,), (crl,)), authority.client()
    assert verified_again(authority, trust, alice, later=SECOND) is None
    assert verified_again(authority, trust, alice, later=later) == expected
    assert verified_again(authority, trust, alice, later=SECOND) is None


def test_a_chain_that_was_verified_is_untrusted_once_its_authority_has_ended(authority: CertificateAuthority) -> None:
    trust, alice = authority.trust(with_crl=False), authority.client(end=5_000 * DAY)
    assert verified_again(authority, trust, alice, later=SECOND) is None
    assert verified_again(authority, trust, alice, later=3_650 * DAY) is None
    assert verified_again(authority, trust, alice, later=3_651 * DAY) == UNTRUSTED


def test_the_list_has_to_be_current_for_a_chain_that_was_verified(authority: CertificateAuthority) -> None:
    trust, alice = authority.trust(), authority.client()
    assert verified_again(authority, trust, alice, later=SECOND) is None
    assert verified_again(authority, trust, alice, later=30 * DAY) is None
    assert verified_again(authority, trust, alice, later=30 * DAY + SECOND) == UNTRUSTED


def test_a_new_list_counts_for_a_chain_that_was_verified(authority: CertificateAuthority) -> None:
    before, alice = authority.trust(), authority.client()
    assert verified_again(authority, before, alice, later=SECOND) is None
    authority.revoke(alice)
    assert verified_again(authority, authority.trust(), alice, later=SECOND) == REVOKED
    assert verified_again(authority, replace(before, crls=(authority.crl(),)), alice, later=SECOND) == REVOKED


def test_another_trust_has_its_own_mind(authority: CertificateAuthority) -> None:
    alice = authority.client()
    assert verified_again(authority, authority.trust(), alice, later=SECOND) is None
    assert verified_again(authority, CertificateAuthority().trust(), alice, later=SECOND) == UNTRUSTED


def test_a_refusal_is_not_remembered(authority: CertificateAuthority) -> None:
    trust, late = authority.trust(), authority.client(start=DAY)
    assert verified_again(authority, trust, late, later=SECOND) == EXPIRED
    assert not trust._paths
    assert verified_again(authority, trust, late, later=DAY) is None


def test_one_changed_bit_is_another_chain(authority: CertificateAuthority) -> None:
    trust, alice = authority.trust(), authority.client()
    assert verified_again(authority, trust, alice, later=SECOND) is None
    forged = bytearray(encoded(alice))
    forged[-1] ^= 1  # of the signature
    assert reason(trust.verify_client, (load_certificate(bytes(forged)),), authority.now) == UNTRUSTED


def test_only_so_many_chains_are_remembered(authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "KNOWN", 2)
    trust = authority.trust()
    for number in range(5):
        assert verified_again(authority, trust, authority.client(f"client{number}"), later=SECOND) is None
        assert 1 <= len(trust._paths) <= 2


def test_a_certificate_of_a_verified_chain_is_read_once(authority: CertificateAuthority) -> None:
    alice = authority.client()
    assert load_certificate(encoded(alice)) is not load_certificate(encoded(alice))
    first = load_certificate(encoded(alice))
    authority.trust().verify_client((first,), authority.now)
    assert load_certificate(encoded(alice)) is first


def test_nothing_large_is_remembered(authority: CertificateAuthority) -> None:
    many = [x509.DNSName(f"host{number}.shop.test") for number in range(300)]
    trust, large = authority.trust(), authority.issue("many", names=[ALICE, *many], purpose=CLIENT_AUTH)
    assert verified_again(authority, trust, large, later=SECOND) is None
    assert not trust._paths
    assert load_certificate(encoded(large)) is not load_certificate(encoded(large))


def test_nothing_that_strangers_append_is_remembered(authority: CertificateAuthority) -> None:
    """Or one customer could fill the memory with certificates of his own making."""
    trust, alice, stranger = authority.trust(), authority.client(), CertificateAuthority().client("mallory")
    trust.verify_client((alice.certificate, stranger.certificate), authority.now)
    assert not trust._paths
    assert load_certificate(encoded(stranger)) is not load_certificate(encoded(stranger))


def test_a_revoked_chain_is_not_remembered(authority: CertificateAuthority) -> None:
    alice = authority.client()
    authority.revoke(alice)
    trust = authority.trust()
    assert verified_again(authority, trust, alice, later=SECOND) == REVOKED
    assert not trust._paths
