from collections.abc import Iterator

import pytest
from certificate_authority import CertificateAuthority
from web.stage import WebStage


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    """Nobody revokes anything here: what a test changes is an authority of its own."""
    return CertificateAuthority()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority) -> Iterator[WebStage]:
    """A shop for a whole file of tests: each takes customers of its own, and no more stock than there is."""
    stage = WebStage(tmp_path_factory.mktemp("web"), authority)
    yield stage
    stage.close()
