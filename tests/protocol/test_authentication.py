"""AUTH: its bytes, its transcript, its signatures, and what the server makes of outer and inner certificates."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from certificate_authority import DAY, TRUST_DOMAIN, CertificateAuthority, Issued
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from protocol import foreign
from protocol.pair import Shop

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.authentication import (
    NO_CERTIFICATE,
    Auth,
    Credentials,
    Transcript,
    decode_auth,
    encode_auth,
    verify_signature,
)

ECDSA, RSA = 0x0403, 0x0804
CONTENT = b"what is signed"


def entry(der: bytes, length: int | None = None) -> bytes:
    return (len(der) if length is None else length).to_bytes(3, "big") + der


def plaintext(chain: bytes, *, scheme: int = ECDSA, signature: bytes = b"", n: int = -1, m: int = -1) -> bytes:
    """An AUTH plaintext; n and m are true unless given."""
    n = len(chain) if n < 0 else n
    m = len(signature) if m < 0 else m
    joined = n.to_bytes(3, "big") + chain + scheme.to_bytes(2, "big") + m.to_bytes(2, "big") + signature
    return joined + bytes(-len(joined) % 1_024)


def der_of(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


# The bytes


def test_the_plaintext_is_what_the_foreign_reading_says(shop: Shop) -> None:
    chain = [shop.alice.certificate, shop.authority.certificate]
    credentials = Credentials(chain, shop.alice.key)
    encoded = encode_auth(Auth(credentials.chain, credentials.certificates, credentials.scheme, b"signature"))
    assert encoded == foreign.encode_auth(foreign.encode_chain(chain), ECDSA, b"signature")
    assert foreign.parse_auth(encoded) == (credentials.chain, ECDSA, b"signature")
    assert decode_auth(encoded) == Auth(credentials.chain, tuple(chain), ECDSA, b"signature")


def test_no_certificate_is_a_block_of_zeros() -> None:
    assert encode_auth(NO_CERTIFICATE) == bytes(1_024)
    assert decode_auth(bytes(1_024)) == NO_CERTIFICATE


@pytest.mark.parametrize("room", [0, 1, 1_016])
def test_zeros_fill_the_last_block_alone(room: int) -> None:
    signature = b"s" * (1_024 - 7 - room)
    encoded = encode_auth(Auth(b"", (), ECDSA, signature))
    assert len(encoded) == 1_024
    assert encoded.endswith(signature + bytes(room))


def test_more_zeros_than_needed_are_accepted(shop: Shop) -> None:
    chain = entry(der_of(shop.alice))
    auth = decode_auth(plaintext(chain, signature=b"s") + bytes(2_048))
    assert (auth.chain, auth.signature) == (chain, b"s")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda der: plaintext(entry(der), n=0xFFFFFF), "shorter than the lengths"),
        (lambda der: plaintext(entry(der), n=1_024), "shorter than the lengths"),
        (lambda der: plaintext(entry(der), m=0xFFFF), "shorter than the lengths"),
        (lambda der: plaintext(entry(der), m=1_024), "shorter than the lengths"),
        (lambda _der: b"", "shorter than the lengths"),
        (lambda der: plaintext(entry(der), n=len(der) + 2), "cut short|zeros|shorter"),
        (lambda der: plaintext(entry(der), n=len(der) + 4), "cut short|zeros|shorter"),
        (lambda der: plaintext(entry(der), signature=b"s", m=0), "padded with something other than zeros"),
        (lambda der: plaintext(entry(der))[:-1] + b"\x01", "padded with something other than zeros"),
        (lambda _der: plaintext(b"", scheme=ECDSA), "a signature and no certificate"),
        (lambda _der: plaintext(b"", scheme=0, signature=b"s"), "a signature and no certificate"),
        (lambda _der: plaintext(b"", scheme=0, signature=b"\0"), "a signature and no certificate"),
        (lambda _der: plaintext(entry(b"")), "cut short"),
        (lambda der: plaintext(entry(der) + entry(b"")), "cut short"),
        (lambda der: plaintext(entry(b"") + entry(der)), "cut short"),
        (lambda _der: plaintext(b"\x01"), "cut short"),
        (lambda _der: plaintext(b"\x00\x01"), "cut short"),
        (lambda _der: plaintext(b"\x00\x00\x01"), "cut short"),
        (lambda der: plaintext(entry(der) + b"\x00"), "cut short"),
        (lambda der: plaintext(entry(der, len(der) + 1)), "cut short"),
        (lambda der: plaintext(entry(der, len(der) - 1)), "cut short|cannot be read"),
        (lambda der: plaintext(entry(der[:-1])), "cannot be read"),
        (lambda der: plaintext(entry(der + b"\0")), "cannot be read"),
        (lambda _der: plaintext(entry(b"\x30\x00")), "cannot be read"),
        (lambda _der: plaintext(entry(b"certificate")), "cannot be read"),
        (lambda der: plaintext(entry(der) + entry(b"certificate")), "cannot be read"),
    ],
)
def test_a_malformed_auth_is_a_protocol_error(shop: Shop, make: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        decode_auth(make(der_of(shop.alice)))
    assert caught.value.reason == "protocol_error"


VERSION_3 = b"\xa0\x03\x02\x01\x02"
SAN, ISSUER_ALTERNATIVE_NAME = bytes.fromhex("551d11"), bytes.fromhex("551d12")


def edited(der: bytes, old: bytes, new: bytes, *, length_at: int) -> bytes:
    """Der with old replaced once and its lengths set right. length_at: of the innermost structure, from old's start."""
    start = der.index(old)
    grown = len(new) - len(old)
    changed = bytearray(der[:start] + new + der[start + len(old) :])
    for at in (2, 6):  # the certificate and its tbsCertificate, both with two bytes of length
        changed[at : at + 2] = (int.from_bytes(changed[at : at + 2], "big") + grown).to_bytes(2, "big")
    changed[start + length_at] += grown
    return bytes(changed)


def with_date_in_year_0(der: bytes) -> bytes:
    start = der.index(b"\x17\x0d")
    return edited(der, der[start : start + 15], b"\x18\x0f00000101000000Z", length_at=-1)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda der: der.replace(VERSION_3, VERSION_3[:-1] + b"\x01", 1), id="version 2"),
        pytest.param(lambda der: der.replace(VERSION_3, VERSION_3[:-1] + b"\x07", 1), id="version 8"),
        pytest.param(lambda der: der.replace(ISSUER_ALTERNATIVE_NAME, SAN), id="an extension twice"),
        pytest.param(lambda der: der.replace(b"\x86\x05other", b"\xa5\x05other"), id="a name of unknown form"),
        pytest.param(lambda der: der.replace(b"\x86\x05other", b"\x87\x05other"), id="an address of five bytes"),
        pytest.param(with_date_in_year_0, id="the year 0"),
        pytest.param(lambda der: der.replace(b"\x02\x01\x01", b"\x02\x01\x00", 1), id="serial number 0"),
        pytest.param(lambda der: der.replace(b"\x02\x01\x01", b"\x02\x01\xff", 1), id="serial number -1"),
        pytest.param(lambda der: der.replace(b"\x0c\x05alice", b"\x0c\x05alic\xff", 1), id="issuer's name"),
    ],
)
def test_a_certificate_of_which_a_part_cannot_be_read_is_a_protocol_error(
    shop: Shop, spoil: Callable[[bytes], bytes]
) -> None:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("other")]).public_bytes()
    oid = x509.ObjectIdentifier("2.5.29.18")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(shop.alice.certificate.subject)
        .issuer_name(shop.alice.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(shop.authority.now)
        .not_valid_after(shop.authority.now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.UnrecognizedExtension(oid, names), critical=False)
        .sign(key, SHA256())
    )
    sound = certificate.public_bytes(Encoding.DER)
    assert decode_auth(plaintext(entry(sound))).certificates == (certificate,)
    spoilt = spoil(sound)
    assert spoilt != sound
    with pytest.raises(RemoteProtocolError, match="cannot be read") as caught:
        decode_auth(plaintext(entry(spoilt)))
    assert caught.value.reason == "protocol_error"


# The transcript


def test_the_transcript_is_the_pages_formula() -> None:
    h, chain_s, chain_c = b"h" * 32, b"server's chain", b"client's chain"
    auth_s = Auth(chain_s, (), ECDSA, b"server's signature")
    auth_c = Auth(chain_c, (), RSA, b"client's signature")
    t1 = sha256(h + b"\x01" + b"\x00\x00\x0e" + chain_s).digest()
    t2 = sha256(t1 + b"\x02" + b"\x04\x03" + b"\x00\x12" + auth_s.signature).digest()
    t3 = sha256(t2 + b"\x03" + b"\x00\x00\x0e" + chain_c).digest()
    session = sha256(t3 + b"\x04" + b"\x08\x04" + b"\x00\x12" + auth_c.signature).digest()

    transcript = Transcript(h)
    server_content = transcript.add_server_chain(chain_s)
    transcript.add_server_signature(auth_s)
    client_content = transcript.add_client_chain(chain_c)
    assert server_content == b"\x20" * 64 + b"securedelivery/1, server CertificateVerify" + b"\x00" + t1
    assert client_content == b"\x20" * 64 + b"securedelivery/1, client CertificateVerify" + b"\x00" + t3
    assert transcript.add_client_signature(auth_c) == session


# Signatures


@pytest.fixture(scope="module")
def rsa_3072() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


def pss(salt_length: int, digest: SHA256 | SHA384 = SHA256()) -> padding.PSS:  # noqa: B008 -- it has no state
    return padding.PSS(padding.MGF1(digest), salt_length)


def refused(auth: Auth, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        verify_signature(auth, CONTENT)
    assert caught.value.reason == "protocol_error"


def test_both_schemes_verify_their_own_signatures_and_no_other(shop: Shop, rsa_3072: rsa.RSAPrivateKey) -> None:
    for key, scheme, other in ((None, ECDSA, RSA), (rsa_3072, RSA, ECDSA)):
        credentials = shop.authority.client(key=key).credentials
        assert credentials.scheme == scheme
        auth = Auth(credentials.chain, credentials.certificates, scheme, credentials.sign(CONTENT))
        verify_signature(auth, CONTENT)
        with pytest.raises(RemoteProtocolError, match="does not verify"):
            verify_signature(auth, CONTENT + b".")
        for wrong in (other, 0, 0x0401, 0x0503, 0x0805, 0x0809, 0xFFFF):
            refused(replace(auth, scheme=wrong), "does not fit the certificate's key")
        for signature in (b"", auth.signature[:-1], auth.signature + b"\0", bytes(len(auth.signature)), b"\xff" * 9):
            refused(replace(auth, signature=signature), "does not verify")
        for position in range(len(auth.signature)):
            spoilt = bytearray(auth.signature)
            spoilt[position] ^= 1
            refused(replace(auth, signature=bytes(spoilt)), "does not verify")


def test_pss_takes_a_salt_of_32_bytes_and_sha256_alone(shop: Shop, rsa_3072: rsa.RSAPrivateKey) -> None:
    certificate = shop.authority.client(key=rsa_3072).certificate
    for signature in (
        rsa_3072.sign(CONTENT, pss(31), SHA256()),
        rsa_3072.sign(CONTENT, pss(0), SHA256()),
        rsa_3072.sign(CONTENT, pss(32, SHA384()), SHA256()),
        rsa_3072.sign(CONTENT, pss(32), SHA384()),
        rsa_3072.sign(CONTENT, padding.PKCS1v15(), SHA256()),
    ):
        refused(Auth(b"", (certificate,), RSA, signature), "does not verify")


def test_ecdsa_takes_sha256_alone(shop: Shop) -> None:
    signature = shop.alice.key.sign(CONTENT, ec.ECDSA(SHA384()))
    refused(Auth(b"", (shop.alice.certificate,), ECDSA, signature), "does not verify")


@pytest.mark.parametrize(
    ("make_key", "scheme", "sign"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), RSA, lambda key: key.sign(CONTENT, pss(32), SHA256())),
        (lambda: ec.generate_private_key(ec.SECP384R1()), ECDSA, lambda key: key.sign(CONTENT, ec.ECDSA(SHA256()))),
        (lambda: ec.generate_private_key(ec.SECP384R1()), 0x0503, lambda key: key.sign(CONTENT, ec.ECDSA(SHA384()))),
        (lambda: ec.generate_private_key(ec.SECP256K1()), ECDSA, lambda key: key.sign(CONTENT, ec.ECDSA(SHA256()))),
        (ed25519.Ed25519PrivateKey.generate, 0x0807, lambda key: key.sign(CONTENT)),
        (ed25519.Ed25519PrivateKey.generate, ECDSA, lambda key: key.sign(CONTENT)),
    ],
    ids=["RSA-2048", "P-384", "P-384 with its own scheme", "secp256k1", "Ed25519", "Ed25519 as ECDSA"],
)
def test_other_keys_are_refused_by_both_sides(shop: Shop, make_key: Callable, scheme: int, sign: Callable) -> None:
    key = make_key()
    certificate = shop.authority.client(key=key).certificate
    refused(Auth(b"", (certificate,), scheme, sign(key)), "neither P-256 nor RSA of 3072 bits")
    with pytest.raises(ValueError, match="neither P-256 nor RSA of 3072 bits"):
        Credentials([certificate], key)


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        pytest.param("2a8648ce3d0201", "2a8648ce3d027f", id="kind of key"),
        pytest.param("2a8648ce3d030107", "2a8648ce3d03017f", id="curve"),
    ],
)
def test_a_key_that_nobody_knows_is_a_protocol_error(shop: Shop, known: str, unknown: str) -> None:
    der = der_of(shop.alice).replace(bytes.fromhex(known), bytes.fromhex(unknown), 1)
    refused(decode_auth(plaintext(entry(der), signature=b"s")), "does not verify")


def test_an_rsa_key_for_pss_alone_has_another_scheme_than_ours(shop: Shop, rsa_3072: rsa.RSAPrivateKey) -> None:
    sound = der_of(shop.authority.client(key=rsa_3072))
    plain, pss_alone = bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300b06092a864886f70d01010a")
    certificate = x509.load_der_x509_certificate(edited(sound, plain, pss_alone, length_at=-1))
    assert isinstance(certificate.public_key(), rsa.RSAPublicKey)
    auth = Auth(b"", (certificate,), RSA, rsa_3072.sign(CONTENT, pss(32), SHA256()))
    refused(auth, "neither P-256 nor RSA of 3072 bits")


def test_credentials_that_do_not_fit_auth_are_refused_when_they_are_loaded(shop: Shop) -> None:
    one = len(der_of(shop.alice)) + 3
    fitting = 62_464 // one
    largest = Credentials([shop.alice.certificate] * fitting, shop.alice.key)
    assert len(encode_auth(Auth(largest.chain, (), ECDSA, b"s" * 2_041))) <= 64_512
    with pytest.raises(ValueError, match="where 62464 fit"):
        Credentials([shop.alice.certificate] * (fitting + 1), shop.alice.key)


# The server's policy


def auth_of(issued: Issued | None) -> Auth:
    """As if its signature had been verified already."""
    if issued is None:
        return NO_CERTIFICATE
    return Auth(issued.credentials.chain, issued.credentials.certificates, ECDSA, b"")


ALICE, BOB, PROXY, STRANGE_PROXY = "alice", "bob", "proxy", "strange proxy"
CERTIFICATE_REQUIRED, IDENTITY_MISMATCH, UNTRUSTED = (
    "certificate_required",
    "identity_mismatch",
    "certificate_untrusted",
)


@pytest.fixture(scope="module")
def people(shop: Shop) -> dict[str | None, Issued | None]:
    authority = shop.authority
    return {
        None: None,
        ALICE: shop.alice,
        BOB: authority.client("bob"),
        PROXY: authority.proxy("edge"),
        STRANGE_PROXY: authority.proxy("strange"),
    }


@pytest.mark.parametrize(
    ("outer", "inner", "by_policy"),
    [
        (None, None, (CERTIFICATE_REQUIRED, None)),
        (None, ALICE, (IDENTITY_MISMATCH, IDENTITY_MISMATCH)),
        (None, PROXY, (UNTRUSTED, UNTRUSTED)),
        (ALICE, None, (CERTIFICATE_REQUIRED, IDENTITY_MISMATCH)),
        (ALICE, ALICE, (ALICE, ALICE)),
        (ALICE, BOB, (IDENTITY_MISMATCH, IDENTITY_MISMATCH)),
        (ALICE, PROXY, (UNTRUSTED, UNTRUSTED)),
        (PROXY, None, (CERTIFICATE_REQUIRED, None)),
        (PROXY, ALICE, (ALICE, ALICE)),
        (PROXY, BOB, (BOB, BOB)),
        (PROXY, PROXY, (UNTRUSTED, UNTRUSTED)),
        (STRANGE_PROXY, None, (CERTIFICATE_REQUIRED, IDENTITY_MISMATCH)),
        (STRANGE_PROXY, ALICE, (IDENTITY_MISMATCH, IDENTITY_MISMATCH)),
        (STRANGE_PROXY, STRANGE_PROXY, (UNTRUSTED, UNTRUSTED)),
    ],
)
@pytest.mark.parametrize("certificates_required", [True, False], ids=["required", "optional"])
def test_the_policy_compares_outer_and_inner_certificate(
    shop: Shop,
    people: dict[str | None, Issued | None],
    outer: str | None,
    inner: str | None,
    by_policy: tuple[str | None, str | None],
    *,
    certificates_required: bool,
) -> None:
    expected = by_policy[0] if certificates_required else by_policy[1]
    policy = shop.policy(
        certificates_required=certificates_required,
        trusted_proxies=frozenset({"spiffe://shop.test/proxy/edge", "spiffe://shop.test/proxy/other"}),
    )
    outer_leaf = people[outer].certificate if people[outer] else None
    arguments = auth_of(people[inner]), outer_leaf, shop.authority.now
    if expected in (None, ALICE, BOB):
        identity = policy.identify(*arguments)
        assert (identity and identity.name) == expected
        assert (identity and identity.uri) == (expected and f"spiffe://{TRUST_DOMAIN}/account/{expected}")
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            policy.identify(*arguments)
        assert caught.value.reason == expected


def test_an_account_is_no_proxy_without_the_entry(shop: Shop, people: dict[str | None, Issued | None]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"AUTH is for spiffe:.*alice") as caught:
        shop.policy().identify(auth_of(shop.alice), people[PROXY].certificate, shop.authority.now)
    assert caught.value.reason == "identity_mismatch"


def test_the_same_name_with_another_certificate_is_a_mismatch(shop: Shop) -> None:
    again = shop.authority.client("alice", key=shop.alice.key)
    with pytest.raises(RemoteProtocolError) as caught:
        shop.policy().identify(auth_of(again), shop.alice.certificate, shop.authority.now)
    assert caught.value.reason == "identity_mismatch"


@pytest.mark.parametrize(
    ("times", "revoked", "stranger", "reason"),
    [
        ({}, True, False, "certificate_revoked"),
        ({"start": -2 * DAY, "end": -DAY}, False, False, "certificate_expired"),
        ({"start": -2 * DAY, "end": -DAY}, True, False, "certificate_expired"),
        ({"start": -2 * DAY, "end": -timedelta(seconds=1)}, False, True, "certificate_untrusted"),
    ],
    ids=["revoked", "expired", "expired and revoked", "expired and of another authority"],
)
def test_behind_a_proxy_the_inner_certificate_is_checked_in_full(
    times: dict, reason: str, *, revoked: bool, stranger: bool
) -> None:
    authority = CertificateAuthority()
    issued = (CertificateAuthority() if stranger else authority).client(**times)
    if revoked:
        authority.revoke(issued)
    proxy = authority.proxy()
    shop = Shop(authority, authority.server(), issued)
    policy = shop.policy(trusted_proxies=frozenset({"spiffe://shop.test/proxy/edge"}))
    with pytest.raises(RemoteProtocolError) as caught:
        policy.identify(auth_of(issued), proxy.certificate, authority.now)
    assert caught.value.reason == reason
