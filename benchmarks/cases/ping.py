"""system.ping: what a request costs that does nothing, beside the bare TLS echo and the peers."""

from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.measure import Bar, Figure, Goal, Plot, Result, Sample, Server, World, ratios, sample

NAME = "ping"
TITLE = "A request that does nothing: system.ping"
CONNECTIONS = 8
WINDOW = 16
PACE = 5_000  # requests a second: the server is idle for most of the time, and goes to sleep after each of them
FRAME = 84  # bytes of a frame with system.ping, and of its answer: header, 64 padded, tag

OURS, PIPELINED, ECHO = "securedelivery", f"securedelivery, {WINDOW} pipelined", "bare TLS echo"
FASTAPI, LITESTAR, GRPC = "FastAPI + uvicorn", "Litestar + uvicorn", "gRPC for Python"
PACED, PACED_ECHO = f"securedelivery, {PACE:,}/s", f"bare TLS echo, {PACE:,}/s"
PEERS = {FASTAPI: ("fastapi_shop", "http"), LITESTAR: ("litestar_shop", "http"), GRPC: ("grpc_shop", "grpc")}


def run(world: World, rounds: int, quick: bool) -> Result:
    requests = 4_000 if quick else 24_000
    with ExitStack() as stack:
        ours = stack.enter_context(world.service())
        echo = stack.enter_context(world.peer("echo"))
        peers = {name: stack.enter_context(world.peer(module)) for name, (module, _) in PEERS.items()}

        def once(name: str, scale: float) -> Sample:
            if name == ECHO:
                return _load(world, echo, "echo", "--bytes", FRAME, "--requests", round(requests * scale))
            if name in (PACED, PACED_ECHO):
                server, module = (ours, "ours") if name == PACED else (echo, "echo")
                count = round((1_500 if quick else 5_000) * scale)
                return _load(world, server, module, "--rate", PACE, "--requests", count)
            if name in PEERS:
                count = max(round(requests * scale / 8), 80)  # they are slower: the time is about the same
                return _load(world, peers[name], PEERS[name][1], "--what", "ping", "--requests", count)
            window = WINDOW if name == PIPELINED else 1
            count = round(requests * scale) * (2 if window > 1 else 1)
            return _load(world, ours, "ours", "--what", "ping", "--window", window, "--requests", count)

        contenders = (ECHO, OURS, PIPELINED, PACED_ECHO, PACED, *PEERS)
        for name in contenders:  # what is imported, compiled or filled at first use is no cost of a request
            once(name, 0.1)
        samples: dict[str, list[Sample]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                samples[name].append(once(name, 1.0))
    cpu = {name: [one.cpu_us for one in taken] for name, taken in samples.items()}
    return Result(_figures(cpu), _plots(cpu), _NOTES, samples=samples)


def _load(world: World, server: Server, module: str, *arguments: object) -> Sample:
    with world.load(module, server, "--connections", CONNECTIONS, *arguments) as load:
        return sample(server, load)


def _figures(cpu: dict[str, list[float]]) -> list[Figure]:
    return [
        Figure("system.ping, server CPU", "us", cpu[OURS], note="a request, 8 connections, one at a time"),
        Figure("bare TLS echo, server CPU", "us", cpu[ECHO], note="as many bytes, a thread a connection"),
        Figure("system.ping / echo", "", ratios(cpu[OURS], cpu[ECHO]), Goal("at most", 1.2), "server CPU"),
        Figure(
            f"system.ping / echo, at {PACE:,}/s each",
            "",
            ratios(cpu[PACED], cpu[PACED_ECHO]),
            note="server CPU with servers that are idle for most of the time",
        ),
        Figure("FastAPI / system.ping", "", ratios(cpu[FASTAPI], cpu[OURS]), Goal("at least", 4), "server CPU"),
        Figure("Litestar / system.ping", "", ratios(cpu[LITESTAR], cpu[OURS]), note="server CPU"),
        Figure("gRPC / system.ping", "", ratios(cpu[GRPC], cpu[OURS]), Goal("at least", 5), "server CPU"),
        Figure(
            "pipelined / one at a time",
            "",
            ratios(cpu[PIPELINED], cpu[OURS]),
            Goal("at most", 0.35),
            f"server CPU a request, {WINDOW} outstanding on each connection",
        ),
    ]


def _plots(cpu: dict[str, list[float]]) -> list[Plot]:
    def note(values: Sequence[float]) -> str:
        return f"{Figure('', '', ratios(values, cpu[OURS])).median:.2g} x"

    bars = [
        Bar(name, cpu[name], ours=name in (OURS, PIPELINED), note="" if name == OURS else note(cpu[name]))
        for name in (PIPELINED, OURS, ECHO, FASTAPI, LITESTAR, GRPC)
    ]
    return [
        Plot(
            "ping",
            "Server CPU of a request that does nothing",
            "us",
            bars,
            subtitle="mutual TLS 1.3, 8 connections; behind the bars: compared with ours, one at a time",
        )
    ]


_NOTES = [
    f"""One at a time: each of {CONNECTIONS} connections sends its next request when the answer is there. Pipelined:
{WINDOW} requests in one TLS record, the next {WINDOW} when all are answered. The echo gets and sends as many bytes as
ours ({FRAME}).""",
    f"""The echo is what the ssl module's documentation shows, a thread a connection, and its eight threads fight for
the interpreter's lock where two cores let them: then it costs 17 to 32 us. Where they do not (one connection, or
pinned to one core) it costs 7 to 10, and a ping 1.5 to 2.1 x as much; the row at 5,000/s is nearer to that.
As fast as the answers come, both servers find the next request waiting and hardly ever sleep: that cost is what
bounds them. At {PACE:,} requests a second, evenly spaced, each request wakes a sleeping server, and waking is a
large part of the cost of both; most servers spend most of their lives so.""",
]
