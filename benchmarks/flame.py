"""The flame graph of an order: what the server's threads do while 64 customers order.

    python -m benchmarks.flame docs/flame-order.svg [--seconds 20]

Needs py-spy (it samples the server from outside, with its C frames left out) and flamegraph.pl (Debian's
libdevel-nytprof-perl has it). Threads that wait are left out: what is drawn is work, and the waits for the disk inside
COMMIT. Sampling slows the server down, so the figures come from the cases, and only the proportions from here.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.measure import World

CONNECTIONS = 64
FLAMEGRAPH = "/usr/share/perl5/Devel/NYTProf/flamegraph.pl"
WAITING = (
    "Workers._run",  # for work
    "wait (threading.py",  # the writer for orders, others for their time
    "sigwait",
    "Server._accept_all",
)
POLLING = "IOThread.run"  # as the last frame: in epoll_wait()
_FRAMES_OF_EVERYTHING = re.compile(r"(Thread\._bootstrap|Thread\._bootstrap_inner|Thread\.run|process \d+)")


def collapse(raw: str) -> Counter[str]:
    """py-spy's stacks, those that work, without the frames that all of a thread have in common."""
    stacks: Counter[str] = Counter()
    for line in raw.splitlines():
        path, _, count = line.rpartition(" ")
        frames = path.split(";")
        if any(wait in frames[-1] for wait in WAITING) or frames[-1].startswith(POLLING):
            continue
        thread = next((frame.partition(": ")[2].strip('" ') for frame in frames if frame.startswith("thread (")), "")
        if not thread.startswith(("writer", "io-")):
            continue
        kept = [re.sub(r" \(.*/([^/:]+\.py):\d+\)", r" (\1)", frame) for frame in frames]
        kept = [frame for frame in kept if not _FRAMES_OF_EVERYTHING.match(frame) and not frame.startswith("thread (")]
        stacks[";".join((thread, *kept))] += int(count)
    return stacks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("svg", type=Path)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    orders = options.seconds * 12_000  # more than it can place in that time
    with (
        World.temporary() as world,
        world.service() as server,
        tempfile.TemporaryDirectory() as folder,
        world.load("ours", server, "--what", "order", "--connections", CONNECTIONS, "--requests", orders) as load,
    ):
        raw = Path(folder) / "raw"
        load.start()
        spy = Path(sys.executable).with_name("py-spy")
        command = [spy, "record", "--pid", str(server.pid), "--duration", str(options.seconds), "--rate", "200"]
        subprocess.run(
            [*command, "--threads", "--nonblocking", "--format", "raw", "--output", raw],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stacks = collapse(raw.read_text())
    text = "".join(f"{stack} {count}\n" for stack, count in sorted(stacks.items()))
    title = "An order's way through the server: 64 connections, each with one order outstanding"
    drawn = subprocess.run(
        ["/usr/bin/perl", FLAMEGRAPH, "--title", title, "--countname", "samples", "--width", "1200", "--hash"],
        input=text,
        check=True,
        capture_output=True,
        text=True,
    )
    options.svg.write_text(drawn.stdout)


if __name__ == "__main__":
    main()
