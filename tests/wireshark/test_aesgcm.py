"""AES-256-GCM in Lua, inside tshark, against published vectors and against OpenSSL's."""

import random
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wireshark.tshark import run

from securedelivery.protocol.noise import CipherState

MODULE = files("securedelivery.wireshark").joinpath("aesgcm.lua").read_text(encoding="utf-8")
EMPTY_CAPTURE = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000")
LUA = """
local aesgcm = (function()
%s
end)()
local function bytes(digits)
    return (digits:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end
local function digits(text)
    return (text:gsub(".", function(one) return ("%%02x"):format(one:byte()) end))
end
local function words(nonce)
    local n = {}
    for at = 1, 9, 4 do
        local a, b, c, d = nonce:byte(at, at + 3)
        n[#n + 1] = a * 16777216 + b * 65536 + c * 256 + d
    end
    return n[1], n[2], n[3]
end
%s
"""
OPEN = """
for key, nonce, ad, ciphertext, tag in ([[%s]]):gmatch("(%%w+);(%%w+);(%%w*);(%%w*);(%%w+)\\n") do
    local n0, n1, n2 = words(bytes(nonce))
    local plaintext = aesgcm.open(aesgcm.new(bytes(key)), n0, n1, n2, bytes(ad), bytes(ciphertext), bytes(tag))
    print(plaintext and digits(plaintext) .. "." or "refused")
end
"""
KEY = bytes(range(32))


class Sealed(NamedTuple):
    key: bytes
    nonce: bytes
    ad: bytes
    ciphertext: bytes
    tag: bytes


def lua(tmp_path: Path, code: str) -> list[str]:
    """What a script prints in tshark, line by line."""
    script, capture = tmp_path / "script.lua", tmp_path / "empty.pcap"
    script.write_text(LUA % (MODULE, code))
    capture.write_bytes(EMPTY_CAPTURE)
    result = run("tshark", "-X", "lua_script:{}", script, "-r", capture)
    assert not result.stderr
    return result.stdout.splitlines()


def opened(tmp_path: Path, cases: Sequence[Sealed]) -> list[bytes | None]:
    lines = "".join(";".join(part.hex() for part in case) + "\n" for case in cases)
    return [None if line == "refused" else bytes.fromhex(line[:-1]) for line in lua(tmp_path, OPEN % lines)]


def seal(key: bytes, nonce: bytes, ad: bytes, plaintext: bytes) -> Sealed:
    sealed = AESGCM(key).encrypt(nonce, plaintext, ad)
    return Sealed(key, nonce, ad, sealed[:-16], sealed[-16:])


P15 = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
C15 = bytes.fromhex(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
K15 = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
N15 = bytes.fromhex("cafebabefacedbaddecaf888")
A16 = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")


def test_the_vectors_of_gcms_authors(tmp_path: Path) -> None:
    """Test cases 13 to 16 of the GCM specification that NIST received: those with AES-256 and 96-bit nonces."""
    zeros = bytes(12)
    cases = {
        Sealed(bytes(32), zeros, b"", b"", bytes.fromhex("530f8afbc74536b9a963b4f1c4cb738b")): b"",
        Sealed(
            bytes(32),
            zeros,
            b"",
            bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18"),
            bytes.fromhex("d0d1c8a799996bf0265b98b5d48ab919"),
        ): bytes(16),
        Sealed(K15, N15, b"", C15, bytes.fromhex("b094dac5d93471bdec1a502270e3cc6c")): P15,
        Sealed(K15, N15, A16, C15[:60], bytes.fromhex("76fc6ece0f4e1768cddf8853bb2d551b")): P15[:60],
    }
    assert opened(tmp_path, list(cases)) == list(cases.values())


def test_every_length_key_and_nonce_that_openssl_makes(tmp_path: Path) -> None:
    dice = random.Random(5)
    lengths = [*range(70), 128, 255, 256, 257, 400, 4_095, 4_096, 16_384, 65_472]
    plaintexts = [dice.randbytes(length) for length in lengths]
    cases = [seal(dice.randbytes(32), dice.randbytes(12), dice.randbytes(n % 40), p) for n, p in enumerate(plaintexts)]
    assert opened(tmp_path, cases) == plaintexts


def test_every_value_of_every_byte_of_the_key_and_the_tag_state(tmp_path: Path) -> None:
    """So that every entry of every table has been looked up."""
    plaintexts = [bytes([value]) * 48 for value in range(256)]
    cases = [seal(bytes([value]) * 32, bytes([value]) * 12, b"", p) for value, p in enumerate(plaintexts)]
    assert opened(tmp_path, cases) == plaintexts


@pytest.mark.parametrize("part", ["key", "nonce", "ad", "ciphertext", "tag"])
def test_a_flipped_bit_is_refused(tmp_path: Path, part: str) -> None:
    sound = seal(KEY, N15, b"head", P15)
    whole: bytes = getattr(sound, part)
    wrong = []
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 128 >> bit % 8
        wrong.append(sound._replace(**{part: bytes(flipped)}))
    assert opened(tmp_path, [sound, *wrong]) == [P15, *[None] * len(wrong)]


def test_one_state_of_the_tag_serves_every_counter(tmp_path: Path) -> None:
    counters = [0, 1, 1_023, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1]
    sealed = {n: seal(KEY, bytes(4) + n.to_bytes(8), b"head", b"the same") for n in counters}
    code = f'local key = aesgcm.new(bytes("{KEY.hex()}"))\n'
    for case in sealed.values():
        code += f'local a, b, c, d = aesgcm.ghash(key, "head", bytes("{case.ciphertext.hex()}"))\nlocal line = ""\n'
        for n in counters:
            code += f"do local x, y, z = aesgcm.nonce({n})\n"
            code += "line = line .. digits(aesgcm.tag(key, x, y, z, a, b, c, d)) end\n"
        code += "print(line)\n"
    for own, line in zip(sealed, lua(tmp_path, code), strict=True):
        tags = [line[at : at + 32] for at in range(0, len(line), 32)]
        fitting = [n for n, tag in zip(counters, tags, strict=True) if tag == sealed[own].tag.hex()]
        assert fitting == [own]


def test_rekeys_are_those_of_noise(tmp_path: Path) -> None:
    code = f'local k = bytes("{KEY.hex()}")\nfor _ = 1, 20 do k = aesgcm.rekey(aesgcm.new(k)) print(digits(k)) end'
    cipher = CipherState(KEY)
    expected = []
    for _ in range(20):
        cipher.rekey()
        expected.append(cipher.key.hex())
    assert lua(tmp_path, code) == expected
