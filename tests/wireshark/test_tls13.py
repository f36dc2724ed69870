"""The pieces of TLS 1.3 that a reader needs; whole connections are in test_opened.py."""

import pytest

from securedelivery.wireshark import tls13

CIPHER_SUITE = 0x1301


@pytest.mark.parametrize(
    ("secret", "key", "iv"),
    [
        (
            "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21",
            "dbfaa693d1762c5b666af5d950258d01",
            "5bd3c71b836e0b76bb73265f",
        ),
        (
            "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38",
            "3fce516009c21727d0f2e4e86ee403bc",
            "5d313eb2671276ee13000b30",
        ),
    ],
    ids=["client", "server"],
)
def test_keys_are_those_of_rfc_8448(secret: str, key: str, iv: str) -> None:
    """Section 3, the handshake traffic secrets."""
    keys = tls13.ReadingKeys(CIPHER_SUITE, bytes.fromhex(secret))
    assert keys._expand("key", 16).hex() == key
    assert keys._expand("iv", 12).hex() == iv


def test_a_suite_and_a_secret_have_to_fit() -> None:
    with pytest.raises(ValueError, match="0x1304"):
        tls13.ReadingKeys(0x1304, bytes(32))
    with pytest.raises(ValueError, match="33 bytes"):
        tls13.ReadingKeys(CIPHER_SUITE, bytes(33))


@pytest.mark.parametrize("protected", [b"", b"short", bytes(17)])
def test_what_does_not_open_does_not_count(protected: bytes) -> None:
    keys = tls13.ReadingKeys(CIPHER_SUITE, bytes(32))
    assert keys.open(b"\x17\x03\x03\0\0", protected) is None
    assert keys.sequence == 0


def test_a_record_of_nothing_but_padding_has_no_type() -> None:
    """RFC 8446, section 5.4: the receiver ends the connection."""
    keys = tls13.ReadingKeys(CIPHER_SUITE, bytes(32))
    header = b"\x17\x03\x03\0\x20"
    protected = keys._aead.encrypt(keys._iv.to_bytes(12), bytes(16), header)
    assert keys.open(header, protected) is None


def test_a_hello_may_say_little() -> None:
    client = b"\x03\x03" + bytes(range(32)) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + b"\0\0"
    assert tls13.read_client_hello(client) == tls13.ClientHello(bytes(range(32)))
    server = b"\x03\x03" + bytes(32) + b"\0" + b"\x13\x01" + b"\0" + b"\0\0"
    assert tls13.read_server_hello(server) == tls13.ServerHello(0x1301, "TLS_AES_128_GCM_SHA256", "")
    unknown = server[:-2] + b"\0\x06" + b"\0\x33\0\x02\x7a\x7a"
    assert tls13.read_server_hello(unknown) == tls13.ServerHello(0x1301, "TLS_AES_128_GCM_SHA256", "group 0x7a7a")
    assert tls13.agreed_alpn(b"\0\0") == ""


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\x05\0\x10\0\x01\0", b"\0\x07\0\x10\0\x03\0\x01\xff"])
def test_extensions_that_cannot_be_read_agree_on_nothing(body: bytes) -> None:
    assert tls13.agreed_alpn(body) == ""


def test_handshake_messages_are_put_together() -> None:
    messages = tls13.HandshakeMessages()
    assert messages.add(b"\x08\0\0") == []
    assert messages.unfinished
    assert messages.add(b"\x02ab\x14\0\0\0\x0b") == [(8, b"ab"), (20, b"")]
    assert messages.unfinished
    assert tls13.handshake_name(77) == "handshake message 77"
    assert (tls13.alert_name(20), tls13.alert_name(255)) == ("bad_record_mac", "unknown")
