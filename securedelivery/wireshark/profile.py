"""A Wireshark profile for the captures of a play: columns, colours, names, and a filter button an act.

Wireshark finds it by `WIRESHARK_CONFIG_DIR=FOLDER/wireshark wireshark -C securedelivery`, and nothing of the user's own
configuration is touched. Where the dissector is loaded its fields give counters and colours; a filter that names them
is skipped where it is not.
"""

from collections.abc import Iterable
from pathlib import Path

from securedelivery.wireshark.play import Play
from securedelivery.wireshark.stage import ADDRESSES

__all__ = ["write"]

NAME = "securedelivery"
COLUMNS = (
    ("No.", "%m", 54),
    ("Time", "%t", 76),
    ("Source", "%s", 68),
    ("Destination", "%d", 80),
    ("Protocol", "%p", 118),
    ("Length", "%L", 52),
    ("Info", "%i", 330),
    ("What happens", "%Cus:frame.comment:0:R", 560),
)
"""Title, what it shows, width in pixels."""
PREFERENCES = (
    ("gui.column.format", ", ".join(f'"{title}", "{form}"' for title, form, _ in COLUMNS)),
    ("nameres.network_name", "TRUE"),
    ("nameres.use_external_name_resolver", "FALSE"),  # the names are those of the file hosts, nobody is asked
    ("nameres.dns_pkt_addr_resolution", "FALSE"),
    ("nameres.transport_name", "FALSE"),
    ("nameres.mac_name", "FALSE"),
    ("gui.packet_list_show_related", "TRUE"),
)
GUESSES = ("rdpmt_tls_", "rdp_tls", "rpc_tls", "smpp_tls", "mq_tls", "fix_tls", "credssp_tls", "http_tls", "http2_tls")
"""What Wireshark tries on unknown data inside TLS. One random HANDSHAKE in some hundred looks like Remote Desktop, and
then it shows a whole connection as that."""
ACTS = (
    "On the wire",
    "TLS opened",
    "Frames opened",
    "One bit",
    "Again, too early, not at all",
    "In the middle of both",
    "False names",
    "Harvest now, decrypt later",
)
"""The titles of the story."""
# The first that fits wins. Dark text on light grounds: the list of packets looks the same in a dark theme.
COLOURS = (
    ("A frame that its receiver rejects", 'securedelivery.status == "rejected"', "#ffb3b3", "#5c0000"),
    ("An attack", 'frame.comment contains "ATTACK"', "#ffd8a8", "#4a2800"),
    (
        "A CLOSE for a reason",
        'securedelivery.close.reason && securedelivery.close.reason != "bye"',
        "#ffc078",
        "#4a2800",
    ),
    ("An alert of TLS", "tls.alert_message.desc > 0", "#ffc078", "#4a2800"),
    ("Behind a rejected frame", 'securedelivery.status == "behind a rejected frame"', "#ffe3e3", "#5c0000"),
    ("A message in clear", "exported_pdu", "#fff3bf", "#3b2f00"),
    ("A frame, opened", 'securedelivery.status == "opened"', "#d3f9d8", "#0b3d14"),
    ("The inner handshake", "securedelivery.kind == 1", "#e5dbff", "#2b0a5c"),
    ("A frame, closed", "securedelivery", "#dbe4ff", "#10205c"),
    ("The handshake of TLS", "tls.handshake", "#d0ebff", "#0b2f4a"),
    ("TLS", "tls", "#e7f1f8", "#1f3a4d"),
    ("TCP", "tcp", "#f1f3f5", "#495057"),
)


def write(folder: Path, play: Play) -> None:
    """Write wireshark/profiles/securedelivery/ into a folder. Raises OSError."""
    profile = folder / "wireshark" / "profiles" / NAME
    profile.mkdir(parents=True, exist_ok=True)
    files = {
        "preferences": _preferences(),
        "colorfilters": _colours(),
        "dfilter_buttons": _buttons(play),
        "heuristic_protos": (f"{name},0" for name in sorted(GUESSES)),
        "hosts": _hosts(),
        "recent": _recent(),
    }
    for name, lines in files.items():
        (profile / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def filters(play: Play) -> dict[str, str]:
    """A display filter for each act, by the name of its button; the first three are about the same packets."""
    return {f"Act {number}": _filter(play, number) for number in range(1, len(ACTS) + 1)}


def _filter(play: Play, act: int) -> str:
    """By numbers, which are the same in all three captures; an opened message belongs to the packet it came from."""
    streams = {leg.number for leg in play.legs if leg.act == max(act, 3) or (leg.act == 1 and act <= 3)}  # noqa: PLR2004
    numbers = [number for number, packet in enumerate(play.packets, 1) if packet.flow in streams]
    first, last = min(numbers), max(numbers)
    wire = f"(tcp && frame.number >= {first} && frame.number <= {last})"
    if act == 1:
        return wire
    if act == 2:  # noqa: PLR2004 -- the handshake, and the data in which the frames are
        return f"(tls && frame.number >= {first} && frame.number <= {last})"
    return f"{wire} || (exported_pdu.orig_fno >= {first} && exported_pdu.orig_fno <= {last})"


def _preferences() -> Iterable[str]:
    yield from (f"{name}: {value}" for name, value in PREFERENCES)


def _colours() -> Iterable[str]:
    for name, shown, ground, text in COLOURS:
        yield f"@{name}@{shown}@{_colour(ground)}{_colour(text)}"


def _colour(text: str) -> str:
    """Of #rrggbb, as Wireshark writes it: 16 bits each."""
    return "[{},{},{}]".format(*(byte * 257 for byte in bytes.fromhex(text[1:])))


def _buttons(play: Play) -> Iterable[str]:
    for (name, expression), title in zip(filters(play).items(), ACTS, strict=True):
        yield f'"TRUE","{name}","{expression}","{title}"'


def _recent() -> Iterable[str]:
    """What the program would remember of a look: widths, and microseconds, which are what there is to see."""
    yield "gui.time_precision: USEC"
    yield "column.width: " + ", ".join(f"{form}, {width}" for _, form, width in COLUMNS)


def _hosts() -> Iterable[str]:
    yield from (f"{address} {name}" for name, address in ADDRESSES.items())
