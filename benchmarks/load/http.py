"""Load for FastAPI and Litestar: HTTP/1.1 over mutual TLS 1.3, connections kept alive, one request out on each.

    python -m benchmarks.load.http --port P --certs DIR [--what ping|order] [--connections 8] [--requests 1000]

Requests are written and sealed as TLS records before "go". The measured part sends, receives, opens, and looks for the
end of each answer; whether it is the right one is looked at when the clock has stopped. Connection i has the
certificate bench<i>. --requests: of all connections together.
"""

import argparse
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import order
from benchmarks.load.loop import converse, run
from benchmarks.load.tls import Tls

HEAD_ENDS = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length: "
OK = b"HTTP/1.1 200 "

Asked = dict[str, Any]
"""The JSON of a request."""


class Connection(Tls):
    def __init__(self, port: int, certs: Path, name: str) -> None:
        super().__init__(port, certs, name, "http/1.1")
        self.left = 0
        self.answers: list[bytes] = []
        self._records: Iterator[bytes] = iter(())
        self._buffer = b""

    def prepare(self, path: str, calls: Sequence[Asked]) -> None:
        records = []
        for call in calls:
            body = json.dumps(call, separators=(",", ":")).encode()
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            records.append(self.seal(head.encode() + body))
        self._records, self.left = iter(records), len(records)

    def ask(self) -> None:
        self.left -= 1
        self.send(next(self._records))

    def take(self) -> bool:
        self._buffer += self.receive()
        head_end = self._buffer.find(HEAD_ENDS)
        if head_end < 0:
            return False
        start = self._buffer.index(LENGTH, 0, head_end) + len(LENGTH)
        length = int(self._buffer[start : self._buffer.index(b"\r", start)])
        if len(self._buffer) < head_end + len(HEAD_ENDS) + length:
            return False
        self.answers.append(self._buffer)
        self._buffer = b""
        return True


def ping(_seed: str, number: int) -> Asked:
    return {"number": number}


def placement(seed: str, number: int) -> Asked:
    return {
        "idempotency_key": f"{seed}-{number}",
        "lines": [{"sku": product.sku, "quantity": quantity} for product, quantity in order.lines(number)],
        "address": order.ADDRESS,
    }


def right(name: str, call: Asked, answer: bytes) -> bool:
    """Whether an answer is what it should be."""
    head, _, body = answer.partition(HEAD_ENDS)
    if not head.startswith(OK):
        return False
    said = json.loads(body)
    if "number" in call:
        return bool(said == call)
    number = int(call["idempotency_key"].rpartition("-")[2])
    lines = [{"sku": line["sku"], "quantity": line["quantity"]} for line in said["lines"]]
    return bool(
        lines == call["lines"]
        and said["account"] == name
        and said["total"] == order.total(number)
        and said["address"] == call["address"]
    )


WHAT = {"ping": ("/ping", ping), "order": ("/orders", placement)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--what", choices=WHAT, default="ping")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1_000, help="of all connections together")
    options = parser.parse_args()
    path, make = WHAT[options.what]
    seed = uuid.uuid4().hex
    asked: list[tuple[Connection, list[Asked]]] = []
    for index in range(options.connections):
        connection = Connection(options.port, options.certs, order.customer(index))
        calls = [make(seed, number) for number in range(index, options.requests, options.connections)]
        connection.prepare(path, calls)
        asked.append((connection, calls))

    def work() -> dict[str, Any]:
        timing = run([connection for connection, _ in asked])
        errors = 0
        for connection, calls in asked:
            for call, answer in zip(calls, connection.answers, strict=True):
                if not right(connection.name, call, answer):
                    errors += 1
                    print(f"{connection.name}: {call} was answered {answer!r}", file=sys.stderr)
        checked = sum(len(connection.answers) for connection, _ in asked)
        return {"requests": options.requests, **timing.as_json(), "errors": errors, "checked": checked}

    converse(work)


if __name__ == "__main__":
    main()
