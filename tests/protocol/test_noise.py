"""The Noise objects, also against the `noiseprotocol` package and against RFC 7748's and FIPS 203's bad keys."""

import copy
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from noise.connection import NoiseConnection
from protocol import foreign

from securedelivery.errors import LocalProtocolError, RemoteProtocolError
from securedelivery.protocol.noise import NN, NN_HFS, CipherState, HandshakeState, Pattern, SymmetricState

PROLOGUE = b"securedelivery/1"
P = 2**255 - 19
LOW_ORDER = {
    "zero": 0,
    "one": 1,
    "order 8": 325606250916557431795983626356110631294008115727848805560023387167927233504,
    "order 8, other": 39382357235489614581723060781553021112529911719440698176882885853963445705823,
    "p - 1": P - 1,
    "p": P,
    "p + 1": P + 1,
}


def handshake(*, initiator: bool, pattern: Pattern = NN_HFS) -> HandshakeState:
    return HandshakeState(pattern, initiator=initiator, prologue=PROLOGUE)


def their_nn(*, initiator: bool, prologue: bytes = PROLOGUE) -> NoiseConnection:
    theirs = NoiseConnection.from_name(NN.protocol_name)
    theirs.set_prologue(prologue)
    if initiator:
        theirs.set_as_initiator()
    else:
        theirs.set_as_responder()
    theirs.start_handshake()
    return theirs


# CipherState


def test_the_nonce_is_four_zero_bytes_and_the_counter_and_the_associated_data_is_bound() -> None:
    key = bytes(range(32))
    cipher = CipherState(key)
    for counter in range(3):
        nonce = bytes(4) + counter.to_bytes(8, "big")
        assert cipher.encrypt_with_ad(b"ad", b"text") == AESGCM(key).encrypt(nonce, b"text", b"ad")
        assert cipher.n == counter + 1


@pytest.mark.parametrize(
    ("ad", "ciphertext"),
    [
        (b"da", AESGCM(bytes(32)).encrypt(bytes(12), b"text", b"ad")),
        (b"ad", AESGCM(bytes(32)).encrypt(bytes(11) + b"\1", b"text", b"ad")),
        (b"ad", AESGCM(bytes(31) + b"\1").encrypt(bytes(12), b"text", b"ad")),
        (b"ad", AESGCM(bytes(32)).encrypt(bytes(12), b"text", b"ad")[:-1]),
        (b"ad", bytes(16)),
        (b"ad", bytes(15)),
        (b"ad", b""),
    ],
    ids=["associated data", "counter", "key", "cut", "tag alone", "no whole tag", "nothing"],
)
def test_what_does_not_decrypt_is_not_counted(ad: bytes, ciphertext: bytes) -> None:
    cipher = CipherState(bytes(32))
    with pytest.raises(RemoteProtocolError, match="frame 0 does not decrypt"):
        cipher.decrypt_with_ad(ad, ciphertext)
    assert cipher.n == 0


def test_the_last_counter_works_and_the_reserved_one_does_not() -> None:
    sending, receiving = CipherState(bytes(32)), CipherState(bytes(32))
    sending.n = receiving.n = 2**64 - 2
    assert receiving.decrypt_with_ad(b"", sending.encrypt_with_ad(b"", b"last")) == b"last"
    with pytest.raises(LocalProtocolError, match="sending counter is exhausted"):
        sending.encrypt_with_ad(b"", b"one more")
    reserved = AESGCM(bytes(32)).encrypt(bytes(4) + b"\xff" * 8, b"one more", b"")
    with pytest.raises(RemoteProtocolError, match="receiving counter is exhausted"):
        receiving.decrypt_with_ad(b"", reserved)
    assert sending.n == receiving.n == 2**64 - 1


def test_rekey_is_the_specifications_and_leaves_the_counter() -> None:
    key = bytes(range(32))
    cipher = CipherState(key)
    cipher.n = 1_024
    cipher.rekey()
    assert cipher.n == 1_024
    assert cipher.key == AESGCM(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), None)[:32]
    assert cipher.encrypt_with_ad(b"", b"x") == AESGCM(cipher.key).encrypt(foreign.nonce(1_024), b"x", None)


# SymmetricState


def test_a_short_protocol_name_is_padded_and_a_long_one_is_hashed() -> None:
    assert SymmetricState(NN.protocol_name).h == b"Noise_NN_25519_AESGCM_SHA256" + bytes(4)
    assert SymmetricState(b"x" * 32).h == b"x" * 32
    assert SymmetricState(b"x" * 33).h == sha256(b"x" * 33).digest()
    assert SymmetricState(NN_HFS.protocol_name).h == sha256(b"Noise_NNhfs_25519+MLKEM768_AESGCM_SHA256").digest()


# Handshakes


@pytest.mark.parametrize("we_begin", [True, False], ids=["initiator", "responder"])
def test_nn_agrees_with_the_noiseprotocol_package(*, we_begin: bool) -> None:
    ours, theirs = handshake(initiator=we_begin, pattern=NN), their_nn(initiator=not we_begin)
    if we_begin:
        assert theirs.read_message(ours.write_message(b"in clear")) == b"in clear"
        assert ours.read_message(theirs.write_message(b"encrypted")) == b"encrypted"
    else:
        assert ours.read_message(theirs.write_message(b"in clear")) == b"in clear"
        assert theirs.read_message(ours.write_message(b"encrypted")) == b"encrypted"
    assert theirs.handshake_finished
    result = ours.finish()
    assert result.h == theirs.get_handshake_hash()
    for number in range(3):
        text = b"%d" % number
        assert theirs.decrypt(result.sending.encrypt_with_ad(b"", text)) == text
        assert result.receiving.decrypt_with_ad(b"", theirs.encrypt(text)) == text
    theirs.noise_protocol.cipher_state_encrypt.rekey()
    result.receiving.rekey()
    assert result.receiving.decrypt_with_ad(b"", theirs.encrypt(b"rekeyed")) == b"rekeyed"


def test_nn_with_another_prologue_fails_in_the_noiseprotocol_package_and_here() -> None:
    ours, theirs = handshake(initiator=True, pattern=NN), their_nn(initiator=False, prologue=b"securedelivery/2")
    theirs.read_message(ours.write_message())
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        ours.read_message(theirs.write_message())


@pytest.mark.parametrize("pattern", [NN, NN_HFS], ids=["NN", "NNhfs"])
def test_two_of_ours_agree_on_opposite_keys_and_one_hash(pattern: Pattern) -> None:
    initiator, responder = handshake(initiator=True, pattern=pattern), handshake(initiator=False, pattern=pattern)
    assert responder.read_message(initiator.write_message(b"one")) == b"one"
    assert initiator.read_message(responder.write_message(b"two")) == b"two"
    ours, theirs = initiator.finish(), responder.finish()
    assert (ours.h, ours.initiator_e) == (theirs.h, theirs.initiator_e)
    assert ours.sending.key == theirs.receiving.key
    assert ours.receiving.key == theirs.sending.key
    assert ours.sending.key != ours.receiving.key


def test_initiator_e_is_what_the_initiator_sent() -> None:
    initiator = handshake(initiator=True)
    responder = handshake(initiator=False)
    message = initiator.write_message()
    responder.read_message(message)
    initiator.read_message(responder.write_message())
    assert initiator.finish().initiator_e == responder.finish().initiator_e == message[:32]


def test_given_ephemeral_keys_are_used() -> None:
    e, e1 = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    state = HandshakeState(NN_HFS, initiator=True, prologue=PROLOGUE, generate_e=lambda: e, generate_e1=lambda: e1)
    assert state.write_message() == e.public_key().public_bytes_raw() + e1.public_key().public_bytes_raw()


def test_nothing_can_be_done_out_of_turn() -> None:
    initiator, responder = handshake(initiator=True), handshake(initiator=False)
    with pytest.raises(LocalProtocolError, match="not this side's turn"):
        responder.write_message()
    with pytest.raises(LocalProtocolError, match="not the peer's turn"):
        initiator.read_message(b"")
    for state in (initiator, responder):
        with pytest.raises(LocalProtocolError, match="not finished"):
            state.finish()
    responder.read_message(initiator.write_message())
    with pytest.raises(LocalProtocolError, match="not this side's turn"):
        initiator.write_message()
    with pytest.raises(LocalProtocolError, match="not the peer's turn"):
        responder.read_message(b"")
    initiator.read_message(responder.write_message())
    for state in (initiator, responder):
        with pytest.raises(LocalProtocolError, match="not this side's turn"):
            state.write_message()
        with pytest.raises(LocalProtocolError, match="not the peer's turn"):
            state.read_message(b"")


@pytest.mark.parametrize("high_bit", [0, 2**255], ids=["canonical", "high bit set"])
@pytest.mark.parametrize("name", LOW_ORDER)
def test_a_point_of_low_order_ends_the_handshake_of_either_side(name: str, high_bit: int) -> None:
    point = (LOW_ORDER[name] + high_bit).to_bytes(32, "little")

    responder = handshake(initiator=False)
    responder.read_message(point + MLKEM768PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(RemoteProtocolError, match="point of low order"):
        responder.write_message()

    initiator = handshake(initiator=True)
    initiator.write_message()
    with pytest.raises(RemoteProtocolError, match="point of low order"):
        initiator.read_message(point + bytes(1_104 + 16))


@pytest.mark.parametrize("coefficient", [3_329, 3_330, 4_095])
@pytest.mark.parametrize("position", [0, 1, 767])
def test_a_kem_key_with_a_coefficient_beyond_the_modulus_ends_the_handshake(position: int, coefficient: int) -> None:
    packed = int.from_bytes(MLKEM768PrivateKey.generate().public_key().public_bytes_raw(), "little")
    packed = packed & ~(4_095 << 12 * position) | coefficient << 12 * position
    e = X25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(RemoteProtocolError, match="not a valid ML-KEM-768 key"):
        handshake(initiator=False).read_message(e + packed.to_bytes(1_184, "little"))


@pytest.mark.parametrize("position", [0, 1, 1_087])
def test_a_bad_kem_ciphertext_under_a_good_tag_ends_the_handshake(position: int) -> None:
    class Spoiler(foreign.Server):
        def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
            shared_secret, ciphertext = super().encapsulate(public)
            spoilt = bytearray(ciphertext)
            spoilt[position] ^= 1
            return shared_secret, bytes(spoilt)

    initiator = handshake(initiator=True)
    answer = Spoiler(None, [], None).answer(initiator.write_message())
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        initiator.read_message(answer)


@pytest.mark.parametrize("pattern", [NN, NN_HFS], ids=["NN", "NNhfs"])
def test_a_handshake_message_cut_anywhere_is_refused(pattern: Pattern) -> None:
    first = handshake(initiator=True, pattern=pattern).write_message()
    for length in range(len(first)):
        with pytest.raises(RemoteProtocolError, match="too short"):
            handshake(initiator=False, pattern=pattern).read_message(first[:length])


@pytest.mark.parametrize("pattern", [NN, NN_HFS], ids=["NN", "NNhfs"])
def test_an_answer_cut_anywhere_is_refused(pattern: Pattern) -> None:
    initiator, responder = handshake(initiator=True, pattern=pattern), handshake(initiator=False, pattern=pattern)
    responder.read_message(initiator.write_message())
    answer = responder.write_message()
    for length in range(len(answer)):
        with pytest.raises(RemoteProtocolError, match=r"too short|does not decrypt"):
            copy.deepcopy(initiator).read_message(answer[:length])
    assert initiator.read_message(answer) == b""
