"""Takes docs/web/*.png and docs/web.png and writes docs/web/README.md: every page in the real Chromium, narrow and
wide, light and dark.

python docs/record_web.py [WORD ...]     wants chromium and certutil (libnss3-tools); words: only the pages named so

A shop is started, with the sample catalog; its clock goes through a week in which customers order and ask, and then
each page is shown to whom it is for.
"""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

DOCS = Path(__file__).parent
PICTURES = DOCS / "web"
sys.path.insert(0, str(DOCS.parent / "tests"))
from certificate_authority import CertificateAuthority  # noqa: E402 -- of the tests
from end_to_end.mailing import MOVABLE_CLOCK, with_start_code  # noqa: E402
from web.browser.chromium import Chromium, Visitor  # noqa: E402
from web.browser.process import MailChoice, WebProcess, cookies  # noqa: E402

CATALOG = DOCS.parent / "securedelivery" / "data" / "catalog.csv"
SHOP = "Halden Parts"
SIZES = {"phone": (390, 844, 1_500), "desktop": (1280, 800, 1_200)}  # width, height of the window, most of the picture
SCHEMES = ("light", "dark")
COLOURS = 48
OVERVIEW = ("catalog-desktop-light", "order-carried-phone-light", "order-carried-desktop-dark", "catalog-phone-dark")
MOST_BYTES = 4_000_000
HOUR, DAY = 3_600.0, 86_400.0

Act = Callable[[Any], None]


class Shown(NamedTuple):
    """who: a username, or "" for nobody. act: what is done on the page before it is taken."""

    name: str
    title: str
    who: str
    path: str
    act: Act | None = None


class Clock:
    """The shop's, which can be put forward."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._file = folder / "ahead"
        self._seconds = seconds
        self.variables = with_start_code(folder, MOVABLE_CLOCK.format(path=str(self._file)))
        self.go(0)

    def go(self, seconds: float) -> None:
        self._seconds += seconds
        beside = self._file.with_suffix(".new")
        beside.write_text(str(self._seconds))
        beside.rename(self._file)

    def end(self) -> None:
        """It is now."""
        self.go(-self._seconds)


class Story:
    """What happens in the shop before the pictures are taken. Whoever acts logs in anew: sessions end with time."""

    def __init__(self, shop: WebProcess, clock: Clock) -> None:
        self._shop = shop
        self._clock = clock
        self._keys = map("story-{}".format, itertools.count(1))
        self.orders: dict[str, int] = {}
        self.conversations: dict[str, int] = {}
        self.way_out = ""

    def tell(self) -> None:
        """From six days ago until now."""
        for username, details in CUSTOMERS.items():
            self._shop.customer(username, **details).close()
        for username, role in STAFF.items():
            self._shop.staff(username, role).close()
        self._sell_out("GPU-NV-5080")
        for wanted, at in EARLIER:
            number = self._order("nora", wanted)
            self._clock.go(2 * HOUR)
            self._through(number, "kofi", at)
            self._clock.go(16 * HOUR)
        cancelled = self._order("nora", {"COO-ARC-LF3-360": 1})
        self._do("nora", "DELETE", f"/api/orders/{cancelled}", reason="It does not fit into my case")
        self.orders["cancelled"] = cancelled
        for who, wanted in OF_OTHERS:
            self._through(self._order(who, wanted), "kofi", "out_for_delivery")
        self.orders["carried"] = self._order("nora", {"GPU-NV-5070": 1, "PSU-COR-RM850X": 1})
        self._clock.go(3 * HOUR)
        self._through(self.orders["carried"], "kofi", "out_for_delivery")
        for who, wanted, status in WAITING:
            self._through(self._order(who, wanted), "", status)
        self.orders["placed"] = self._order("nora", {"CPU-AMD-9700X": 1, "RAM-D5-32-6000": 2}, redeem_points=120)
        self._clock.go(HOUR)
        self._talk()
        self.way_out = self._shop.way_out("nora", MailChoice.SUMMARIES)
        self._clock.end()

    def _talk(self) -> None:
        for customer, texts in QUESTIONS.items():
            for text in texts:
                self.conversations[customer] = self._say(customer, text)
                self._clock.go(140)
        number = self.conversations["nora"]
        self._do("amara", "POST", f"/api/chat/conversations/{number}/claim")
        for who, text in TALK:
            self._clock.go(45)
            self._say(who, text, **({} if who == "nora" else {"conversation": number}))

    def _sell_out(self, sku: str) -> None:
        with self._shop.api() as api:
            product = api.get(f"/api/catalog/{sku}").json()
        del product["currency"]
        self._do("admin", "PUT", f"/api/catalog/{sku}", **{**product, "stock": 0})

    def _say(self, who: str, text: str, **more: object) -> int:
        told = self._do(who, "POST", "/api/chat/messages", text=text, message_key=next(self._keys), **more)
        return int(told["conversation"])

    def _order(self, who: str, wanted: dict[str, int], **more: object) -> int:
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.items()]
        placed = self._do(who, "POST", "/api/orders", lines=lines, idempotency_key=next(self._keys), **more)
        return int(placed["order"])

    def _through(self, number: int, courier: str, until: str) -> None:
        """Advance an order, step by step, as far as that."""
        for status in ("confirmed", "packed", "out_for_delivery", "delivered", "returned"):
            self._clock.go(HOUR / 2)
            if status == "delivered":
                self._do("admin", "POST", f"/api/orders/{number}/status", status=status, note="Handed over at the door")
            elif status == "out_for_delivery":
                self._do("amara", "POST", f"/api/orders/{number}/status", status=status, courier=courier)
            else:
                self._do("amara", "POST", f"/api/orders/{number}/status", status=status)
            if status == until:
                return

    def _do(self, who: str, verb: str, path: str, **params: object) -> dict[str, Any]:
        with self._shop.api() as api:
            api.log_in(who)
            answer = api.request(verb, path, json=params)
            assert answer.is_success, answer.text
            told: dict[str, Any] = answer.json()
            return told


CUSTOMERS: dict[str, dict[str, str]] = {
    "nora": {"name": "Nora Lindqvist", "email": "nora@lindqvist.example", "address": "14 Harbour Street\nHull HU1 2AB"},
    "elias": {"name": "Elias Berg", "address": "3 Chapel Road\nBeverley HU17 8QL"},
    "mina": {"name": "Mina Okafor", "address": "27 Mill Lane\nHull HU5 3RT"},
    "tom": {"name": "Tom Ashby", "address": "8 Station View\nHessle HU13 0HB"},
    "petra": {"name": "Petra Novak"},
}
STAFF = {"amara": "agent", "jonas": "agent", "kofi": "courier", "admin": "admin"}
EARLIER: tuple[tuple[dict[str, int], str], ...] = (
    ({"SSD-SAM-990P-2T": 1}, "delivered"),
    ({"RAM-D5-32-6000": 1, "SSD-CRU-P3P-1T": 2}, "delivered"),
    ({"MON-DELL-U2723QE": 1}, "returned"),
    ({"CAS-FD-NORTH-BK": 1}, "delivered"),
    ({"COO-NOC-NHD15G2": 1}, "delivered"),
    ({"KEY-KEY-V3MAX": 1, "MOU-LOG-GPX2": 1}, "delivered"),
)
OF_OTHERS = (("elias", {"GPU-AMD-9070XT": 1}), ("mina", {"SSD-SAM-990P-2T": 2}))
WAITING = (("tom", {"CPU-AMD-9800X3D": 1}, "packed"), ("mina", {"RAM-D5-32-6000": 1}, "confirmed"))
QUESTIONS = {
    "elias": ("Good morning. Could the parcel go to my neighbour at number 5?",),
    "nora": ("Hello, will the RM850x be enough for a 5070 and a 9700X?",),
    "mina": ("The second drive is not recognised.", "I have tried both slots.", "What can I do?"),
    "tom": ("Is the 9800X3D boxed with a cooler?",),
}
TALK = (
    ("amara", "Good morning, Nora. Yes: the two together draw about 400 watts at the most."),
    ("nora", "Good. And is it quiet?"),
    ("amara", "Its fan stands still below 300 watts, so at the desk you will not hear it."),
    ("amara", "Your order with the card is on its way, by the way. Kofi has it in the van."),
    ("nora", "Perfect, thank you!"),
)


def pages(story: Story) -> Iterator[Shown]:
    """Every page, in the order of the index."""
    placed, carried, cancelled = (story.orders[name] for name in ("placed", "carried", "cancelled"))
    yield Shown("catalog", "The catalog, which is the first page", "", "/")
    yield Shown("catalog-search", "A search", "nora", "/?q=ryzen")
    yield Shown("catalog-nothing", "A search that finds nothing", "", "/?q=typewriter")
    yield Shown("product", "A product", "nora", "/products/GPU-NV-5070")
    yield Shown("product-sold-out", "A product that is sold out", "", "/products/GPU-NV-5080")
    yield Shown("basket-empty", "An empty basket", "petra", "/basket")
    yield Shown("basket", "A basket", "nora", "/basket", fill_basket)
    yield Shown("checkout", "Checkout", "nora", "/checkout", to_checkout)
    yield Shown("checkout-error", "Checkout with something missing", "petra", "/checkout", checkout_wrongly)
    yield Shown("orders", "The customer's orders", "nora", "/orders")
    yield Shown("orders-empty", "No orders yet", "petra", "/orders")
    yield Shown("order-placed", "An order that can be edited", "nora", f"/orders/{placed}")
    yield Shown("order-edit", "Editing it", "nora", f"/orders/{placed}/edit")
    yield Shown("order-carried", "An order on its way, with its delivery code", "nora", f"/orders/{carried}")
    yield Shown("order-cancelled", "A cancelled order", "nora", f"/orders/{cancelled}")
    yield Shown("rewards", "Rewards", "nora", "/rewards")
    yield Shown("rewards-empty", "Rewards before the first order", "petra", "/rewards")
    yield Shown("chat", "The chat", "nora", "/chat")
    yield Shown("chat-empty", "The chat before the first question", "petra", "/chat")
    yield Shown("account", "The account", "nora", "/account")
    yield Shown("account-error", "A wrong password", "nora", "/account", password_wrongly)
    yield Shown("account-delete", "Deleting the account", "nora", "/account/delete")
    yield Shown("login", "Logging in", "", "/login")
    yield Shown("login-error", "A login that fails", "", "/login", log_in_wrongly)
    yield Shown("join", "Opening an account", "", "/join")
    yield Shown("join-error", "A name that is taken", "", "/join", join_wrongly)
    yield Shown("mail-off", "The way out of mails, to which each leads", "", story.way_out)
    yield Shown("mail-off-unknown", "The same, from a link that is not whole", "", "/mail/off?token=old")
    yield Shown("inbox", "Agents: the inbox", "amara", "/inbox")
    yield Shown("inbox-conversation", "Agents: a conversation", "amara", f"/inbox/{story.conversations['nora']}")
    yield Shown("inbox-waiting", "Agents: one that waits", "amara", f"/inbox/{story.conversations['mina']}")
    yield Shown("inbox-empty", "Agents: nobody waits for this one", "jonas", "/inbox")
    yield Shown("staff-orders", "Agents: all orders", "amara", "/orders")
    yield Shown("staff-order", "Agents: an order", "amara", f"/orders/{placed}")
    yield Shown("deliveries", "Couriers: today's deliveries", "kofi", "/deliveries")
    yield Shown("not-found", "A page that is not there", "", "/no-such-page")
    yield Shown("forbidden", "A page for others", "nora", "/inbox")
    yield Shown("api", "The reference of the API", "", "/api/docs")


# What is done on a page


def put_into_basket(page: Any, *skus: str) -> None:
    for sku in skus:
        page.goto(f"/products/{sku}")
        with page.expect_navigation():
            page.locator("main form[action='/basket'] button").first.click()


def fill_basket(page: Any) -> None:
    page.context.clear_cookies(name="__Host-basket")
    put_into_basket(page, "CPU-AMD-9700X", "RAM-D5-32-6000")
    page.goto("/basket")


def to_checkout(page: Any) -> None:
    fill_basket(page)
    page.goto("/checkout")


def checkout_wrongly(page: Any) -> None:
    to_checkout(page)
    page.locator("[name=address]").fill("")
    submit(page, "[name=address]")


def password_wrongly(page: Any) -> None:
    page.locator("[name=old_password]").fill("not this one")
    page.locator("[name=new_password]").fill("another good one 9")
    submit(page, "[name=new_password]")


def log_in_wrongly(page: Any) -> None:
    page.locator("[name=username]").fill("nora")
    page.locator("[name=password]").fill("not this one")
    submit(page, "[name=password]")


def join_wrongly(page: Any) -> None:
    page.locator("[name=username]").fill("nora")
    page.locator("[name=password]").fill("a good password 7")
    submit(page, "[name=password]")


def submit(page: Any, field: str) -> None:
    """Send the form that the field is in, whatever the browser itself would say of it."""
    with page.expect_navigation():
        page.locator(field).evaluate("field => { field.form.noValidate = true; field.form.requestSubmit(); }")


# Pictures


def take(visitors: dict[tuple[str, str], Visitor], shown: Shown) -> int:
    """All pictures of one page; their bytes."""
    size = 0
    for device, (width, _, most) in SIZES.items():
        page = visitors[device, shown.who].page
        page.goto(shown.path)
        if shown.act is not None:
            shown.act(page)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.evaluate("document.activeElement?.blur()")
            whole = page.evaluate("document.documentElement.scrollHeight")
            taken = page.screenshot(
                full_page=True, animations="disabled", clip={"x": 0, "y": 0, "width": width, "height": min(whole, most)}
            )
            path = PICTURES / f"{shown.name}-{device}-{scheme}.png"
            with Image.open(BytesIO(taken)) as picture:
                save(picture, path)
            size += path.stat().st_size
    return size


def save(picture: Image.Image, path: Path, colours: int = COLOURS) -> None:
    picture.convert("RGB").quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def overview() -> None:
    """One picture for the README, of some of the others: the first page and an order, on a desk and on a phone."""
    height, gap, around = 800, 32, "#8a9794"
    with ExitStack() as stack:
        views = [stack.enter_context(Image.open(PICTURES / f"{name}.png")) for name in OVERVIEW]
        width = sum(view.width + gap for view in views) + gap
        whole = Image.new("RGB", (width, height + 2 * gap), around)
        left = gap
        for view in views:
            whole.paste(view.convert("RGB").crop((0, 0, view.width, height)), (left, gap))
            left += view.width + gap
    half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.LANCZOS)
    save(half, DOCS / "web.png", 128)


def index(shown: list[Shown]) -> str:
    widths = " and ".join(str(width) for width, _, _ in SIZES.values())
    views = [f"{device}-{scheme}" for device in SIZES for scheme in SCHEMES]
    lines = [
        "# Every page, narrow and wide, light and dark",
        "",
        f"Taken by `python docs/record_web.py` of a running shop, at {widths} CSS pixels.",
        "",
    ]
    for one in shown:
        lines += [f"## {one.title}", ""]
        lines += [
            f'<a href="{one.name}-{view}.png"><img src="{one.name}-{view}.png" height="260" alt="{view}"></a>'
            for view in views
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    words = sys.argv[1:]
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="web-pictures-") as name, ExitStack() as stack:
        folder = Path(name)
        clock = Clock(folder, -6 * DAY)
        settings = {"shop": {"name": SHOP}}
        process = WebProcess(folder, CertificateAuthority(), settings, catalog=CATALOG, variables=clock.variables)
        shop = stack.enter_context(process)
        story = Story(shop, clock)
        story.tell()
        chromium = stack.enter_context(Chromium(folder / "chromium", shop.certs / "ca.crt"))
        everything = list(pages(story))
        visitors = {
            (device, who): visitor(chromium, shop, who, device)
            for device in SIZES
            for who in sorted({one.who for one in everything})
        }
        for one in everything:
            if not words or any(word in one.name for word in words):
                sys.stdout.write(f"{one.name}: {take(visitors, one):,} bytes\n")
        chromium.finish_visits()
    (PICTURES / "README.md").write_text(index(everything))
    overview()
    total = sum(path.stat().st_size for path in PICTURES.glob("*.png"))
    sys.stdout.write(f"{total:,} bytes in all\n")
    if total > MOST_BYTES:
        sys.exit(f"that is more than {MOST_BYTES:,}")


def visitor(chromium: Chromium, shop: WebProcess, who: str, device: str) -> Visitor:
    width, height, _ = SIZES[device]
    found = chromium.visitor(shop.site, viewport={"width": width, "height": height})
    found.who = f"{who or 'nobody'} ({device})"
    if who:
        with shop.api() as api:
            api.log_in(who)
            found.context.add_cookies(cookies(api, shop.site))
    return found


if __name__ == "__main__":
    main()
