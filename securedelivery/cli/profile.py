"""`securedelivery profile`: what is remembered between commands."""

from pathlib import Path

import msgspec
import typer

from securedelivery.cli import options, output
from securedelivery.cli.service import Service
from securedelivery.client.profile import Profile, StoredProfile, default_file, split_server
from securedelivery.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True)


@app.command(
    "set",
    epilog=options.examples(
        "profile set --server shop.example.org:5555 --ca certs/ca.crt",
        "profile set --certificate certs/clients/alice.crt --key certs/clients/alice.key",
        'profile set --crl ""',
    ),
)
def change(
    context: typer.Context,
    *,
    server: options.Server = None,
    ca: options.Ca = None,
    certificate: options.Certificate = None,
    key: options.Key = None,
    crl: options.Crl = None,
    tls_ca: options.TlsCa = None,
) -> None:
    """Remember where the service is, whom to trust and as whom to come. What is not given stays; "" forgets it."""
    given = options.Given(server, ca, certificate, key, crl, tls_ca=tls_ca)
    if isinstance(context.obj, options.Given):
        given = given.over(context.obj)
    changes: dict[str, str | None] = {
        name: getattr(given, name)
        for name in ("server", "ca", "certificate", "key", "crl", "tls_ca")
        if getattr(given, name) is not None
    }
    if not changes:
        raise ConfigurationError("profile set", "nothing to remember was given", "securedelivery profile set --help")
    if changes.get("server"):
        split_server(changes["server"] or "")
    for name, value in changes.items():
        if name != "server" and value:
            changes[name] = str(_existing(name, value))
    if "certificate" in changes and "key" not in changes:
        changes["key"] = None  # the former one is another certificate's
    file = default_file()
    stored = StoredProfile.read(file)
    msgspec.structs.replace(stored, **{name: value or None for name, value in changes.items()}).write(file)
    output.profile(file, Profile.search(environment={}), as_json=False)


@app.command(
    "show",
    epilog=options.examples("profile show", "profile show --server localhost:5556 --json"),
)
@options.connecting
def show(service: Service, *, as_json: options.AsJson = False) -> None:
    """What holds now, from flags, environment and profile, and where each comes from."""
    output.profile(default_file(), service.settings(), as_json=as_json)


def _existing(name: str, value: str) -> Path:
    path = Path.cwd() / Path(value).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"--{name.replace('_', '-')}", f"there is no file {path}", "name one that is there")
    return path
