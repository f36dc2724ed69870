import pytest

LAST = "test_secrets.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who looks for secrets in what the suite has left behind comes behind it."""
    items.sort(key=lambda item: item.path.name == LAST)
