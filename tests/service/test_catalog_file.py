"""Catalogue files: what is read, what is written, and what is said about mistakes."""

import io
import os
from importlib import resources
from pathlib import Path

import pytest
from service.shop import Shop, entry

from securedelivery.errors import CatalogFileError
from securedelivery.model import minor_digits
from securedelivery.service import catalog_file
from securedelivery.service.catalog import ProductEntry

HEADER = "sku,name,description,price,stock,active\n"


def read(tmp_path: Path, text: str | bytes, currency: str = "EUR") -> list[ProductEntry]:
    path = tmp_path / "catalog.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return catalog_file.read(path, currency)


def test_a_file(tmp_path: Path) -> None:
    text = HEADER + 'A-1,"Name, ""with"" quotes",Text,329.00,5,1\n\n , \nB/2+x_.#3,Name,,0.5,,\r\nC,Name,Text,12,0,No\n'
    assert read(tmp_path, text) == [
        ProductEntry("A-1", 'Name, "with" quotes', "Text", 32_900, 5, True),
        ProductEntry("B/2+x_.#3", "Name", "", 50, None, True),
        ProductEntry("C", "Name", "Text", 1200, 0, False),
    ]


def test_columns_may_be_missing_and_in_any_order(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfPrice, Name ,SKU\n1.99, B\xc3\xbcrste , X\n") == [
        ProductEntry("X", "Bürste", "", 199, None, True)
    ]


@pytest.mark.parametrize(
    ("currency", "text", "price"), [("JPY", "329", 329), ("KWD", "1.005", 1005), ("CHF", "1.05", 105)]
)
def test_prices_have_the_currencys_digits(tmp_path: Path, currency: str, text: str, price: int) -> None:
    assert read(tmp_path, f"sku,name,price\nX,N,{text}\n", currency)[0].price == price


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "line 1: the header has no column sku", "begin the file with sku,name,description,price,stock,active"),
        ("sku name price\n", "line 1: the header has no column sku", "separated by commas"),
        ("sku;name;price\n", "line 1: the header has no column sku", "must be a comma, not ';'"),
        ("sku;name;price;a,b\n", "line 1: the header has no column sku", "must be a comma, not ';'"),
        ("sku\tname\tprice\n", "line 1: the header has no column sku", "must be a comma, not a tab"),
        ("sku,name,price\nA;N;1,50\n", "line 2: 2 values under 3 columns", "must be a comma, not ';'"),
        ("sku,name,price\nA\tN\t1\n", "line 2: 1 values under 3 columns", "must be a comma, not a tab"),
        ("sku,name,price\nA,N; M\n", "line 2: 2 values under 3 columns", "put texts with commas in quotes"),
        ('"sku";"name";"price"\n', "line 1: ',' expected", "the separator must be a comma"),
        ("sku,name\n", "line 1: the header has no column price", "begin the file with"),
        ("sku,name,price,colour\n", "line 1: the header has an unknown column 'colour'", "begin the file with"),
        ("sku,name,price,sku\n", "line 1: the header has a column twice", "begin the file with"),
        (HEADER + "A,N,D,1,1\n", "line 2: 5 values under 6 columns", "put texts with commas in quotes"),
        (HEADER + 'A,"N\n', "line 2: unexpected end of data", "put texts with commas"),
        (HEADER + ",N,D,1,1,1\n", "line 2, column sku: empty", "give the product a sku"),
        (HEADER + "A B,N,D,1,1,1\n", "line 2, column sku: 'A B' is no SKU", "letters, digits"),
        (HEADER + "A:2,N,D,1,1,1\n", "line 2, column sku: 'A:2' is no SKU", "letters, digits"),
        (HEADER + f"{'A' * 65},N,D,1,1,1\n", "line 2, column sku: 65 characters", "shorten it to 64"),
        (HEADER + f"A,{'N' * 201},D,1,1,1\n", "line 2, column name: 201 characters", "shorten it to 200"),
        (HEADER + 'A,N,"two\nlines",1,1,1\n', "line 3, column description: a line break", "write it in one line"),
        (HEADER + 'A,N,D,"1,50",1,1\n', "line 2, column price: '1,50' is no price", "an amount like 329.00"),
        (HEADER + "A,N,D,1.505,1,1\n", "line 2, column price: '1.505' is no price", "an amount like 329.00"),
        (HEADER + "A,N,D,-1,1,1\n", "line 2, column price: '-1' is no price", "an amount like 329.00"),
        (HEADER + "A,N,D,1e5,1,1\n", "line 2, column price: '1e5' is no price", "an amount like 329.00"),
        (HEADER + "A,N,D,٣,1,1\n", "line 2, column price: '٣' is no price", "an amount like 329.00"),
        (HEADER + "A,N,D,,1,1\n", "line 2, column price: '' is no price", "an amount like 329.00"),
        (HEADER + "A,N,D,1000000000.01,1,1\n", "column price: 1000000000.01 is too much", "at most 1000000000.00"),
        (HEADER + "A,N,D,1,-1,1\n", "line 2, column stock: '-1' is no stock", "a whole number"),
        (HEADER + "A,N,D,1,1000000001,1\n", "line 2, column stock: '1000000001' is no stock", "a whole number"),
        (HEADER + "A,N,D,1,1.5,1\n", "line 2, column stock: '1.5' is no stock", "a whole number"),
        (HEADER + "A,N,D,1,1,maybe\n", "line 2, column active: 'maybe' is neither yes nor no", "write 1"),
        (HEADER + "A,N,,1,1,1\nB,N,,1,1,1\nA,N,,1,1,1\n", "line 4, column sku: A stands in line 2", "leave one"),
        (b"sku,name,price\nA,B\xfcrste,1\n", "not UTF-8", "save it as CSV UTF-8"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str | bytes, message: str, hint: str) -> None:
    with pytest.raises(CatalogFileError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert hint in error.value.hint


def test_a_price_in_a_currency_without_cents(tmp_path: Path) -> None:
    with pytest.raises(CatalogFileError) as error:
        read(tmp_path, "sku,name,price\nA,N,1.00\n", "JPY")
    assert "an amount like 32900" in error.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogFileError, match=r"none\.csv: No such file or directory"):
        catalog_file.read(tmp_path / "none.csv", "EUR")


@pytest.mark.parametrize(("currency", "price"), [("EUR", "3290.00"), ("JPY", "329000"), ("KWD", "329.000")])
def test_what_is_exported_can_be_imported(shop: Shop, tmp_path: Path, currency: str, price: str) -> None:
    from securedelivery.service.catalog import Catalog

    catalog = Catalog(shop.database, shop.clock, currency)
    entries = [
        entry("A-1", 329_000, 5, name='Monitor 27", "curved"', description="a, b; ü"),
        entry("B-2", 7, 0, name="=1+1", active=False),
    ]
    catalog.import_products(entries)
    file = io.StringIO(newline="")
    assert catalog_file.write(catalog.export(), file) == 2
    assert f",{price},5,1\n" in file.getvalue()
    assert read(tmp_path, file.getvalue(), currency) == entries
    assert minor_digits(currency) == len(price.partition(".")[2])


def test_the_sample_catalogue(shop: Shop) -> None:
    path = resources.files("securedelivery").joinpath("data/catalog.csv")
    assert isinstance(path, os.PathLike)
    entries = catalog_file.read(Path(path), "EUR")
    assert len(entries) >= 40
    assert all(entry.active and entry.stock and 100 < entry.price < 200_000 and entry.description for entry in entries)
    assert shop.catalog.import_products(entries).added == len(entries)
    found, _ = shop.catalog.list(query="rtx 4070")
    assert [product.sku for product in found] == ["GPU-NV-4070S"]
