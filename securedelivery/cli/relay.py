"""`securedelivery relay`: record the traffic of real clients for Wireshark."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from securedelivery.cli import options, terminal
from securedelivery.client.profile import split_server
from securedelivery.wireshark.recording import RecordingFile
from securedelivery.wireshark.relay import Relay, shown

app = typer.Typer()


@app.command(
    "relay",
    epilog=options.examples(
        "relay --listen 127.0.0.1:5556 --to localhost:5555 --write traffic.pcapng",
        "relay --listen 127.0.0.1:0 --to shop.example.org:5555 --write traffic.pcapng",
    ),
)
def relay(
    *,
    to: Annotated[str, typer.Option("--to", help="The service.", metavar="HOST:PORT", show_default=False)],
    write: Annotated[Path, typer.Option("--write", help="A new file.", metavar="FILE.pcapng", show_default=False)],
    listen: Annotated[
        str, typer.Option("--listen", help="Where clients connect to; port 0 takes a free one.", metavar="HOST:PORT")
    ] = "127.0.0.1:5556",
) -> None:
    """Forward connections to the service, and record them for Wireshark, until SIGTERM or Ctrl-C.

    It needs no rights and has no keys: what it records is what any router on the way sees. To open the recording, start
    the server or a client with --key-log.
    """
    onward, own = split_server(to, key="--to"), split_server(listen, key="--listen", lowest_port=0)
    recording = RecordingFile(write)
    forwarding = Relay(own, onward, recording.capture, told=terminal.warning)
    for number in (signal.SIGINT, signal.SIGTERM):  # before there is a file, so that none is left behind without a word
        signal.signal(number, lambda *_: forwarding.stop())
    with recording, forwarding:
        terminal.line(f"listening on {shown(forwarding.address)}, recording into {write}")
        forwarding.wait()
    connections, packets = _count(forwarding.count, "connection"), _count(recording.capture.count, "packet")
    terminal.note(f"recorded {connections}, {packets} into {write}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
