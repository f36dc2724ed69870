"""Act 8: harvest now, decrypt later. What a quantum computer opens of a recording, and where it stops."""

from securedelivery.protocol.frames import HEADER, FrameKind
from securedelivery.protocol.noise import TAG_LENGTH
from securedelivery.wireshark.opened import Frame
from securedelivery.wireshark.play import Harvest, Leg
from securedelivery.wireshark.story.cuts import as_text
from securedelivery.wireshark.story.evidence import Evidence
from securedelivery.wireshark.story.model import Act, Exhibit, Layer, Part, Question, Scene, Strip, Table
from securedelivery.wireshark.story.prose import prose

__all__ = ["harvest_now"]


def harvest_now(evidence: Evidence) -> Act:
    harvest = evidence.play.harvest
    (leg,) = evidence.legs(8)
    mine, theirs = (evidence.frame(leg, FrameKind.HANDSHAKE, from_client=side) for side in (True, False))
    opened = evidence.opened(leg)
    group, hello = opened.tls_group, next(one for one in opened.records if not one.from_client)
    return Act(
        number=8,
        title="Harvest now, decrypt later",
        onlooker=prose("""
            Somebody who records today and waits: for a computer that solves discrete logarithms on elliptic curves.
        """),
        opened=1,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        Such a computer would find the private key of any X25519 public key. There is none yet. A large
                        quantum computer would be one (Shor's algorithm). Nobody knows when it will be built, but
                        recordings can wait. What must stay secret for longer than that must be protected against it
                        now.
                    """),
                    _outer_layer(evidence, group),
                ),
                shown=(
                    evidence.exhibit_record(
                        "The outer layer: the ServerHello", leg, hello, note=f"Its key agreement: {group}."
                    ),
                ),
            ),
            Scene(
                "Inside: two secrets, mixed",
                (
                    prose("""
                        The frames' keys come from two secrets: one from X25519, and one from ML-KEM-768. Alice sends an
                        X25519 key and an ML-KEM key. The shop answers with an X25519 key of its own, and with a
                        ciphertext that it made with Alice's ML-KEM key; the secret belonging to it comes out only with
                        her private one. Whoever lacks one of the two secrets has no key at all. Should ML-KEM turn out
                        to be weak one day, X25519 is still there, and the other way round.
                    """),
                ),
                shown=(
                    evidence.exhibit_frame("Alice to the shop: e, e1", leg, mine, "closed"),
                    evidence.exhibit_frame("The shop to Alice: e, ee, ekem1", leg, theirs, "closed"),
                ),
            ),
            _computer_scene(evidence, leg, harvest),
            Scene(
                "What is not protected",
                (
                    prose("""
                        An honest list, for a class that has come this far. ML-KEM protects what the frames say, and
                        that against recordings. It does not protect the following.
                    """),
                ),
                shown=(_open_points(group),),
            ),
        ),
        gist=prose("""
            What is recorded today can be opened later, unless the keys were hybrid today. Signatures can wait; secrets
            cannot.
        """),
        questions=_questions(mine, theirs),
        filter=evidence.filter(8),
    )


def _outer_layer(evidence: Evidence, tls_group: str) -> str:
    usual = evidence.opened(evidence.legs(1)[0]).tls_group
    return prose(f"""
            The client of this act offers TLS {tls_group} alone, as was usual until recently. So the quantum computer
            opens the outer layer: from the public keys in ClientHello and ServerHello it computes the keys of TLS, and
            has what act 2 showed: certificates, frame headers, lengths. From version 3.5 on, OpenSSL agrees on the
            hybrid X25519MLKEM768 by itself, where both sides have it, and then TLS has the protection that the frames
            have in any case. What the OpenSSL of this machine agreed on by itself is seen in act 1: {usual}.
        """)


def _computer_scene(evidence: Evidence, leg: Leg, harvest: Harvest) -> Scene:
    theirs = evidence.frame(leg, FrameKind.HANDSHAKE, from_client=False)
    order = evidence.message(leg, "order.place")
    found = Strip(
        "What the quantum computer finds",
        (
            Part(Layer.X25519, "the private key of Alice's e", harvest.private_key),
            Part(Layer.KEM, "the ML-KEM ciphertext, out of its X25519 envelope", harvest.kem_ciphertext),
        ),
        wire=False,
    )
    return Scene(
        "What the quantum computer opens, and where it stops",
        (
            prose("""
                Since there is no such computer, TLS is opened with its key log here. For the frames Alice's program
                hands over the private key of its e, and only that: it is what the quantum computer would compute from
                the public one. With it and the recorded frames, everything that follows from X25519 is computed for
                real.
            """),
            prose("""
                The envelope around the ML-KEM ciphertext opens, and its tag is right. Inside is the ciphertext, and
                there the way ends: its secret comes out only with Alice's ML-KEM private key, which breaking X25519
                does not help to find, and which her program forgot when the handshake was over.
            """),
        ),
        shown=(
            evidence.exhibit(
                "One envelope more, and no further",
                leg,
                evidence.carriers(leg, theirs),
                found,
                note=harvest.hybrid,
                computed=True,
            ),
            evidence.exhibit_frame("So Alice's order stays as it was", leg, order, "closed"),
            _classical(evidence, leg, order, harvest),
        ),
    )


def _classical(evidence: Evidence, leg: Leg, order: Frame, harvest: Harvest) -> Exhibit:
    frame, text = harvest.classical_frame, harvest.classical_plaintext.rstrip(b" ")
    strips = (
        Strip(
            "A frame under X25519 alone",
            (
                Part(Layer.FRAME, "frame header", frame[: HEADER.size]),
                Part(Layer.FRAME, "body, AES-256-GCM", frame[HEADER.size : -TAG_LENGTH], sealed=True),
                Part(Layer.FRAME, "frame tag", frame[-TAG_LENGTH:], sealed=True),
            ),
            wire=False,
        ),
        Strip(
            "What the quantum computer reads in it",
            (Part(Layer.MESSAGE, "message", text, reads=as_text(text)),),
            wire=False,
        ),
    )
    return evidence.exhibit(
        "For comparison: the same order under X25519 alone",
        leg,
        evidence.carriers(leg, order),
        *strips,
        computed=True,
        note=prose("""
            This frame is in none of the files. It was made in memory with the pattern Noise_NN_25519, with Alice's same
            X25519 key, to show what ML-KEM is there for. The packet named above is that of the real order.
        """),
    )


def _open_points(tls_group: str) -> Table:
    return Table(
        "Not protected, or not by this",
        ("What", "Why"),
        (
            (
                "Who was there (the certificates in TLS)",
                f"TLS agreed on {tls_group}: the quantum computer opens it and reads the certificates",
            ),
            (
                "Who talks to whom, when, how much",
                "addresses, times and sizes are outside all encryption; padding only blurs sizes",
            ),
            (
                "A forgery while such a computer exists",
                prose("""
                    certificates are signed with ECDSA or RSA; it could forge signatures and pose as either side, live.
                    It cannot go back and forge yesterday's conversation
                """),
            ),
            ("The two ends themselves", "whoever takes over the shop or Alice's computer reads what they read"),
            (
                "Traffic whose keys were logged",
                "a key log is a copy of the keys; this lesson's files contain one on purpose",
            ),
        ),
    )


def _questions(mine: Frame, theirs: Frame) -> tuple[Question, ...]:
    return (
        Question(
            "Why should anybody record today what cannot be read today?",
            prose("""
                Because storage is cheap and some secrets last: health, addresses, contracts, keys. If the computer
                comes in fifteen years, all that is recorded until then lies open at once.
            """),
        ),
        Question(
            "The two HANDSHAKE frames have bodies of how many bytes, and what is in them?",
            prose(f"""
                {len(mine.body) + len(mine.tag):,} from Alice: 32 of X25519 and 1,184 of ML-KEM.
                {len(theirs.body) + len(theirs.tag):,} from the shop: 32 of X25519, the ciphertext of 1,088 with a tag
                of 16, and one more tag of 16 for the empty payload.
            """),
        ),
        Question(
            "What does the quantum computer get from this recording, and what not?",
            prose("""
                It gets TLS's keys, and the ML-KEM ciphertext out of its envelope. It gets no key of the frames, so no
                order, no receipt and no chat. Had TLS been hybrid as well, it would not even get at the envelope.
            """),
        ),
        Question(
            "Why both, if ML-KEM withstands quantum computers? Is X25519 not superfluous?",
            prose("""
                ML-KEM is young. X25519's mathematics have been attacked for decades without success, by ordinary
                computers. Mixed, an attacker has to break both. The price is 32 bytes each way and a
                fraction of a millisecond.
            """),
        ),
        Question(
            "Why are the signatures not post-quantum as well? Is that a mistake?",
            prose("""
                A signature has to hold at the moment when it is checked. To forge one in fifteen years does not help to
                read or alter what was said today. So keys are urgent and signatures are not yet; once such a computer
                is near, they have to be replaced, and the certificates with them.
            """),
        ),
    )
