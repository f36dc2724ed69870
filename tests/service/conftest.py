from collections.abc import Iterator
from pathlib import Path

import pytest
from service.shop import Clock, Shop

from securedelivery.service.rewards import RewardRules
from securedelivery.store.engine import Database


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        yield Shop(database, Clock(), RewardRules(), tmp_path / "names.txt")
