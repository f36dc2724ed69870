"""account.list and the like, audit.*, report.*, catalog.put: what the role admin may do beyond the others."""

from securedelivery.api import messages as m
from securedelivery.client.caller import Caller
from securedelivery.model import Account, AuditRecord, Cents, Figures, Product, Role

__all__ = ["AdminCalls"]


class AdminCalls(Caller):
    """Refused to every other role: forbidden."""

    def accounts(
        self, query: str | None = None, *, after: str | None = None, limit: int | None = None
    ) -> m.Page[Account]:
        """A page of accounts."""
        return self.call("account.list", m.ListAccounts(query, after, limit), m.Page[Account], repeat=True)

    def set_role(self, username: str, role: Role) -> Account:
        """Open connections of the account follow within 5 s. Refused: not_found."""
        return self.call("account.set_role", m.SetRole(username, role), Account, repeat=True)

    def disable_account(self, username: str, *, disabled: bool = True) -> Account:
        """Open connections of the account end within 5 s. disabled=False: let it in again. Refused: not_found."""
        return self.call("account.disable", m.DisableAccount(username, disabled), Account, repeat=True)

    def audit(
        self,
        *,
        account: str | None = None,
        action: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> m.Page[AuditRecord]:
        """A page of who did what, newest first."""
        return self.call("audit.list", m.ListAudit(account, action, after, limit), m.Page[AuditRecord], repeat=True)

    def figures(self, since: str, until: str) -> Figures:
        """Of the orders placed from one day to another, both inclusive, like 2026-11-30, in UTC."""
        return self.call("report.figures", m.GetFigures(since, until), Figures, repeat=True)

    def put_product(
        self, sku: str, *, name: str, description: str = "", price: Cents, stock: int, active: bool = True
    ) -> Product:
        """Add a product, or replace what there is under its sku.

        Never repeated: between the two, somebody may have bought from the stock that is set here.
        """
        params = m.PutProduct(sku, name, description, price, stock, active)
        return self.call("catalog.put", params, Product, repeat=False)
