"""`securedelivery order track`: an order's history, and then each change as it happens."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer
from msgspec import UNSET

from securedelivery.api.messages import GetOrder
from securedelivery.cli import options, terminal
from securedelivery.cli.live import json_line
from securedelivery.cli.service import Service
from securedelivery.cli.text import moment
from securedelivery.client import Client, Notification
from securedelivery.client.following import Following, Live, Lost
from securedelivery.model import HistoryEntry, Order, OrderStatus

__all__ = ["track"]

_AT_ITS_END = frozenset((OrderStatus.DELIVERED, OrderStatus.CANCELLED, OrderStatus.RETURNED))

track = typer.Typer()


@track.command("track", epilog=options.examples("order track 17", "order track 17 --json"))
@options.connecting
def _track(
    service: Service,
    *,
    number: Annotated[int, typer.Argument(help="The order's number.", metavar="NUMBER", min=1)],
    as_json: options.AsJson = False,
) -> None:
    """Follow one of your orders live, a line for each change, until it is delivered, cancelled or returned."""
    lost = False
    shown: HistoryEntry | None = None
    for event in Tracked(service.customer(), number).states():
        match event:
            case Lost():
                lost = True
                terminal.note("connection lost, trying again")
            case Live():
                if lost:
                    terminal.note("back")
                lost = False
            case _:
                if as_json:
                    json_line(event)
                else:
                    for entry in _behind(shown, event.history):
                        _show(entry, event)
                shown = event.history[-1] if event.history else None
                if event.status in _AT_ITS_END:
                    return


class Tracked:
    """The states of an order: the present one, and each that follows, as far as this client hears of them."""

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        self._number = number
        self._version = 0
        self._following = Following(client, self._ask, self._heard)

    def states(self) -> Iterator[Order | Live | Lost]:
        return self._following.events()

    def _ask(self) -> Iterator[Order]:
        yield from self._new(self._client.call("order.get", GetOrder(self._number), Order, repeat=False))

    def _heard(self, notification: Notification) -> Iterable[Order] | None:
        if notification.method != "order.changed":
            return ()
        if not isinstance(notification.params, Order):
            return None
        return self._new(notification.params) if notification.params.order == self._number else ()

    def _new(self, order: Order) -> list[Order]:
        if order.version <= self._version:
            return []
        self._version = order.version
        return [order]


def _behind(shown: HistoryEntry | None, history: list[HistoryEntry]) -> list[HistoryEntry]:
    """What was added since; all of it where the last one shown is not there any more."""
    return history[history.index(shown) + 1 :] if shown in history else history


def _show(entry: HistoryEntry, order: Order) -> None:
    words = [moment(entry.at), f"{entry.status.value.replace('_', ' '):<16}", f"by {entry.by}"]
    if entry.note:
        words.append(f"({entry.note})")
    if entry.status is OrderStatus.OUT_FOR_DELIVERY and order.delivery_code is not UNSET:
        words.append(f"delivery code {order.delivery_code}")
    terminal.line("  ".join(words))
