"""What a new connection costs the server beside a bare mutual-TLS accept, and the memory of many logins at once."""

import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import psutil

from benchmarks import order
from benchmarks.load.connect import PASSWORD
from benchmarks.measure import Bar, Figure, Goal, Plot, Result, Sample, Server, World, ratios, sample, service

NAME = "connect"
TITLE = "A new connection"
AT_ONCE = 4
LOGINS, QUICK_LOGINS = 200, 16
GOAL = Goal("at most", 1.8)
MIB = 1024 * 1024

OURS, ECHO, FIRST = "securedelivery", "bare TLS accept", "securedelivery, certificate never seen"
OURS_AT_ONCE, ECHO_AT_ONCE = f"{OURS}, {AT_ONCE} at a time", f"{ECHO}, {AT_ONCE} at a time"


def run(world: World, rounds: int, quick: bool) -> Result:
    connections = 60 if quick else 400
    customers = [order.customer(number) for number in range(order.CUSTOMERS)]
    samples: dict[str, list[Sample]] = {name: [] for name in (OURS, ECHO, OURS_AT_ONCE, ECHO_AT_ONCE, FIRST)}
    with ExitStack() as stack:
        environment = {"SECUREDELIVERY_LIMITS_CONNECTIONS_PER_ADDRESS": "20000"}
        ours = stack.enter_context(world.service(environment=environment))
        echo = stack.enter_context(world.peer("echo"))

        def once(number: int) -> dict[str, Sample]:
            strangers = [f"stranger{number}-{index}" for index in range(connections)]
            for stranger in strangers:
                world.client(stranger)
            return {
                OURS: _coming(world, ours, "ours", customers, connections),
                ECHO: _coming(world, echo, "echo", customers, connections),
                OURS_AT_ONCE: _coming(world, ours, "ours", customers, connections, at_once=AT_ONCE),
                ECHO_AT_ONCE: _coming(world, echo, "echo", customers, connections, at_once=AT_ONCE),
                FIRST: _coming(world, ours, "ours", strangers, connections),
            }

        for server, to in ((ours, "ours"), (echo, "echo")):
            _coming(world, server, to, customers, order.CUSTOMERS)  # warms up, and lets ours get to know the customers
        for number in range(rounds):
            for name, taken in once(number).items():
                samples[name].append(taken)
    logins = QUICK_LOGINS if quick else LOGINS
    peak, logged_in = _logins(world, logins)
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    return Result(
        [
            Figure("new connection, server CPU", "us", cpu[OURS], note="one after the other"),
            Figure("bare TLS accept, server CPU", "us", cpu[ECHO], note="one after the other, one echo each"),
            Figure("new connection / bare accept", "", ratios(cpu[OURS], cpu[ECHO]), GOAL, "one after the other"),
            Figure(
                "new connection / bare accept",
                "",
                ratios(cpu[OURS_AT_ONCE], cpu[ECHO_AT_ONCE]),
                GOAL,
                f"{AT_ONCE} at a time",
            ),
            Figure(
                "first connection ever / bare accept",
                "",
                ratios(cpu[FIRST], cpu[ECHO]),
                note="of certificates that this server process has not verified before",
            ),
            Figure(
                f"{logins} logins by password at once, memory",
                "MiB",
                [peak],
                Goal("at most", 1024),
                "the server's peak since its start, children included",
            ),
            Figure("logins by password", "1/s", [logged_in.rate], note="two Argon2id at once, 64 MiB each"),
        ],
        [
            Plot(
                "connect",
                "Server CPU of a new connection up to its first answer",
                "us",
                [Bar(name, values, ours=name not in (ECHO, ECHO_AT_ONCE)) for name, values in cpu.items()],
                subtitle="mutual TLS 1.3; ours with the inner X25519 + ML-KEM-768 handshake and both signatures",
            )
        ],
        [
            f"""From the dialling to the first answer: ours does the TLS handshake, the inner handshake, AUTH in both
            directions and answers a system.ping that came right behind the client's AUTH; the bare one does the TLS
            handshake in a thread of its own and echoes as many bytes. The {connections} connections of a sample stay
            open until it is over, so nobody's hanging up is measured. {order.CUSTOMERS} customers take turns; the
            server remembers which certificates it has verified, and in "never seen" it sees each for the first
            time.""",
            """Each connection costs the generator as much as the server, for a handshake cannot be made beforehand; a
            slow generator makes the servers wait, which costs them no CPU time.""",
        ],
        samples={**samples, f"{logins} logins": [logged_in]},
    )


def _coming(world: World, server: Server, to: str, names: list[str], connections: int, *, at_once: int = 1) -> Sample:
    arguments = ("--to", to, "--accounts", ",".join(names), "--connections", connections, "--at-once", at_once)
    with world.load("connect", server, *arguments) as load:
        return sample(server, load)


def _logins(world: World, logins: int) -> tuple[float, Sample]:
    """Peak memory in MiB, and the logins."""
    names = [f"login{number}" for number in range(logins)]
    folder = _with_passwords(world, names)
    with (
        service(folder, world.certs) as server,
        world.load("connect", server, "--to", "login", "--accounts", ",".join(names), "--connections", logins) as load,
    ):
        taken = sample(server, load)
        return _peak(server.pid) / MIB, taken


def _peak(pid: int) -> int:
    """The most bytes of memory that were resident at once, of the process and its children."""
    process = psutil.Process(pid)
    total = 0
    for one in (process, *process.children(recursive=True)):
        status = Path(f"/proc/{one.pid}/status").read_text()
        total += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return total


def _with_passwords(world: World, names: list[str]) -> Path:
    """A shop with these accounts beside the others, all with the one PASSWORD, which is hashed once."""
    # Imported here: a run without this case need not have the server's packages in its memory.
    from securedelivery import config
    from securedelivery.application import Shop
    from securedelivery.model import Role

    folder = world.folder / "logins"
    shutil.copytree(world.shop, folder)
    database = folder / "shop.db"
    settings = config.load(None, {}, {"database.url": f"sqlite:///{database}", "server.certs": str(world.certs)})
    with Shop(settings) as shop:
        for name in names:
            world.client(name)
            shop.accounts.create_by_operator(
                name,
                Role.CUSTOMER,
                identity=f"spiffe://{settings.trust_domain}/account/{name}",
                password=PASSWORD if name == names[0] else None,
            )
    with closing(sqlite3.connect(database)) as opened:
        opened.execute(
            "UPDATE accounts SET password = (SELECT password FROM accounts WHERE username = ?)"
            " WHERE username LIKE 'login%'",
            (names[0],),
        )
        opened.commit()
    return folder
