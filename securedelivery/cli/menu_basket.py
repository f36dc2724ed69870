"""The menu's basket, and the way from it to an order.

The basket's key is made with it and kept until an order has answered: however often a confirmation is repeated, and
whatever broke in between, one order comes of it. If the basket was changed after a try without an answer, the service
refuses the key where the first try did arrive, and the user decides.
"""

import uuid

import msgspec

from securedelivery.cli import output, terminal
from securedelivery.cli.menu_dialogue import Back, Dialogue, in_turn
from securedelivery.cli.menu_entry import too_long
from securedelivery.cli.service import Service
from securedelivery.cli.terminal import Column
from securedelivery.cli.text import money, quantity
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Account, Cents, Order, Product

__all__ = ["Basket", "Checkout"]

MAX_QUANTITY = 10_000
MAX_LINES = 100
MAX_ADDRESS = 500


class _Line(msgspec.Struct):
    product: Product
    number: int

    @property
    def total(self) -> Cents:
        return Cents(self.product.price * self.number)


class Basket:
    def __init__(self) -> None:
        self.lines: list[_Line] = []
        self.address: str | None = None
        self.points = 0
        self.key = str(uuid.uuid4())

    @property
    def total(self) -> str:
        """Of a basket that is not empty."""
        return money(Cents(sum(line.total for line in self.lines)), self.lines[0].product.currency)

    @property
    def summary(self) -> str:
        """`3 parts, EUR 1,023.00`."""
        return f"{quantity(sum(line.number for line in self.lines), 'part')}, {self.total}" if self.lines else "empty"

    def number_of(self, product: Product) -> int:
        return next((line.number for line in self.lines if line.product.sku == product.sku), 0)

    def set(self, product: Product, number: int) -> None:
        """number: 0 takes it out."""
        for line in self.lines:
            if line.product.sku == product.sku:
                line.product, line.number = product, number
                break
        else:
            self.lines.append(_Line(product, number))
        self.lines = [line for line in self.lines if line.number]

    def show(self) -> None:
        columns = [
            Column("No.", right=True),
            Column("Part", wide=True),
            Column("Number", right=True),
            Column("Each", right=True),
            Column("Total", right=True),
        ]
        terminal.table(
            columns,
            [
                [
                    str(place),
                    line.product.name,
                    f"{line.number:,}",
                    money(line.product.price, line.product.currency),
                    money(line.total, line.product.currency),
                ]
                for place, line in enumerate(self.lines, 1)
            ],
        )


class Checkout:
    """From the basket to the order: address, points, a summary, and the confirmation."""

    def __init__(self, service: Service, dialogue: Dialogue, basket: Basket) -> None:
        self._service = service
        self._dialogue = dialogue
        self._basket = basket
        self._account: Account
        self._points = 0  # that there are

    def visit(self, account: Account | None) -> None:
        """Show the basket and change it, until Back or an order."""
        while True:
            self._dialogue.title(f"Your basket: {self._basket.summary}")
            if not self._basket.lines:
                self._dialogue.say('Nothing is in it yet: choose "Look at the parts" in the menu.')
                return
            self._basket.show()
            try:
                typed = self._dialogue.command("A number changes that line.  o order  e empty it", "o", "e")
            except Back:
                return
            if typed == "e":
                self._basket.lines = []
            elif typed == "o" and account is None:
                self._dialogue.say("To order, log in or create an account first: both are in the menu.")
                return
            elif typed == "o" and account is not None:
                if self._ordered(account):
                    return
            else:
                self._change(typed)

    def _change(self, typed: str) -> None:
        places = len(self._basket.lines)
        if not (typed.isascii() and typed.isdigit()) or not 1 <= int(typed[:9]) <= places:
            which = "1" if places == 1 else f"1 to {places}"
            self._dialogue.say(f'"{typed[:40]}" is none of these: type {which}, o, e or b.')
            return
        line = self._basket.lines[int(typed) - 1]
        try:
            number = self._dialogue.number(
                f"How many of {line.product.name}, 0 to take it out", 0, MAX_QUANTITY, kept=line.number
            )
        except Back:
            return
        self._basket.set(line.product, number)

    def _ordered(self, account: Account) -> bool:
        """Whether an order came of it."""
        self._account = account
        try:
            in_turn(self._ask_address, self._ask_points, self._confirm)
        except Back:
            return False
        except Refusal as refusal:
            self._explain(refusal)
            return False
        return True

    def _ask_address(self) -> None:
        self._basket.address = self._dialogue.text(
            "Where shall it go? In one line: street, number, town.",
            kept=self._basket.address or self._account.address,
            wrong=lambda text: too_long(text, MAX_ADDRESS),
        )

    def _ask_points(self) -> bool:
        self._points = self._dialogue.call(self._service.client().rewards).points
        if self._points <= 0:
            self._basket.points = 0
            return False
        self._basket.points = self._dialogue.number(
            f"You have {quantity(self._points, 'point')}, which lower the price, by half at most. How many to use",
            0,
            self._points,
            kept=min(self._basket.points, self._points),
        )
        return True

    def _confirm(self) -> None:
        for line in [*self._basket.lines]:  # at the prices of now
            self._basket.set(self._product(line.product), line.number)
        self._dialogue.title("Your order")
        self._basket.show()
        terminal.line()
        pairs = [("Total", self._basket.total), ("To", self._basket.address or "")]
        if self._basket.points:
            pairs.insert(1, ("Points", f"{self._basket.points:,}, they come off that"))
        terminal.fields(pairs)
        self._dialogue.confirm("Order this? You pay when it is delivered, or by invoice.")
        self._place()

    def _product(self, product: Product) -> Product:
        return self._dialogue.call(lambda: self._service.client().product(product.sku))

    def _place(self) -> None:
        basket = self._basket
        lines = [(line.product.sku, line.number) for line in basket.lines]
        doubt = "Your order may have arrived or not. Trying again is safe: nothing is ordered twice."

        def place() -> Order:
            return self._service.client().place_order(
                lines, address=basket.address, redeem_points=basket.points or None, idempotency_key=basket.key
            )

        try:
            order = self._dialogue.call(place, doubt=doubt)
        except Refusal as refusal:
            if refusal.reason is not Reason.IDEMPOTENCY_CONFLICT:
                raise
            self._dialogue.say("The order that you sent before, without an answer, did arrive: see Your orders.")
            self._dialogue.confirm("What is in the basket now is another one. Order it, too?")
            basket.key = str(uuid.uuid4())
            order = self._dialogue.call(place, doubt=doubt)
        basket.lines, basket.points, basket.key = [], 0, str(uuid.uuid4())
        self._dialogue.title("Thank you: it is ordered.")
        output.order(order, as_json=False)

    def _explain(self, refusal: Refusal) -> None:
        """One sentence, and what to do."""
        sku = refusal.data.get("sku")
        line = next((line for line in self._basket.lines if line.product.sku == sku), None)
        if line is None or refusal.reason not in (Reason.OUT_OF_STOCK, Reason.NOT_FOUND):
            self._dialogue.say(f"It was not ordered: {refusal.message}.")
            return
        available = refusal.data.get("available")
        name = line.product.name
        if refusal.reason is Reason.OUT_OF_STOCK and isinstance(available, int) and available > 0:
            self._dialogue.say(f"It was not ordered: of {name} there are only {available:,} left. Change that line.")
        elif refusal.reason is Reason.OUT_OF_STOCK:
            self._dialogue.say(f"It was not ordered: {name} is sold out. Take it out: change its number to 0.")
        else:
            self._dialogue.say(f"It was not ordered: {name} is not sold any more. Take it out: change its number to 0.")
