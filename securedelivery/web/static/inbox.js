// The inbox goes on by itself: who waits, and for how long.

import { connection } from "./live.js";
import { announce, refresh } from "./refresh.js";

const SETTLING = 500; // milliseconds: one question is often several changes
const live = connection();
let timer = null;

live.addEventListener("chat.conversation", () => later());
live.addEventListener("resumed", () => later());

function later() {
  timer ??= setTimeout(look, SETTLING);
}

async function look() {
  timer = null;
  const before = text();
  await refresh();
  const now = text();
  if (now !== before) announce(now);
}

/** What the list says of itself: "2 customers wait". */
function text() {
  return document.querySelector("[data-inbox-summary]")?.textContent.trim() ?? "";
}
