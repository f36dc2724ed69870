"""Catalogue files: CSV in UTF-8 with a header, one product a line, as a spreadsheet saves it.

    sku,name,description,price,stock,active
    GPU-NV-5070,Gigabyte GeForce RTX 5070 WINDFORCE OC 12G,12 GB GDDR7,589.00,8,1

`description`, `stock` and `active` may be left out, as a column or in a line: no description; the stock stays as it
is (0 for a new product), so that a price list does not undo what was sold meanwhile; active. Prices are amounts in
the shop's currency.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TextIO

from securedelivery.errors import CatalogFileError
from securedelivery.model import Cents, Product, minor_digits
from securedelivery.service.catalog import ProductEntry

COLUMNS = ("sku", "name", "description", "price", "stock", "active")
_REQUIRED = ("sku", "name", "price")

MAX_PRICE = 10**11  # minor units; what lies beyond is a slip, and 10,000 pieces of 100 products have to add up
MAX_STOCK = 10**9

_SIZES = {"sku": 64, "name": 200, "description": 2_000}  # characters, as in the protocol
_TRUTH = {"1": True, "yes": True, "true": True, "": True, "0": False, "no": False, "false": False}
# No blanks and no colons: a SKU is typed on command lines, as in `order place GPU-NV-5070:2`.
_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+#-]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_SEPARATORS = {";": "';'", "\t": "a tab"}  # what spreadsheets write in place of the comma


def read(path: Path, currency: str) -> list[ProductEntry]:
    """All products of a file. Raises CatalogFileError for the first thing that is wrong with it."""
    try:
        # -sig: spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_entries(file, currency))
    except OSError as error:
        raise CatalogFileError(f"{path}: {error.strerror}", "name a file that this user can read") from error
    except UnicodeDecodeError as error:
        raise CatalogFileError(f"{path}: not UTF-8", "save it as CSV UTF-8") from error


def write(products: Iterable[Product], file: TextIO) -> int:
    """Write products as read() takes them. file: opened with newline="". Gives their number."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for product in products:
        price = _amount(product.price, product.currency)
        writer.writerow((product.sku, product.name, product.description, price, product.stock, int(product.active)))
        count += 1
    return count


def _amount(price: Cents, currency: str) -> str:
    return str(Decimal(price).scaleb(-minor_digits(currency)))


def _entries(file: TextIO, currency: str) -> Iterator[ProductEntry]:
    rows = csv.reader(file, strict=True)
    seen: dict[str, int] = {}
    try:
        header = [name.strip().casefold() for name in next(rows, [])]
        _check_header(header)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            line = _Line(rows.line_num, header, row, currency)
            entry = line.entry()
            first = seen.setdefault(entry.sku, line.number)
            if first != line.number:
                raise line.wrong("sku", f"{entry.sku} stands in line {first} already", "leave one of them out")
            yield entry
    except csv.Error as error:
        raise CatalogFileError(
            str(error),
            "put texts with commas, quotes or line breaks in quotes; the separator must be a comma",
            line=rows.line_num,
        ) from error


def _check_header(header: list[str]) -> None:
    missing = [name for name in _REQUIRED if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if missing or unknown or len(set(header)) != len(header):
        hint = _separator_hint(header, 2) or f"begin the file with {','.join(COLUMNS)}, separated by commas"
        if missing:
            raise CatalogFileError(f"the header has no column {missing[0]}", hint, line=1)
        if unknown:
            raise CatalogFileError(f"the header has an unknown column {unknown[0]!r}", hint, line=1)
        raise CatalogFileError("the header has a column twice", hint, line=1)


def _separator_hint(cells: list[str], columns: int) -> str:
    """What to do where another separator makes that many columns or more; "" where none does."""
    text = ",".join(cells)
    for sign, name in _SEPARATORS.items():
        if text.count(sign) >= columns - 1 > 0:
            return f"the separator must be a comma, not {name}: choose it where the file is saved as CSV"
    return ""


class _Line:
    def __init__(self, number: int, header: list[str], row: list[str], currency: str) -> None:
        self.number = number
        self._digits = minor_digits(currency)
        if len(row) != len(header):
            hint = _separator_hint(row, len(header)) or "put texts with commas in quotes"
            raise CatalogFileError(f"{len(row)} values under {len(header)} columns", hint, line=number)
        self._cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}

    def wrong(self, column: str, message: str, hint: str) -> CatalogFileError:
        return CatalogFileError(message, hint, line=self.number, column=column)

    def entry(self) -> ProductEntry:
        return ProductEntry(
            sku=self._sku(),
            name=self._text("name"),
            description=self._text("description"),
            price=self._price(),
            stock=self._stock(),
            active=self._active(),
        )

    def _sku(self) -> str:
        sku = self._text("sku")
        if _SKU.fullmatch(sku) is None:
            raise self.wrong("sku", f"{sku!r} is no SKU", "use letters, digits and . _ / + # - without blanks")
        return sku

    def _text(self, column: str) -> str:
        text = self._cells.get(column, "")
        if not text and column in _REQUIRED:
            raise self.wrong(column, "empty", f"give the product a {column}")
        if len(text) > _SIZES[column]:
            raise self.wrong(column, f"{len(text)} characters", f"shorten it to {_SIZES[column]}")
        if _CONTROL.search(text):
            raise self.wrong(column, "a line break, tab or other control character", "write it in one line")
        return text

    def _price(self) -> Cents:
        text = self._cells["price"]
        form = rf"[0-9]{{1,12}}(\.[0-9]{{1,{self._digits}}})?" if self._digits else r"[0-9]{1,12}"
        example = _amount(Cents(32_900), "EUR") if self._digits else "32900"
        if re.fullmatch(form, text, re.ASCII) is None:
            raise self.wrong("price", f"{text!r} is no price", f"write an amount like {example}, without currency")
        price = int(Decimal(text).scaleb(self._digits))
        if price > MAX_PRICE:
            raise self.wrong("price", f"{text} is too much", f"at most {_amount(Cents(MAX_PRICE), 'EUR')}")
        return Cents(price)

    def _stock(self) -> int | None:
        text = self._cells.get("stock", "")
        if not text:
            return None
        if _NUMBER.fullmatch(text) is None or int(text) > MAX_STOCK:
            raise self.wrong(
                "stock", f"{text!r} is no stock", f"write a whole number from 0 to {MAX_STOCK}, or nothing"
            )
        return int(text)

    def _active(self) -> bool:
        text = self._cells.get("active", "").casefold()
        if text not in _TRUTH:
            raise self.wrong("active", f"{text!r} is neither yes nor no", "write 1 (for sale) or 0")
        return _TRUTH[text]
