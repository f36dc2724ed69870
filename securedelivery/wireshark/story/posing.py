"""Acts 6 and 7: a gateway that ends both layers; people who are not who they say they are."""

from securedelivery.protocol.frames import FrameKind
from securedelivery.wireshark.opened import Frame
from securedelivery.wireshark.play import Leg
from securedelivery.wireshark.story.cuts import alert_opened, as_text, frame_closed, handshake_parts
from securedelivery.wireshark.story.evidence import Evidence
from securedelivery.wireshark.story.model import Act, Exhibit, Layer, Part, Question, Said, Scene, Strip
from securedelivery.wireshark.story.prose import prose

__all__ = ["false_names", "in_the_middle"]

_CERTIFICATE_REVOKED = 44


def in_the_middle(evidence: Evidence) -> Act:
    came, onward, credulous, further = evidence.legs(6)
    return Act(
        number=6,
        title="In the middle of both",
        onlooker=prose("""
            A gateway that ends TLS and the frames as well. It has all keys of the connections that it makes itself.
        """),
        opened=2,
        scenes=(
            Scene(
                "",
                (
                    prose("""
                        The handshake of the frames is anonymous: it gives two sides a common key, and does not say who
                        they are. So the gateway tries the oldest trick: towards Alice it plays the shop, towards the
                        shop it plays Alice. It agrees on keys with each, and wants to pass on in between what it reads.
                    """),
                    prose("""
                        That is why each side proves its certificate right behind the handshake, in an AUTH frame. It
                        signs the hash of everything that was said in the handshake, public keys included. The gateway
                        can pass on the shop's genuine AUTH, but that signature is over another handshake than Alice's.
                        It could sign with a key of its own; but its certificate is of an authority that Alice's
                        computer trusts for TLS alone, and inside only the shop's authority counts.
                    """),
                ),
            ),
            _two_handshakes(evidence, came, onward),
            _credulous_scene(evidence, credulous, further),
        ),
        gist=prose("""
            A key agreement without a proof of identity agrees on keys with anybody, the attacker too. The signature
            over the handshake is that proof.
        """),
        questions=_MIDDLE_QUESTIONS,
        filter=evidence.filter(6),
    )


def _two_handshakes(evidence: Evidence, came: Leg, onward: Leg) -> Scene:
    mine, theirs = (evidence.frame(leg, FrameKind.HANDSHAKE, from_client=True) for leg in (came, onward))
    said = evidence.said(6, came, onward)
    return Scene(
        "Two handshakes instead of one",
        (
            prose("""
                Compare the keys. Alice sent the first frame. What came to the shop is the second, with other keys: the
                gateway's own.
            """),
        ),
        shown=(
            _keys(evidence, "Alice's keys, as she sends them", came, mine),
            _keys(evidence, "The gateway's keys, as the shop gets them", onward, theirs),
            _auth(
                evidence,
                "The shop's AUTH, passed on to Alice",
                came,
                from_client=False,
                sealer="the gateway",
                said=said,
            ),
        ),
    )


def _keys(evidence: Evidence, title: str, leg: Leg, frame: Frame) -> Exhibit:
    return evidence.exhibit(
        title,
        leg,
        evidence.carriers(leg, frame),
        Strip("The HANDSHAKE frame, with TLS opened", tuple(handshake_parts(frame)), wire=False),
    )


def _auth(
    evidence: Evidence, title: str, leg: Leg, *, from_client: bool, sealer: str, said: tuple[Said, ...]
) -> Exhibit:
    frame = evidence.frame(leg, FrameKind.AUTH, from_client=from_client)
    return evidence.exhibit_frame(title, leg, frame, "opened", sealer=sealer, verdicts=said)


def _credulous_scene(evidence: Evidence, came: Leg, onward: Leg) -> Scene:
    return Scene(
        "What would happen without the signature",
        (
            prose("""
                Here is a client that skips one check: it does not verify the signature in AUTH. Everything else it does
                right. It agrees on keys, gets a frame that opens without a fault, and sends an order.
            """),
            prose("""
                The gateway reads it, for it is the gateway with whom the keys were agreed. The encryption is flawless.
                It only is encrypted for the wrong one. Even so the shop does not carry the order out: the AUTH that is
                passed on to it is over another handshake as well.
            """),
        ),
        shown=(
            _reading(evidence, came),
            _auth(
                evidence,
                "Alice's AUTH, passed on to the shop",
                onward,
                from_client=True,
                sealer="the gateway",
                said=evidence.said(6, came, onward),
            ),
        ),
    )


def _reading(evidence: Evidence, came: Leg) -> Exhibit:
    (reading,) = evidence.readings(6)
    frame = evidence.message(came, "order.place")
    read = Part(Layer.MESSAGE, "JSON text", reading.plaintext, reads=as_text(reading.plaintext))
    return evidence.exhibit(
        "The order, as the gateway reads it",
        came,
        evidence.carriers(came, frame),
        frame_closed(frame, "The frame, with TLS opened"),
        Strip(f"What the {reading.who} reads", (read,), wire=False),
    )


_MIDDLE_QUESTIONS = (
    Question(
        "Certificates are public. Why can the gateway not simply show the shop's certificate?",
        prose("""
            It can, and does. But a certificate is worth nothing without a signature by its private key, and that is the
            shop's alone.
        """),
    ),
    Question(
        "The signature that Alice gets is genuine, made by the shop a moment ago. Why does she refuse it?",
        prose("""
            Because it is over another handshake. Alice hashes what she sent and received, public keys included. The
            shop has hashed the gateway's keys. The hashes differ, so the signature does not verify for Alice.
        """),
    ),
    Question(
        "The gateway of this act has a certificate that TLS accepts. What does that tell about TLS?",
        prose("""
            TLS proves that one talks with somebody who may speak for that name, in the eyes of an authority that this
            computer trusts. A company puts the authority of its gateway on all its computers, on purpose. So for TLS
            the gateway is the shop. What it may do beyond forwarding is then a matter of trust, unless a second layer
            trusts fewer.
        """),
    ),
    Question(
        "What if the gateway had got its certificate from the shop's own authority, for the shop's name?",
        prose("""
            Then it could sign AUTH itself, and Alice would take it for the shop: for her it would be the shop. Two
            layers help only as far as their keys are in different hands. So a gateway is given a certificate of another
            authority, and clients are told to trust that one for TLS alone (--tls-ca).
        """),
    ),
    Question(
        prose("""
            The signature also covers the shop's certificate, and the client's signature covers the shop's signature.
            What for?
        """),
        prose("""
            So that both sides have the same picture of who is talking with whom. Otherwise a proof made for one
            conversation might be used in another one, with the same keys but other names (an identity misbinding).
        """),
    ),
    Question(
        "Could the gateway choose its keys so that both handshakes have the same hash?",
        prose("""
            No. The hash covers Alice's public keys and those that she receives. To know the secrets the gateway must
            use keys of its own on both sides, so the inputs differ; equal hashes would be a collision of SHA-256.
        """),
    ),
)


def false_names(evidence: Evidence) -> Act:
    revoked, impostor, password = evidence.legs(7)
    alert = evidence.alert(revoked, _CERTIFICATE_REVOKED)
    answer = evidence.message(password, "account.login", "error")
    return Act(
        number=7,
        title="False names",
        onlooker=prose("""
            Mallory and Bob, who would like to be somebody else. Each has the keys of their own connection, and no
            one else's.
        """),
        opened=2,
        scenes=(
            Scene(
                "A revoked certificate",
                (
                    prose(f"""
                        Mallory once was a customer. Her certificate has not expired, but the shop has revoked it: it is
                        on the list. TLS itself refuses it with alert {_CERTIFICATE_REVOKED}, before the shop has read a
                        single frame.
                    """),
                ),
                shown=(
                    evidence.exhibit_record(
                        "The shop's TLS ends it",
                        revoked,
                        alert,
                        alert_opened(alert),
                        verdicts=evidence.said(7, revoked),
                    ),
                ),
            ),
            Scene(
                "Alice's certificate without Alice's key",
                (
                    prose("""
                        Alice's certificate is no secret; she shows it to everybody with whom she talks. Mallory has got
                        another certificate of her own, which TLS accepts. But into her AUTH frame she puts Alice's, and
                        signs with the key that she has: her own. The signature is checked with the public key in the
                        certificate, Alice's. It does not verify.
                    """),
                ),
                shown=(
                    _auth(
                        evidence,
                        "An AUTH frame with Alice's certificate",
                        impostor,
                        from_client=True,
                        sealer="Mallory",
                        said=evidence.said(7, impostor),
                    ),
                ),
            ),
            Scene(
                "Bob says that he is Alice",
                (
                    prose("""
                        Bob is honest as far as TLS and AUTH go: his certificate, his key. But then he asks to be logged
                        in as alice, with a password. On a connection with a certificate only the certificate's own name
                        can be logged in; the shop does not even look at the password.
                    """),
                ),
                shown=(
                    evidence.exhibit_frame("Bob asks", password, evidence.message(password, "account.login"), "opened"),
                    evidence.exhibit_frame(
                        "The shop answers", password, answer, "opened", verdicts=evidence.said(7, password)
                    ),
                ),
            ),
        ),
        gist=prose("""
            A certificate says whose key it is. A signature shows that the key is there. A list says which certificates
            no longer count. It takes all three.
        """),
        questions=_NAME_QUESTIONS,
        filter=evidence.filter(7),
    )


_NAME_QUESTIONS = (
    Question(
        "Which of the three was stopped by TLS, which by the frames, and which by the shop's rules?",
        prose("""
            The revoked certificate by TLS, the false signature by AUTH in the frames, the false login by the rules.
            Each layer refuses what it can judge.
        """),
    ),
    Question(
        "What is the difference between an expired certificate and a revoked one?",
        prose("""
            An expired one has come to the end that was written into it from the start. A revoked one was called back
            before, for instance because its key was stolen. For that one needs a list that is looked at each time.
        """),
    ),
    Question(
        "The shop's revocation list is lost, or too old. Should it let everybody in, or nobody?",
        prose("""
            This shop lets nobody in who comes with a certificate. Otherwise an attacker would only have to keep the
            list away. The price: the operator must see to it that the list is renewed, and is warned a week before.
        """),
    ),
    Question(
        prose("""
            Mallory has a certificate of her own that is good, for TLS, and shows Alice's in AUTH. Suppose she had
            stolen Alice's key, and only that. Does it help?
        """),
        prose("""
            Inside, the signature would verify. But the shop compares the certificate in TLS with the one inside; they
            must be the same (identity_mismatch). With Alice's key she could show Alice's in TLS, too: a stolen key is a
            stolen name, until it is revoked.
        """),
    ),
)
