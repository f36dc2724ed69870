"""Quiet connections: TLS, the inner handshake, a login by certificate, and then nothing until stdin ends.

    python -m benchmarks.load.quiet --port P --certs DIR [--connections 10000] [--accounts 64]

Connection i has the account and certificate bench<i modulo accounts>. What is measured after "go" is the connecting.
Afterwards only the sockets are kept: a quiet client needs nothing else, so this process needs little memory.
"""

import argparse
import resource
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.load.loop import Timing, converse
from benchmarks.load.ours import Connection

THREADS = 4  # one waits for the server while another computes; more would only queue at the server
RESERVED_FILES = 64


def allow(connections: int) -> None:
    """Each connection takes a file descriptor, and the usual soft limit is 1,024."""
    wanted = connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"error: {hard} open files are allowed here, {wanted} are needed: ulimit -Hn {wanted}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connect(port: int, certs: Path, name: str) -> socket.socket:
    """Connected and logged in. The socket alone is kept."""
    connection = Connection(port, certs, name)
    account = connection.call("account.login_certificate", {})
    if account["username"] != name:
        sys.exit(f"error: {name} was logged in as {account['username']}")
    return connection.socket


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=64)
    options = parser.parse_args()
    allow(options.connections)
    quiet: list[socket.socket] = []
    latencies: list[float] = []
    lock = threading.Lock()

    def one(number: int) -> None:
        began = time.perf_counter()
        connected = connect(options.port, options.certs, f"bench{number % options.accounts}")
        with lock:
            quiet.append(connected)
            latencies.append((time.perf_counter() - began) * 1e6)

    def work() -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(one, range(options.connections)):
                pass
        timing = Timing(time.perf_counter() - began, time.process_time() - cpu, latencies)
        return {"requests": options.connections, **timing.as_json(), "errors": 0, "checked": len(quiet)}

    converse(work)


if __name__ == "__main__":
    main()
