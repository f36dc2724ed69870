"""The basket: a cookie of what somebody wants, without prices. It needs no account."""

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from securedelivery.api import messages as m
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Cents, Product
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page, redirect
from securedelivery.web.pages.forms import NO_ERRORS, Errors, number
from securedelivery.web.visits import Visit

__all__ = ["COOKIE", "ROUTES", "Line", "decoded", "encoded", "lines_of", "read", "subtotal_of", "write"]

COOKIE = "__Host-basket"
MAX_LINES = 50
MAX_BYTES = 3_000  # browsers keep 4,096 a cookie, its name and rules included
MAX_QUANTITY = 10_000  # the protocol's, for one SKU in one order
DAYS = 30

_RULES = "Path=/; Secure; HttpOnly; SameSite=Lax"

Wanted = dict[str, int]
"""How many of each SKU, in the order in which they came in."""

_read_json = msgspec.json.Decoder(dict[m.Sku, m.Quantity]).decode


class Line(NamedTuple):
    """product: None where it is not sold any more. typed: what stands in its field; error: what is wrong with it."""

    sku: str
    quantity: int
    product: Product | None
    typed: str
    error: str

    @property
    def total(self) -> Cents:
        return Cents(0 if self.product is None else self.product.price * self.quantity)


def read(visit: Visit) -> Wanted:
    """What the cookie says; nothing where it says nothing that the shop has written."""
    return decoded(visit.request.cookies.get(COOKIE, ""))


def write(response: Response, basket: Mapping[str, int]) -> None:
    """basket: as fits() has it."""
    value, age = (encoded(basket), DAYS * 86_400) if basket else ("", 0)
    response.headers.append("set-cookie", f"{COOKIE}={value}; Max-Age={age}; {_RULES}")


def encoded(basket: Mapping[str, int]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(basket)).rstrip(b"=").decode()


def decoded(text: str) -> Wanted:
    """Nothing where it is no basket."""
    if len(text) > MAX_BYTES:
        return {}
    try:
        found = _read_json(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):  # msgspec's errors are ValueErrors
        return {}
    return found if len(found) <= MAX_LINES else {}


def fits(basket: Mapping[str, int]) -> bool:
    return len(basket) <= MAX_LINES and len(encoded(basket)) <= MAX_BYTES


async def lines_of(
    desk: Desk,
    visit: Visit,
    wanted: Mapping[str, int],
    typed: Mapping[str, str] | None = None,
    errors: Errors = NO_ERRORS,
) -> list[Line]:
    """The basket with what the shop knows of it now. typed: quantities as typed, by SKU; errors.fields: by SKU."""
    lines = []
    for sku, quantity in wanted.items():
        product = await _product(desk, visit, sku)
        error = errors.fields.get(sku) or _trouble(product, quantity)
        lines.append(Line(sku, quantity, product, (typed or {}).get(sku, str(quantity)), error))
    return lines


def subtotal_of(lines: list[Line]) -> Cents:
    return Cents(sum(line.total for line in lines))


async def show(desk: Desk, visit: Visit) -> Response:
    return await _page(desk, visit, read(visit))


async def change(desk: Desk, visit: Visit) -> Response:
    """action: add, set or remove. shown_at: list or product, the page that is to be shown again; else the basket."""
    form, wanted = visit.form, read(visit)
    sku, action = form.get("sku"), form.get("action", "add")
    if action == "remove" or form.get("remove"):
        wanted.pop(form.get("remove") or sku, None)
        return _changed(redirect("/basket"), wanted)
    quantity = number(form.get("quantity", "1"))
    if action == "set" and quantity == 0:
        wanted.pop(sku, None)
        return _changed(redirect("/basket"), wanted)
    product = await desk.call(visit, "catalog.get", {"sku": sku}, Product)  # a Refusal is the page that says so
    if quantity is None or not 1 <= quantity <= MAX_QUANTITY:
        words = f"Write how many you want: a whole number from 1 to {MAX_QUANTITY:,}."
        return await _again(desk, visit, wanted, product, words)
    total = quantity + (wanted.get(sku, 0) if action == "add" else 0)
    if total > product.stock:
        return await _again(desk, visit, wanted, product, _scarce(product, total - quantity))
    if not fits({**wanted, product.sku: total}):
        words = "The basket is full. Order what is in it first, or take something out."
        return await _page(desk, visit, wanted, errors=Errors(general=words, status=409))
    wanted[product.sku] = total
    return _changed(redirect(_back(visit, product.sku)), wanted)


async def _again(desk: Desk, visit: Visit, wanted: Wanted, product: Product, words: str) -> Response:
    """The page where the quantity was typed, with what is wrong with it."""
    from securedelivery.web.pages.catalog import show_product  # noqa: PLC0415 -- it shows what is in the basket

    typed = visit.form.get("quantity", "1")
    if visit.form.get("action", "add") == "add":
        return await show_product(desk, visit, product.sku, quantity=typed, errors=Errors.at("quantity", words))
    errors = Errors.at(product.sku, words)
    return await _page(desk, visit, {**wanted, product.sku: wanted.get(product.sku, 1)}, {product.sku: typed}, errors)


async def _page(
    desk: Desk,
    visit: Visit,
    wanted: Wanted,
    typed: Mapping[str, str] | None = None,
    errors: Errors = NO_ERRORS,
) -> Response:
    lines = await lines_of(desk, visit, wanted, typed, errors)
    return desk.page(
        visit,
        "basket",
        status=errors.status,
        lines=lines,
        subtotal=subtotal_of(lines),
        ready=bool(lines) and not any(line.error for line in lines),
        errors=errors,
    )


async def _product(desk: Desk, visit: Visit, sku: str) -> Product | None:
    try:
        found: Product = await desk.call(visit, "catalog.get", {"sku": sku}, Product)
    except Refusal as refusal:
        if refusal.reason is Reason.NOT_FOUND:
            return None
        raise
    return found if found.active else None


def _trouble(product: Product | None, quantity: int) -> str:
    if product is None:
        return "This is not sold any more. Take it out to go on."
    if quantity > product.stock:
        return _scarce(product, 0)
    return ""


def _scarce(product: Product, held: int) -> str:
    if product.stock == 0:
        return "This is sold out for now."
    left = f"Only {product.stock:,} of these {'is' if product.stock == 1 else 'are'} left"
    return f"{left}, and {held:,} in your basket already." if held else f"{left}: take fewer."


def _back(visit: Visit, sku: str) -> str:
    from securedelivery.web.pages.catalog import path_of  # noqa: PLC0415 -- as above

    form = visit.form
    match form.get("shown_at"):
        case "list":
            found = {"q": form.get("q"), "after": form.get("after"), "added": sku}
            return f"/?{urlencode({name: value for name, value in found.items() if value})}"
        case "product":
            return f"{path_of(sku)}?added=1"
    return "/basket"


def _changed(response: Response, wanted: Mapping[str, int]) -> Response:
    write(response, wanted)
    return response


ROUTES = [Page("/basket", show), Page("/basket", change, ("POST",))]
