import stat
import subprocess
import sys
from pathlib import Path

import pytest

from securedelivery.client import Profile
from securedelivery.client.profile import Found, StoredProfile, default_file, split_server
from securedelivery.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("shop.example.org:5556", ("shop.example.org", 5556)),
        ("shop.example.org", ("shop.example.org", 5555)),
        (" localhost ", ("localhost", 5555)),
        ("192.0.2.7:1", ("192.0.2.7", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::1]", ("::1", 5555)),
        ("2001:db8::7", ("2001:db8::7", 5555)),
        ("bücher.example:99", ("xn--bcher-kva.example", 99)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_server(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", ":5555", "host:", "host:0", "host:65536", "host:x", "host:-1", "host:٣", "[::1", "[::1]x", "[host]:1:2",
        "a b:1", "https://host", "user@host", "a..b:1", "x" * 300, "1:2:3", "host:5555\n:1",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        split_server(text)
    assert "HOST:PORT" in caught.value.hint


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SERVER", "CA", "CERT", "KEY", "CRL", "TLS_CA"):
        monkeypatch.delenv(f"SECUREDELIVERY_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_said(home: Path) -> None:
    assert Profile.load() == Profile("localhost:5555", None, None, None, None)
    assert default_file() == home / ".config" / "securedelivery" / "profile.toml"


def test_written_and_read(home: Path) -> None:
    stored = StoredProfile("shop:1", '/etc/ca "quoted" \\ ü.crt', "~/alice.crt", None, "")
    stored.write(default_file())
    assert StoredProfile.read(default_file()) == stored
    assert stat.S_IMODE(default_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(default_file().parent.stat().st_mode) == 0o700
    assert [path.name for path in default_file().parent.iterdir()] == ["profile.toml"]


def test_precedence(home: Path) -> None:
    StoredProfile("file:1", "/file/ca", "/file/cert", "/file/key", "/file/crl").write(default_file())
    environment = {"SECUREDELIVERY_SERVER": "environment:2", "SECUREDELIVERY_CA": "/environment/ca"}
    profile = Profile.load(flags={"server": "flag:3", "ca": None}, environment=environment)
    assert profile == Profile(
        "flag:3", Path("/environment/ca"), Path("/file/cert"), Path("/file/key"), Path("/file/crl")
    )
    sources = {name: found.source for name, found in Profile.search(environment=environment).items()}
    assert sources == {
        "server": "SECUREDELIVERY_SERVER", "ca": "SECUREDELIVERY_CA",
        "certificate": "file", "key": "file", "crl": "file", "tls_ca": None,
    }  # fmt: skip


def test_a_key_belongs_to_its_certificate(home: Path) -> None:
    """Another's certificate by a flag must not meet the key of the file."""
    StoredProfile(certificate="/file/alice.crt", key="/file/alice.key").write(default_file())
    profile = Profile.load(flags={"certificate": "/flag/bob.crt"}, environment={})
    assert profile.key == Path("/flag/bob.key")
    profile = Profile.load(flags={"certificate": "/flag/bob.crt", "key": "/flag/b.pem"}, environment={})
    assert profile.key == Path("/flag/b.pem")
    profile = Profile.load(flags={"key": "/flag/alice.key"}, environment={})
    assert (profile.certificate, profile.key) == (Path("/file/alice.crt"), Path("/flag/alice.key"))
    profile = Profile.load(environment={"SECUREDELIVERY_CERT": "/e/carl.crt"})
    assert profile.key == Path("/e/carl.key")


def test_an_empty_value_is_none(home: Path) -> None:
    StoredProfile("file:1", "/ca", "/file/alice.crt", "/file/alice.key", "/crl").write(default_file())
    profile = Profile.load(flags={"crl": ""}, environment={"SECUREDELIVERY_CERT": ""})
    assert (profile.certificate, profile.key, profile.crl) == (None, None, None)


def test_relative_paths_and_home(home: Path) -> None:
    StoredProfile(ca="ca.crt", crl="~/crl.pem").write(default_file())
    profile = Profile.load(flags={"certificate": "alice.crt"}, environment={})
    assert profile.ca == default_file().parent / "ca.crt"  # a file's begin where the file is
    assert profile.crl == home / "crl.pem"
    assert (profile.certificate, profile.key) == (home / "alice.crt", home / "alice.key")


def test_whom_to_trust_in_tls_alone(home: Path) -> None:
    """From flag, environment and file, in this order; "" ends the search; nowhere said, it is not the ca."""
    variable = "SECUREDELIVERY_TLS_CA"
    StoredProfile(ca="/ca").write(default_file())
    assert Profile.load(environment={}).tls_ca is None
    assert Profile.search(environment={})["tls_ca"] == Found(None, None)

    StoredProfile(ca="/ca", tls_ca="public.crt").write(default_file())
    beside = default_file().parent / "public.crt"  # a file's begin where the file is
    assert Profile.search(environment={})["tls_ca"] == Found(str(beside), "file")
    assert Profile.load(environment={}) == Profile(ca=Path("/ca"), tls_ca=beside)
    environment = {variable: "~/environment.crt"}
    assert Profile.search(environment=environment)["tls_ca"] == Found(str(home / "environment.crt"), variable)
    flags = {"tls_ca": "flag.crt"}
    assert Profile.search(flags=flags, environment=environment)["tls_ca"] == Found(str(home / "flag.crt"), "flag")
    assert Profile.load(flags=flags, environment=environment).tls_ca == home / "flag.crt"

    assert Profile.search(environment={variable: ""})["tls_ca"] == Found(None, variable)
    assert Profile.search(flags={"tls_ca": ""}, environment=environment)["tls_ca"] == Found(None, "flag")
    StoredProfile(ca="/ca", tls_ca="").write(default_file())
    assert Profile.search(environment={})["tls_ca"] == Found(None, "file")
    assert Profile.load(environment={}).tls_ca is None


def test_whom_to_trust_in_tls_is_written_and_read_and_never_found_by_itself(home: Path) -> None:
    folder = default_file().parent
    folder.mkdir(parents=True)
    for name in ("tls_ca", "tls_ca.crt", "tls-ca.crt", "ca.crt"):
        (folder / name).touch()
    assert Profile.load(environment={}) == Profile(ca=folder / "ca.crt")
    StoredProfile(tls_ca="/public ü.crt").write(default_file())
    assert default_file().read_text() == 'tls_ca = "/public ü.crt"\n'
    assert StoredProfile.read(default_file()) == StoredProfile(tls_ca="/public ü.crt")


def test_files_beside_the_profile_are_found(home: Path) -> None:
    folder = default_file().parent
    folder.mkdir(parents=True)
    for name in ("ca.crt", "client.crt", "client.key", "crl.pem"):
        (folder / name).touch()
    assert Profile.load(environment={}) == Profile(
        "localhost:5555", folder / "ca.crt", folder / "client.crt", folder / "client.key", folder / "crl.pem"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"server = 7", "str"),
        (b'sever = "x"', "sever"),
        (b"server", "profile.toml"),
        (b'server = "\xff"', "profile.toml"),
        (b'server = "a b:1"', "not an address"),
    ],
)
def test_a_file_that_cannot_be_used(home: Path, content: bytes, words: str) -> None:
    default_file().parent.mkdir(parents=True)
    default_file().write_bytes(content)
    default_file().chmod(0o600)
    with pytest.raises(ConfigurationError, match=words) as caught:
        Profile.load(environment={})
    assert caught.value.hint


def test_a_file_that_others_may_change(home: Path) -> None:
    StoredProfile("shop:1").write(default_file())
    default_file().chmod(0o622)
    with pytest.raises(ConfigurationError, match="others may change it"):
        Profile.load(environment={})


def test_a_value_that_no_line_can_hold(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="control character"):
        StoredProfile(ca='/a\nserver = "evil"').write(default_file())


def test_a_folder_that_cannot_be_written(home: Path) -> None:
    (home / ".config").write_text("a file")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        StoredProfile(ca="/ca").write(default_file())


def test_imports_are_those_of_a_customer() -> None:
    """No database, no web, no terminal libraries; and for the profile alone no cryptography either."""
    code = """
import sys
import securedelivery.client.profile
assert "cryptography" not in sys.modules and "ssl" not in sys.modules
from securedelivery.client import Client
heavy = {"sqlalchemy", "alembic", "argon2", "structlog", "typer", "rich", "litestar", "securedelivery.service"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
