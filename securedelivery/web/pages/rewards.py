"""Points: how many, what they are worth, how far the next tier is, and where they came from."""

from starlette.responses import Response

from securedelivery import model
from securedelivery.api import messages as m
from securedelivery.service.rewards import RewardRules
from securedelivery.web.desk import Desk
from securedelivery.web.pages import Page
from securedelivery.web.visits import Visit

__all__ = ["ROUTES"]

PAGE = 25


async def show(desk: Desk, visit: Visit) -> Response:
    after = visit.request.query_params.get("after")
    standing = await desk.call(visit, "rewards.get", kind=model.Rewards)
    ledger = await desk.call(visit, "rewards.history", {"after": after, "limit": PAGE}, kind=m.Page[model.PointsEntry])
    rules = desk.shop.rules
    return desk.page(
        visit,
        "rewards",
        standing=standing,
        worth=rules.worth(max(0, standing.points)),
        tiers=rules.tiers,
        progress=_progress(rules, standing),
        ledger=ledger,
        later=after is not None,
    )


def _progress(rules: RewardRules, standing: model.Rewards) -> tuple[int, int] | None:
    """Orders of this tier so far, and how many it takes to the next; None at the top."""
    if standing.next_tier is None:
        return None
    begins = rules.tier(standing.order_count).orders
    done = standing.order_count - begins
    return done, done + standing.next_tier.orders_needed


ROUTES = [Page("/rewards", show, login=True)]
