"""What happened, looked up."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from securedelivery.protocol.frames import FrameKind
from securedelivery.wireshark.opened import Frame, OpenedLeg, Record, Status
from securedelivery.wireshark.play import Leg, Play, Reading, Tampering
from securedelivery.wireshark.story.cuts import frame_closed, frame_opened, in_pieces, record_parts
from securedelivery.wireshark.story.model import Exhibit, Layer, Part, Said, Strip

__all__ = ["Evidence"]


class Evidence:
    """A play and its connections, opened.

    What a story asks for and a play does not have ends in a StopIteration: it is not the play of this story.
    """

    def __init__(self, play: Play, legs: Sequence[OpenedLeg]) -> None:
        self.play = play
        self._opened = {leg.number: leg for leg in legs}

    def legs(self, act: int) -> list[Leg]:
        """In the order in which they were made."""
        return sorted((leg for leg in self.play.legs if leg.act == act), key=lambda leg: leg.number)

    def opened(self, leg: Leg) -> OpenedLeg:
        return self._opened[leg.number]

    def tamperings(self, act: int) -> list[Tampering]:
        numbers = {leg.number for leg in self.legs(act)}
        return [one for one in self.play.tamperings if one.leg in numbers]

    def tampered_leg(self, tampering: Tampering) -> Leg:
        return next(leg for leg in self.play.legs if leg.number == tampering.leg)

    def readings(self, act: int) -> list[Reading]:
        return [one for one in self.play.readings if one.act == act]

    def said(self, act: int, *legs: Leg) -> tuple[Said, ...]:
        """What was said on these connections in the act."""
        numbers = {leg.number for leg in legs}
        return tuple(Said(one.who, one.said) for one in self.play.verdicts if one.act == act and one.leg in numbers)

    def filter(self, *acts: int) -> str:
        """For Wireshark's filter line."""
        numbers = sorted({leg.number for act in acts for leg in self.legs(act)})
        if len(numbers) == 1:
            return f"tcp.stream == {numbers[0]}"
        return f"tcp.stream in {{{', '.join(map(str, numbers))}}}"

    def message(self, leg: Leg, method: str, what: str = "request") -> Frame:
        """The first such one on the connection. what: "request", "notification", "result", "error", "close"."""
        return next(
            one
            for one in self.opened(leg).frames
            if one.message is not None and (one.message.method, one.message.what) == (method, what)
        )

    def frame(self, leg: Leg, kind: FrameKind, *, from_client: bool) -> Frame:
        """The first of its kind on the connection."""
        return next(one for one in self.opened(leg).frames if one.kind == kind and one.from_client is from_client)

    def alert(self, leg: Leg, number: int) -> Record:
        """The server's TLS alert of this number (RFC 8446, section 6)."""
        return next(one for one in self.opened(leg).records if one.alert == number and not one.from_client)

    def rejected(self, leg: Leg) -> Frame:
        """The first frame of the connection that did not open."""
        return next(one for one in self.opened(leg).frames if one.status is Status.REJECTED)

    def records(self, leg: Leg, frame: Frame) -> list[Record]:
        """Those in which it travelled."""
        return [self.opened(leg).records[index] for index in frame.records]

    def carriers(self, leg: Leg, frame: Frame) -> tuple[int, ...]:
        """The numbers of the packets that carry those records."""
        return tuple(sorted({number for record in self.records(leg, frame) for number in record.packets}))

    def wire(self, leg: Leg, records: Iterable[Record], title: str = "On the wire", bit: int | None = None) -> Strip:
        """The whole packets that carry these records; other records in them are one part. bit: flipped, in each."""
        found = sorted(
            (piece.packet, piece.start, parts)
            for record in records
            for piece, parts in in_pieces(record_parts(record, bit), record.pieces)
        )
        strip: list[Part] = []
        for number in sorted({packet for packet, _, _ in found}):
            packet = self.play.packets[number - 1]
            at = len(packet.data) - len(packet.payload)
            ends = (leg.client, leg.server) if packet.from_client else (leg.server, leg.client)
            reads = f"packet {number}, from {ends[0]} to {ends[1]}"
            strip.append(Part(Layer.NETWORK, "Ethernet, IP and TCP headers", packet.data[:at], reads=reads))
            for _, start, parts in (one for one in found if one[0] == number):
                strip += [*_others(packet.data[at:start]), *parts]
                at = start + sum(len(part.data) for part in parts)
            strip += _others(packet.data[at:])
        return Strip(title, tuple(strip), wire=True)

    def exhibit(self, title: str, leg: Leg, carriers: Iterable[int], *strips: Strip, **more: Any) -> Exhibit:
        """carriers: packet numbers, of one direction. more: other fields of an Exhibit."""
        numbers = tuple(sorted(set(carriers)))
        last = self.play.packets[numbers[-1] - 1]
        ends = (leg.client, leg.server) if last.from_client else (leg.server, leg.client)
        return replace(Exhibit(title, leg.number, numbers, last.at, *ends, strips), **more)

    def exhibit_record(self, title: str, leg: Leg, record: Record, *strips: Strip, **more: Any) -> Exhibit:
        """strips: what is shown behind the packet."""
        return self.exhibit(title, leg, record.packets, self.wire(leg, [record]), *strips, **more)

    def exhibit_frame(
        self, title: str, leg: Leg, frame: Frame, views: str, *, sealer: str = "", **more: Any
    ) -> Exhibit:
        """views: words with blanks between: "wire", "closed" (only TLS opened), "opened", "lines" (JSON in lines).

        sealer: of cuts.frame_opened.
        """
        strips = []
        for view in views.split():
            match view:
                case "wire":
                    strips.append(self.wire(leg, self.records(leg, frame)))
                case "closed":
                    strips.append(frame_closed(frame))
                case _:
                    strips.append(frame_opened(frame, in_lines=view == "lines", sealer=sealer))
        return self.exhibit(title, leg, self.carriers(leg, frame), *strips, **more)


def _others(data: bytes) -> list[Part]:
    return [Part(Layer.TLS, "other TLS records", data, reads="not told apart here")] if data else []
