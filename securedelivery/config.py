"""Settings: a TOML file, then the environment, then flags. Parsed once, frozen; errors name the key and the remedy.

A key `connections` under `[limits]` is SECUREDELIVERY_LIMITS_CONNECTIONS in the environment.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from securedelivery.errors import ConfigurationError
from securedelivery.mail.addresses import address_of
from securedelivery.mail.settings import PORTS, MailServer, MailSettings
from securedelivery.model import MailRoute
from securedelivery.protocol.certificates import TRUST_DOMAIN
from securedelivery.service.accounts import AccountSettings
from securedelivery.service.rewards import RewardRules
from securedelivery.telemetry import LogSettings
from securedelivery.transport.server import Limits
from securedelivery.web.settings import WebSettings

__all__ = ["ServerSettings", "Settings", "ShopSettings", "load", "split_address"]

MAX_LIMIT = 10**9  # seconds, bytes or pieces: what is larger is a slip, and infinity no number to count to
MAX_THREADS = 256
TEXTS = (str, str | None)  # in the environment they stand as they are, without quotes
DEFAULT_TRUST_DOMAIN = "securedelivery.local"  # gen_certs.sh has the same


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[server]`."""

    listen: str = "0.0.0.0:5555"
    certs: str = "certs"
    """The folder of gen_certs.sh."""
    client_certificates: Literal["required", "optional"] = "required"
    trust_domain: str | None = None
    """That of the identities in client certificates; by default the one that gen_certs.sh noted in the certs folder."""
    trusted_proxies: tuple[str, ...] = ()
    """spiffe://<trust domain>/proxy/<name>, one for each TLS-terminating proxy in front of the server."""


class ShopSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[shop]`."""

    name: str = "securedelivery"
    currency: str = "EUR"
    """ISO 4217; all prices are in its minor units."""
    low_stock: int = 5
    """The operator's figures list products of which no more than so many are left."""


class DatabaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[database]`."""

    url: str = "sqlite:///securedelivery.db"
    """sqlite:///relative/path or sqlite:////absolute/path."""
    key_file: str | None = None
    """The key to names, addresses, notes and chat, made at the first start; by default NAME.key beside the database."""
    passphrase_file: str | None = None
    """Instead of a key file: the first line of this file is what the key comes from (Argon2id)."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: ServerSettings = ServerSettings()
    shop: ShopSettings = ShopSettings()
    database: DatabaseSettings = DatabaseSettings()
    limits: Limits = Limits()
    accounts: AccountSettings = AccountSettings()
    rewards: RewardRules = RewardRules()
    log: LogSettings = LogSettings()
    mail: MailSettings = MailSettings()
    web: WebSettings = WebSettings()

    @property
    def certs(self) -> Path:
        return Path(self.server.certs)

    @property
    def trust_domain(self) -> str:
        """Raises ConfigurationError where the noted one cannot be read or is none."""
        if self.server.trust_domain is not None:
            return self.server.trust_domain
        noted = self.certs / "trust-domain"
        try:
            return noted.read_text().strip()
        except FileNotFoundError:
            return DEFAULT_TRUST_DOMAIN
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(str(noted), str(error), "set trust_domain under [server]") from error


def load(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Settings from the file at path (None: no file), the environment and flags.

    flags: values by dotted key, such as {"server.listen": ":5555"}; None is absent. Raises ConfigurationError.
    """
    values = _read(path) if path is not None else {}
    _check_file(values)
    variables = {f"SECUREDELIVERY_{'_'.join(place)}".upper(): (place, kind) for place, kind in _places(Settings)}
    for variable, (place, kind) in variables.items():
        if variable in environment:
            text = environment[variable]
            _put(values, place, text if kind in TEXTS else _parse(text))
    sections = tuple(f"SECUREDELIVERY_{section}_".upper() for section in Settings.__struct_fields__)
    for variable in sorted(environment.keys() - variables.keys()):
        if variable.startswith(sections):
            raise ConfigurationError(variable, "there is no such setting", "compare docs/operations.md, or unset it")
    for key, value in flags.items():
        if value is not None:
            _put(values, key.split("."), value)
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise _explained(error, path) from None
    _check(settings)
    return settings


def split_address(address: str, key: str = "server.listen") -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT` or `:PORT` (every address). key: of the setting. Raises ConfigurationError."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > 65_535:  # noqa: PLR2004 -- a port
        raise ConfigurationError(key, f"{address!r} is not HOST:PORT", "write for example 127.0.0.1:5555")
    return host or "0.0.0.0", int(port)  # noqa: S104 -- asked for


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigurationError(str(path), "there is no such file", "name the right one with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            str(path), f"cannot be read ({error})", "make it a text file that this user may read"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(str(path), f"not TOML: {error}", "mend that line; strings stand in quotes") from error


def _places(kind: type[msgspec.Struct]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Of each setting below: the names of its sections and its own, and its type."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for place, type_ in _places(field.type):
                yield (field.encode_name, *place), type_
        else:
            yield (field.encode_name,), field.type


def _put(values: dict[str, Any], place: Sequence[str], value: Any) -> None:
    """What is in the way and no table is refused when it is converted."""
    *sections, name = place
    table: Any = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            return
    table[name] = value


def _check_file(values: dict[str, Any]) -> None:
    """A file of settings is shown around, and kept with the program."""
    mail = values.get("mail")
    for route in MailRoute:
        server = mail.get(route.value) if isinstance(mail, dict) else None
        if isinstance(server, dict) and "password" in server:
            raise ConfigurationError(
                f"mail.{route}.password",
                "a password does not belong in this file",
                f"name a file of its own as password_file, or set SECUREDELIVERY_MAIL_{route.upper()}_PASSWORD",
            )


def _parse(text: str) -> Any:
    """A TOML value where it is one (numbers, true, lists), else the text as it stands."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explained(error: msgspec.ValidationError, path: Path | None) -> ConfigurationError:
    message, _, place = str(error).partition(" - at `$")
    key = place.strip("`.") or (str(path) if path else "configuration")
    if unknown := re.search("unknown field `(.+)`", message):
        key = f"{key}.{unknown[1]}" if place else unknown[1]
        return ConfigurationError(key, "there is no such setting", "compare docs/operations.md, or leave it out")
    known = _choices(key) if message.startswith("Invalid enum value") else ()
    hint = f"write {', '.join(known[:-1])} or {known[-1]}" if known else "compare docs/operations.md"
    return ConfigurationError(key, message[:1].lower() + message[1:], hint)


def _choices(key: str) -> list[str]:
    """What a setting can be, where it is one of a few words."""
    kinds = {".".join(place): kind for place, kind in _places(Settings)}
    of = [kinds.get(key), *get_args(kinds.get(key))]
    return [f'"{word}"' for one in of if get_origin(one) is Literal for word in get_args(one)]


def _check(settings: Settings) -> None:
    _check_mail(settings.mail)
    _check_web(settings.web)
    split_address(settings.server.listen)
    domain = settings.server.trust_domain
    if domain is not None and not TRUST_DOMAIN.fullmatch(domain):
        raise ConfigurationError(
            "server.trust_domain", f"{domain!r} is not one", "lower-case letters, digits and . - _"
        )
    for uri in settings.server.trusted_proxies:
        if not re.fullmatch(r"spiffe://[a-z0-9._-]+/proxy/[a-z][a-z0-9._-]{2,31}", uri, re.ASCII):
            raise ConfigurationError(
                "server.trusted_proxies", f"{uri!r} is not a proxy's", "write spiffe://<trust domain>/proxy/<name>"
            )
    if not re.fullmatch("[A-Z]{3}", settings.shop.currency, re.ASCII):
        raise ConfigurationError(
            "shop.currency", f"{settings.shop.currency!r} is not ISO 4217", "write for example EUR"
        )
    for field in msgspec.structs.fields(Limits):
        value = getattr(settings.limits, field.name)
        most = MAX_THREADS if field.name in ("io_threads", "workers", "password_workers") else MAX_LIMIT
        if not 0 < value <= most:  # not for NaN either
            raise ConfigurationError(
                f"limits.{field.name}", f"{value} is not between 0 and {most}", "leave it out for the default"
            )
    files = {
        "server.certs": settings.server.certs,
        "database.url": settings.database.url,
        "web.certificate": settings.web.certificate,
        "web.key": settings.web.key,
    }
    for key, text in files.items():
        if text is not None and "\0" in text:
            raise ConfigurationError(key, "it holds the character U+0000", "name a file or folder")


def _check_web(web: WebSettings) -> None:
    if web.listen is not None:
        split_address(web.listen, "web.listen")
    if (web.certificate is None) != (web.key is None):
        missing = "key" if web.key is None else "certificate"
        raise ConfigurationError(
            f"web.{missing}", "it is not set, and certificate and key go together", "name both files, or none"
        )
    if web.public_url is not None and not re.fullmatch(r"https://[^/\s?#@]+/?", web.public_url):
        raise ConfigurationError(
            "web.public_url", f"{web.public_url!r} is not the address of a site", "write https://shop.example.org"
        )


def _check_mail(mail: MailSettings) -> None:
    _check_mail_server("mail.receipts", mail.receipts)
    _check_mail_server("mail.summaries", mail.summaries)
    try:
        ZoneInfo(mail.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder
        raise ConfigurationError(
            "mail.time_zone", f"{mail.time_zone!r} is not a time zone", "write for example Europe/Berlin"
        ) from None
    if not 0 <= mail.hour < 24:  # noqa: PLR2004 -- hours of a day
        raise ConfigurationError("mail.hour", f"{mail.hour} is not an hour", "write 0 to 23")
    if mail.operator is not None and address_of(mail.operator) is None:
        raise ConfigurationError(
            "mail.operator", f"{mail.operator!r} is not an address", "write for example owner@shop.example.org"
        )


def _check_mail_server(section: str, server: MailServer) -> None:
    if not server.used:
        for field in msgspec.structs.fields(type(server)):
            # A password may stand in the environment of commands that have been given no settings.
            if field.name != "password" and getattr(server, field.name) is not None:
                raise ConfigurationError(
                    f"{section}.host", f"{field.name} is set, but no mail server", "name it, or leave all of it out"
                )
        return
    if not str(server.host).strip():
        raise ConfigurationError(f"{section}.host", "it is empty", "name the mail server, or leave all of it out")
    port, security = server.way
    if not 0 < port < 65_536:  # noqa: PLR2004 -- ports
        raise ConfigurationError(
            f"{section}.port", f"{port} is not a port", f"usual for {security} is {PORTS[security]}"
        )
    if security == "none" and not _is_loopback(str(server.host)):
        raise ConfigurationError(
            f"{section}.security", f'"none" would send mail in clear to {server.host}', 'write "starttls" or "tls"'
        )
    for name in ("sender", "reply_to"):
        text = getattr(server, name)
        if (text is None and name == "sender") or (text is not None and address_of(text) is None):
            what = "is missing" if text is None else f"{text!r} is not an address"
            raise ConfigurationError(
                f"{section}.{name}", what, "write for example Parts & Co <orders@shop.example.org>"
            )
    secrets = [name for name in ("password_file", "password") if getattr(server, name) is not None]
    if len(secrets) == 2:  # noqa: PLR2004 -- both
        raise ConfigurationError(
            f"{section}.password_file", "there is a password in the environment as well", "one is enough"
        )
    if server.username is None and secrets:
        raise ConfigurationError(
            f"{section}.username", "there is a password, but no username", "write as whom to log in"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
