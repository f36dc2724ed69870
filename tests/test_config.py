from pathlib import Path

import pytest

from securedelivery import config
from securedelivery.errors import ConfigurationError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    settings = config.load(None, {}, {})
    assert settings.server.listen == "0.0.0.0:5555"
    assert settings.server.client_certificates == "required"
    assert settings.limits.connections == 20_000


def test_flags_go_before_environment_and_environment_before_file(tmp_path: Path) -> None:
    path = _file(tmp_path, '[server]\nlisten = "127.0.0.1:1"\ncerts = "a"\n[limits]\nconnections = 1\n')
    environment = {"SECUREDELIVERY_SERVER_LISTEN": "127.0.0.1:2", "SECUREDELIVERY_LIMITS_CONNECTIONS": "2"}
    settings = config.load(path, environment, {"server.listen": "127.0.0.1:3", "server.certs": None})
    assert (settings.server.listen, settings.server.certs, settings.limits.connections) == ("127.0.0.1:3", "a", 2)


def test_a_setting_of_the_environment_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(None, {"SECUREDELIVERY_LIMITS_CONECTIONS": "5"}, {})
    assert caught.value.key == "SECUREDELIVERY_LIMITS_CONECTIONS"


def test_text_that_looks_like_a_number_stays_text() -> None:
    assert config.load(None, {"SECUREDELIVERY_SHOP_NAME": "2024"}, {}).shop.name == "2024"


def test_the_variables_of_customers_are_none_of_its_business() -> None:
    environment = {"SECUREDELIVERY_SERVER": "localhost:5555", "SECUREDELIVERY_CA": "ca.crt"}
    assert config.load(None, environment, {}) == config.load(None, {}, {})


def test_lists_and_text_come_from_the_environment() -> None:
    environment = {
        "SECUREDELIVERY_SERVER_TRUSTED_PROXIES": '["spiffe://shop.test/proxy/edge"]',
        "SECUREDELIVERY_SHOP_NAME": "Parts & Co",
    }
    settings = config.load(None, environment, {})
    assert settings.server.trusted_proxies == ("spiffe://shop.test/proxy/edge",)
    assert settings.shop.name == "Parts & Co"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[limits]\nconections = 1", "limits.conections"),
        ("[nope]\n", "nope"),
        ("[limits]\nconnections = 'many'", "limits.connections"),
        ("[limits]\nconnections = 0", "limits.connections"),
        ("[limits]\nidle_seconds = -1", "limits.idle_seconds"),
        ("[server]\nclient_certificates = 'sometimes'", "server.client_certificates"),
        ("[server]\nlisten = 'localhost'", "server.listen"),
        ("[server]\nlisten = 'localhost:99999'", "server.listen"),
        ("[server]\ntrust_domain = 'Shop Test'", "server.trust_domain"),
        ("[server]\ntrusted_proxies = ['edge']", "server.trusted_proxies"),
        ("[shop]\ncurrency = 'euro'", "shop.currency"),
        ("server = 1", "server"),
        ("[limits]\nhandshake_seconds = nan", "limits.handshake_seconds"),
        ("[limits]\nidle_seconds = inf", "limits.idle_seconds"),
        ("[limits]\nworkers = 100000", "limits.workers"),
        ('[server]\ncerts = "a\\u0000b"', "server.certs"),
        ("[rewards]\nexpire_after_months = 100000", "rewards"),
        ("[rewards]\npoint_value = 5", "rewards.point_value"),
        ("[accounts.logins.name]\nburts = 5\nseconds = 1", "accounts.logins.name.burts"),
        ("[rewards]\nredeemable_percent = 101", "rewards"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(_file(tmp_path, text), {}, {})
    assert caught.value.key == key
    assert caught.value.hint


def test_a_setting_inside_what_is_no_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="server"):
        config.load(_file(tmp_path, "server = 1"), {"SECUREDELIVERY_SERVER_LISTEN": ":1"}, {})


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "missing.toml", "no such file"),
        (tmp_path, "cannot be read"),
        (_file(tmp_path, "[server"), "not TOML"),
    ):
        with pytest.raises(ConfigurationError, match=words) as caught:
            config.load(path, {}, {})
        assert caught.value.key == str(path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5555", ("127.0.0.1", 5555)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("0.0.0.0", 80)),
        ("shop.example:443", ("shop.example", 443)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert config.split_address(text) == address


def test_the_trust_domain_is_the_noted_one(tmp_path: Path) -> None:
    settings = config.load(None, {}, {"server.certs": str(tmp_path)})
    assert settings.trust_domain == "securedelivery.local"
    (tmp_path / "trust-domain").write_text("shop.test\n")
    assert settings.trust_domain == "shop.test"
    (tmp_path / "trust-domain").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="trust-domain"):
        _ = settings.trust_domain
    assert config.load(None, {}, {"server.trust_domain": "other.test"}).trust_domain == "other.test"
