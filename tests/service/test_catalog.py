"""The catalogue and its search."""

import threading

import pytest
from service.shop import Shop, entry

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Product, Role
from securedelivery.service.catalog import CHUNK, ImportSummary, cursor_of


def skus(shop: Shop, query: str | None = None, limit: int = 50) -> list[str]:
    """All pages."""
    found: list[str] = []
    after = None
    while True:
        items, following = shop.catalog.list(query=query, after=after, limit=limit)
        found += [product.sku for product in items]
        if following is None:
            return found
        assert following == cursor_of(items[-1])
        after = following


@pytest.fixture
def parts(shop: Shop) -> Shop:
    shop.catalog.import_products(
        [
            entry("SSD-990-2T", name="Samsung 990 PRO 2TB", description="NVMe M.2, 7,450 MB/s"),
            entry("GPU-RTX-4070", name="ASUS GeForce RTX 4070", description='fits a 27" monitor'),
            entry("GPU-RX-7600", name="Sapphire Radeon RX 7600", description="Kühler: zwei Lüfter"),
            entry("OLD-1", name="Samsung 850", active=False),
            entry("SSD-990-1T", name="Samsung 990 PRO 1TB", description="NVMe M.2, 7,450 MB/s"),
        ]
    )
    return shop


def test_a_product(parts: Shop) -> None:
    assert parts.catalog.get("SSD-990-2T") == Product(
        sku="SSD-990-2T",
        name="Samsung 990 PRO 2TB",
        description="NVMe M.2, 7,450 MB/s",
        price=1000,
        currency="EUR",
        stock=10,
        active=True,
    )
    for sku in ("OLD-1", "NONE", "ssd-990-2t"):
        with pytest.raises(Refusal) as refused:
            parts.catalog.get(sku)
        assert (refused.value.reason, refused.value.data) == (Reason.NOT_FOUND, {"sku": sku})


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 50])
def test_the_list_has_the_order_of_the_file(parts: Shop, limit: int) -> None:
    assert skus(parts, limit=limit) == ["SSD-990-2T", "GPU-RTX-4070", "GPU-RX-7600", "SSD-990-1T"]
    assert skus(parts, "  ", limit=limit) == skus(parts)
    assert skus(parts, "990", limit=limit) == ["SSD-990-2T", "SSD-990-1T"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("samsung", ["SSD-990-2T", "SSD-990-1T"]),
        ("SAMS", ["SSD-990-2T", "SSD-990-1T"]),
        ("990 sam 2t", ["SSD-990-2T"]),
        ("gpu", ["GPU-RTX-4070", "GPU-RX-7600"]),
        ("gpu-rx-7600", ["GPU-RX-7600"]),
        ("rtx4070", []),
        ("kuhler", ["GPU-RX-7600"]),
        ("LÜFT", ["GPU-RX-7600"]),
        ("amsung", []),
        ('27" monitor', ["GPU-RTX-4070"]),
        ("sapphire samsung", []),
        ('"', []),
        ("--", []),
        ("* OR NOT AND NEAR( sku:", []),
        ("OR", []),
        ("nvme m.2", ["SSD-990-2T", "SSD-990-1T"]),
    ],
)
def test_search(parts: Shop, query: str, found: list[str]) -> None:
    assert skus(parts, query) == found


def test_the_search_follows_changes(parts: Shop) -> None:
    parts.catalog.import_products(
        [entry("SSD-990-1T", name="Lexar NM790"), entry("OLD-1", name="Samsung 850", active=True)]
    )
    assert skus(parts, "samsung") == ["SSD-990-2T", "OLD-1"]
    assert skus(parts, "lexar") == ["SSD-990-1T"]
    assert skus(parts, "990") == ["SSD-990-2T", "SSD-990-1T"]
    parts.place(parts.customer("alice"), ("SSD-990-1T", 1))
    assert skus(parts, "lexar") == ["SSD-990-1T"]
    parts.sql("DELETE FROM products WHERE sku = 'OLD-1'")
    assert skus(parts, "samsung") == ["SSD-990-2T"]
    parts.sql("INSERT INTO products_words (products_words) VALUES ('integrity-check')")


@pytest.mark.parametrize("cursor", ["", "x", "bzox", "cDpOT05F"])
def test_cursors_that_are_none(parts: Shop, cursor: str) -> None:
    with pytest.raises(Refusal) as refused:
        parts.catalog.list(after=cursor)
    assert refused.value.data == {"path": "/after"}


def test_import_adds_and_changes_and_keeps_the_rest(parts: Shop) -> None:
    alice = parts.customer("alice")
    order = parts.place(alice, ("GPU-RX-7600", 4))
    summary = parts.catalog.import_products(
        [
            entry("GPU-RX-7600", 900, None, name="Sapphire Radeon RX 7600", description="Kühler: zwei Lüfter"),
            entry("GPU-RTX-4070", name="ASUS GeForce RTX 4070", description='fits a 27" monitor'),
            entry("NEW-1", stock=None),
            entry("NEW-2", stock=3),
        ]
    )
    assert summary == ImportSummary(added=2, changed=1, unchanged=1)
    product = parts.catalog.get("GPU-RX-7600")
    assert (product.price, product.stock) == (900, 6)
    assert parts.catalog.get("NEW-1").stock == 0
    assert skus(parts)[-2:] == ["NEW-1", "NEW-2"]
    # Prices are fixed at placement.
    assert parts.orders.get(alice, order.order) == order


def test_a_large_import_comes_in_chunks_and_lets_orders_through(shop: Shop) -> None:
    shop.stock(("GPU-1", 100, 5))
    alice = shop.customer("alice")
    steps: list[int] = []
    placed: list[int] = []

    def progress(done: int) -> None:
        steps.append(done)
        if len(steps) == 1:
            buyer = threading.Thread(target=lambda: placed.append(shop.place(alice, ("GPU-1", 1)).order))
            buyer.start()
            buyer.join()

    summary = shop.catalog.import_products([entry(f"P-{n}") for n in range(2 * CHUNK + 7)], progress)
    assert summary == ImportSummary(2 * CHUNK + 7, 0, 0)
    assert steps == [CHUNK, 2 * CHUNK, 2 * CHUNK + 7]
    assert placed == [1]
    assert len(skus(shop, limit=200)) == 2 * CHUNK + 8
    assert shop.catalog.import_products([]) == ImportSummary(0, 0, 0)


def test_export_holds_everything(parts: Shop) -> None:
    products = list(parts.catalog.export())
    assert [(product.sku, product.active) for product in products] == [
        ("SSD-990-2T", True),
        ("GPU-RTX-4070", True),
        ("GPU-RX-7600", True),
        ("OLD-1", False),
        ("SSD-990-1T", True),
    ]


def test_an_admin_puts_a_product(parts: Shop) -> None:
    root = parts.customer("root", Role.ADMIN)
    wanted = entry("NEW-1", 2500, 7, name="New", description="Kühler")
    product = parts.catalog.put(root, wanted)
    assert product == parts.catalog.get("NEW-1")
    assert (product.name, product.price, product.stock, product.active) == ("New", 2500, 7, True)
    assert skus(parts)[-1] == "NEW-1"
    assert skus(parts, "kuhler") == ["GPU-RX-7600", "NEW-1"]
    assert parts.catalog.put(root, wanted) == product  # nothing new, and no row
    changed = parts.catalog.put(root, entry("NEW-1", 2400, 0, name="Newer", description="Kühler", active=False))
    assert (changed.price, changed.stock, changed.active) == (2400, 0, False)
    assert "NEW-1" not in skus(parts)
    assert parts.catalog.put(None, entry("OLD-1", name="Samsung 850")).active
    new = (
        '{"fields":["sku","name","description","price","stock","active"],'
        '"price":[null,2500],"stock":[null,7],"active":[null,1],"by":"admin"}'
    )
    assert parts.sql("SELECT actor_id, action, subject, detail FROM audit ORDER BY id") == [
        (
            1,
            "product.put",
            "product:NEW-1",
            new,
        ),
        (
            1,
            "product.put",
            "product:NEW-1",
            '{"fields":["name","price","stock","active"],"price":[2500,2400],"stock":[7,0],"active":[1,0],"by":"admin"}',
        ),
        (None, "product.put", "product:OLD-1", '{"fields":["active"],"active":[0,1],"by":"operator"}'),
    ]


def test_only_an_admin_puts_a_product(parts: Shop) -> None:
    for role in (Role.CUSTOMER, Role.AGENT, Role.COURIER):
        with pytest.raises(Refusal) as refused:
            parts.catalog.put(parts.customer(role.value, role), entry("NEW-1"))
        assert refused.value.reason is Reason.FORBIDDEN
    assert parts.sql("SELECT count(*) FROM products WHERE sku = 'NEW-1'") == [(0,)]
