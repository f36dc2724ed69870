"""Support chat: from the moment a message is due to be sent to the moment the other side has it."""

import shutil
import tempfile
from pathlib import Path

from benchmarks.measure import Bar, Figure, Goal, Load, Plot, Result, World, sample, service

NAME = "chat"
TITLE = "Support chat, from one side to the other"
CUSTOMERS, AGENTS, QUIET = 100, 10, 890
RATE = 200  # messages a second, of all conversations together
COMMIT_BYTES = 24_576  # a message changes about six pages of 4 KiB


def run(world: World, rounds: int, quick: bool) -> Result:
    seconds = 1.0 if quick else 10.0
    customers, agents = [f"chat{i}" for i in range(CUSTOMERS)], [f"agent{i}" for i in range(AGENTS)]
    folder = _staffed(world, customers, agents)
    with (
        service(folder, world.certs, environment={"SECUREDELIVERY_LIMITS_CONNECTIONS_PER_ADDRESS": "5000"}) as server,
        world.load(
            "chat",
            server,
            *("--customers", ",".join(customers), "--agents", ",".join(agents), "--quiet", QUIET),
            *("--rate", RATE, "--parts", rounds, "--seconds", seconds),
        ) as load,
    ):
        taken = sample(server, load)
    with Load("benchmarks.load.disk", "--file", folder / "disk", "--bytes", COMMIT_BYTES, "--requests", 200) as load:
        disk = load.go()
    connected = f"{taken.more['connected']:,}"
    median, worst = ([us / 1e3 for us in taken.more[f"{name}_us_of_parts"]] for name in ("p50", "p99"))
    return Result(
        [
            Figure(
                "chat.send to the other side, p99",
                "ms",
                worst,
                Goal("at most", 10),
                f"{connected} connected, {RATE} messages a second in {CUSTOMERS} conversations, all durable",
            ),
            Figure("chat.send to the other side, median", "ms", median),
            Figure(
                "fdatasync, p99",
                "ms",
                [disk.p99_us / 1e3],
                note=f"of {COMMIT_BYTES:,} bytes; nothing is faster than it",
            ),
            Figure(
                "server CPU of a message",
                "us",
                [taken.cpu_us],
                note="with its commit, its answer and two notifications",
            ),
        ],
        [
            Plot(
                "chat",
                "From the moment a chat message is due to its arrival at the other side",
                "ms",
                [Bar("median", median, ours=True), Bar("p99", worst, ours=True)],
                goal=10,
                subtitle=f"{connected} connected, {RATE} messages a second, each on the disk before anybody sees it",
            )
        ],
        [
            _OPEN_LOOP,
            f"The generator sent 99% of the messages within {taken.more['late_p99_us']:.0f} us of that moment.",
            f"The longest delay of all was {taken.more['max_us'] / 1e3:.1f} ms.",
        ],
        samples={"securedelivery": [taken]},
    )


_OPEN_LOOP = (
    "Open loop: when each message is sent was decided beforehand (a Poisson process), and its delay counts from then "
    "on, so that a server that stands still hides nothing."
)


def _staffed(world: World, customers: list[str], agents: list[str]) -> Path:
    """A shop with these accounts beside those of all shops."""
    # Imported here: a run without this case need not have the server's packages in its memory.
    from securedelivery import config
    from securedelivery.application import Shop
    from securedelivery.model import Role

    folder = Path(tempfile.mkdtemp(prefix="chat.", dir=world.folder))
    shutil.copytree(world.shop, folder, dirs_exist_ok=True)
    settings = config.load(None, {}, {"database.url": f"sqlite:///{folder}/shop.db", "server.certs": str(world.certs)})
    roles = {**dict.fromkeys(customers, Role.CUSTOMER), **dict.fromkeys(agents, Role.AGENT)}
    with Shop(settings) as shop:
        for name, role in roles.items():
            world.client(name)
            shop.accounts.create_by_operator(name, role, identity=f"spiffe://{settings.trust_domain}/account/{name}")
    return folder
