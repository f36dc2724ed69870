"""Whatever somebody does comes to the same over the socket and over HTTP: results, reasons, what comes with them, and
the words. A method without a route, or a route without a scenario, fails here.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from service.shop import CHEAP
from web.parity.doors import NOBODY, Actor, Clock, Outcome, SideOfAShop, two_shops
from web.parity.scenarios import NEVER_REFUSED, NOT_SHOWN, SCENARIOS, Of, Scenario, Step

from securedelivery import application
from securedelivery.api.methods import METHODS, Access
from securedelivery.errors import Reason
from securedelivery.model import Role
from securedelivery.service.passwords import Passwords
from securedelivery.transport.dispatch import Lane
from securedelivery.web.routes import ROUTES, Route

STEPS = [step for scenario in SCENARIOS for step in scenario.steps]


def route_of(step: Step) -> Route:
    """The one of its verb, or the first that the method has."""
    return next(one for one in ROUTES if one.method == step.method and step.verb in (None, one.verb))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of all shops that are opened from now on. Their Argon2 is as cheap as it gets: both doors share it."""
    still = Clock()
    monkeypatch.setattr(application, "utc_now", still)
    monkeypatch.setattr(application, "Passwords", partial(Passwords, profile=CHEAP))
    return still


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_it_comes_to_the_same(
    scenario: Scenario, tmp_path: Path, authority: CertificateAuthority, clock: Clock
) -> None:
    by_socket, by_http = two_shops(tmp_path, authority, scenario.settings)
    try:
        for actor in scenario.actors:
            by_socket.admit(actor)
            by_http.admit(actor)
        for number, step in enumerate(scenario.steps):
            clock.forward(seconds=step.seconds)
            one, other = taken(by_socket, step), taken(by_http, step)
            where = f"step {number}: {step}"
            assert one.reason == step.refused, f"{where}: {one}"
            assert alike(other) == alike(one), where
    finally:
        by_socket.close()
        by_http.close()


def taken(side: SideOfAShop, step: Step) -> Outcome:
    params = {
        name: side.seen[value.kept][value.member] if isinstance(value, Of) else value
        for name, value in step.params.items()
    }
    outcome = side.doors[step.who].call(route_of(step), params)
    if step.keep is not None:
        side.seen[step.keep] = outcome.value
    return outcome


def alike(outcome: Outcome) -> Outcome:
    """Without what is drawn by lot, and where each door has words of its own without the words."""
    return Outcome(
        outcome.reason, _masked(outcome.value), "" if _OWN_WORDS.search(outcome.message) else outcome.message
    )


_LOT = {"delivery_code": "6 digits", "hash": "of this and all before"}
_OWN_WORDS = re.compile(r"is missing|has changed")  # a header is named by its own name
_PSEUDONYM = re.compile(r"deleted~[0-9a-f]{8}")
_ERASED_KEY = re.compile(r"[0-9a-f]{32}")


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _LOT.get(name) or _masked(one) for name, one in value.items()}
    if isinstance(value, str):
        return _ERASED_KEY.sub("erased", _PSEUDONYM.sub("deleted", value))
    return [_masked(one) for one in value] if isinstance(value, list) else value


# Who may

EVERYBODY = (NOBODY, *(Actor(f"some{role}", role) for role in Role))
OF_A_PATH = {"username": "ada", "sku": "CPU-1", "order": 1, "conversation": 1}


def test_who_may_not_is_refused_alike(tmp_path: Path, authority: CertificateAuthority, clock: Clock) -> None:
    """Before anything else is looked at: with no parameter but those without which there is no path."""
    by_socket, by_http = two_shops(tmp_path, authority, {})
    refused: set[tuple[str, str]] = set()
    try:
        for actor in EVERYBODY:
            by_socket.admit(actor)
            by_http.admit(actor)
            for route in ROUTES:
                access = METHODS[route.method].access
                if access is Access.ANY or (actor.login and access.admits(actor.role)):
                    continue
                params = {name: value for name, value in OF_A_PATH.items() if f"{{{name}" in route.path}
                one, other = (side.doors[actor.name].call(route, params) for side in (by_socket, by_http))
                assert one.reason == ("forbidden" if actor.login else "not_logged_in"), route
                assert other == one, route
                refused.add((actor.name, route.method))
    finally:
        by_socket.close()
        by_http.close()
    of_nobody = {method for name, method in refused if name == NOBODY.name}
    assert of_nobody == {name for name, method in METHODS.items() if method.access is not Access.ANY}
    assert ("somecustomer", "account.list") in refused
    assert ("someagent", "delivery.list") in refused
    assert not [method for name, method in refused if name == "someadmin"]


# The table is whole


def test_every_method_has_a_route() -> None:
    assert {route.method for route in ROUTES} == set(METHODS)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.path}")
def test_every_route_has_a_scenario_that_succeeds_and_one_that_is_refused(route: Route) -> None:
    mine = [step for step in STEPS if route_of(step) is route]
    assert [step for step in mine if step.refused is None], "none succeeds"
    assert [step for step in mine if step.refused] or NEVER_REFUSED.get(route.method), "none is refused"


@pytest.mark.parametrize("method", METHODS)
def test_every_reason_of_a_method_is_shown(method: str) -> None:
    shown = {step.refused for step in STEPS if step.method == method}
    missing = {reason for reason in METHODS[method].errors if reason.slug not in shown}
    missing -= {Reason.UNAVAILABLE}
    if METHODS[method].lane is Lane.WRITE or method == "account.change_password":
        missing -= {Reason.DISABLED}
    assert not {reason.slug for reason in missing if not NOT_SHOWN.get((method, reason.slug))}


def test_nothing_is_excused_that_is_shown() -> None:
    assert not {(step.method, step.refused) for step in STEPS} & set(NOT_SHOWN)
    assert not {step.method for step in STEPS if step.refused} & set(NEVER_REFUSED)
