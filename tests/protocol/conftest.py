import pytest
from certificate_authority import CertificateAuthority
from protocol.pair import Shop


@pytest.fixture(scope="session")
def shop() -> Shop:
    authority = CertificateAuthority()
    return Shop(authority, authority.server(), authority.client())
