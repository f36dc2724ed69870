"""Addresses of the web page, as mail has them: in ASCII, whole, and put together in one place."""

import pytest

from securedelivery.errors import ConfigurationError
from securedelivery.mail.links import OF_NOBODY, Links, Site
from securedelivery.model import OrderId

ROOTS = {
    "https://shop.example.org": "https://shop.example.org",
    "https://shop.example.org/": "https://shop.example.org",
    "https://shop.example.org//": "https://shop.example.org",
    "https://shop.example.org:8443": "https://shop.example.org:8443",
    "https://shop.example.org/parts": "https://shop.example.org/parts",
    "https://shop.example.org/parts/of/ours/": "https://shop.example.org/parts/of/ours",
    "HTTPS://Shop.example.org": "https://Shop.example.org",
    "https://127.0.0.1:8443/": "https://127.0.0.1:8443",
    "https://[::1]:8443": "https://[::1]:8443",
    "https://höfe.example": "https://xn--hfe-sna.example",
    "https://höfe.example:8443/": "https://xn--hfe-sna.example:8443",
}


@pytest.mark.parametrize(("public_url", "root"), ROOTS.items())
def test_all_of_them(public_url: str, root: str) -> None:
    assert Site(public_url).links(order=OrderId(17), token="abc") == Links(
        shop=f"{root}/",
        orders=f"{root}/orders",
        chat=f"{root}/chat",
        account=f"{root}/account#mail",
        order=f"{root}/orders/17",
        off=f"{root}/mail/off?token=abc",
    )


def test_of_mail_that_is_about_no_order_and_cannot_be_ended() -> None:
    links = Site("https://shop.example.org").links()
    assert (links.order, links.off) == (None, None)
    assert links.page_of(OrderId(3)) == "https://shop.example.org/orders/3"


@pytest.mark.parametrize(
    "public_url",
    [
        "", "shop.example.org", "http://shop.example.org", "https://", "https:///", "https://a b.example",
        "https://shop.example.org/?q=1", "https://shop.example.org/#top", "https://alice@shop.example.org",
        "https://shop.example.org:port", "https://<b>.example", 'https://a"b.example', "https://a>b.example",
        "https://straße.example", "https://shop.example.org/a b", "https://shop.example.org/<b>", "https://-.example",
        f"https://{'a' * 64}.example", "https://shop.example.org\n", "https://\ud800.example", "ftp://shop.example.org",
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_mail(public_url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Site(public_url)
    assert refusal.value.key == "web.public_url"
    assert refusal.value.hint == "write https://shop.example.org"


def test_the_link_of_mail_to_nobody_is_as_long_as_others() -> None:
    assert len(OF_NOBODY) == 32
