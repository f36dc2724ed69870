"""Every example in every help is a command that there is, with options that it takes, and products that there are."""

import csv
import re
import shlex
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
import typer

from securedelivery import client
from securedelivery.cli import main
from securedelivery.service import catalog_file

ROOT: Any = typer.main.get_command(main._app)
SAMPLE = resources.files("securedelivery").joinpath("data/catalog.csv").read_text("utf-8")
SKUS = {row["sku"] for row in csv.DictReader(SAMPLE.splitlines())}
PREFIXES = {sku.partition("-")[0] for sku in SKUS}
SKU = re.compile(rf"\b(?:{'|'.join(sorted(PREFIXES))})-[A-Z0-9]+(?:-[A-Z0-9]+)*\b")


def contexts(command: Any, name: str, parent: Any = None) -> Iterator[Any]:
    """A context for each command, groups included."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield context
    if hasattr(command, "list_commands"):
        for word in command.list_commands(context):
            yield from contexts(command.get_command(context, word), word, context)


def examples_of(context: Any) -> list[str]:
    _, _, behind = context.command.get_help(context).partition("Examples:\n")
    return [line.strip() for line in behind.partition("\n\n")[0].splitlines()]


EXAMPLES = {context.command_path: examples_of(context) for context in contexts(ROOT, "securedelivery")}


def parse(example: str) -> None:
    """As Click does before it runs the command. Raises what it raises for wrong usage."""
    words = shlex.split(example.partition(" | ")[0])
    assert words[0] == "securedelivery", "not a call of securedelivery"
    command, context, name, rest = ROOT, None, words[0], words[1:]
    while True:
        context = command.make_context(name, list(rest), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize(
    ("path", "example"), [(path, example) for path, examples in EXAMPLES.items() for example in examples]
)
def test_an_example_can_be_typed(path: str, example: str) -> None:
    assert example.startswith(path)
    parse(example)


def test_the_commands_have_examples() -> None:
    assert sum(map(len, EXAMPLES.values())) >= 25
    assert "securedelivery admin catalog export" in EXAMPLES
    assert {path for path, examples in EXAMPLES.items() if not examples} == {
        f"securedelivery {group}"
        for group in (
            *("account", "deliveries", "order", "profile", "support"),
            *("admin", "admin account", "admin audit", "admin catalog", "admin mail", "admin order", "admin report"),
        )
    }


@pytest.mark.parametrize(
    "example",
    [
        "securedelivery SECUREDELIVERY_SERVER=localhost:5556 securedelivery profile show",
        "SECUREDELIVERY_SERVER=localhost:5556 securedelivery profile show",
        "securedelivery order find",
        "securedelivery order show 17 --colour",
        "securedelivery order show seventeen",
    ],
)
def test_a_wrong_example_is_noticed(example: str) -> None:
    with pytest.raises((AssertionError, typer.TyperException)):
        parse(example)


@pytest.mark.parametrize(
    "text",
    ["\n".join(line for examples in EXAMPLES.values() for line in examples), client.__doc__, catalog_file.__doc__],
    ids=["examples", "client", "catalog_file"],
)
def test_products_in_examples_are_in_the_sample_catalog(text: str) -> None:
    named = set(SKU.findall(text))
    assert named
    assert named <= SKUS
