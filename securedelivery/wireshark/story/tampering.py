"""Acts 4 and 5: a flipped bit; frames repeated, swapped and cut off."""

from msgspec import json

from securedelivery.protocol.frames import HEADER, FrameKind
from securedelivery.wireshark.opened import Frame, Status
from securedelivery.wireshark.play import Leg, Tampering
from securedelivery.wireshark.story.cuts import alert_opened, frame_closed
from securedelivery.wireshark.story.evidence import Evidence
from securedelivery.wireshark.story.hexadecimal import packets
from securedelivery.wireshark.story.model import Act, Question, Scene, Table
from securedelivery.wireshark.story.prose import prose

__all__ = ["one_bit", "out_of_turn"]

_BAD_RECORD_MAC = 20
_CLOSE_NOTIFY = 0
_MEMBER_ENDS = (b",", b"{", b"[")  # what a member of JSON begins behind


def one_bit(evidence: Evidence) -> Act:
    outside, inside = evidence.tamperings(4)
    return Act(
        number=4,
        title="One bit",
        onlooker=prose("""
            An attacker on the way, first outside TLS, then in the gateway that has the keys of TLS. Neither has the
            frames' keys.
        """),
        opened=1,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        AES-GCM encrypts in counter mode: from the key and the counter comes a stream of bytes, and the
                        text is XORed with it. So if an attacker flips a bit of the ciphertext, exactly this bit of the
                        text flips. He does not know the key and need not: whoever knows the format knows where the
                        quantity stands.
                    """),
                    prose("""
                        Against that there is the tag: 16 bytes, computed with the key over ciphertext, header and
                        lengths. The receiver computes it anew before it believes a single byte.
                    """),
                ),
            ),
            _outside_scene(evidence, outside),
            _inside_scene(evidence, inside),
        ),
        gist=prose("""
            Encryption alone does not stop changes; the tag does. And the tag that counts is the one whose key the
            attacker lacks.
        """),
        questions=_BIT_QUESTIONS,
        filter=evidence.filter(4),
    )


def _outside_scene(evidence: Evidence, tampering: Tampering) -> Scene:
    leg = evidence.tampered_leg(tampering)
    opened = evidence.opened(leg)
    record = next(one for one in opened.records if one.raw == tampering.after)
    alert = evidence.alert(leg, _BAD_RECORD_MAC)
    said = evidence.said(4, leg)
    return Scene(
        "Outside TLS",
        (
            prose(f"""
                A relay between Alice and the shop flips one bit in the TLS record that carries her order. TLS has a
                tag, too. The shop's TLS refuses the record and says so with alert {_BAD_RECORD_MAC}, bad_record_mac.
                Not a byte of the record reaches the layer above.
            """),
        ),
        shown=(
            evidence.exhibit(
                "The record, one bit changed",
                leg,
                record.packets,
                evidence.wire(leg, [record], bit=tampering.bit),
                verdicts=said,
            ),
            evidence.exhibit_record("The shop's TLS answers", leg, alert, alert_opened(alert)),
        ),
    )


def _inside_scene(evidence: Evidence, tampering: Tampering) -> Scene:
    onward = evidence.tampered_leg(tampering)
    came = _came_on(evidence, tampering)
    frame = next(one for one in evidence.opened(onward).frames if one.raw == tampering.after)
    close = evidence.frame(onward, FrameKind.CLOSE, from_client=False)
    return Scene(
        "Inside TLS",
        (
            prose("""
                Now the gateway does it. It ends Alice's TLS, holds the frame in its hands, flips the same bit of it,
                and puts it into a TLS record of its own with a TLS tag that is right. The shop's TLS finds nothing
                wrong, and it cannot: the record is exactly what the gateway sent.
            """),
            _would_have_been(came[1], tampering),
            "Only the frame's own tag is left, and its key is at the two ends. It is enough.",
        ),
        shown=(
            evidence.exhibit(
                "The frame, one bit changed, in a sound TLS record",
                onward,
                evidence.carriers(onward, frame),
                evidence.wire(onward, evidence.records(onward, frame)),
                frame_closed(frame, bit=tampering.bit),
                verdicts=evidence.said(4, came[0], onward),
            ),
            evidence.exhibit_frame("The shop's farewell", onward, close, "opened"),
        ),
    )


def _came_on(evidence: Evidence, tampering: Tampering) -> tuple[Leg, Frame]:
    """The connection on which the attacker got a frame, and the frame as it was."""
    act = evidence.tampered_leg(tampering).act
    return next(
        (leg, frame)
        for leg in evidence.legs(act)
        for frame in evidence.opened(leg).frames
        if leg.number != tampering.leg and frame.raw == tampering.before
    )


def _would_have_been(frame: Frame, tampering: Tampering) -> str:
    """What the flip would have made of the text without a tag."""
    assert tampering.bit is not None
    place = tampering.bit // 8 - HEADER.size
    text = frame.plaintext or b""
    around = slice(1 + max(text.rfind(mark, 0, place) for mark in _MEMBER_ENDS), place + 1)
    was, is_now = (one[around].decode("ascii", "backslashreplace") for one in (text, tampering.unchecked))
    return f"Without a tag, this one bit would have turned {was} into {is_now} in Alice's order."


_BIT_QUESTIONS = (
    Question(
        "Who noticed outside TLS, and who inside?",
        prose("""
            Outside, TLS: it refused the record before the shop's program saw a byte. Inside, the frame's tag: for TLS
            everything was in order.
        """),
    ),
    Question(
        "Could the attacker compute a new tag that fits?",
        prose("""
            Not without the key. He can guess, and has one try, because the first wrong tag ends the connection: the
            chance is less than one in 10 to the power of 35.
        """),
    ),
    Question(
        "Would TLS alone have been enough?",
        prose("""
            Against an eavesdropper or a saboteur on the line, yes. Against the gateway no: it is one of the two ends of
            TLS, and what it sends is genuine as far as TLS can tell.
        """),
    ),
    Question(
        "Why does the shop not simply ask for the frame again?",
        prose("""
            Faults of the line are mended by TCP long before. A wrong tag means an attack or a bug. Whoever lets an
            attacker try again and again gives away, bit by bit, how it reacts. So the first error is the last: the
            connection never decrypts again.
        """),
    ),
    Question(
        "The CLOSE says protocol_error and no more, but the shop's log says what was wrong. Why the difference?",
        prose("""
            The log is for the operator. Whoever is at the other end may be the attacker, and any detail about why
            something did not decrypt can become an oracle. Padding oracles have broken real protocols that way.
        """),
    ),
)


def out_of_turn(evidence: Evidence) -> Act:
    replayed, swapped, _ = evidence.tamperings(5)
    return Act(
        number=5,
        title="Again, too early, not at all",
        onlooker=prose("""
            The gateway looks on. It has the keys of TLS, changes no byte any more, and only plays with the order of
            frames.
        """),
        opened=1,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        Every frame is genuine now, and its tag is right. But the tag was computed with a nonce, and the
                        nonce is the counter. A frame opens only in its own place.
                    """),
                ),
            ),
            _moved_scene(
                evidence,
                replayed,
                "Again: replay",
                prose("""
                    The gateway cannot read the order, but it can guess which frame it is, and send it twice. The shop
                    must not take it for a new request. (Of an order, an idempotency key would still catch the copy. The
                    counter catches a copy of anything, and before a byte of it is read.)
                """),
            ),
            _moved_scene(
                evidence,
                swapped,
                "Too early: reorder",
                "Alice sends two requests one right behind the other, and the gateway lets the second go first.",
            ),
            _cut_scene(evidence),
        ),
        gist=prose("""
            A counter that both sides keep finds what is repeated, swapped or left out. Only a CLOSE says that the end
            is the end.
        """),
        questions=_TURN_QUESTIONS,
        filter=evidence.filter(5),
    )


def _moved_scene(evidence: Evidence, tampering: Tampering, heading: str, words: str) -> Scene:
    onward = evidence.tampered_leg(tampering)
    came = _leg_before(evidence, onward)
    frame = evidence.rejected(onward)
    why = f"It was sealed under counter {frame.fits}, and the shop was at {frame.counter}."
    return Scene(
        heading,
        (words, f"The tag of this frame is not the one that the shop computes. {why}"),
        shown=(
            _counters(evidence, heading, came, onward),
            evidence.exhibit_frame(
                "The frame out of its place, unchanged",
                onward,
                frame,
                "wire closed",
                verdicts=evidence.said(5, came, onward),
            ),
        ),
    )


def _leg_before(evidence: Evidence, onward: Leg) -> Leg:
    """The connection whose frames a gateway passes on."""
    return max(
        (leg for leg in evidence.legs(onward.act) if leg.server == onward.client and leg.number < onward.number),
        key=lambda leg: leg.number,
    )


def _counters(evidence: Evidence, heading: str, came: Leg, onward: Leg) -> Table:
    """What arrived at the shop, in the order in which it arrived."""
    names = {one.raw: one.message.says for one in evidence.opened(came).frames if one.message is not None}
    return Table(
        f"{heading}, what came to the shop",
        ("Frame", "Sealed under", "Shop's counter", "Result", "In"),
        tuple(
            (names.get(one.raw, one.kind_name), *_compared(one), packets(one.packets))
            for one in evidence.opened(onward).frames
            if one.from_client and one.kind != FrameKind.HANDSHAKE
        ),
        numbers=(1, 2),
    )


def _compared(frame: Frame) -> tuple[str, str, str]:
    match frame.status:
        case Status.OPENED:
            return f"{frame.counter}", f"{frame.counter}", "opens"
        case Status.REJECTED:
            return "unknown" if frame.fits is None else f"{frame.fits}", f"{frame.counter}", "refused: wrong tag"
        case _:
            return "not looked at", "none", "behind a refused frame"


def _cut_scene(evidence: Evidence) -> Scene:
    came, onward, retry = _cut_legs(evidence)
    answer = evidence.message(onward, "order.place", "result")
    again = evidence.message(retry, "order.place", "result")
    number, same = (json.decode(one.content)["result"]["order"] for one in (answer, again))
    ended = evidence.alert(came, _CLOSE_NOTIFY)
    return Scene(
        "Not at all: cut",
        (
            prose("""
                Alice orders, the shop places the order and answers, and the gateway ends the connection instead of
                passing the answer on. It does so properly, with TLS's close_notify. For TLS all is well. But the frames
                end without a CLOSE, so Alice's program knows that this is not how the shop ends a conversation. Whether
                somebody has cut it off or a computer has crashed, it cannot tell.
            """),
            prose(f"""
                Nor can it know whether the order was placed. So it asks again on a new connection, under the same
                idempotency key. The shop had placed order {number}, and now answers with order {same}.
                {"There is one order, and one graphics card." if number == same else ""}
            """),
        ),
        shown=(
            evidence.exhibit_frame(
                "The answer that never came",
                onward,
                answer,
                "wire opened",
                note="Here between shop and gateway; Alice's connection does not have it.",
            ),
            evidence.exhibit_record(
                "A polite end of TLS, and no CLOSE before it",
                came,
                ended,
                alert_opened(ended),
                verdicts=evidence.said(5, came, onward),
            ),
            evidence.exhibit_frame(
                "The same order, asked for again",
                retry,
                again,
                "opened",
                verdicts=evidence.said(5, retry),
                accepted=True,
            ),
        ),
    )


def _cut_legs(evidence: Evidence) -> list[Leg]:
    """Alice to the gateway, gateway to the shop, and her new connection."""
    return evidence.legs(5)[-3:]


_TURN_QUESTIONS = (
    Question(
        "Where in a frame does its counter stand?",
        prose("""
            Nowhere. Both sides count, and use the number as the nonce. A frame in another place is opened with another
            nonce, and its tag is wrong.
        """),
    ),
    Question(
        "The gateway leaves out one frame and passes on all that follow. What happens?",
        prose("""
            The next one was sealed under a counter one higher than the shop's. Its tag is wrong, and the connection
            ends. Nothing can be left out in the middle; only everything from some place on.
        """),
    ),
    Question(
        "Why is the end special? Why does the counter not help there?",
        prose("""
            A counter finds that something is missing as soon as something follows. At the end nothing follows. So the
            end itself must be said, under the key: that is the CLOSE frame. TLS has close_notify for the same purpose,
            but its key is with the gateway.
        """),
    ),
    Question(
        "Alice's program places the order again although it may have been placed. Why does she not get two cards?",
        prose("""
            Both times the order bears the same idempotency key, chosen by her program. The shop remembers it and
            answers with the order that there is. Cryptography cannot solve this: after a cut nobody can know what the
            other side still got.
        """),
    ),
    Question(
        "Could the gateway keep a frame today and send it tomorrow, on a new connection of Alice's?",
        prose("""
            No. Every connection agrees on new keys, so under tomorrow's keys the frame is noise, whatever the counter
            is.
        """),
    ),
)
