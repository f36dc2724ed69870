"""The order that everybody places: two lines out of a catalog of 100 products, the same for each peer and for us."""

from dataclasses import dataclass

__all__ = ["ADDRESS", "CURRENCY", "CUSTOMERS", "PRODUCTS", "STOCK", "Product", "customer", "lines", "total"]

CURRENCY = "EUR"
STOCK = 10**9  # of each product: it never runs out
CUSTOMERS = 64
ADDRESS = "Flat 12, 1 Comparison Row, Bloomsbury, London WC1E 6BT, England"[:60]  # not one that a test plants


@dataclass(frozen=True)
class Product:
    """price: minor units."""

    sku: str
    name: str
    price: int


PRODUCTS = tuple(Product(f"BENCH-{n:03d}", f"Benchmark product {n:03d}", 995 + 137 * n) for n in range(100))


def customer(number: int) -> str:
    """The account's name: bench0 to bench63, again and again."""
    return f"bench{number % CUSTOMERS}"


def lines(number: int) -> tuple[tuple[Product, int], tuple[Product, int]]:
    """Product and quantity of the two lines of order `number`; the products are never the same."""
    first = number * 37 % len(PRODUCTS)
    second = (first + 1 + number % (len(PRODUCTS) - 1)) % len(PRODUCTS)
    return (PRODUCTS[first], 1 + number % 3), (PRODUCTS[second], 1)


def total(number: int) -> int:
    """What order `number` comes to, in minor units, without discount."""
    return sum(product.price * quantity for product, quantity in lines(number))
