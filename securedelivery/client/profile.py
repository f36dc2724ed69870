"""Where the service is, whom to trust and as whom to come; and the file that remembers it.

Each setting is looked for in this order: the caller's (flags), the environment, the file, the configuration folder's
ca.crt, client.crt, client.key and crl.pem, the default. An empty value says "none" and ends the search.
"""

import json
import os
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path

import msgspec
import platformdirs

from securedelivery.client.private_file import replace_private
from securedelivery.errors import ConfigurationError

__all__ = ["ENVIRONMENT", "Found", "Profile", "StoredProfile", "default_file", "split_server"]

DEFAULT_SERVER = "localhost:5555"
DEFAULT_PORT = 5555

ENVIRONMENT = {
    "server": "SECUREDELIVERY_SERVER",
    "ca": "SECUREDELIVERY_CA",
    "certificate": "SECUREDELIVERY_CERT",
    "key": "SECUREDELIVERY_KEY",
    "crl": "SECUREDELIVERY_CRL",
    "tls_ca": "SECUREDELIVERY_TLS_CA",
}
_FILES = {"ca": "ca.crt", "certificate": "client.crt", "key": "client.key", "crl": "crl.pem"}
_MAX_FILE_BYTES = 65_536


class StoredProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """profile.toml. Paths are those that were given; relative ones begin at the file's folder, ~ is the home folder."""

    server: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    crl: str | None = None
    tls_ca: str | None = None

    @classmethod
    def read(cls, file: Path) -> "StoredProfile":
        """The file's; all None where there is no file. Raises ConfigurationError."""
        try:
            with file.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                content = stream.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise ConfigurationError(
                str(file), f"cannot be read ({error.strerror})", "give this user the right to read it"
            ) from error
        if mode & 0o022:  # it says whom to trust
            raise ConfigurationError(str(file), "others may change it", f"chmod 600 {file}")
        try:
            return msgspec.toml.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                str(file), str(error), "correct it, or remove it and use: securedelivery profile set"
            ) from error

    def write(self, file: Path) -> None:
        """Replace the file (mode 0600) as a whole. Raises ConfigurationError."""
        lines = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            if not value.isprintable():
                raise ConfigurationError(name, "there is a control character in it", "give a plain path")
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}\n")
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_private(file, "".join(lines))
        except OSError as error:
            raise ConfigurationError(
                str(file), f"cannot be written ({error.strerror})", "give this user the right to write there"
            ) from error


class Found(msgspec.Struct, frozen=True):
    """A setting and its source: `flag`, the variable's name, `file`, `folder`, `default`, or None for nowhere."""

    value: str | None
    source: str | None


class Profile(msgspec.Struct, frozen=True):
    """server: HOST:PORT, HOST, [IPv6]:PORT or IPv6; certificate, key: both or neither; crl: None skips that check.

    tls_ca: whom to trust in TLS, where a proxy ends it whose certificate is of another authority; by default ca.
    Inside, ca alone counts, so that proxy cannot be taken for the server.
    """

    server: str = DEFAULT_SERVER
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    crl: Path | None = None
    tls_ca: Path | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets, internationalised names in their ASCII form) and port. Raises ConfigurationError."""
        return split_server(self.server)

    @classmethod
    def load(
        cls,
        *,
        flags: Mapping[str, str | None] | None = None,
        environment: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> "Profile":
        """From flags, environment (os.environ) and file (default_file()), in this order. Raises ConfigurationError.

        flags: by the names of the fields; None is not given.
        """
        found = cls.search(flags=flags, environment=environment, file=file)
        values = {name: one.value for name, one in found.items()}
        server = values.pop("server") or DEFAULT_SERVER
        split_server(server)
        return cls(server, **{name: Path(value) if value else None for name, value in values.items()})

    @staticmethod
    def search(
        *,
        flags: Mapping[str, str | None] | None = None,
        environment: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> dict[str, Found]:
        """As load, but every setting with its source; paths are absolute."""
        flags = flags or {}
        environment = os.environ if environment is None else environment
        file = file or default_file()
        stored = StoredProfile.read(file)
        folder = file.parent
        here = Path.cwd()
        found: dict[str, Found] = {}
        certificate_rank = 0
        for name, variable in ENVIRONMENT.items():
            layers = [
                ("flag", flags.get(name), here),
                (variable, environment.get(variable), here),
                ("file", getattr(stored, name), folder),
                ("folder", _in_folder(folder, name), folder),
            ]
            if name == "key":
                # A key belongs to its certificate: one from further down would be another's.
                layers = layers[: certificate_rank + 1]
                layers.append((layers[-1][0], _beside(found["certificate"].value), here))
            rank, source, value, base = next(
                ((rank, *layer) for rank, layer in enumerate(layers) if layer[1] is not None), (0, None, None, here)
            )
            if name == "certificate":
                certificate_rank = rank if value else len(layers)
            if value and name != "server":
                value = str(base / Path(value).expanduser())
            found[name] = Found(value or None, source)
        if found["server"].value is None:
            found["server"] = Found(DEFAULT_SERVER, "default")
        if found["certificate"].value is None:
            found["key"] = Found(None, None)
        return found


def _in_folder(folder: Path, name: str) -> str | None:
    path = folder / _FILES[name] if name in _FILES else None
    return str(path) if path is not None and path.is_file() else None


def _beside(certificate: str | None) -> str | None:
    """The key that gen_certs.sh puts beside a certificate: alice.crt, alice.key."""
    return str(Path(certificate).with_suffix(".key")) if certificate else None


def default_file() -> Path:
    """profile.toml in the user's configuration folder (XDG_CONFIG_HOME, mostly ~/.config/securedelivery)."""
    return Path(platformdirs.user_config_dir("securedelivery", appauthor=False)) / "profile.toml"


def split_server(text: str, *, key: str = "server", lowest_port: int = 1) -> tuple[str, int]:
    """Host and port of HOST:PORT, HOST, [IPv6]:PORT or IPv6. Raises ConfigurationError that names the key.

    lowest_port: 0 for who listens and takes any.
    """

    def wrong(why: str) -> ConfigurationError:
        return ConfigurationError(key, f"{text!r} {why}", "write HOST:PORT, for example shop.example.org:5555")

    host, separator, port_text = text.strip(), "", ""
    if host.startswith("["):
        host, closing, rest = host[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise wrong("is not an address")
        separator, port_text = rest[:1], rest[1:]
    elif host.count(":") == 1:
        host, separator, port_text = host.partition(":")
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError:
            raise wrong("is not an address") from None
    if not separator:
        port = DEFAULT_PORT
    elif port_text.isascii() and port_text.isdigit() and lowest_port <= int(port_text) < 65_536:  # noqa: PLR2004 -- TCP's
        port = int(port_text)
    else:
        raise wrong(f"has no port from {lowest_port} to 65535")
    try:
        ascii_host = host.encode("idna").decode()
    except UnicodeError:
        raise wrong("has a host name that cannot be") from None
    if not ascii_host or not ascii_host.isprintable() or any(character in ascii_host for character in " /@"):
        raise wrong("is not an address")
    return ascii_host, port
