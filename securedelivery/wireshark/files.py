"""The three captures of a play: the same packets with no keys, with those of TLS, and with all."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from securedelivery import __version__
from securedelivery.client.private_file import replace_private
from securedelivery.wireshark import pcapng
from securedelivery.wireshark.narration import ExportedMessage, Narration, narrate
from securedelivery.wireshark.opened import OpenedLeg
from securedelivery.wireshark.play import Play

__all__ = ["Files", "write"]

WIRE, MESSAGES = 0, 1  # interfaces


class Files(msgspec.Struct, frozen=True):
    """What was written. The key logs are for classes that want to enter the keys by hand."""

    on_the_wire: Path
    tls_opened: Path
    all_opened: Path
    tls_keys: Path
    frame_keys: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Files":
        """Their names."""
        return cls(
            on_the_wire=folder / "1-on-the-wire.pcapng",
            tls_opened=folder / "2-tls-opened.pcapng",
            all_opened=folder / "3-all-opened.pcapng",
            tls_keys=folder / "tls-keys.log",
            frame_keys=folder / "frame-keys.log",
        )


def write(folder: Path, play: Play, legs: Sequence[OpenedLeg]) -> Files:
    """Write all of it into an existing folder; a file of an earlier play is replaced as a whole. Raises OSError.

    legs: the connections of the play, opened with both sets of keys.
    """
    files = Files.in_folder(folder)
    narration = narrate(play, legs)
    _replace(files.on_the_wire, on_the_wire(play))
    _replace(files.tls_opened, tls_opened(play))
    _replace(files.all_opened, all_opened(play, narration))
    replace_private(files.tls_keys, play.tls_keys)
    replace_private(files.frame_keys, play.frame_keys)
    return files


def on_the_wire(play: Play) -> bytes:
    """The packets and nothing else."""
    return b"".join((_header(), _wire(), *_packets(play)))


def tls_opened(play: Play) -> bytes:
    """The same with the TLS secrets in a block before the packets, which `editcap --discard-all-secrets` takes out."""
    return b"".join((_header(), _wire(), pcapng.tls_secrets(play.tls_keys), *_packets(play)))


def all_opened(play: Play, narration: Narration) -> bytes:
    """The same with comments, and behind them the opened messages, so that packet numbers are those of the others."""
    messages = pcapng.interface(pcapng.EXPORTED_PDU, "opened", "the messages in the frames, opened with the frame keys")
    parts = (
        _header(),
        _wire(),
        messages,
        pcapng.tls_secrets(play.tls_keys),
        *_packets(play, narration),
        *map(_message, narration.messages),
    )
    return b"".join(parts)


def _header() -> bytes:
    return pcapng.section_header(f"securedelivery {__version__}")


def _wire() -> bytes:
    return pcapng.interface(pcapng.ETHERNET, "wire", "what everybody on the way sees")


def _packets(play: Play, narration: Narration | None = None) -> Iterable[bytes]:
    comments = narration.comments if narration else {}
    for number, packet in enumerate(play.packets, 1):
        yield pcapng.packet(packet.data, at=packet.at, interface=WIRE, comments=comments.get(number, ()))


def _message(message: ExportedMessage) -> bytes:
    body = pcapng.exported_pdu(
        message.payload,
        dissector="json",
        packet=message.packet,
        source=message.source,
        destination=message.destination,
        protocol=message.protocol,
        info=message.info,
    )
    return pcapng.packet(body, at=message.at, interface=MESSAGES)


def _replace(file: Path, data: bytes) -> None:
    """Write a capture as a whole, with the mode that files usually get."""
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    try:
        with beside.open("xb") as stream:
            stream.write(data)
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
