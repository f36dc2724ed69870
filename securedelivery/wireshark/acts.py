"""Plays the eight acts: real clients, a real shop and real attackers, in this process and on this machine alone.

Each act is a function of a Performance. What a verdict says was said by the one who refused: see play.py.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from securedelivery.api import messages as m
from securedelivery.client.calls import Client
from securedelivery.client.connection import Connection
from securedelivery.client.deadline import Deadline
from securedelivery.client.notifications import Notification
from securedelivery.errors import ConfigurationError, ConnectionFailure, LocalProtocolError, Refusal
from securedelivery.model import Message
from securedelivery.protocol import jsonrpc
from securedelivery.protocol.authentication import Credentials
from securedelivery.protocol.frames import HEADER_LENGTH
from securedelivery.transport.channel import TlsFailure
from securedelivery.wireshark.attacks import Cut, Flip, Replay, Swap, counter_mode, flipped, frame_key
from securedelivery.wireshark.gateway import NoiseGateway
from securedelivery.wireshark.harvest import harvest
from securedelivery.wireshark.play import Harvest, Leg, Play, Reading, Tampering, Verdict
from securedelivery.wireshark.raw_client import RawClient
from securedelivery.wireshark.stage import PATIENCE_SECONDS, Stage

__all__ = ["ACTS", "Performance", "play"]

SKU = "GPU-NV-4070S"
ADDRESS = "5 Harbour Lane, Bristol"
TLS_HEADER_LENGTH = 5
ORDER = 2  # the id of the call behind the login, and the counter of its frame, for AUTH has 0
QUANTITY_BIT = 4  # of "1" in ASCII, from the highest: flipped, it is "9"


class Performance:
    """What the acts write down. Its legs are numbered in the order in which connections are made."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.legs: list[Leg] = []
        self.tamperings: list[Tampering] = []
        self.verdicts: list[Verdict] = []
        self.readings: list[Reading] = []
        self.harvest: Harvest | None = None

    def leg(self, act: int, client: str, server: str, says: str) -> int:
        """Call it right before the connection is made. Returns its number."""
        number = len(self.legs)
        self.legs.append(Leg(number, act, client, server, says))
        return number

    def gateway_legs(self, act: int, says: str) -> tuple[int, int]:
        """The two connections through a gateway: from alice, and to the shop."""
        return (
            self.leg(act, "alice", "gateway", says),
            self.leg(act, "gateway", "shop", "The other half: what the gateway makes of it."),
        )

    def verdict(self, leg: int, who: str, said: object) -> None:
        self.verdicts.append(Verdict(self.legs[leg].act, leg, who, str(said)))

    def shop_refused(self, leg: int) -> None:
        """Write down what the shop's log says of it, which is one line or more."""
        for line in self.stage.log.take(1):
            self.verdict(leg, "shop", line)

    def over(self, *legs: int) -> None:
        """Wait for the last packets. Nothing may have been refused that was not written down."""
        for leg in legs:
            self.stage.recording.wait_ended(leg)
        unexpected = self.stage.log.take()
        if unexpected:
            raise LocalProtocolError(f"the play went wrong: {unexpected}")

    def finished(self, seconds: float) -> Play:
        assert self.harvest is not None
        if self.stage.complaints:
            hint = "make room there, or set TMPDIR to another folder"
            raise ConfigurationError(tempfile.gettempdir(), self.stage.complaints[0], hint)
        packets = tuple(self.stage.recording.packets)
        if {packet.flow for packet in packets} != set(range(len(self.legs))):
            raise LocalProtocolError("the play went wrong: there are other connections than those of the acts")
        return Play(
            packets,
            tuple(self.legs),
            tuple(self.tamperings),
            tuple(self.verdicts),
            tuple(self.readings),
            self.harvest,
            self.stage.tls_keys(),
            self.stage.frame_keys(),
            seconds,
        )


def play(between: Callable[[], None] = lambda: None) -> Play:
    """Play all acts. Raises SecureDeliveryError or OSError where this machine does not let a server run.

    between: called before each act; what it raises ends the play.
    """
    began = time.monotonic()
    with Stage() as stage:
        performance = Performance(stage)
        for act in ACTS:
            between()
            act(performance)
        return performance.finished(time.monotonic() - began)


# Acts 1 to 3: the same packets, with no, one and two sets of keys


def business(performance: Performance) -> None:
    """Alice buys something and asks about it; Sam answers."""
    stage = performance.stage
    with stage.relay("alice") as relay, stage.relay("sam") as sams_relay:
        first = performance.leg(1, "alice", "shop", "Alice opens an account, orders a graphics card and asks about it.")
        with Client(stage.profile("alice", relay.address[1])) as alice:
            alice.create_account("alice", name="Alice", address=ADDRESS)
            alice.catalog("graphics")
            alice.place_order([(SKU, 1)], idempotency_key="alice-order-1")
            alice.rewards()
            alice.send_message("Hello! Does this card fit a case that has room for 250 mm?")
            second = performance.leg(1, "sam", "shop", "Sam of the support looks who is waiting, and answers her.")
            with Client(stage.profile("sam", sams_relay.address[1])) as sam:
                sam.login_certificate()
                waiting = sam.chat_queue().items[0]
                sam.send_message("Hello Alice, yes: it is 242 mm long.", conversation=waiting.conversation)
                _wait_for_answer(alice)
        performance.over(first, second)


def _wait_for_answer(alice: Client) -> None:
    for one in alice.notifications(PATIENCE_SECONDS):
        if isinstance(one, Notification) and isinstance(one.params, Message) and one.params.sender == "sam":
            return
    raise LocalProtocolError("the play went wrong: no answer came")


# Act 4: one bit


def flipped_outside(performance: Performance) -> None:
    """One bit of the TLS record that carries an order is flipped on the way."""
    stage = performance.stage
    armed = threading.Event()
    caught: list[tuple[bytes, bytes]] = []
    bit = TLS_HEADER_LENGTH * 8 + _quantity_bit("alice-order-2")

    def tamper(_flow: int, from_client: bool, data: bytes) -> bytes:
        if not from_client or not armed.is_set():
            return data
        armed.clear()
        caught.append((data, flipped(data, bit)))
        return caught[0][1]

    with stage.relay("alice", tamper) as relay:
        leg = performance.leg(4, "alice", "shop", "Somebody on the way flips one bit of the record with Alice's order.")
        with closing(_logged_in(stage, relay.address[1])) as alice:
            armed.set()
            performance.verdict(leg, "alice", _failure(lambda: _order(alice, "alice-order-2")))
        performance.shop_refused(leg)
        performance.over(leg)
    before, after = caught[0]
    packets = stage.recording.packets_with(leg, after, from_client=True)
    what = "One bit of the TLS record is flipped on its way: of the byte that encrypts the quantity of the order."
    performance.tamperings.append(Tampering(leg, packets, what, before, after, bit))


def flipped_inside(performance: Performance) -> None:
    """The same bit is flipped by a gateway that holds a TLS key, in the frame's ciphertext, and TLS is content."""
    stage, attack = performance.stage, Flip(_quantity_bit("alice-order-2"))
    with stage.gateway("alice", attack) as gateway:
        outer, inner = performance.gateway_legs(
            4, "Alice orders through a gateway that ends TLS and flips one bit of the frame with her order."
        )
        with closing(_logged_in(stage, gateway.port)) as alice:
            performance.verdict(outer, "alice", _failure(lambda: _order(alice, "alice-order-2")))
    performance.shop_refused(inner)
    performance.over(outer, inner)
    key = frame_key(stage.frame_keys(), attack.initiator_e)
    performance.tamperings.append(
        Tampering(
            inner,
            attack.packets,
            "The same bit of the same byte is flipped again, now inside TLS. The gateway puts a new TLS"
            " record around it, whose tag is right.",
            attack.before,
            attack.after,
            attack.bit,
            unchecked=counter_mode(key, ORDER, attack.after).rstrip(b" "),
        )
    )


# Act 5: replay, reorder, cut


def replay(performance: Performance) -> None:
    """A gateway sends the order twice: the second copy is refused, and there is one order."""
    stage, attack = performance.stage, Replay()
    ended = threading.Event()
    with stage.gateway("alice", attack) as gateway:
        outer, inner = performance.gateway_legs(5, "Alice orders through a gateway that sends her order twice.")
        with closing(_logged_in(stage, gateway.port, ended.set)) as alice:
            _order(alice, "alice-order-3")
            if not ended.wait(PATIENCE_SECONDS):
                raise LocalProtocolError("the play went wrong: the shop took an order twice")
            performance.verdict(outer, "alice", alice.failure)
    performance.shop_refused(inner)
    performance.over(outer, inner)
    what = "The frame with the order is sent once more, after the shop's answer to the first."
    performance.tamperings.append(Tampering(inner, attack.packets, what, attack.before, attack.after))


def reorder(performance: Performance) -> None:
    """A gateway swaps two frames: neither is executed."""
    stage, attack = performance.stage, Swap()
    with stage.gateway("alice", attack) as gateway:
        outer, inner = performance.gateway_legs(5, "Alice asks two things at once, and a gateway swaps them.")
        with closing(_logged_in(stage, gateway.port)) as alice, ThreadPoolExecutor(1) as other:
            first = other.submit(_failure, lambda: _order(alice, "alice-order-4"))
            if not attack.held.wait(PATIENCE_SECONDS):
                raise LocalProtocolError("the play went wrong: the order does not come")
            performance.verdict(outer, "alice", _failure(lambda: _call(alice, "rewards.get", m.Nothing())))
            first.result()
    performance.shop_refused(inner)
    performance.over(outer, inner)
    what = "Two frames change places: the second request of Alice comes before her order."
    performance.tamperings.append(Tampering(inner, attack.packets, what, attack.before, attack.after))


def cut(performance: Performance) -> None:
    """A gateway hangs up before the answer: it shows, and asking again with the same key gives the one order."""
    stage, attack = performance.stage, Cut()
    with stage.gateway("alice", attack) as gateway:
        outer, inner = performance.gateway_legs(5, "Alice orders, and the gateway hangs up before the answer.")
        with closing(_logged_in(stage, gateway.port)) as alice:
            performance.verdict(outer, "alice", _failure(lambda: _order(alice, "alice-order-5")))
    performance.shop_refused(inner)
    performance.over(outer, inner)
    what = "The frame with the shop's answer is held back, and TLS is ended properly on both sides."
    performance.tamperings.append(Tampering(outer, attack.packets, what, attack.before, attack.after))
    with stage.relay("alice") as relay:
        leg = performance.leg(5, "alice", "shop", "Alice asks again with the same key, and gets the one order.")
        with closing(_logged_in(stage, relay.address[1])) as alice:
            _order(alice, "alice-order-5")
        performance.over(leg)


# Act 6: a gateway in the middle of both handshakes


def impostor(performance: Performance) -> None:
    """A gateway that ends Noise as well passes the shop's AUTH on, and the real client sees through it."""
    stage, attack = performance.stage, NoiseGateway(performance.stage.key_logs.frame_keys)
    with stage.gateway("alice", attack) as gateway:
        outer, inner = performance.gateway_legs(6, "Alice meets a gateway that ends TLS and the inner handshake.")
        performance.verdict(outer, "alice", _failure(lambda: stage.connect("alice", gateway.port)))
    performance.shop_refused(inner)
    performance.over(outer, inner)


def credulous(performance: Performance) -> None:
    """Without the check of that signature the gateway reads everything; the shop still notices the other half."""
    stage, attack = performance.stage, NoiseGateway(performance.stage.key_logs.frame_keys)
    with stage.gateway("alice", attack) as gateway:
        outer, inner = performance.gateway_legs(
            6, "A client that does not check the signature over the handshake meets the same gateway."
        )
        client, _ = stage.raw_client("alice", gateway.port, credulous=True)
        with client:
            client.greet()
            client.authenticate()
            client.request("account.login_certificate", m.Nothing())
            client.request("order.place", _order_params("alice-order-6"))
            performance.verdict(inner, "shop", f"CLOSE {client.wait_closed().reason}")
    performance.shop_refused(inner)
    performance.over(outer, inner)
    performance.readings.append(Reading(6, outer, "gateway", attack.read[-1]))


# Act 7: who is not who he says


def revoked(performance: Performance) -> None:
    """A certificate on the revocation list does not pass TLS."""
    stage = performance.stage
    with stage.relay("mallory") as relay:
        leg = performance.leg(7, "mallory", "shop", "Mallory comes with a certificate that has been revoked.")
        failure = _failure(lambda: stage.connect("mallory, revoked", relay.address[1]))
        performance.verdict(leg, "mallory", failure)
        performance.shop_refused(leg)
        performance.over(leg)


def borrowed(performance: Performance) -> None:
    """Another's certificate, which is no secret, without its key."""
    stage = performance.stage
    mallory, alice = stage.people["mallory"], stage.people["alice"]
    with stage.relay("mallory") as relay:
        leg = performance.leg(7, "mallory", "shop", "Mallory shows Alice's certificate and signs with her own key.")
        credentials = Credentials([alice.certificate], mallory.key)
        client, _ = stage.raw_client("mallory", relay.address[1], credentials=credentials)
        with client:
            client.greet()
            client.authenticate()
            performance.verdict(leg, "shop", f"CLOSE {client.wait_closed().reason}")
        performance.shop_refused(leg)
        performance.over(leg)


def another_login(performance: Performance) -> None:
    """A good certificate is good for its own name alone, whatever the password."""
    stage = performance.stage
    with stage.relay("bob") as relay:
        leg = performance.leg(7, "bob", "shop", "Bob comes with his own certificate and logs in as Alice.")
        with Client(stage.profile("bob", relay.address[1])) as bob:
            try:
                bob.login("alice", "whatever her password may be")
            except Refusal as refusal:
                performance.verdict(leg, "shop", f"{refusal.reason.slug}: {refusal}")
            else:
                raise LocalProtocolError("the play went wrong: Bob is Alice now")
        performance.over(leg)


# Act 8: harvest now, decrypt later


def harvested(performance: Performance) -> None:
    """The X25519 key of a recorded connection is found, years later.

    This client offers TLS nothing hybrid: behind a hybrid TLS nobody would get at the handshake of the frames. Raises
    ConfigurationError where TLS may not agree on X25519.
    """
    stage = performance.stage
    params = _order_params("alice-order-7")
    with stage.relay("alice") as relay:
        leg = performance.leg(8, "alice", "shop", "Alice orders, and somebody keeps the packets for a later day.")
        client, core = stage.raw_client("alice", relay.address[1], classical=True)
        with client:
            _greet_classically(client)
            client.authenticate()
            client.ask("account.login_certificate", m.Nothing())
            client.ask("order.place", params)
        performance.over(leg)
    performance.harvest = harvest(
        leg,
        private_key=core.private_key,
        messages=(core.sent, core.received),
        frame=core.sealed[ORDER],
        counter=ORDER,
        message=jsonrpc.encode_request(ORDER, "order.place", params),
    )


def _greet_classically(client: RawClient) -> None:
    try:
        client.greet()
    except TlsFailure as failure:
        raise ConfigurationError(
            "OPENSSL_CONF",
            f"the policy of OpenSSL on this machine lets no TLS agree on X25519, which act 8 needs ({failure})",
            "add X25519 to Groups in openssl.cnf, or name a file that allows it in OPENSSL_CONF",
        ) from failure


ACTS: tuple[Callable[[Performance], None], ...] = (
    business,
    flipped_outside,
    flipped_inside,
    replay,
    reorder,
    cut,
    impostor,
    credulous,
    revoked,
    borrowed,
    another_login,
    harvested,
)


# What customers do, on connections that are not made anew


def _logged_in(stage: Stage, port: int, on_end: Callable[[], None] = lambda: None) -> Connection:
    connection = stage.connect("alice", port, on_end)
    try:
        _call(connection, "account.login_certificate", m.Nothing())
    except BaseException:
        connection.close()
        raise
    return connection


def _call(connection: Connection, method: str, params: object) -> None:
    connection.call(method, params, Deadline(PATIENCE_SECONDS))


def _order(connection: Connection, key: str) -> None:
    _call(connection, "order.place", _order_params(key))


def _order_params(key: str) -> m.PlaceOrder:
    return m.PlaceOrder(key, [m.LineRequest(SKU, 1)])


def _failure(call: Callable[[], object]) -> ConnectionFailure:
    try:
        call()
    except ConnectionFailure as failure:
        return failure
    raise LocalProtocolError("the play went wrong: what had to be refused was taken")


def _quantity_bit(key: str) -> int:
    """Which bit of the frame with the order makes a 9 of the quantity 1, if nobody looks at the tag."""
    plaintext = jsonrpc.encode_request(ORDER, "order.place", _order_params(key))
    name = b'"quantity":'
    return (HEADER_LENGTH + plaintext.index(name) + len(name)) * 8 + QUANTITY_BIT
