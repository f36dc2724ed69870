"""What the disk takes: writes of a given size into a file that is there already, each followed by fdatasync.

    python -m benchmarks.load.disk --file FILE --bytes 40000 [--requests 200]

That is what SQLite does at a commit in WAL mode with synchronous=FULL: the log is written over again and again, so the
file does not grow. Timed is fdatasync alone; writing is part of the raw transaction.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.load.loop import Timing, converse

FILE_BYTES = 4_194_304  # a write-ahead log of 1,000 pages, at which SQLite takes it into the database


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    descriptor = os.open(options.file, os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(descriptor, bytes(FILE_BYTES), 0)
    os.fsync(descriptor)
    data = os.urandom(options.bytes)

    def work() -> dict[str, Any]:
        latencies = []
        began, cpu = time.perf_counter(), time.process_time()
        position = 0
        for _ in range(options.requests):
            if position + len(data) > FILE_BYTES:
                position = 0
            os.pwrite(descriptor, data, position)
            position += len(data)
            before = time.perf_counter()
            os.fdatasync(descriptor)
            latencies.append((time.perf_counter() - before) * 1e6)
        timing = Timing(time.perf_counter() - began, time.process_time() - cpu, latencies)
        return {"requests": options.requests, **timing.as_json(), "errors": 0, "checked": options.requests}

    converse(work)


if __name__ == "__main__":
    main()
