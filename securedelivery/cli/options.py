"""The connection's options: in front of the command, and behind each command that connects."""

import copy
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec

import msgspec
import typer

from securedelivery.cli.service import Service

__all__ = [
    "AsJson",
    "Ca",
    "Certificate",
    "Crl",
    "Given",
    "Key",
    "KeyLog",
    "Server",
    "Timeout",
    "TlsCa",
    "User",
    "connecting",
    "examples",
]

Parameters = ParamSpec("Parameters")


def _option(*names: str, metavar: str | None = None, text: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, show_default=False, **more)


Server = Annotated[
    str | None,
    _option("--server", metavar="HOST:PORT", text="The service; by default localhost:5555. [SECUREDELIVERY_SERVER]"),
]
Ca = Annotated[
    str | None, _option("--ca", metavar="FILE", text="Whom to trust: the operator's ca.crt. [SECUREDELIVERY_CA]")
]
Certificate = Annotated[
    str | None,
    _option(
        "--certificate",
        "--cert",
        metavar="FILE",
        text="Your certificate; then no password is asked. [SECUREDELIVERY_CERT]",
    ),
]
Key = Annotated[
    str | None,
    _option(
        "--key", "--private-key", metavar="FILE", text="Its key, by default the .key beside it. [SECUREDELIVERY_KEY]"
    ),
]
Crl = Annotated[
    str | None, _option("--crl", metavar="FILE", text="A list to check the server against. [SECUREDELIVERY_CRL]")
]
TlsCa = Annotated[
    str | None,
    _option(
        "--tls-ca",
        metavar="FILE",
        text="Whom to trust in TLS alone, where a proxy ends it; by default --ca. [SECUREDELIVERY_TLS_CA]",
    ),
]
User = Annotated[
    str | None,
    _option(
        "--user",
        metavar="NAME",
        text="Without a certificate: who you are. [SECUREDELIVERY_USER, SECUREDELIVERY_PASSWORD]",
    ),
]
Timeout = Annotated[
    float | None,
    _option(
        "--timeout", metavar="SECONDS", text="How long to wait for the service; by default 30.", min=0.01, max=3600
    ),
]
KeyLog = Annotated[
    bool | None,
    _option(
        "--key-log",
        "--keylog",
        text="For teaching: log the keys of each connection. [SSLKEYLOGFILE, SECUREDELIVERY_FRAME_KEYLOG]",
    ),
]
AsJson = Annotated[bool, _option("--json", text="Print JSON, in the structures of the protocol.")]


class Given(msgspec.Struct, frozen=True):
    """What stood on the command line; None is not given, an empty text is "none"."""

    server: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    crl: str | None = None
    user: str | None = None
    timeout: float | None = None
    key_log: bool | None = None
    tls_ca: str | None = None

    def over(self, other: "Given") -> "Given":
        """Itself, and the other's where this says nothing."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Given(*(own if own is not None else its for own, its in zip(mine, others, strict=True)))


_OPTIONS: dict[str, Any] = {
    "server": Server,
    "ca": Ca,
    "certificate": Certificate,
    "key": Key,
    "crl": Crl,
    "user": User,
    "timeout": Timeout,
    "key_log": KeyLog,
    "tls_ca": TlsCa,
}


def examples(*commands: str) -> str:
    """The end of a command's help, each example on a line of its own (that is what the backspace says)."""
    return "\b\nExamples:\n" + "\n".join(f"  securedelivery {command}" for command in commands)


def connecting(
    function: Callable[Concatenate[Service, Parameters], None],
) -> Callable[..., None]:
    """Make a command of a function whose first parameter is the Service; its options are added (not in its help).

    A function that has `--key` for itself leaves the certificate's key the name --private-key.
    """
    own = list(inspect.signature(function).parameters.values())[1:]
    taken = {name for parameter in own for name in _names(parameter.annotation)}
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_hidden(option, taken))
        for name, option in _OPTIONS.items()
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def command(context: typer.Context, **values: Any) -> None:
        given = Given(**{name: values.pop(name) for name in _OPTIONS})
        if isinstance(context.obj, Given):
            given = given.over(context.obj)
        paths = {name: getattr(given, name) for name in ("server", "ca", "certificate", "key", "crl", "tls_ca")}
        with Service(paths, user=given.user, timeout_seconds=given.timeout, key_log=given.key_log is True) as service:
            function(service, **values)  # type: ignore[call-arg]  # Typer has checked them against the signature

    parameters = [context, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *added]
    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _names(annotation: Any) -> set[str]:
    return {
        name
        for option in getattr(annotation, "__metadata__", ())
        for name in (option.default, *(getattr(option, "param_decls", None) or ()))
        if isinstance(name, str)
    }


def _hidden(annotated: Any, taken: set[str]) -> Any:
    option = copy.copy(annotated.__metadata__[0])
    names = [name for name in (option.default, *(option.param_decls or ())) if name not in taken]
    option.default, option.param_decls, option.hidden = names[0], tuple(names[1:]), True
    return Annotated[annotated.__origin__, option]
