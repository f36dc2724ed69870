// Orders on the page go on by themselves.

import { connection } from "./live.js";
import { announce, refresh } from "./refresh.js";

const live = connection();

live.addEventListener("order.changed", async ({ detail: order }) => {
  const shown = document.querySelector(`[data-order="${Number(order.order)}"]`);
  const before = shown?.dataset.status;
  await refresh();
  if (before !== undefined && before !== order.status) {
    announce(`Order ${order.order} is ${order.status.replaceAll("_", " ")} now.`);
  }
});
live.addEventListener("resumed", () => refresh());
