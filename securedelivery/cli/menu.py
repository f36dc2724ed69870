"""`securedelivery shop`: the whole shop as a numbered menu, for anyone who has never seen a command line.

menu_dialogue.py  one question: what may be typed, how to go back, and what is wrong; and the patience with the service
menu_entry.py     logging in, creating an account
menu_pages.py     lists that are turned over
menu_basket.py    the basket, and the order that comes of it
menu.py           the main menu, the parts, orders, points, the chat
"""

import contextlib
from typing import Annotated

import typer

from securedelivery.cli import options, output, terminal
from securedelivery.cli.chat import CUSTOMER, Talk
from securedelivery.cli.live import Console
from securedelivery.cli.menu_basket import MAX_LINES, MAX_QUANTITY, Basket, Checkout
from securedelivery.cli.menu_dialogue import Back, Dialogue, LoginEnded
from securedelivery.cli.menu_entry import Entrance, too_long
from securedelivery.cli.menu_pages import PER_PAGE, Pages
from securedelivery.cli.service import Service
from securedelivery.cli.terminal import Column
from securedelivery.cli.text import money
from securedelivery.errors import ConnectionFailure, Reason, Refusal, RemoteProtocolError
from securedelivery.model import Order, OrderStatus, Product

__all__ = ["app"]

MAX_REASON = 500
_CANCELLABLE = frozenset((OrderStatus.PLACED, OrderStatus.CONFIRMED))

app = typer.Typer()


@app.command("shop", epilog=options.examples("shop --plain", "shop --plain --user bob"))
@options.connecting
def shop(
    service: Service,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="A menu with numbers; it is the one there is.")] = False,
) -> None:
    """Everything in a menu: browse, order, see your orders, use your points, talk with the shop."""
    del plain  # without it there is nothing else yet
    with Console() as console:
        Menu(service, console).run()


class Menu:
    def __init__(self, service: Service, console: Console) -> None:
        self._service = service
        self._console = console
        self._dialogue = Dialogue(console)
        self._entrance = Entrance(service, self._dialogue)
        self._basket = Basket()

    def run(self) -> None:
        """Until it is left, or nothing will be typed any more."""
        try:
            self._dialogue.title("Welcome to the shop.")
            with contextlib.suppress(Back):
                self._entrance.begin()
            while self._choose():
                pass
        except EOFError:
            terminal.line()
        self._dialogue.say("Goodbye. What is in your basket was not ordered." if self._basket.lines else "Goodbye.")

    def _choose(self) -> bool:
        """One round of the main menu. Whether there is another."""
        account = self._entrance.account
        basket = f"Your basket: {self._basket.summary}"
        if account is not None:
            self._dialogue.title(f"The shop. You are {account.username}.")
            doors = [
                ("Look at the parts, and search them", self._browse),
                (basket, self._visit_basket),
                ("Your orders", self._see_orders),
                ("Your points", self._see_rewards),
                ("Chat with the shop", self._chat),
            ]
            if not self._entrance.by_certificate:
                doors.append(("Log out", self._entrance.log_out))
        else:
            self._dialogue.title("The shop. You are not logged in.")
            doors = [
                ("Look at the parts, and search them", self._browse),
                (basket, self._visit_basket),
                ("Log in", self._entrance.log_in_by_certificate if self._by_certificate else self._entrance.log_in),
                ("Create an account", self._entrance.create),
            ]
        keyed = {str(key): door for key, door in enumerate(doors, 1)}
        chosen = self._dialogue.choose([*((key, what) for key, (what, _) in keyed.items()), ("0", "Leave the shop")])
        if chosen == "0":
            return False
        try:
            keyed[chosen][1]()
        except Back:
            pass
        except LoginEnded as ended:
            self._entrance.account = None
            self._dialogue.say(f"You are not logged in any more: {ended}. Your basket is kept.")
        except Refusal as refusal:
            self._dialogue.say(f"The shop says no: {refusal.message}.")
        return True

    @property
    def _by_certificate(self) -> bool:
        return self._entrance.by_certificate

    # The parts

    def _browse(self) -> None:
        """Raises Back."""
        words: str | None = None
        while True:
            words = self._browse_for(words)

    def _browse_for(self, words: str | None) -> str | None:
        """What to look for next. Raises Back."""
        pages = Pages(self._dialogue, lambda at: self._service.client().catalog(words, after=at, limit=PER_PAGE))
        shown: list[Product] = []
        while True:
            if not shown:
                shown = pages.load().items
                self._show_parts(words, shown, pages.number)
            typed = pages.ask("A number shows that part." if shown else "", "s search")
            if pages.turn(typed):
                shown = []
            elif typed == "s" or typed.lower().startswith("s "):
                with contextlib.suppress(Back):
                    return typed[2:].strip() or self._dialogue.text(
                        "What do you look for? For example: graphics card.", optional="for all parts"
                    )
            elif typed.isascii() and typed.isdigit() and 1 <= int(typed[:9]) <= len(shown):
                with contextlib.suppress(Back):
                    self._add(shown[int(typed) - 1])
            else:
                self._dialogue.say(
                    f'"{typed[:40]}" is none of the numbers and letters. To search for it, type: s {typed[:40]}'
                )

    def _show_parts(self, words: str | None, shown: list[Product], page: int) -> None:
        title = f"Parts for: {words}" if words else "The parts"
        self._dialogue.title(f"{title}, page {page}" if shown else title)
        if not shown:
            self._dialogue.say("Nothing was found. Try fewer or other words, or s and Enter alone for all parts.")
            return
        columns = [Column("No.", right=True), Column("Part", wide=True), Column("Price", right=True)]
        rows = [
            [str(place), part.name, money(part.price, part.currency), f"{part.stock:,}" if part.stock else "sold out"]
            for place, part in enumerate(shown, 1)
        ]
        terminal.table([*columns, Column("Stock", right=True)], rows)

    def _add(self, part: Product) -> None:
        """Raises Back."""
        self._dialogue.title(part.name)
        if part.description:
            self._dialogue.say(part.description)
        self._dialogue.say(f"{money(part.price, part.currency)}, {part.stock:,} in stock.")
        inside = self._basket.number_of(part)
        if not part.stock and not inside:
            self._dialogue.say("It is sold out: it cannot be ordered now.")
            return
        if not inside and len(self._basket.lines) >= MAX_LINES:
            self._dialogue.say(f"An order has at most {MAX_LINES} different parts: order those in the basket first.")
            return
        question = f"There are {inside:,} in your basket. How many shall it be" if inside else "How many do you want"
        most = min(max(part.stock, inside), MAX_QUANTITY)
        self._basket.set(part, self._dialogue.number(question, 0, most, kept=inside or 1))
        self._dialogue.say(f"In your basket: {self._basket.summary}.")

    # The account's

    def _visit_basket(self) -> None:
        Checkout(self._service, self._dialogue, self._basket).visit(self._entrance.account)

    def _see_orders(self) -> None:
        """Raises Back."""
        pages = Pages(self._dialogue, lambda at: self._service.client().orders(after=at, limit=PER_PAGE))
        stale = True
        while True:
            if stale:
                self._dialogue.title("Your orders, newest first")
                if not pages.load().items:
                    self._dialogue.say("There are none yet.")
                    return
                output.orders(pages.page.items, None, as_json=False)
            typed = pages.ask("An order's number shows it.")
            number = int(typed[:15]) if typed.isascii() and typed.isdigit() else 0
            stale = pages.turn(typed) or bool(number)
            if number:
                with contextlib.suppress(Back):
                    self._see_order(number)
            elif not stale:
                self._dialogue.say(f'"{typed[:40]}" is not the number of an order, as {pages.page.items[0].order} is.')

    def _see_order(self, number: int) -> None:
        """Raises Back."""
        try:
            order = self._dialogue.call(lambda: self._service.client().order(number))
        except Refusal as refusal:
            if refusal.reason is not Reason.NOT_FOUND:
                raise
            self._dialogue.say(f"There is no order {number} of yours.")
            return
        while True:
            terminal.line()
            output.order(order, as_json=False)
            if order.status not in _CANCELLABLE:
                return
            typed = self._dialogue.command("c cancel this order", "c")
            if typed != "c":
                self._dialogue.say(f'"{typed[:40]}" is neither c nor b.')
                continue
            with contextlib.suppress(Back):
                order = self._cancel(order)

    def _cancel(self, order: Order) -> Order:
        """Raises Back."""
        reason = self._dialogue.text(
            "Why? It helps the shop.",
            optional="to say nothing",
            wrong=lambda text: too_long(text, MAX_REASON),
        )
        self._dialogue.confirm(f"Cancel order {order.order}?")
        try:
            order = self._dialogue.call(lambda: self._service.client().cancel_order(order.order, reason))
        except Refusal as refusal:
            self._dialogue.say(f"It could not be cancelled: {refusal.message}. Ask the shop in the chat.")
            return self._dialogue.call(lambda: self._service.client().order(order.order))
        self._dialogue.say(f"Order {order.order} is cancelled.")
        return order

    def _see_rewards(self) -> None:
        client = self._service.client()
        rewards = self._dialogue.call(client.rewards)
        self._dialogue.title("Your points")
        output.rewards(rewards, as_json=False)
        newest = self._dialogue.call(lambda: client.rewards_history(limit=PER_PAGE)).items
        if newest:
            terminal.line()
            output.points(newest, None, as_json=False)
            terminal.line()
        self._dialogue.say(
            "Each order brings points, and you can use them for the next one: you are asked when you order."
        )

    def _chat(self) -> None:
        self._dialogue.title("Chat with the shop")
        self._dialogue.hint("Enter sends what you have typed; /quit brings you back to the menu.")
        talk = Talk(self._service.client(), self._console, CUSTOMER)
        try:
            talk.run()
        except (ConnectionFailure, RemoteProtocolError) as failure:
            self._dialogue.say(f"The chat has ended: {failure}.")
