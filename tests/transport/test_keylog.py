"""Key logs: which files they take, what stands in them, and that nobody's connection depends on them."""

import os
import re
import resource
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificate_authority import TRUST_DOMAIN, CertificateAuthority, Issued
from transport.driver import Client, context_of
from transport.stage import Log, Stage

from securedelivery.errors import ConfigurationError
from securedelivery.transport.channel import Channel
from securedelivery.transport.keylog import KeyLogs, _Pipe
from securedelivery.transport.tls import ServerFiles, ServerSecurity

TLS_LABELS = {
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "EXPORTER_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_TRAFFIC_SECRET_0",
}
LINE = re.compile(r"[A-Z0-9_]+ [0-9a-f]{64} ([0-9a-f]{64}|[0-9a-f]{96})")
E, C2S, S2C = b"\1" * 32, b"\2" * 32, b"\3" * 32


def load(certs: Path, key_logs: KeyLogs | None) -> ServerSecurity:
    return ServerSecurity.load(
        ServerFiles.in_directory(certs),
        trust_domain=TRUST_DOMAIN,
        certificates_required=True,
        trusted_proxies=frozenset(),
        key_logs=key_logs,
    )


def lines(path: Path) -> list[str]:
    return path.read_text("ascii").splitlines()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """TLS in memory, to its end on both sides."""
    ends = Channel(client, server_hostname="localhost"), Channel(server)
    done = [False, False]
    while not all(done):
        for i in (0, 1):
            done[i] = done[i] or ends[i].handshake()
            raw = ends[i].take_raw()
            if raw:
                ends[1 - i].feed(raw)


@pytest.fixture
def client_context(ca: CertificateAuthority, alice: Issued, tmp_path: Path) -> ssl.SSLContext:
    return context_of(ca, alice, tmp_path / "client")


# Which files


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    os.umask(before)
    yield lambda mask: (os.umask(mask), None)[1]
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path, umask: Callable[[int], None], mask: int) -> None:
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    umask(mask)
    logs = KeyLogs(tls, frames)
    umask(0o022)
    assert logs.files == (tls, frames)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (tls, frames)] == [0o600, 0o600]


def test_what_is_there_stays(tmp_path: Path) -> None:
    frames = tmp_path / "frames.log"
    for _ in range(2):
        logs = KeyLogs(None, frames)
        logs.frame_keys(E, C2S, S2C)
        logs.close()
        logs.frame_keys(E, S2C, C2S)  # nothing
    assert lines(frames) == 2 * [f"SD_FRAME_KEY_C2S {E.hex()} {C2S.hex()}", f"SD_FRAME_KEY_S2C {E.hex()} {S2C.hex()}"]


def _link(folder: Path) -> Path:
    (folder / "victim").write_text("precious")
    (folder / "victim").chmod(0o600)
    (folder / "keys.log").symlink_to("victim")
    return folder / "keys.log"


def _dangling(folder: Path) -> Path:
    (folder / "keys.log").symlink_to("nowhere")
    return folder / "keys.log"


def _behind_a_link(folder: Path) -> Path:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    return folder / "link" / "keys.log"


def _folder(folder: Path) -> Path:
    return folder


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "keys.log", 0o600)
    return folder / "keys.log"


def _socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "keys.log"))
    return folder / "keys.log"


def _readable(mode: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "keys.log").touch()
        (folder / "keys.log").chmod(mode)
        return folder / "keys.log"

    return make


def _below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "keys.log"


FAULTS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "a symbolic link": (_link, "it is a symbolic link", "name the file itself: {folder}/victim"),
    "one to nowhere": (_dangling, "it is a symbolic link", "name the file itself: {folder}/nowhere"),
    "a linked folder": (
        _behind_a_link, "{folder}/link is a symbolic link", "name it without the link: {folder}/real/keys.log"
    ),
    "a folder": (_folder, "it is a folder", "name a file in it, such as {folder}/keys.log"),
    "the present folder": (lambda _: Path(), "it is a folder", "name a file in it, such as keys.log"),
    "a FIFO": (_fifo, "it is no regular file", "name a file on a disk"),
    "a socket": (_socket, "it is no regular file", "name a file on a disk"),
    "a device": (lambda _: Path("/dev/full"), "it is no regular file", "name a file on a disk"),
    "for the group to read": (
        _readable(0o640), "others may read or write it (mode 0640)", "chmod 600 {path}, or name a new file"
    ),
    "for all to read": (
        _readable(0o644), "others may read or write it (mode 0644)", "chmod 600 {path}, or name a new file"
    ),
    "for all to write": (
        _readable(0o602), "others may read or write it (mode 0602)", "chmod 600 {path}, or name a new file"
    ),
    "no folder": (lambda folder: folder / "a" / "keys.log", "its folder does not exist", "mkdir -p {folder}/a"),
    "a file for a folder": (_below_a_file, "its folder does not exist", "mkdir -p {folder}/file"),
    "a name too long": (
        lambda folder: folder / ("k" * 300), "cannot be opened (File name too long)",
        "name a file in a folder that this user may write",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", [0, 1], ids=["tls", "frames"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_may_not_hold_keys_is_refused(tmp_path: Path, fault: str, which: int) -> None:
    make, what, hint = FAULTS[fault]
    path = make(tmp_path)
    before = {one: one.lstat() for one in tmp_path.rglob("*")}
    with pytest.raises(ConfigurationError) as caught:
        KeyLogs(*((path, None) if which == 0 else (None, path)))
    words = {"folder": tmp_path, "path": path}
    assert str(caught.value) == f"{path}: no keys are written here: {what.format(**words)}"
    assert caught.value.hint == hint.format(**words)
    assert {one: one.lstat() for one in tmp_path.rglob("*")} == before


def test_a_fifo_that_somebody_reads_is_refused_too(tmp_path: Path) -> None:
    path = _fifo(tmp_path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ConfigurationError, match="no regular file"):
            KeyLogs(None, path)
    finally:
        os.close(reader)


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    path = _readable(0o600)(tmp_path)
    os.chown(path, 12_345, 12_345)
    with pytest.raises(ConfigurationError, match="belongs to another user") as caught:
        KeyLogs(path, None)
    assert caught.value.hint == "name a new file, or one of this user"


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A folder in which this test, which is nobody where it was root, may write nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)
        yield folder
        os.seteuid(user)
        folder.chmod(0o700)


def test_a_folder_without_the_right_to_write_is_refused(nobodys: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KeyLogs(None, nobodys / "keys.log")
    assert str(caught.value).endswith(": no keys are written here: cannot be opened (Permission denied)")
    assert caught.value.hint == "name a file in a folder that this user may write"


def run(program: str, *arguments: str) -> str:
    """In a process of its own; what it prints."""
    code = textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_two_must_not_be_one(tmp_path: Path) -> None:
    first, other = tmp_path / "keys.log", tmp_path / "same.log"
    KeyLogs(first, None).close()
    os.link(first, other)
    for same in (first, tmp_path / "." / "keys.log", other):
        with pytest.raises(ConfigurationError, match="it is the key log of TLS as well") as caught:
            KeyLogs(first, same)
        assert caught.value.key == str(same)
        assert caught.value.hint.startswith("name two files")


@pytest.mark.parametrize("environment", [{}, {"SSLKEYLOGFILE": "", "SECUREDELIVERY_FRAME_KEYLOG": ""}])
def test_without_a_file_there_is_nothing_to_log_to(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="neither SSLKEYLOGFILE nor SECUREDELIVERY_FRAME_KEYLOG") as caught:
        KeyLogs.from_environment(environment)
    assert caught.value.key == "--key-log"
    assert caught.value.hint


def test_the_variables_name_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    both = KeyLogs.from_environment({"SSLKEYLOGFILE": "t.log", "SECUREDELIVERY_FRAME_KEYLOG": "below/../f.log"})
    assert both.files == (Path("t.log"), Path("below/../f.log"))
    one = KeyLogs.from_environment({"SSLKEYLOGFILE": "", "SECUREDELIVERY_FRAME_KEYLOG": str(tmp_path / "f.log")})
    one.frame_keys(E, C2S, S2C)
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()} == {
        "t.log": 0,
        "f.log": 294,
    }


def test_where_the_pipe_cannot_be_reached_it_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def without_dev(path: object, flags: int, *arguments: int, **options: int) -> int:
        if str(path).startswith("/dev/fd/"):
            raise FileNotFoundError(2, "No such file or directory")
        return really(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", without_dev)
    with pytest.raises(ConfigurationError, match=r"/dev/fd/\d+ cannot be opened") as caught:
        KeyLogs(tmp_path / "tls.log", None)
    assert caught.value.hint == "mount /dev and /proc"


# What others can do to an open file


def test_a_link_put_in_its_place_later_changes_nothing(
    tmp_path: Path, certs: Path, client_context: ssl.SSLContext
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    paths = [tmp_path / "tls.log", tmp_path / "frames.log"]
    logs = KeyLogs(*paths)
    kept = [path.rename(path.with_suffix(".moved")) for path in paths]
    for path in paths:
        path.symlink_to(victim)

    handshake(load(certs, logs).context, client_context)
    logs.frame_keys(E, C2S, S2C)
    handshake(load(certs, logs).context, client_context)  # as after a reload

    assert victim.read_text() == "precious"
    assert [len(lines(one)) for one in kept] == [2 * len(TLS_LABELS), 2]


def test_no_other_program_and_no_child_gets_the_descriptors(tmp_path: Path) -> None:
    program = """
        import os, subprocess, sys
        from pathlib import Path
        from securedelivery.transport.keylog import KeyLogs

        SHOW = "import os, sys\\nfor fd in os.listdir('/proc/self/fd'):\\n"
        SHOW += "    target = os.path.realpath(f'/proc/self/fd/{fd}')\\n"
        SHOW += "    if target.startswith(sys.argv[1]): print(sys.argv[2], target, flush=True)\\n"

        folder = sys.argv[1]
        logs = KeyLogs(Path(folder, "t.log"), Path(folder, "f.log"))
        subprocess.run([sys.executable, "-c", SHOW, folder, "program"], close_fds=False, check=True)
        child = os.fork()
        if not child:
            sys.argv[2:] = ["child"]
            exec(SHOW)
            logs.frame_keys(bytes(32), bytes(32), bytes(32))
            os._exit(0)
        os.waitpid(child, 0)
        sys.argv[2:] = ["parent"]
        exec(SHOW)
        logs.frame_keys(bytes(32), bytes(32), bytes(32))
    """
    shown = run(program, str(tmp_path)).splitlines()
    assert sorted(shown) == [f"parent {tmp_path}/f.log", f"parent {tmp_path}/t.log"]
    assert len(lines(tmp_path / "f.log")) == 2  # the parent's


def test_several_processes_and_threads_write_whole_lines(
    tmp_path: Path, certs: Path, ca: CertificateAuthority, alice: Issued
) -> None:
    program = """
        import sys, threading
        from pathlib import Path
        from certificate_authority import CertificateAuthority
        from securedelivery.transport.keylog import KeyLogs
        from securedelivery.transport.tls import client_context
        from transport.test_keylog import handshake, load

        certs, client, tls, frames = map(Path, sys.argv[1:])
        logs = KeyLogs(tls, frames)
        context = client_context(certs / "ca.crt", client / "alice.crt", client / "alice.key", None)
        logs.prepare(context)
        security = load(certs, logs)

        def work():
            for number in range(20):
                handshake(security.context, context)
                logs.frame_keys(bytes([number]) * 32, bytes(32), bytes(32))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    """
    alice.write(tmp_path / "alice.crt", tmp_path / "alice.key")
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, (certs, tmp_path, tls, frames))]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(3)]
    for one in processes:
        _, said = one.communicate(timeout=60)
        assert (one.returncode, said) == (0, b"")

    handshakes = 3 * 4 * 20
    assert all(LINE.fullmatch(line) for line in lines(tls) + lines(frames))
    assert len(lines(tls)) == handshakes * 2 * len(TLS_LABELS)  # both sides log
    randoms = {line.split()[1] for line in lines(tls)}
    assert len(randoms) == handshakes
    assert len(set(lines(tls))) == handshakes * len(TLS_LABELS)  # and say the same
    pairs = lines(frames)
    assert len(pairs) == handshakes * 2
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):  # a connection's lines stand together
        assert first.replace("C2S", "S2C") == second


def test_steps_of_handshakes_take_turns() -> None:
    """On as many threads as there are: what OpenSSL writes in one is taken out before the next one begins."""
    threads, rounds = 6, 300
    taken: list[bytes] = []
    pipe = _Pipe(taken.append)
    said = [[b"%d %d %s\n" % (thread, line, b"x" * 150) for line in range(5)] for thread in range(threads)]
    together = threading.Barrier(threads)

    def work(thread: int) -> None:
        with Path(pipe._path).open("wb", buffering=0) as openssl:
            os.set_blocking(openssl.fileno(), False)  # where it is full, this is an error and nothing hangs
            together.wait(30)
            for _ in range(rounds):
                with pipe.step():
                    for line in said[thread]:
                        assert openssl.write(line) == len(line)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert Counter(taken) == {b"".join(one): rounds for one in said}


# In the server


def random_of(client: Client) -> bytes:
    """The ClientHello's random of a client that has done nothing yet."""
    client.channel.handshake()
    raw = client.channel.take_raw()
    client.sock.sendall(raw)
    return raw[11:43]


def test_the_server_logs_each_connection_and_says_so(stage: Stage, certs: Path, tmp_path: Path, log: Log) -> None:
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    logs = KeyLogs(tls, frames)
    stage.serve(security=load(certs, logs))
    randoms = []
    for number in (1, 2):
        client = stage.client()
        randoms.append(random_of(client))
        client.open()
        log.wait_for("! the keys of this connection are logged", number, remote="127.0.0.1", level="warning")
    of_connection = [[line.split()[0] for line in lines(tls) if line.split()[1] == one.hex()] for one in randoms]
    assert list(map(set, of_connection)) == [TLS_LABELS, TLS_LABELS]
    assert len(lines(tls)) == 2 * len(TLS_LABELS)
    assert len(lines(frames)) == 4

    before = stage.server.security.context
    stage.server.use(load(certs, logs))  # files reloaded
    assert stage.server.security.context is not before
    stage.connect()
    assert len(lines(tls)) == 3 * len(TLS_LABELS)
    assert len(lines(frames)) == 6
    log.wait_for("! the keys of this connection are logged", 3)


def test_of_a_client_that_tls_refuses_the_keys_are_there_for_its_alert(
    stage: Stage, certs: Path, tmp_path: Path, log: Log
) -> None:
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    stage.serve(security=load(certs, KeyLogs(tls, frames)))
    client = stage.client(CertificateAuthority().client("mallory"))
    random = random_of(client)
    client.tls()
    log.wait_for("! refused")
    log.wait_for("! the keys of this connection are logged")
    assert {line.split()[0] for line in lines(tls)} >= {"SERVER_TRAFFIC_SECRET_0", "CLIENT_HANDSHAKE_TRAFFIC_SECRET"}
    assert {line.split()[1] for line in lines(tls)} == {random.hex()}
    assert lines(frames) == []


def test_a_server_that_was_not_told_to_logs_nothing(
    stage: Stage, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "tls.log"))
    monkeypatch.setenv("SECUREDELIVERY_FRAME_KEYLOG", str(tmp_path / "frames.log"))
    stage.serve()
    stage.connect()
    assert stage.server.security.context.keylog_filename is None
    assert not list(tmp_path.glob("*.log"))
    assert not log.find("logged")


def test_one_of_the_two_is_enough(stage: Stage, certs: Path, tmp_path: Path) -> None:
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    stage.serve(security=load(certs, KeyLogs(tls, None)))
    stage.connect()
    assert len(lines(tls)) == len(TLS_LABELS)
    stage.server.use(load(certs, KeyLogs(None, frames)))
    stage.connect()
    assert len(lines(tls)) == len(TLS_LABELS)
    assert len(lines(frames)) == 2


# Full disks

MIB = 1 << 20


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Files of this process may not grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_everybody_is_served_and_it_is_told_once(
    stage: Stage, certs: Path, tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    paths = tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    said: list[str] = []
    logs = KeyLogs(*paths, warn=said.append)
    for path in paths:  # so long that nothing else that tests write comes near
        path.write_text("# \n" * (2 * MIB // 3 + 1))
    size = tls.stat().st_size
    stage.serve(security=load(certs, logs))

    def connect() -> None:
        client = stage.connect()
        client.transmit(client.request(1, "inline.ping"))
        assert client.event().id == 1

    for _ in range(2):
        file_limit(size + 100)  # in the middle of a line
        for _ in range(3):
            connect()
        assert said == [
            f"{path}: keys could not be logged (File too large); connections go on without" for path in paths
        ]
        assert [path.stat().st_size for path in paths] == [size + 100] * 2
        said.clear()

        file_limit(resource.RLIM_INFINITY)
        connect()
        assert said == []
        for path, count in ((tls, len(TLS_LABELS)), (frames, 2)):
            torn, *whole = path.read_text()[size:].splitlines()  # what was torn stands on a line of its own
            assert len(torn) == 100
            assert len(whole) == count
            assert all(LINE.fullmatch(line) for line in whole)
            os.truncate(path, size)


def test_a_context_that_openssl_cannot_prepare_is_told_of(
    certs: Path, tmp_path: Path, client_context: ssl.SSLContext, file_limit: Callable[[int], None]
) -> None:
    said: list[str] = []
    tls = tmp_path / "tls.log"
    logs = KeyLogs(tls, None, warn=said.append)
    security = load(certs, None)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))  # no further file can be opened
    try:
        logs.prepare(security.context)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert said == ["the keys of a connection cannot be logged (Too many open files); it goes on without"]
    handshake(security.context, client_context)
    assert lines(tls) == []


def test_closed_key_logs_hold_nobody_up(certs: Path, tmp_path: Path, client_context: ssl.SSLContext) -> None:
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    logs = KeyLogs(tls, frames)
    security = load(certs, logs)
    logs.close()
    logs.close()
    for _ in range(100):  # far more than a pipe holds
        handshake(security.context, client_context)
    logs.frame_keys(E, C2S, S2C)
    assert lines(tls) == lines(frames) == []


def test_without_a_warn_of_its_own_python_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeyLogs(None, tmp_path / "frames.log").warn("words")
    assert [(one.name, one.levelname, one.message) for one in caplog.records] == [
        ("securedelivery", "WARNING", "words")
    ]
