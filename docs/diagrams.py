"""Draws the diagrams of docs/*.md from the code's own tables, so that they cannot say something else.

python docs/diagrams.py          rewrites what stands between `<!-- diagram NAME -->` and `<!-- end -->`
python docs/diagrams.py --check  exits with 1 where a page is not up to date
"""

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import get_args, get_origin

import msgspec

from securedelivery.api.messages import Nothing, Typing
from securedelivery.api.methods import METHODS
from securedelivery.config import Settings
from securedelivery.errors import Reason
from securedelivery.mail.settings import MailServer
from securedelivery.model import Rewards, Role
from securedelivery.protocol import connection
from securedelivery.protocol.frames import FrameKind
from securedelivery.protocol.noise import NN_HFS
from securedelivery.service.transitions import TRANSITIONS, Need
from securedelivery.wireshark.plugin import plugin

PAGES = Path(__file__).parent
MARKED = re.compile(r"(<!-- diagram (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Transitions = dict[connection.State, dict[FrameKind, connection.State]]


def _states(receiving: Transitions, sending: Transitions, first: connection.State) -> str:
    edges = [f"    [*] --> {first.name}"]
    for sign, table in (("receives", receiving), ("sends", sending)):
        for state, kinds in table.items():
            edges += [f"    {state.name} --> {after.name}: {sign} {kind.name}" for kind, after in kinds.items()]
    edges.append("    PEER_CLOSED --> [*]: sends CLOSE")
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(edges) + "\n```\n"


def server_states() -> str:
    return _states(connection.SERVER_RECEIVING, connection.SERVER_SENDING, connection.State.AWAIT_HANDSHAKE)


def client_states() -> str:
    return _states(connection.CLIENT_RECEIVING, connection.CLIENT_SENDING, connection.State.OWE_HANDSHAKE)


def order_states() -> str:
    edges = ["    [*] --> placed: customer"]
    for row in TRANSITIONS:
        who = ", ".join(role for role in Role if role in row.who)
        need = "" if row.need is Need.NONE else f", with a {row.need}"
        edges.append(f"    {row.before} --> {row.after}: {who}{need}")
    edges += ["    returned --> [*]", "    cancelled --> [*]"]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(edges) + "\n```\n"


def handshake() -> str:
    sides = ("->", "<-")
    lines = [f"    {sides[i % 2]} {', '.join(tokens)}" for i, tokens in enumerate(NN_HFS.messages)]
    return "```text\n" + NN_HFS.protocol_name.decode() + "\n" + "\n".join(lines) + "\n```\n"


def methods() -> str:
    cells = [
        (row.name, row.access.value, _members(row.parameters), _type_name(row.result), row.lane.value)
        for row in METHODS.values()
    ]
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return "| method | role | parameters | result | runs |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def structures() -> str:
    """Every struct that a result holds, in the order in which they are met."""
    found: dict[str, type[msgspec.Struct]] = {}

    def meet(kind: object) -> None:
        for part in get_args(kind):
            meet(part)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in found:
            if not get_args(kind) and kind is not Nothing and kind.__struct_config__.tag is None:
                found[kind.__name__] = kind
            for field in msgspec.structs.fields(kind):
                meet(field.type)

    for row in METHODS.values():
        meet(row.result)
    for struct in (Rewards, Typing):
        meet(struct)
    lines = [f"    {name:15} {{{', '.join(kind.__struct_encode_fields__)}}}" for name, kind in found.items()]
    return "```text\n" + "\n".join(textwrap.fill(line, 118, subsequent_indent=" " * 21) for line in lines) + "\n```\n"


def _members(struct: type[msgspec.Struct]) -> str:
    """`username, password?`: with a question mark what may be left out."""
    return ", ".join(f"{field.encode_name}{'' if field.required else '?'}" for field in msgspec.structs.fields(struct))


def _type_name(kind: object) -> str:
    if kind is Nothing:
        return "{}"
    if get_origin(kind) is dict:
        return "OpenRPC document"
    if items := get_args(kind):
        return f"page of {getattr(items[0], '__name__', '{kind, ...}')}"
    assert isinstance(kind, type)
    return kind.__name__


def errors() -> str:
    rows = [f"| {reason.code} | `{reason.slug}` |" for reason in Reason]
    return "| code | reason |\n|---|---|\n" + "\n".join(rows) + "\n"


def settings() -> str:
    """Every key with its default and the sentence that stands below it in the code."""
    return "".join(_section(section.name, section.default) for section in msgspec.structs.fields(Settings)) + "\n"


def _section(name: str, values: msgspec.Struct) -> str:
    """A mail server has a section of its own, below that of what it belongs to."""
    text = f"\n**`[{name}]`**\n\n| key | default | |\n|---|---|---|\n"
    below = ""
    why = _attribute_docstrings(type(values))
    for field in msgspec.structs.fields(values):
        default = getattr(values, field.name)
        if isinstance(default, MailServer):
            below += _section(f"{name}.{field.name}", default)
            continue
        if isinstance(default, msgspec.Struct):
            default = msgspec.structs.asdict(default)
        shown = msgspec.json.encode(default).decode()
        text += f"| `{field.name}` | `{shown}` | {why.get(field.name, '')} |\n"
    return text + below


def _attribute_docstrings(struct: type) -> dict[str, str]:
    """Of a struct and those that it extends."""
    found: dict[str, str] = {}
    for one in reversed(struct.__mro__[: struct.__mro__.index(msgspec.Struct)]):
        (definition,) = ast.parse(inspect.getsource(one)).body
        assert isinstance(definition, ast.ClassDef)
        for before, after in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[ast.unparse(before.target)] = " ".join(str(after.value.value).split())
    return found


def dissector_fields() -> str:
    """Every field of the dissector, by its name in a display filter."""
    rows = ["| field | is | |", "|---|---|---|"]
    for kind, name, text in re.findall(r'(?:ProtoField\.(\w+)|ProtoExpert\.new)\("([\w.]+)", "([^"]+)"', plugin()):
        rows.append(f"| `{name}` | {text} | {kind or 'expert information'} |")
    return "\n".join(rows) + "\n"


DIAGRAMS = {
    "dissector-fields": dissector_fields,
    "settings": settings,
    "server-states": server_states,
    "client-states": client_states,
    "order-states": order_states,
    "handshake": handshake,
    "methods": methods,
    "structures": structures,
    "errors": errors,
}


def drawn(page: str) -> str:
    """The page with every diagram drawn anew."""
    return MARKED.sub(lambda mark: f"{mark[1]}{DIAGRAMS[mark[2]]()}{mark[3]}", page)


def main() -> int:
    stale = []
    for path in sorted(PAGES.glob("*.md")):
        before = path.read_text()
        after = drawn(before)
        if after != before:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(after)
    if stale:
        sys.stdout.write(f"{'not up to date' if '--check' in sys.argv else 'drawn'}: {', '.join(stale)}\n")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
