"""Quiet connections: what one costs in memory, and what 10,000 of them cost those who are active."""

from contextlib import ExitStack

from benchmarks.measure import Bar, Figure, Goal, Load, Plot, Result, Sample, Server, World, ratios, sample

NAME = "quiet"
TITLE = "10,000 quiet connections"
ACTIVE = 8
WARM = 20  # connections that come and go before anything is measured: for what is imported or filled at first use
KIB = 1024

WITHOUT, WITH = "nobody else is connected", "with the quiet ones"


def run(world: World, rounds: int, quick: bool) -> Result:
    connections, pings = (1_000, 4_000) if quick else (10_000, 40_000)
    environment = {
        "SECUREDELIVERY_LIMITS_CONNECTIONS": str(2 * connections),
        "SECUREDELIVERY_LIMITS_CONNECTIONS_PER_ADDRESS": str(2 * connections),
    }
    samples: dict[str, list[Sample]] = {WITHOUT: [], WITH: []}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(world.service(environment=environment)) for name in samples}
        for server in servers.values():
            with _quiet(world, server, WARM) as load:
                load.go()
            _pings(world, server, pings // 10)
        full = servers[WITH]
        before = full.rss()
        crowd = stack.enter_context(_quiet(world, full, connections))
        connected = sample(full, crowd)
        kept = []
        for _ in range(rounds):
            for name, server in servers.items():
                samples[name].append(_pings(world, server, pings))
            kept.append((full.rss() - before) / connections / KIB)
    p99 = {name: [one.p99_us for one in taken] for name, taken in samples.items()}
    return Result(
        [
            Figure(
                "memory of a quiet connection",
                "KiB",
                kept,
                Goal("at most", 40),
                f"resident memory of the server with {connections:,} less that without, for each; logged in",
            ),
            Figure(
                "p99 of active ones, with / without",
                "",
                ratios(p99[WITH], p99[WITHOUT]),
                Goal("at most", 1.3),
                f"system.ping of {ACTIVE} connections, one at a time, beside {connections:,} quiet ones",
            ),
            Figure(f"p99, {WITHOUT}", "us", p99[WITHOUT], note=f"{ACTIVE} connections"),
            Figure(f"p99, {WITH}", "us", p99[WITH], note=f"{ACTIVE} connections and {connections:,}"),
        ],
        [
            Plot(
                "quiet",
                "p99 of system.ping, 8 connections, one at a time",
                "us",
                [Bar(WITHOUT, p99[WITHOUT]), Bar(f"with {connections:,} quiet connections", p99[WITH], ours=True)],
            )
        ],
        [
            f"Setting up {connections:,} connections (TLS, inner handshake, login) took "
            f"{connections / connected.rate:.0f} s; each took {connected.cpu_us:,.0f} us of the server's CPU and "
            f"{connected.load_busy / connected.rate * 1e6:,.0f} us of the client's."
            + (" --quick opens 1,000 instead of 10,000." if quick else ""),
            "Two servers of the same kind, one with the quiet connections, are asked in turn.",
        ],
        samples=samples,
    )


def _quiet(world: World, server: Server, connections: int) -> Load:
    return world.load("quiet", server, "--connections", connections)


def _pings(world: World, server: Server, requests: int) -> Sample:
    with world.load("ours", server, "--what", "ping", "--connections", ACTIVE, "--requests", requests) as load:
        return sample(server, load)
