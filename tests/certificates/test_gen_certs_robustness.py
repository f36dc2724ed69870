"""gen_certs.sh among killed runs, other runs, other users and odd surroundings."""

from __future__ import annotations

import fcntl
import os
import random
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from certificates.authority import REPOSITORY, SCRIPT, Authority, contents
from cryptography import x509
from cryptography.hazmat.primitives import serialization


def assert_whole(folder: Path) -> None:
    """Every pair matches, the index and names.txt know every certificate."""
    index = (folder / "index.txt").read_text() if (folder / "index.txt").exists() else ""
    for path in folder.rglob("*.crt"):
        if ".new" in path.parts or ".commit" in path.parts:
            continue
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(path.with_suffix(".key").read_bytes(), password=None)
        assert key.public_key() == certificate.public_key(), path
        assert path.name == "ca.crt" or f"{certificate.serial_number:X}" in index
    if (folder / "ca.crt").exists():
        named = (folder / "names.txt").read_text().splitlines()
        assert {path.stem for path in folder.glob("clients/*.crt")} <= set(named)


def wait_for_orphans(folder: Path) -> None:
    """A killed run's child may still be at work; it holds the lock until it ends."""
    if (folder / ".lock").exists():
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


def kill_after(authority: Authority, seconds: float, *words: str) -> None:
    process = subprocess.Popen(
        authority.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    time.sleep(seconds)  # the moment is the test
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_orphans(authority.folder)


def test_killed_at_any_moment(authority: Authority) -> None:
    chance = random.Random(20261122)
    begin = time.monotonic()
    authority.done("--force")
    length = time.monotonic() - begin
    commands = [
        ("--force",),
        ("renew", "alice"),
        ("client", "alice", "--force"),
        ("revoke", "alice"),
        ("renew", "server"),
    ]
    for turn in range(10):
        words = commands[turn % len(commands)]
        kill_after(authority, chance.uniform(0, length), *words)
        if not (authority.folder / ".commit").exists():
            assert_whole(authority.folder)
        authority.done("crl")
        assert_whole(authority.folder)
        assert not {".new", ".commit"} & {path.name for path in authority.folder.iterdir()}
    authority.done("verify")


def test_first_run_killed(tmp_path: Path) -> None:
    chance = random.Random(1)
    for turn in range(6):
        authority = Authority(tmp_path / f"{turn}")
        kill_after(authority, chance.uniform(0, 0.1))
        authority.done()
        assert_whole(authority.folder)
        authority.done("verify")


def sabotage(tmp_path: Path, tool: str, when: str, deed: str) -> dict[str, str]:
    """Puts a program first on PATH that, when its words fit the pattern, does a deed to the script, then goes on.

    The script is found among the program's ancestors by its name, so that no other process can ever be hit.
    """
    folder = tmp_path / "tools"
    folder.mkdir(exist_ok=True)
    path = folder / tool
    path.write_text(f"""#!/bin/bash
script=
for ((pid = PPID; pid > 1; )); do
  mapfile -d '' -t words <"/proc/$pid/cmdline"
  [[ ${{words[1]-}} != */gen_certs.sh ]] || script=$pid
  read -r _ _ _ pid _ <<<"$(</proc/$pid/stat)"
done
when={shlex.quote(when)}
if [[ -n $script && $* == $when ]]; then
  {deed}
fi
exec {shutil.which(tool)} "$@"
""")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


KILL = 'kill -9 "$script"'


@pytest.mark.parametrize(
    ("tool", "when", "decided"),
    [
        ("openssl", "genpkey*", False),
        ("openssl", "*-force_pubkey*", False),
        ("sync", "*.new*", False),
        ("mv", "*.commit", True),
        ("mv", "*clients/", True),
        ("mv", "* ./", True),
        ("rm", "*.commit", True),
    ],
)
def test_killed_at_each_step(authority: Authority, tmp_path: Path, tool: str, when: str, decided: bool) -> None:
    before = contents(authority.folder)
    result = authority.run("renew", "alice", env=sabotage(tmp_path, tool, when, KILL))
    assert result.returncode == -signal.SIGKILL, result
    wait_for_orphans(authority.folder)
    if decided:
        # The new files are on the disk and the next run puts them into place.
        authority.done("list")
        assert contents(authority.folder)["clients/alice.crt"] != before["clients/alice.crt"]
    else:
        now = contents(authority.folder)
        assert {name: value for name, value in now.items() if not name.startswith(".new")} == before
        authority.done("list")
        assert contents(authority.folder) == before
    assert_whole(authority.folder)
    authority.done("verify")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_cleans_up(authority: Authority, tmp_path: Path, number: signal.Signals) -> None:
    before = contents(authority.folder)
    environment = sabotage(tmp_path, "openssl", "genpkey*", f'kill -{number.value} "$script"')
    result = authority.run("renew", "alice", env=environment)
    assert (result.returncode, result.stderr) == (1, "error: interrupted: nothing was changed; run again\n")
    assert contents(authority.folder) == before
    assert not (authority.folder / ".new").exists()


def test_failing_disk_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    environment = sabotage(tmp_path, "sync", "*", "exit 1")
    assert "disk" in authority.refused("renew", "alice", env=environment)
    environment = sabotage(tmp_path, "openssl", "*-force_pubkey*", "exit 1")
    authority.refused("renew", "alice", env=environment)
    assert not (authority.folder / ".new").exists()


@pytest.mark.parametrize(
    ("tool", "when", "words"),
    [
        ("cp", "index.txt*", ["renew", "alice"]),
        ("cp", "names.txt*", ["client", "bob"]),
        ("mkdir", "*.new*", ["renew", "alice"]),
        ("mv", "*index*", ["revoke", "alice"]),
        ("mv", "*.commit", ["crl"]),
        ("chmod", "*", ["crl"]),
        ("sync", "*", ["crl"]),
    ],
)
def test_what_tools_say_of_a_full_disk_stays_out(
    authority: Authority, tmp_path: Path, tool: str, when: str, words: list[str]
) -> None:
    deed = f"echo '{tool}: No space left on device' >&2; exit 1"
    authority.refused(*words, env=sabotage(tmp_path, tool, when, deed))


def test_many_at_once(authority: Authority) -> None:
    names = [f"client{number}" for number in range(6)]
    processes = [
        subprocess.Popen(
            authority.command("client", name), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for name in [*names, "client0"]
    ]
    results = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert sorted(code for _, code in results) == [0] * 6 + [1]  # of the two that wanted client0, one
    assert_whole(authority.folder)
    assert sorted((authority.folder / "names.txt").read_text().split()) == ["alice", *names]
    authority.done("verify")


def test_waiting_for_another_run(authority: Authority) -> None:
    with (authority.folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(authority.command("crl"), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "waiting for another run" in process.stdout.readline()
        assert process.poll() is None
    assert "crl.pem: made" in process.communicate(timeout=30)[0]
    assert process.returncode == 0


def test_old_openssl(nothing: Authority, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for version in ("OpenSSL 1.1.1w  11 Sep 2023", "LibreSSL 3.8.2", "OpenSSL 0.9.8", ""):
        (tools / "openssl").write_text(f"#!/bin/sh\necho '{version}'\n")
        (tools / "openssl").chmod(0o755)
        environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
        assert "OpenSSL 3" in nothing.refused(env=environment)
        assert not nothing.folder.exists()


def test_missing_openssl(nothing: Authority, tmp_path: Path) -> None:
    for tool in ("bash", "readlink", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    assert "openssl is missing" in nothing.refused(env={"PATH": str(tmp_path)})


def test_missing_configuration(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path)
    lonely = Authority(tmp_path / "folder", tmp_path / "gen_certs.sh")
    assert "openssl.cnf is missing" in lonely.refused()
    assert not lonely.folder.exists()


# ------------------------------------------------------------------------------------------------------ another user


def run_unprivileged(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    identity: dict[str, object] = (
        {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    )
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [str(script), *words], capture_output=True, text=True, check=False, cwd="/", timeout=60, **identity
    )


@pytest.fixture
def open_folder() -> Path:
    """A copy of the script and its configuration where anybody can get at it."""
    folder = Path(tempfile.mkdtemp(prefix="gen-certs-"))
    folder.chmod(0o755)
    shutil.copy(SCRIPT, folder)
    (folder / "certs").mkdir(mode=0o755)
    shutil.copy(REPOSITORY / "certs" / "openssl.cnf", folder / "certs")
    return folder


def assert_one_line(result: subprocess.CompletedProcess[str], part: str) -> None:
    assert result.returncode == 1, result
    assert result.stderr.startswith("error: "), result
    assert result.stderr.count("\n") == 1, result
    assert part in result.stderr


def test_unwritable_folder(open_folder: Path, template: Path) -> None:
    script = open_folder / "gen_certs.sh"
    try:
        assert_one_line(run_unprivileged(script, "--dir", str(open_folder / "new")), "cannot make the folder")
        (open_folder / "certs").chmod(0o555)
        assert_one_line(run_unprivileged(script), "cannot write in")
        assert [path.name for path in (open_folder / "certs").iterdir()] == ["openssl.cnf"]
        filled = open_folder / "filled"
        shutil.copytree(template, filled)
        filled.chmod(0o555)
        before = contents(filled)
        for words in (["client", "bob"], ["renew", "server"], ["revoke", "alice"], ["crl"], [], ["p12", "alice"]):
            assert_one_line(run_unprivileged(script, "--dir", str(filled), *words), "cannot write in")
        assert contents(filled) == before
        filled.chmod(0o000)
        if os.geteuid() == 0:
            assert_one_line(run_unprivileged(script, "--dir", str(filled), "client", "bob"), "cannot enter")
        filled.chmod(0o755)
    finally:
        for path in (open_folder / "certs", open_folder / "filled"):
            if path.exists():
                path.chmod(0o755)
        shutil.rmtree(open_folder)


def test_unprivileged_owner_can_do_it_all(open_folder: Path) -> None:
    script, folder = open_folder / "gen_certs.sh", open_folder / "own"
    try:
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        for words in ([], ["client", "alice"], ["renew", "server"], ["revoke", "alice"], ["verify"]):
            result = run_unprivileged(script, "--dir", str(folder), *words)
            assert (result.returncode, result.stderr) == (0, ""), result
        (folder / "clients").chmod(0o500)
        before = contents(folder)
        assert_one_line(run_unprivileged(script, "--dir", str(folder), "client", "bob"), "cannot write in")
        assert contents(folder) == before
        (folder / "clients").chmod(0o700)
        folder.chmod(0o500)
        assert run_unprivileged(script, "--dir", str(folder), "verify").returncode == 0
        assert run_unprivileged(script, "--dir", str(folder), "list").returncode == 0
        folder.chmod(0o700)
    finally:
        shutil.rmtree(open_folder)


# ---------------------------------------------------------------------------------------------------- odd surroundings


@pytest.mark.parametrize("name", ["-", "-dash and space", "quote'\"$HOME`id`\numlaut-ä a#b;c[d]=e\\*"])
def test_odd_folders(tmp_path: Path, name: str) -> None:
    for words in ([], ["client", "alice"], ["revoke", "alice"], ["verify"], ["list"]):
        result = subprocess.run(
            [SCRIPT, "--dir", name, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, ""), result
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_whole(tmp_path / name)
    refused = subprocess.run(
        [SCRIPT, "--dir", name, "client", "alice"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.stderr.count("\n") == 1


def test_hostile_environment(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "certs").mkdir(parents=True)
    (tmp_path / "bad.cnf").write_text("[nonsense")
    environment = os.environ | {
        "CDPATH": str(tmp_path / "elsewhere"), "OPENSSL_CONF": str(tmp_path / "bad.cnf"), "POSIXLY_CORRECT": "1",
        "SUBJECT_ALT_NAME": "DNS:evil", "IFS": "/", "LC_ALL": "C.UTF-8", "BASHOPTS": "nocasematch",
        "TZ": "Asia/Kolkata", "staged": "yes",
        "force": "yes", "name": "x", "alt_names": "DNS:evil", "command": "revoke", "csr": "/etc/passwd",
        "trust_domain": "evil", "days": "1", "GLOBIGNORE": "*", "lock": "1",
    }  # fmt: skip
    environment.pop("LANG", None)
    for words in ([], ["client", "alice"], ["verify"]):
        result = subprocess.run(
            [SCRIPT, "--dir", "certs", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, ""), result
    assert list((tmp_path / "elsewhere" / "certs").iterdir()) == []
    certificate = x509.load_pem_x509_certificate((tmp_path / "certs/clients/alice.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://securedelivery.local/account/alice"]
    server = x509.load_pem_x509_certificate((tmp_path / "certs/server.crt").read_bytes())
    assert b"evil" not in server.public_bytes(serialization.Encoding.DER)


def test_closed_streams(authority: Authority) -> None:
    for name, closed in (("bob", "<&-"), ("carol", ">&-"), ("dave", "2>&-"), ("erin", "<&- >&- 2>&-")):
        subprocess.run(["bash", "-c", f'"$@" {closed}', "-", *authority.command("client", name)], check=True)
    assert (authority.folder / ".lock").read_bytes() == b""
    authority.done("verify")


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    result = Authority(path).run()
    assert (result.returncode, result.stderr.count("\n"), path.read_text()) == (1, 1, "precious")


def test_git_ignores_all_that_is_made(tmp_path: Path, template: Path) -> None:
    certs = tmp_path / "certs"
    shutil.copytree(template, certs)
    for name in (".gitignore", "openssl.cnf", "README.md"):
        shutil.copy(REPOSITORY / "certs" / name, certs)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    result = subprocess.run([*git, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True)
    assert sorted(result.stdout.split()[1::2]) == ["certs/.gitignore", "certs/README.md", "certs/openssl.cnf"]
