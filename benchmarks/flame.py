"""Where the time of an order goes: what the server's threads do while 64 customers order, as a table and a flame graph.

    python -m benchmarks.flame docs/flame-order.svg [--seconds 20]

Needs py-spy, which samples the server from outside, and flamegraph.pl (Debian's libdevel-nytprof-perl has it). Threads
that wait are left out: what is counted is work, and the wait for the disk inside COMMIT. Sampling slows the server
down a little, so an order's whole time comes from a run without it, and only the shares from the samples.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.measure import World, sample

CONNECTIONS = 64
FLAMEGRAPH = "/usr/share/perl5/Devel/NYTProf/flamegraph.pl"
WAITING = re.compile(r"Workers\._run|wait \(threading\.py|sigwait|IOThread\._wake|Server\._accept_all")
POLLING = "IOThread._ready"  # as the last frame: in epoll_wait()
_FRAMES_OF_EVERYTHING = re.compile(r"Thread\._bootstrap|Thread\._bootstrap_inner|Thread\.run|process \d+|thread \(")

STAGES = (
    # What is found first in a stack, from the left, is where the sample belongs.
    ("socket: recv", r"Peer\._receive \(peer\.py\)$"),
    ("TLS: open the record", r"Channel\.(feed|read)"),
    ("frame: decrypt, decode the envelope", r"Connection\.(next_event|receive_data)"),
    ("table, parameters, queue", r"Peer\._start"),
    ("answer and two notifications: encode, encrypt", r"Peer\.(_answer|tell|_finished)"),
    ("TLS: one record for the three", r"Channel\.(write|take_raw)"),
    ("socket: send", r"Peer\._send"),
    ("I/O loop: the rest", r"^io-"),
    ("COMMIT: pages into the log, fdatasync, now and then a checkpoint", r"Writer\._outcomes.*;Transaction\.control"),
    ("BEGIN", r"Writer\._locked"),
    ("read customers, keys, products", r"Placement\.__init__"),
    ("decide: prices, stock, points, codes, fingerprint", r"Placement\.place\b"),
    ("seal addresses, write orders and lines", r"add \(orders\.py\)"),
    ("lower the stock", r"take \(products\.py\)"),
    ("points and sums", r"write_points"),
    ("audit: hash chain, rows, head", r"append \(audit\.py\)"),
    ("hand over answers and events", r"Writer\._answer|together|delivering|contextlib"),
    ("writer: the rest", r"^writer"),
)


def collapse(raw: str) -> Counter[str]:
    """py-spy's stacks, those that work, without the frames that all of a thread have in common."""
    stacks: Counter[str] = Counter()
    for line in raw.splitlines():
        path, _, count = line.rpartition(" ")
        frames = path.split(";")
        if WAITING.search(frames[-1]) or frames[-1].startswith(POLLING):
            continue
        thread = next((frame.partition(": ")[2].strip('" ') for frame in frames if frame.startswith("thread (")), "")
        if not thread.startswith(("writer", "io-")):
            continue
        named = [re.sub(r" \((?:.*/)?([^/:]+\.py):\d+\)", r" (\1)", frame) for frame in frames]
        kept = [frame for frame in named if not _FRAMES_OF_EVERYTHING.match(frame)]
        stacks[";".join((thread, *kept))] += int(count)
    return stacks


def stages(stacks: Counter[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[next(stage for stage, pattern in STAGES if re.search(pattern, stack))] += count
    return found


def draw(stacks: Counter[str], svg: Path) -> None:
    title = f"An order's way through the server: {CONNECTIONS} connections, each with one order outstanding"
    drawn = subprocess.run(
        ["/usr/bin/perl", FLAMEGRAPH, "--title", title, "--countname", "samples", "--width", "1200", "--hash"],
        input="".join(f"{stack} {count}\n" for stack, count in sorted(stacks.items())),
        check=True,
        capture_output=True,
        text=True,
    )
    svg.write_text(drawn.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("svg", type=Path)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    spy = Path(sys.executable).with_name("py-spy")
    for tool, remedy in (
        (spy, "pip install -e '.[bench]'"),
        (Path(FLAMEGRAPH), "apt-get install libdevel-nytprof-perl"),
    ):
        if not tool.exists():
            parser.error(f"{tool.name} is not installed: {remedy}")

    arguments = ("--what", "order", "--connections", CONNECTIONS)
    with World.temporary() as world, world.service() as server:
        for _ in range(2):  # the second counts
            with world.load("ours", server, *arguments, "--requests", 12_800) as load:
                whole = sample(server, load)
        orders = options.seconds * 12_000  # more than it can place in that time
        raw = world.folder / "raw"
        with world.load("ours", server, *arguments, "--requests", orders) as load:
            load.start()
            command = [spy, "record", "--pid", server.pid, "--duration", options.seconds, "--rate", 250, "--threads"]
            subprocess.run(
                [*map(str, command), "--nonblocking", "--format", "raw", "--output", str(raw)],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        stacks = collapse(raw.read_text())
    draw(stacks, options.svg)

    found, total = stages(stacks), sum(stacks.values())
    elapsed = 1e6 / whole.rate
    print(f"{whole.rate:,.0f} orders/s: {elapsed:.0f} us an order, {whole.cpu_us:.0f} us of CPU; {total:,} samples\n")
    print("| stage | share | us |\n|---|--:|--:|")
    for stage, _ in STAGES:
        print(f"| {stage} | {found[stage] / total:.1%} | {found[stage] / total * elapsed:.1f} |")


if __name__ == "__main__":
    main()
