"""The command line: how long a person waits for a command, from Return to the prompt."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from benchmarks import order
from benchmarks.load.ours import Connection, placement
from benchmarks.measure import Bar, BenchmarkFailure, Figure, Goal, Plot, Result, World

NAME = "commandline"
TITLE = "Commands"
PROGRAM = Path(sys.executable).with_name("securedelivery")

HELP, LIST, FLOOR = "securedelivery --help", "securedelivery order list", "python -c pass"
ORDERS = 10


def run(world: World, rounds: int, quick: bool) -> Result:
    times = 3 if quick else 7
    home = tempfile.mkdtemp(prefix="home.", dir=world.folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SECUREDELIVERY_")}
    environment |= {"XDG_CONFIG_HOME": home, "HOME": home}
    commands = {
        FLOOR: [sys.executable, "-c", "pass"],
        HELP: [str(PROGRAM), "--help"],
        LIST: [str(PROGRAM), "order", "list"],
    }
    waited: dict[str, list[float]] = {name: [] for name in commands}
    with world.service() as server:
        certificate, key = world.client("bench")
        connection = Connection(server.port, world.certs, "bench")
        connection.call("account.login_certificate", {})
        for number in range(ORDERS):
            connection.call("order.place", placement(uuid.uuid4().hex, number))
        remember = [PROGRAM, "profile", "set", "--server", f"localhost:{server.port}"]
        remember += [
            "--ca",
            world.certs / "ca.crt",
            "--crl",
            world.certs / "crl.pem",
            "--cert",
            certificate,
            "--key",
            key,
        ]
        _once(remember, environment)
        shown = _once(commands[LIST], environment)  # and what Python has compiled by now, it need not compile again
        if len(shown.splitlines()) != ORDERS + 1 or order.CURRENCY not in shown:
            raise BenchmarkFailure(f"{LIST} printed:\n{shown}")
        _once(commands[HELP], environment)
        for _ in range(rounds):
            seconds: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(times):
                for name, command in commands.items():
                    began = time.perf_counter()
                    _once(command, environment)
                    seconds[name].append(time.perf_counter() - began)
            for name in commands:
                waited[name].append(statistics.median(seconds[name]))
        connection.socket.close()
    return Result(
        [
            Figure(HELP, "s", waited[HELP], Goal("at most", 0.25), f"wall, median of {times} a round"),
            Figure(LIST, "s", waited[LIST], Goal("at most", 0.35), "the same; connects, logs in, lists 10 orders"),
            Figure(FLOOR, "s", waited[FLOOR], note="the interpreter alone"),
        ],
        [
            Plot(
                "commandline",
                "Wall time of a command",
                "s",
                [Bar(name, waited[name], ours=name != FLOOR) for name in (FLOOR, HELP, LIST)],
                goal=0.35,
            )
        ],
    )


def _once(command: Sequence[str | Path], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkFailure(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout
