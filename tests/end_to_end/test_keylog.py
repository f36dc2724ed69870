"""Key logs of real processes, and that a recording opens with them and not without."""

import os
import signal
import stat
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from end_to_end.customers import ProfileOf, StartServer
from end_to_end.recording_line import RecordingLine
from end_to_end.server_process import ServerProcess, environment
from wire_client import Address

from securedelivery.client import Client
from securedelivery.transport.keylog import KeyLogs

SECONDS = 60.0
CONNECTION = "! the keys of this connection are logged"
TLS_LINES, FRAME_LINES = 5, 2  # of a connection


def variables(folder: Path, who: str) -> dict[str, str]:
    return {
        "SSLKEYLOGFILE": str(folder / f"{who}-tls.log"),
        "SECUREDELIVERY_FRAME_KEYLOG": str(folder / f"{who}-frames.log"),
    }


def logged(folder: Path, who: str) -> tuple[list[str], list[str]]:
    """The lines about TLS, sorted, and those about frames."""
    tls, frames = (Path(one).read_text("ascii").splitlines() for one in variables(folder, who).values())
    return sorted(tls), frames


Ping = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ping(profile_of: ProfileOf) -> Ping:
    """Call it with an address, flags, variables: `securedelivery ping` as alice."""

    def run(address: Address, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
        profile = profile_of(address, "alice")
        command = [sys.executable, "-m", "securedelivery", "ping", "--server", f"localhost:{address[1]}"]
        command += ["--ca", str(profile.ca), "--cert", str(profile.certificate), *flags]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env={**environment(), **more}
        )

    return run


def test_both_sides_log_the_same(tmp_path: Path, start_server: StartServer, ping: Ping) -> None:
    server = start_server(flags=["--key-log"], variables=variables(tmp_path, "server"))
    tls_file, frame_file = (names := variables(tmp_path, "client")).values()
    done = ping(server.address, "--key-log", **names)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"warning: --key-log: whoever has {tls_file} and {frame_file} and a recording reads everything in it:"
        " delete them afterwards\n"
        f"warning: the keys of this connection to localhost:{server.address[1]} are logged in"
        f" {tls_file} and {frame_file}\n"
    )
    tls, frames = logged(tmp_path, "server")
    assert (tls, frames) == logged(tmp_path, "client")
    assert (len(tls), len({line.split()[1] for line in tls})) == (TLS_LINES, 1)
    assert [line.split()[0] for line in frames] == ["SD_FRAME_KEY_C2S", "SD_FRAME_KEY_S2C"]
    assert len({line.split()[1] for line in frames}) == 1
    for path in tmp_path.glob("*.log"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    start, connections = (
        [line for line in server.log.text.splitlines() if words in line]
        for words in ("! the keys of all connections are logged", CONNECTION)
    )
    assert len(start) == 1
    assert "warning" in start[0]
    assert all(file in start[0] for file in variables(tmp_path, "server").values())
    assert len(connections) == 1
    assert "warning" in connections[0]
    assert "remote=127.0.0.1" in connections[0]
    assert not [line for line in frames if line.split()[2] in server.log.text]


def test_a_reload_goes_on_in_the_same_files(tmp_path: Path, start_server: StartServer, ping: Ping) -> None:
    server = start_server(flags=["--keylog"], variables=variables(tmp_path, "server"))
    assert ping(server.address).returncode == 0
    inodes = {path: path.stat().st_ino for path in tmp_path.glob("*.log")}
    assert len(inodes) == 2
    # What stands in their place from now on is not touched.
    moved = {path: path.rename(path.with_suffix(".moved")) for path in inodes}
    (tmp_path / "victim").write_text("precious")
    for path in inodes:
        path.symlink_to(tmp_path / "victim")
    position = server.log.position
    server.signal(signal.SIGHUP)
    server.log.wait_for("files reloaded", since=position)
    assert ping(server.address).returncode == 0
    server.log.wait_for(CONNECTION, since=position)
    for path, inode in inodes.items():
        assert moved[path].stat().st_ino == inode
        expected = TLS_LINES if "tls" in path.name else FRAME_LINES
        assert len(moved[path].read_text().splitlines()) == 2 * expected
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_variable_alone_writes_nothing(tmp_path: Path, start_server: StartServer, ping: Ping) -> None:
    server = start_server(variables=variables(tmp_path, "server"))
    done = ping(server.address, **variables(tmp_path, "client"))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    text = server.log.text
    assert "= SECUREDELIVERY_FRAME_KEYLOG is set, but without --key-log no key is written to it" in text
    assert "logged" not in text


def test_without_variables_there_is_no_word_about_keys(start_server: StartServer, ping: Ping, tmp_path: Path) -> None:
    server = start_server(variables={"SSLKEYLOGFILE": str(tmp_path / "browser.log"), "SECUREDELIVERY_FRAME_KEYLOG": ""})
    assert ping(server.address).returncode == 0
    assert "KEYLOG" not in server.log.text
    assert not (tmp_path / "browser.log").exists()


def refused(folder: Path, certs: Path, *arguments: str, **more: str) -> str:
    """What `serve` says on its way out with exit code 2; it has touched nothing."""
    command = [sys.executable, "-m", "securedelivery", *arguments]
    command += ["--certs", str(certs), "--listen", "127.0.0.1:0", "--database", f"sqlite:///{folder}/shop.db"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, env={**environment(), **more}
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert not (folder / "shop.db").exists()
    return done.stderr


@pytest.mark.parametrize("flags", [["serve", "--key-log"], ["serve", "--keylog"], ["--key-log", "serve"]])
def test_the_flag_alone_is_refused(tmp_path: Path, certs: Path, flags: list[str]) -> None:
    assert refused(tmp_path, certs, *flags, SSLKEYLOGFILE="") == (
        "error: --key-log: no file is named: neither SSLKEYLOGFILE nor SECUREDELIVERY_FRAME_KEYLOG is set\n"
        "hint: set SSLKEYLOGFILE=tls-keys.log and SECUREDELIVERY_FRAME_KEYLOG=frame-keys.log, or leave out --key-log\n"
    )


def test_a_file_that_others_can_read_is_refused(tmp_path: Path, certs: Path) -> None:
    path = tmp_path / "keys.log"
    path.touch()
    path.chmod(0o644)
    assert refused(tmp_path, certs, "serve", "--key-log", SSLKEYLOGFILE=str(path)) == (
        f"error: {path}: no keys are written here: others may read or write it (mode 0644)\n"
        f"hint: chmod 600 {path}, or name a new file\n"
    )


def test_the_warnings_cannot_be_turned_off(tmp_path: Path, certs: Path) -> None:
    path = tmp_path / "keys.log"
    said = refused(tmp_path, certs, "serve", "--key-log", SSLKEYLOGFILE=str(path), SECUREDELIVERY_LOG_LEVEL="error")
    assert said.startswith("error: log.level: error would hide the warnings that go with --key-log\nhint: ")
    assert not path.exists()


def test_the_flag_is_no_setting(tmp_path: Path, certs: Path) -> None:
    """A forgotten one would log for ever."""
    config = tmp_path / "shop.toml"
    config.write_text("[server]\nkey_log = true\n")
    assert "server.key_log: there is no such setting" in refused(tmp_path, certs, "serve", "--config", str(config))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_no_connection_and_is_told(
    small_disk: Path, start_server: StartServer, profile_of: ProfileOf
) -> None:
    server = start_server(flags=["--key-log"], variables=variables(small_disk, "server"))
    for _ in range(20):
        with Client(profile_of(server.address, "alice")) as client:
            client.ping()
    told = [line for line in server.log.text.splitlines() if "keys could not be logged" in line]
    assert len(told) == 2  # once for each file
    assert all("No space left on device" in line for line in told)
    assert len([line for line in server.log.text.splitlines() if CONNECTION in line]) == 20


# A recording


def test_a_recording_opens_with_the_keys(tmp_path: Path, server: ServerProcess, profile_of: ProfileOf) -> None:
    tls_file, frame_file = tmp_path / "tls.log", tmp_path / "frames.log"
    with RecordingLine(server.address) as line:
        said: list[str] = []
        logs = KeyLogs(tls_file, frame_file, warn=said.append)
        with Client(profile_of(line.address, "olga"), key_logs=logs) as client:
            client.create_account("olga", address="5 Harbour Lane")
            for _ in range(3):
                client.ping()
    assert len(said) == 1
    assert b"Harbour" not in line.sent + line.received
    tls, frames = secrets(tls_file), secrets(frame_file)

    to_server = stream(line.sent, tls["CLIENT_HANDSHAKE_TRAFFIC_SECRET"], tls["CLIENT_TRAFFIC_SECRET_0"])
    to_client = stream(line.received, tls["SERVER_HANDSHAKE_TRAFFIC_SECRET"], tls["SERVER_TRAFFIC_SECRET_0"])
    assert b"Harbour" not in to_server + to_client
    (initiator_e,) = {line.split()[1] for line in frame_file.read_text().splitlines()}
    assert to_server[4:36].hex() == initiator_e

    said_by_client = opened(to_server, frames["SD_FRAME_KEY_C2S"])
    said_by_server = opened(to_client, frames["SD_FRAME_KEY_S2C"])
    assert [kind for kind, _ in said_by_client] == [2, 3, 3, 3, 3, 4]
    assert b'"method":"account.create"' in said_by_client[1][1]
    assert b"5 Harbour Lane" in said_by_client[1][1]
    assert [kind for kind, _ in said_by_server] == [2, 3, 3, 3, 3, 3, 4]
    assert b'"method":"system.welcome"' in said_by_server[1][1]
    assert b"5 Harbour Lane" in said_by_server[2][1]
    with pytest.raises(InvalidTag):  # each direction has its own
        opened(to_server, frames["SD_FRAME_KEY_S2C"])


def secrets(path: Path) -> dict[str, bytes]:
    return {label: bytes.fromhex(secret) for label, _, secret in map(str.split, path.read_text().splitlines())}


def stream(raw: bytes, handshake: bytes, application: bytes) -> bytes:
    """The application data of one direction of a TLS 1.3 connection with AES-256-GCM and SHA-384 (RFC 8446, 5.2)."""
    plaintexts = defaultdict(bytes)
    secret, sequence = handshake, 0
    while raw:
        length = int.from_bytes(raw[3:5])
        header, body, raw = raw[:5], raw[5 : 5 + length], raw[5 + length :]
        if header[0] != 23:
            continue  # in clear
        try:
            inner = open_record(secret, sequence, header, body)
        except InvalidTag:
            secret, sequence = application, 0
            inner = open_record(secret, sequence, header, body)
        sequence += 1
        inner = inner.rstrip(b"\0")
        plaintexts[inner[-1]] += inner[:-1]
    return plaintexts[23]


def open_record(secret: bytes, sequence: int, header: bytes, body: bytes) -> bytes:
    key, iv = expand(secret, b"tls13 key", 32), expand(secret, b"tls13 iv", 12)
    nonce = int.from_bytes(iv) ^ sequence
    return AESGCM(key).decrypt(nonce.to_bytes(12), body, header)


def expand(secret: bytes, label: bytes, length: int) -> bytes:
    info = length.to_bytes(2) + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(SHA384(), length, info).derive(secret)


def opened(frames: bytes, key: bytes) -> list[tuple[int, bytes]]:
    """The kinds and plaintexts of what is sealed."""
    result = []
    while frames:
        length = int.from_bytes(frames[2:4])
        header, body, frames = frames[:4], frames[4 : 4 + length], frames[4 + length :]
        if header[0] != 1:
            result.append((header[0], AESGCM(key).decrypt(bytes(4) + len(result).to_bytes(8), body, header)))
    return result
