"""A database on disk for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from securedelivery.store.engine import Database


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database.open(url, busy_seconds=0.2) as database:
        yield database
