import commands
import pytest

LAST = "test_secrets.py"
SLOW = frozenset({"end_to_end", "wireshark", "benchmarks"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, or one worker ends with one of them while the other has nothing left; and who looks for secrets
    in what the suite has left behind comes behind it.
    """
    items.sort(key=lambda item: (item.path.name == LAST, item.path.parent.name not in SLOW))


def pytest_sessionfinish() -> None:
    commands.end()
