"""What the tests of the kit share."""

from pathlib import Path

import pytest

from securedelivery.wireshark.demo import Kit, make_kit


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """The whole kit, made once."""
    return make_kit(Path(tmp_path_factory.mktemp("kit")) / "securedelivery-demo")
