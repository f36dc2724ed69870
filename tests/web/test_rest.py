"""/api over real HTTPS."""

from web.stage import WebStage


def test_an_order_from_first_to_last(web: WebStage) -> None:
    rosa = web.customer("rosa")
    order = rosa.order(("GPU-1", 1), key="rosa-1")
    assert order["status"] == "placed"
    path = f"/api/orders/{order['order']}"
    found = rosa.get(path)
    assert found.json() == order
    assert found.headers["etag"] == '"1"'
    changed = rosa.patch(path, json={"address": "13 Wharf Lane"}, headers={"If-Match": '"1"'})
    assert changed.json()["address"] == "13 Wharf Lane"
    assert changed.headers["etag"] == '"2"'
    assert rosa.delete(path).json()["status"] == "cancelled"
