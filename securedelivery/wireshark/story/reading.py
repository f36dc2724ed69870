"""Acts 1 to 3: the same packets with no keys, with those of TLS, and with all."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from msgspec import json

from securedelivery.protocol.frames import HEADER, PADDING_BLOCK, FrameKind
from securedelivery.protocol.noise import TAG_LENGTH
from securedelivery.wireshark.opened import Frame, OpenedLeg, Record
from securedelivery.wireshark.play import Leg
from securedelivery.wireshark.story.evidence import Evidence
from securedelivery.wireshark.story.hexadecimal import count, money, packets
from securedelivery.wireshark.story.model import Act, Exhibit, Question, Scene, Table
from securedelivery.wireshark.story.prose import prose

__all__ = ["frames_opened", "on_the_wire", "tls_opened"]

_ACT = 1  # the legs of all three acts bear the first one's number
_RECORD_HEADER = 5
_INNER_TYPE = 1  # byte: the content type inside a TLS record
_AROUND_FRAME = HEADER.size + TAG_LENGTH
_AROUND_RECORD = _RECORD_HEADER + _INNER_TYPE + TAG_LENGTH


def on_the_wire(evidence: Evidence) -> Act:
    alice, sam = evidence.legs(_ACT)
    opened = evidence.opened(alice)
    order = evidence.message(alice, "order.place")
    hello = next(one for one in opened.records if one.from_client)
    return Act(
        number=1,
        title="On the wire",
        onlooker="An eavesdropper looks on: somebody in the same Wi-Fi, at the provider, at the cable. No keys.",
        opened=0,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        Alice opens an account, looks at graphics cards, orders one and asks a question in the chat. Sam
                        of the support answers. All of it passes through places that belong to neither of them. Whoever
                        sits there can copy every packet; this act shows what that is worth.
                    """),
                    prose("""
                        TLS 1.3 begins with two messages that everybody can read, the ClientHello and the ServerHello.
                        With them both sides agree on a secret: each computes it from what the other has sent, such as a
                        public key, and from something that it keeps to itself, such as the private one of its own. An
                        eavesdropper has only what was sent, and no computer of today gets the secret from that.
                        Everything that matters is encrypted from then on: the certificates, the order, the chat.
                    """),
                    prose(f"""
                        What is open is the ClientHello itself. It names the server that is wanted,
                        {opened.server_name}, and the protocol to be spoken, {", ".join(opened.offered_alpn)}.
                    """),
                ),
                shown=(
                    _notebook(evidence, [alice, sam]),
                    evidence.exhibit_record(
                        "The first words of a connection",
                        alice,
                        hello,
                        note=prose(f"""
                            The keys of this connection come from {_group(opened)}, its records are encrypted with
                            {opened.cipher_suite}. Both names can be read in the ServerHello.
                        """),
                    ),
                    evidence.exhibit_frame(
                        "Somewhere in there is an order",
                        alice,
                        order,
                        "wire",
                        note=prose("""
                            This is all that an eavesdropper has of it. Remember the packet's number: acts 2 and 3 open
                            the very same bytes.
                        """),
                    ),
                ),
            ),
            _padding_scene(opened),
        ),
        gist="Encryption hides what is said. Who talks to whom, when, how often and about how much stays visible.",
        questions=_wire_questions(opened),
        filter=evidence.filter(_ACT),
    )


def _group(opened: OpenedLeg) -> str:
    return f"the key agreement {opened.tls_group}"


def _notebook(evidence: Evidence, legs: list[Leg]) -> Table:
    rows = []
    for leg in legs:
        opened = evidence.opened(leg)
        recorded = [evidence.play.packets[number - 1] for number in opened.packets]
        there, back = (sum(len(one.payload) for one in recorded if one.from_client is way) for way in (True, False))
        seconds = (recorded[-1].at - recorded[0].at) / 1e9
        rows.append((leg.client, leg.server, opened.server_name, f"{there:,}", f"{back:,}", f"{seconds:.3f}"))
    return Table(
        "What the eavesdropper writes down",
        ("From", "To", "Name asked for (SNI)", "Bytes there", "Bytes back", "Seconds"),
        tuple(rows),
        numbers=(3, 4, 5),
        note=prose("""
            From and to are addresses in the packets; the names of the cast stand for them here. Sizes are those of what
            TCP carried.
        """),
    )


def _padding_scene(opened: OpenedLeg) -> Scene:
    alone = list(_alone(opened))
    rows = tuple(
        (_says(frame), f"{len(frame.content):,}", f"{len(frame.plaintext or b''):,}", f"{len(record.raw):,}")
        for frame, record in alone
    )
    return Scene(
        "What the padding hides",
        (
            prose(f"""
                Encrypting does not hide a length: AES-GCM's ciphertext is exactly as long as the text. So every message
                is filled up with spaces to a multiple of {PADDING_BLOCK} bytes before it is encrypted, and from outside
                only the multiple can be seen.
            """),
            _alike(alone),
        ),
        shown=(
            Table(
                "Messages of this connection that travelled alone in their record",
                ("Message", "Its bytes", "Filled up to", "TLS record"),
                rows,
                numbers=(1, 2, 3),
                note="An eavesdropper has the last column alone. The others come from act 3.",
            ),
        ),
    )


def _alone(opened: OpenedLeg) -> Iterator[tuple[Frame, Record]]:
    """Messages with a TLS record of their own."""
    shared = [index for frame in opened.frames for index in frame.records]
    for frame in opened.frames:
        if frame.message is not None and len(frame.records) == 1 and shared.count(frame.records[0]) == 1:
            yield frame, opened.records[frame.records[0]]


def _alike(alone: list[tuple[Frame, Record]]) -> str:
    """The pair that the padding makes look the same although they differ most."""
    pairs = [
        (abs(len(one.content) - len(other.content)), one, other, record)
        for (one, record), (other, second) in combinations(alone, 2)
        if len(record.raw) == len(second.raw) and one.from_client == other.from_client
    ]
    if not pairs:
        return "What is longer than a multiple takes the next one, so a long answer is still seen to be long."
    _, one, other, record = max(pairs, key=lambda pair: pair[0])
    return prose(f"""
            An example from this run: {_says(one)} has {count(len(one.content), "byte")}, {_says(other)} has
            {len(other.content):,}. On the wire both are TLS records of {count(len(record.raw), "byte")}. What the
            padding cannot hide is that a page of the catalogue is longer than a receipt for one card.
        """)


def _says(frame: Frame) -> str:
    assert frame.message is not None
    return frame.message.says


def _wire_questions(opened: OpenedLeg) -> tuple[Question, ...]:
    on_wire = [_padded(length) + _AROUND_FRAME + _AROUND_RECORD for length in (50, 60, 65)]
    return (
        Question(
            "Which service does Alice use, and how does the eavesdropper know?",
            prose(f"""
                The ClientHello asks for it by name, {opened.server_name}, in clear. The address says it as well, and so
                does the protocol's name, {opened.offered_alpn[0]}.
            """),
        ),
        Question(
            "Does the eavesdropper know that it is Alice?",
            prose("""
                Only the address from which she comes. Her certificate, with her name in it, is sent too, but TLS 1.3
                encrypts certificates. (TLS 1.2 sent them in clear.)
            """),
        ),
        Question(
            "Messages of 50, 60 and 65 bytes: how long are their TLS records, if each travels alone?",
            prose(f"""
                {on_wire[0]}, {on_wire[1]} and {on_wire[2]} bytes. 50 and 60 are filled up to 64, 65 to 128. The frame
                adds 4 bytes of header and 16 of tag, TLS 5 of header, 1 for the type of its content and 16 of tag: 42
                in all.
            """),
        ),
        Question(
            "Why are spaces good enough for filling up? Would random bytes be safer?",
            prose("""
                No. The filling is encrypted with the rest, and what AES makes of spaces cannot be told from what it
                makes of anything else. Spaces are practical because JSON ignores them.
            """),
        ),
        Question(
            "The shop's catalogue is public. What might a patient eavesdropper still find out from sizes and times?",
            prose("""
                A good deal: which search was made (each gives a page of its own size, in steps of 64), that an order
                was placed (a typical sequence of sizes), when somebody writes in the chat and how fast the answer
                comes. Against that one would need equal sizes at equal times, which costs bandwidth. This protocol does
                not claim to do so.
            """),
        ),
    )


def _padded(length: int) -> int:
    return length + -length % PADDING_BLOCK


def tls_opened(evidence: Evidence) -> Act:
    alice, _ = evidence.legs(_ACT)
    opened = evidence.opened(alice)
    order = evidence.message(alice, "order.place")
    return Act(
        number=2,
        title="TLS opened",
        onlooker="A gateway looks on that ends TLS before the shop, or anybody with a key log of TLS. One set of keys.",
        opened=1,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        TLS protects up to the place where its keys are. Often that is not the server itself but a
                        device in front of it: a load balancer, a firewall, a virus scanner. There the outer envelope is
                        opened, and with most services everything lies on the table.
                    """),
                    prose("""
                        The second file carries the keys of TLS, so Wireshark sees what such a device would see: the
                        certificates of both sides and, with hers, Alice's name; and then frames. Four bytes of header
                        can be read: kind, flags, length. The body is closed.
                    """),
                    prose("""
                        So the gateway knows who is there, how many messages go which way, and how long each is to the
                        next multiple of 64. It does not know what they say.
                    """),
                ),
                shown=(
                    evidence.exhibit_frame("The same packet, one envelope less", alice, order, "wire closed"),
                    _frames_table(opened),
                ),
            ),
        ),
        gist="TLS ends where its keys are. The frames inside have keys of their own, which the gateway lacks.",
        questions=_tls_questions(order),
        filter=evidence.filter(_ACT),
    )


def _frames_table(opened: OpenedLeg) -> Table:
    return Table(
        "Alice's connection as the gateway sees it",
        ("Frame", "From", "Kind", "Body, bytes", "In"),
        tuple(
            (
                f"{frame.index + 1}",
                "alice" if frame.from_client else "shop",
                frame.kind_name,
                f"{len(frame.body) + len(frame.tag):,}",
                packets(frame.packets),
            )
            for frame in opened.frames
        ),
        numbers=(0, 3),
    )


def _tls_questions(order: Frame) -> tuple[Question, ...]:
    length = len(order.body) + len(order.tag)
    return (
        Question(
            f"The header of the order's frame is {order.header.hex(' ')}. What does it say?",
            prose(f"""
                Kind {order.kind} is {order.kind_name}, flags are {order.flags}, and {order.header[2:].hex(" ")} is the
                length, {length:,}: {length - TAG_LENGTH:,} bytes of filled up message and 16 of tag.
            """),
        ),
        Question(
            "Why does file 2 show Alice's certificate, and file 1 does not?",
            prose("""
                In TLS 1.3 certificates are sent encrypted, under keys of the handshake. With the key log of TLS they
                can be read.
            """),
        ),
        Question(
            "The header of a frame is not encrypted by the frame. Could a gateway change it, say the kind?",
            prose("""
                It could, but not unnoticed. The header of a sealed frame is associated data of AES-GCM, so the tag
                covers it, and the receiver would compute another tag. (Act 4 tries it with a bit of the body.) The two
                HANDSHAKE frames have no such tag, but each has its place, where no other kind, flag or length is taken.
            """),
        ),
        Question(
            "If the frames are closed anyway, what is TLS good for?",
            prose("""
                It keeps strangers out before the shop has read a byte of theirs; it hides certificates and frame
                headers from eavesdroppers; every tool and firewall knows it; and a fault in one layer alone opens
                nothing.
            """),
        ),
        Question(
            "Can you tell from file 2 alone which frame is the order?",
            prose("""
                You can guess: a frame of some 200 bytes from Alice, answered by a longer one. You cannot know. A search
                in the catalogue or a line in the chat can look the same, and that is what the padding is for.
            """),
        ),
    )


def frames_opened(evidence: Evidence) -> Act:
    alice, sam = evidence.legs(_ACT)
    order = evidence.message(alice, "order.place")
    answer = evidence.message(alice, "order.place", "result")
    receipt = json.decode(answer.content)["result"]
    return Act(
        number=3,
        title="Frames opened",
        onlooker=prose("""
            The two ends look on, Alice and the shop. And you, since these keys were written down for the lesson. Both
            sets of keys.
        """),
        opened=2,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        Now the inner envelope is opened, too. The packets are still the same ones, under the same
                        numbers. The order can be read, and so can the shop's answer: the receipt.
                    """),
                    prose("""
                        Each direction has a key of its own and counts its frames from 0. The counter is the nonce, the
                        number that must never be used twice with a key. It is not sent. Both sides count, and act 5
                        shows what that is good for.
                    """),
                ),
                shown=(
                    evidence.exhibit_frame("The order", alice, order, "closed lines"),
                    evidence.exhibit_frame("The receipt", alice, answer, "lines", accepted=True),
                    _receipt_table(receipt),
                ),
            ),
            _chat_scene(evidence, alice, sam),
            Scene(
                "Everything that was said",
                (
                    prose("""
                        Each message with the counter under which it was sealed. In both directions the counters have no
                        gaps.
                    """),
                ),
                shown=(_messages_table(evidence, alice),),
            ),
        ),
        gist="Two sets of keys open two layers. Only the two ends ever had both.",
        questions=_frame_questions(order, receipt),
        filter=evidence.filter(_ACT),
    )


def _receipt_table(receipt: dict[str, Any]) -> Table:
    currency = receipt["currency"]
    lines = [(f"{line['quantity']} x {line['name']}", money(line["total"], currency)) for line in receipt["lines"]]
    return Table(
        f"The receipt: order {receipt['order']}",
        ("What", "How much"),
        (
            *lines,
            ("Total", money(receipt["total"], currency)),
            ("Points earned", f"{receipt['points_earned']:,}"),
            ("To", receipt["address"]),
        ),
        numbers=(1,),
    )


def _chat_scene(evidence: Evidence, alice: Leg, sam: Leg) -> Scene:
    lines: dict[int, tuple[str, str]] = {}
    shown: list[Exhibit] = []
    for leg in (alice, sam):
        for frame in evidence.opened(leg).frames:
            if frame.message is not None and (frame.message.method, frame.message.what) == ("chat.send", "result"):
                said = json.decode(frame.content)["result"]
                lines[said["sequence"]] = (said["sender"], said["text"])
    sent = evidence.message(alice, "chat.send")
    shown.append(evidence.exhibit_frame("Alice asks", alice, sent, "opened"))
    answered = next(
        (
            one
            for one in evidence.opened(alice).frames
            if one.message is not None and one.message.method == "chat.message" and b'"sender":"sam"' in one.content
        ),
        None,
    )
    if answered is not None:
        shown.append(evidence.exhibit_frame("Sam's answer reaches her", alice, answered, "opened"))
    return Scene(
        "The chat",
        (
            prose("""
                Sam's answer passes through the shop: it is sealed for the shop on his connection, opened there, and
                sealed again for Alice on hers, under other keys. The shop is one of the ends. Between two customers
                this would not be end-to-end encryption, and does not claim to be.
            """),
        ),
        shown=(Table("What was said", ("Who", "What"), tuple(lines[number] for number in sorted(lines))), *shown),
    )


def _messages_table(evidence: Evidence, leg: Leg) -> Table:
    return Table(
        "Alice's connection, opened",
        ("From", "Counter", "Frame", "In"),
        tuple(
            (
                leg.client if frame.from_client else leg.server,
                "none" if frame.counter is None else f"{frame.counter}",
                frame.message.says if frame.message is not None else frame.kind_name,
                packets(frame.packets),
            )
            for frame in evidence.opened(leg).frames
        ),
        numbers=(1,),
    )


def _frame_questions(order: Frame, receipt: dict[str, Any]) -> tuple[Question, ...]:
    total = money(receipt["total"], receipt["currency"])
    return (
        Question(
            "How many spaces fill up the order, and why that many?",
            prose(f"""
                {order.padding}. The message has {count(len(order.content), "byte")}; the next multiple of 64 is
                {len(order.content) + order.padding:,}.
            """),
        ),
        Question(
            prose(f"""
                The order costs {total} and earns {count(receipt["points_earned"], "point")}. Where is the price in
                Alice's order?
            """),
            prose("""
                Nowhere. She names the product and how many; the shop looks up the price. What a customer sends is a
                wish, and a server believes of it only what it has checked.
            """),
        ),
        Question(
            "The counter is not in the frame. How does the receiver know it?",
            prose("""
                It counts along. TCP delivers in order and without loss, so the next frame is always the next number. If
                it does not fit, that is an attack or a bug.
            """),
        ),
        Question(
            "Who could make the third file of a real customer's traffic?",
            prose(f"""
                One of the two ends: the keys of the frames exist nowhere else. (It takes those of TLS as well, which a
                gateway has, too.) A server or client writes keys down only if it is started with a flag and an
                environment variable, and it warns about that at every connection.
                {FrameKind.HANDSHAKE.name} frames alone do not help.
            """),
        ),
        Question(
            "What would happen if two frames were sealed with the same key and the same counter?",
            prose("""
                A disaster: both would be XORed with the same stream, so the XOR of the two ciphertexts is the XOR of
                the two texts, and the repeated nonce gives away what is needed to forge tags. Therefore each direction
                has its own key, every connection new ones, and the counter only goes up; before it could run out, the
                connection ends.
            """),
        ),
    )
