"""Parts: browsing, searching, and one of them."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from starlette.responses import Response

from securedelivery.api import messages as m
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Product
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page
from securedelivery.web.pages.basket import read
from securedelivery.web.pages.forms import NO_ERRORS, Errors, Way
from securedelivery.web.visits import Visit

__all__ = ["ROUTES", "Kind", "kind_of", "path_of", "show_product"]

PARTS_A_PAGE = 72  # the catalogue that comes with the shop fits, and the page stays far below 150 KB
FEW = 5
MAX_SPEC = 60  # characters; what is longer is prose


class Kind(NamedTuple):
    """What a product is. anchor: of the list's section, and the icon's name."""

    anchor: str
    name: str


_KINDS = {
    "CPU": Kind("processor", "Processors"),
    "GPU": Kind("graphics", "Graphics cards"),
    "MBD": Kind("mainboard", "Mainboards"),
    "RAM": Kind("memory", "Memory"),
    "SSD": Kind("solid-state", "Solid-state drives"),
    "HDD": Kind("hard-disk", "Hard disks"),
    "PSU": Kind("power", "Power supplies"),
    "CAS": Kind("case", "Cases"),
    "COO": Kind("cooler", "Coolers"),
    "FAN": Kind("fan", "Fans"),
    "MON": Kind("monitor", "Monitors"),
    "KEY": Kind("keyboard", "Keyboards"),
    "MOU": Kind("mouse", "Mice"),
    "NET": Kind("network", "Network"),
    "CAB": Kind("cable", "Cables"),
    "ACC": Kind("accessory", "Accessories"),
}
_OTHER = Kind("part", "More parts")


class Section(NamedTuple):
    kind: Kind
    products: list[Product]


async def browse(desk: Desk, visit: Visit) -> Response:
    asked = visit.request.query_params
    query, after = asked.get("q", "").strip(), asked.get("after")
    errors = NO_ERRORS
    page: m.Page[Product] = m.Page([], None)
    try:
        params = {"query": query, "after": after, "limit": PARTS_A_PAGE}
        page = await desk.call(visit, "catalog.list", params, m.Page[Product])
    except Refusal as refusal:
        errors = Errors.of(refusal).placed("query")
        if errors.general:
            errors = errors._replace(way=Way("/", "To the beginning of the catalogue"))
    following = (
        None
        if page.next is None
        else "/?" + urlencode({"q": query, "after": page.next} if query else {"after": page.next})
    )
    return desk.page(
        visit,
        "catalog",
        status=errors.status,
        query=query,
        after=after or "",
        sections=[] if query else sections(page.items),
        found=page.items if query else [],
        following=following,
        added=_added(visit, page.items),
        errors=errors,
        few=FEW,
    )


async def product(desk: Desk, visit: Visit) -> Response:
    return await show_product(desk, visit, visit.request.path_params["sku"])


async def show_product(
    desk: Desk, visit: Visit, sku: str, *, quantity: str = "1", errors: Errors = NO_ERRORS
) -> Response:
    """quantity: as it was typed. Raises Refusal."""
    try:
        found: Product = await desk.call(visit, "catalog.get", {"sku": sku}, Product)
    except Refusal as refusal:
        if refusal.reason is Reason.INVALID_PARAMS:  # no product has such a name
            raise Refusal(Reason.NOT_FOUND, "there is no such product") from None
        raise
    if not found.active:  # what an admin may see is still not for sale
        raise Refusal(Reason.NOT_FOUND, f"{found.name} is not sold any more")
    return desk.page(
        visit,
        "product",
        status=errors.status,
        product=found,
        kind=kind_of(found.sku),
        specs=specs(found.description),
        quantity=quantity,
        in_basket=read(visit).get(found.sku, 0),
        added="added" in visit.request.query_params,
        errors=errors,
        few=FEW,
    )


def kind_of(sku: str) -> Kind:
    """What the first letters of a SKU say; another catalogue may have others."""
    return _KINDS.get(sku.partition("-")[0].upper(), _OTHER)


def path_of(sku: str) -> str:
    return f"/products/{quote(sku)}"


def sections(products: Sequence[Product]) -> list[Section]:
    """By kind, in the order of the first of each; what has no kind of its own comes last."""
    found: dict[Kind, list[Product]] = {}
    for one in products:
        found.setdefault(kind_of(one.sku), []).append(one)
    return sorted((Section(kind, of) for kind, of in found.items()), key=lambda section: section.kind is _OTHER)


def specs(description: str) -> list[str]:
    """A description that is a list, as one; else nothing."""
    parts = [part.strip() for part in description.split(", ")]
    listed = len(parts) > 1 and all(0 < len(part) <= MAX_SPEC and "\n" not in part for part in parts)
    return [f"{part[0].upper()}{part[1:]}" for part in parts] if listed else []


def _added(visit: Visit, products: Sequence[Product]) -> Product | None:
    """What has just come into the basket: a link alone cannot make the page say so."""
    sku = visit.request.query_params.get("added")
    return next((one for one in products if one.sku == sku and sku in read(visit)), None)


ROUTES = [Page("/", browse), Page("/products/{sku:path}", product)]
