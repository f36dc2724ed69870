import pytest

from securedelivery.errors import LocalProtocolError, RemoteProtocolError
from securedelivery.protocol.frames import FrameKind, check_body_length, pad

HANDSHAKE_LENGTH = 1_216


@pytest.mark.parametrize(
    ("kind", "valid"),
    [
        (FrameKind.HANDSHAKE, {HANDSHAKE_LENGTH}),
        (FrameKind.AUTH, {16 + blocks * 1_024 for blocks in range(1, 64)}),
        (FrameKind.MESSAGE, {16 + blocks * 64 for blocks in range(1, 1_024)}),
        (FrameKind.CLOSE, {16 + blocks * 64 for blocks in range(1, 1_024)}),
    ],
)
def test_of_all_lengths_only_whole_blocks_with_a_tag_are_accepted(kind: FrameKind, valid: set[int]) -> None:
    accepted = set()
    for length in range(65_536):
        try:
            check_body_length(kind, length, HANDSHAKE_LENGTH)
        except RemoteProtocolError as error:
            assert error.reason == "protocol_error"  # noqa: PT017 -- most of the lengths end here
        else:
            accepted.add(length)
    assert accepted == valid


@pytest.mark.parametrize(
    ("length", "padded"), [(0, 0), (1, 64), (63, 64), (64, 64), (65, 128), (65_471, 65_472), (65_472, 65_472)]
)
def test_padding_fills_the_last_block_with_spaces(length: int, padded: int) -> None:
    assert pad(b"x" * length) == b"x" * length + b" " * (padded - length)


def test_what_does_not_fit_a_frame_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="65473 bytes does not fit"):
        pad(b"x" * 65_473)
