"""/api over real HTTPS: what HTTP adds to the table."""

import json
from typing import Any

import httpx
import pytest
from web.stage import PASSWORD, Browser, WebStage

from securedelivery.api.methods import METHODS
from securedelivery.errors import Reason
from securedelivery.model import Role
from securedelivery.web.problems import status_of
from securedelivery.web.routes import ROUTES

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def rosa(web: WebStage) -> Browser:
    return web.customer("rosa", address="12 Wharf Lane")


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem details, whose form is checked (RFC 9457, section 3.1)."""
    assert answer.headers["content-type"] == PROBLEM
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["type"] == f"/api/docs#{found['reason']}"
    assert found["title"]
    assert found["detail"]
    return found


def test_each_method_has_a_route() -> None:
    assert {route.method for route in ROUTES} == METHODS.keys()
    places = [(route.verb, route.path) for route in ROUTES]
    assert len(places) == len(set(places))


def test_each_reason_has_the_status_of_the_protocol() -> None:
    own = {"parse_error": 400, "invalid_request": 400, "invalid_params": 400, "method_not_found": 404, "internal": 500}
    for reason in Reason:
        assert status_of(reason) == own.get(reason.slug, reason.code - 1_000)


def test_an_order_from_first_to_last(web: WebStage, rosa: Browser) -> None:
    order = rosa.order(("GPU-1", 1), key="first to last")
    assert order["status"] == "placed"
    path = f"/api/orders/{order['order']}"
    found = rosa.get(path)
    assert found.json() == order
    assert found.headers["etag"] == '"1"'
    changed = rosa.patch(path, json={"address": "13 Wharf Lane"}, headers={"If-Match": '"1"'})
    assert changed.json()["address"] == "13 Wharf Lane"
    assert changed.headers["etag"] == '"2"'
    whole = {"address": "14 Wharf Lane", "lines": [{"sku": "RAM-1", "quantity": 2}]}
    replaced = rosa.put(path, json=whole, headers={"If-Match": '"2"'}).json()
    assert (replaced["address"], replaced["version"], replaced["lines"][0]["sku"]) == ("14 Wharf Lane", 3, "RAM-1")
    cancelled = rosa.request("DELETE", path, json={"reason": "found a better one"}).json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["history"][-1]["note"] == "found a better one"


# Idempotency


def test_the_same_key_is_the_same_order(rosa: Browser) -> None:
    body = {"lines": [{"sku": "RAM-1", "quantity": 1}]}
    answers = [rosa.post("/api/orders", json=body, headers={"Idempotency-Key": key}) for key in ("again", '"again"')]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers["location"] == f"/api/orders/{answers[0].json()['order']}"
    body["lines"][0]["quantity"] = 2
    conflict = rosa.post("/api/orders", json=body, headers={"Idempotency-Key": "again"})
    assert (conflict.status_code, problem(conflict)["reason"]) == (409, "idempotency_conflict")


def test_a_key_may_stand_in_the_body_but_not_two_of_them(rosa: Browser) -> None:
    body = {"lines": [{"sku": "RAM-1", "quantity": 1}], "idempotency_key": "in the body"}
    placed = rosa.post("/api/orders", json=body)
    assert placed.status_code == 201
    same = rosa.post("/api/orders", json=body, headers={"Idempotency-Key": "in the body"})
    assert same.json() == placed.json()
    other = problem(rosa.post("/api/orders", json=body, headers={"Idempotency-Key": "another"}))
    assert (other["reason"], other["path"]) == ("invalid_params", "/idempotency_key")


def test_a_key_that_is_missing_is_asked_for(rosa: Browser) -> None:
    for path, name in (("/api/orders", "idempotency_key"), ("/api/chat/messages", "message_key")):
        found = problem(rosa.post(path, json={"lines": [{"sku": "RAM-1", "quantity": 1}], "text": "hello"}))
        assert (found["status"], found["path"]) == (400, f"/{name}")
        assert "Idempotency-Key" in found["detail"]


def test_a_message_has_a_key_as_well(rosa: Browser) -> None:
    for _ in range(2):
        sent = rosa.post("/api/chat/messages", json={"text": "hello"}, headers={"Idempotency-Key": "m"})
        assert (sent.status_code, sent.json()["sequence"]) == (201, 1)


# Versions


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 428),
        ('"1"', 200),
        ('"7", "1"', 200),
        ("*", 200),
        ('"2"', 412),
        ('"7", "8"', 412),
        ('W/"1"', 412),
        ('"abc"', 412),
        ('"00"', 412),
        ('"99999999999999999999"', 412),
        ("1", 400),
        ('"1" "2"', 400),
    ],
)
def test_if_match(rosa: Browser, given: str | None, status: int) -> None:
    order = rosa.order(("RAM-1", 1), key=f"if match {given}")
    path = f"/api/orders/{order['order']}"
    headers = {} if given is None else {"If-Match": given}
    answer = rosa.patch(path, json={"address": "1 Quay"}, headers=headers)
    assert answer.status_code == status
    kept = rosa.get(path).json()
    assert kept["address"] == ("1 Quay" if status == 200 else order["address"])
    if status == 412:
        found = problem(answer)
        assert found["version"] == 1
        assert "version 1" in found["detail"]
    if status == 428:
        assert problem(answer)["reason"] == "precondition_required"


def test_a_stale_version_is_a_conflict_of_versions(rosa: Browser) -> None:
    order = rosa.order(("RAM-1", 1), key="stale")
    path = f"/api/orders/{order['order']}"
    for _ in range(2):
        answer = rosa.patch(path, json={"address": "2 Quay"}, headers={"If-Match": '"1"'})
    assert (answer.status_code, problem(answer)["reason"]) == (412, "version_conflict")


def test_if_match_is_heeded_where_nothing_asks_for_it(web: WebStage, rosa: Browser) -> None:
    order = rosa.order(("RAM-1", 1), key="heeded")
    path = f"/api/orders/{order['order']}"
    assert rosa.delete(path, headers={"If-Match": '"2"'}).status_code == 412
    assert rosa.delete(path, headers={"If-Match": '"1"'}).json()["status"] == "cancelled"


def test_who_is_not_logged_in_is_not_asked_for_a_version(web: WebStage) -> None:
    assert web.client().patch("/api/orders/1", json={}).status_code == 401


def test_what_the_browser_has_is_not_sent_again(rosa: Browser) -> None:
    order = rosa.order(("RAM-1", 1), key="kept")
    path = f"/api/orders/{order['order']}"
    again = rosa.get(path, headers={"If-None-Match": '"1"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"1"')
    assert rosa.get(path, headers={"If-None-Match": '"2"'}).status_code == 200
    assert rosa.get(path, headers={"If-None-Match": "*"}).status_code == 304


def test_if_match_is_about_the_order_in_the_path(rosa: Browser) -> None:
    order = rosa.order(("RAM-1", 1), key="in the path")
    body = {"text": "hello", "order": order["order"]}
    headers = {"Idempotency-Key": "in the path", "If-Match": '"7"'}
    assert rosa.post("/api/chat/messages", json=body, headers=headers).status_code == 201


# Bodies, queries, paths


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "parse_error"),
        (b'{"text": "\xff"}', 400, "parse_error"),
        (b"[]", 400, "invalid_request"),
        (b'"text"', 400, "invalid_request"),
        (b"[" * 60_000, 400, "parse_error"),
        (b'{"text": 5, "message_key": "k"}', 400, "invalid_params"),
        (b" " * 70_000, 413, "content_too_large"),
    ],
)
def test_a_body_that_is_none(rosa: Browser, body: bytes, status: int, reason: str) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    answer = rosa.post("/api/chat/messages", content=body, headers=headers)
    assert (answer.status_code, problem(answer)["reason"]) == (status, reason)


def test_only_json_is_taken(rosa: Browser) -> None:
    answer = rosa.post("/api/chat/messages", data={"text": "hello"}, headers={"Idempotency-Key": "form"})
    assert (answer.status_code, problem(answer)["reason"]) == (415, "unsupported_media_type")


def test_what_is_wrong_has_a_pointer(rosa: Browser) -> None:
    body = {"lines": [{"sku": "RAM-1", "quantity": 1}, {"sku": "RAM-1", "quantity": 0}]}
    found = problem(rosa.post("/api/orders", json=body, headers={"Idempotency-Key": "pointer"}))
    assert (found["reason"], found["path"]) == ("invalid_params", "/lines/1/quantity")
    found = problem(rosa.get("/api/orders/soon"))
    assert (found["reason"], found["path"]) == ("invalid_params", "/order")
    found = problem(rosa.get("/api/orders", params={"limit": "many"}))
    assert (found["reason"], found["path"]) == ("invalid_params", "/limit")
    found = problem(rosa.get("/api/orders?limit=1&limit=2"))
    assert (found["reason"], found["path"]) == ("invalid_params", "/limit")


def test_a_query_knows_numbers_and_truths_from_texts(web: WebStage, rosa: Browser) -> None:
    assert len(rosa.get("/api/orders?limit=1").json()["items"]) == 1
    found = rosa.get("/api/catalog?query=123").json()
    assert found["items"] == []
    admin = web.staff("query-admin", Role.ADMIN)
    assert admin.put("/api/accounts/rosa/disabled?disabled=true").status_code == 400, "PUT has a body"
    assert admin.get("/api/accounts?query=1").status_code == 200


def test_any_sku_fits_a_path(web: WebStage) -> None:
    admin = web.staff("sku-admin", Role.ADMIN)
    for sku in ("A/B", "..", "50%", "what?", "a+b", "#1", "/"):
        body = {"name": "Odd", "description": "", "price": 1, "stock": 1, "active": True}
        path = f"/api/catalog/{httpx.URL('https://x').copy_with(path='/').path}"
        path = "/api/catalog/" + "".join(f"%{byte:02X}" for byte in sku.encode())
        answer = admin.put(path, json=body)
        assert answer.status_code == 200, (sku, answer.text)
        assert answer.json()["sku"] == sku
        assert admin.get(path).json() == answer.json()


def test_the_path_says_which(rosa: Browser) -> None:
    first, second = (rosa.order(("RAM-1", 1), key=f"which {n}") for n in range(2))
    body = {"order": second["order"], "address": "3 Quay"}
    changed = rosa.patch(f"/api/orders/{first['order']}", json=body, headers={"If-Match": '"1"'})
    assert changed.json()["order"] == first["order"]


def test_unknown_members_are_ignored(rosa: Browser) -> None:
    assert rosa.get("/api/rewards?color=blue").status_code == 200


# Pages


def test_a_link_leads_through_the_pages(web: WebStage) -> None:
    lena = web.customer("lena")
    placed = [lena.order(("RAM-1", 1), key=f"page {n}")["order"] for n in range(5)]
    path, seen = "/api/orders?limit=2&status=placed", []
    while path:
        answer = lena.get(path)
        seen += [order["order"] for order in answer.json()["items"]]
        following = answer.links.get("next")
        assert (following is None) == (answer.json()["next"] is None)
        path = following["url"] if following else ""
    assert seen == placed[::-1]


def test_the_history_of_a_chat_goes_on_behind_a_sequence(web: WebStage) -> None:
    nora = web.customer("nora")
    for n in range(3):
        nora.post("/api/chat/messages", json={"text": f"{n}"}, headers={"Idempotency-Key": f"{n}"})
    first = nora.get("/api/chat/messages?limit=2")
    assert first.links["next"]["url"] == "/api/chat/messages?limit=2&after=2"
    rest = nora.get(first.links["next"]["url"])
    assert [message["text"] for message in rest.json()["items"]] == ["2"]
    assert "link" not in rest.headers


# Verbs and paths


def test_a_path_says_which_verbs_it_has(rosa: Browser) -> None:
    answer = rosa.put("/api/orders", json={})
    assert (answer.status_code, problem(answer)["reason"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


def test_a_verb_that_is_none(rosa: Browser) -> None:
    answer = rosa.request("FOO", "/api/orders")
    assert (answer.status_code, problem(answer)["reason"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


def test_a_websocket_is_asked_for_as_one(rosa: Browser) -> None:
    answer = rosa.get("/api/chat/live")
    assert (answer.status_code, problem(answer)["reason"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


def test_a_static_file_can_only_be_read(rosa: Browser) -> None:
    answer = rosa.post("/static/shop.css", headers={"Origin": str(rosa.base_url).rstrip("/")})
    assert (answer.status_code, answer.headers["allow"]) in ((405, "GET, HEAD"), (405, "HEAD, GET"))


@pytest.mark.parametrize("path", ["/api/", "/api/nothing", "/api/orders/1/nothing", "/api/orders/"])
def test_a_path_that_is_none(rosa: Browser, path: str) -> None:
    answer = rosa.get(path)
    assert (answer.status_code, problem(answer)["reason"]) == (404, "method_not_found")


def test_head_is_get_without_a_body(rosa: Browser) -> None:
    answer = rosa.head("/api/account")
    assert (answer.status_code, answer.content) == (200, b"")


# Refusals


def test_what_is_refused_says_what_helps(web: WebStage, rosa: Browser) -> None:
    body = {"lines": [{"sku": "LAST-1", "quantity": 2}]}
    sold_out = problem(rosa.post("/api/orders", json=body, headers={"Idempotency-Key": "too many"}))
    assert (sold_out["status"], sold_out["sku"], sold_out["available"]) == (409, "LAST-1", 1)
    order = rosa.order(("RAM-1", 1), key="two ends")
    rosa.delete(f"/api/orders/{order['order']}")
    again = rosa.patch(f"/api/orders/{order['order']}", json={"address": "5"}, headers={"If-Match": "*"})
    over = problem(again)
    assert (over["status"], over["current_status"], over["allowed"]) == (409, "cancelled", [])
    assert problem(rosa.get("/api/accounts"))["reason"] == "forbidden"
    assert problem(rosa.get("/api/orders/999999"))["status"] == 404


def test_who_is_not_logged_in_gets_a_challenge(web: WebStage) -> None:
    answer = web.client().get("/api/account")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Session")


def test_too_many_logins_are_told_when_to_come_again(web: WebStage) -> None:
    thief = web.client()
    web.customer("greta")
    for _ in range(20):
        answer = thief.post("/api/session", json={"username": "greta", "password": "wrong horse 1"})
        if answer.status_code == 429:
            break
    found = problem(answer)
    assert answer.headers["retry-after"] == str(found["retry_after"])


def test_a_bug_becomes_an_incident(web: WebStage, rosa: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is put in: it tells nothing of what it is."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(web.shop.rewards, "get", broken)
    answer = rosa.get("/api/rewards")
    found = problem(answer)
    assert (answer.status_code, found["reason"]) == (500, "internal")
    assert found["incident"] in found["detail"]
    assert "secret" not in answer.text


def test_discovery_says_the_same_as_on_the_socket(rosa: Browser) -> None:
    answer = rosa.get("/api/system/methods?section=rewards")
    assert [method["name"] for method in answer.json()["methods"]] == ["rewards.get", "rewards.history"]
    assert json.loads(answer.text)["openrpc"]
    assert PASSWORD not in answer.text
