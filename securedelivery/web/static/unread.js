// How many answers of the shop somebody has not read yet: beside the link to the chat, and in the page's title.
//
// The link has data-unread, the username. Up to where this browser has shown the chat stands in a cookie, which the
// chat's page sets as well: nothing in it is secret, and nothing is allowed by it.

import { connection } from "./live.js";

const COOKIE = "__Host-chat-read";
const KEPT = 31_536_000; // seconds
const RECENT = 50; // messages

const link = document.querySelector("[data-unread]");
const user = link?.dataset.unread;
const title = document.title.replace(/^\(\d+\) /, "");
let read = 0; // the last message that was seen
let newest = 0;
let count = 0;

/** Everything up to there has been seen. */
export function markRead(sequence) {
  if (link === null) return;
  read = Math.max(read, sequence);
  document.cookie = `${COOKIE}=${user}:${read}; Path=/; Secure; SameSite=Lax; Max-Age=${KEPT}`;
  show(0);
}

/** How many there are, for the title of a page that has no link to the chat. */
export function show(number) {
  count = number;
  document.title = number === 0 ? title : `(${number}) ${title}`;
  if (link === null) return;
  let badge = link.querySelector(".badge");
  if (badge === null) {
    badge = document.createElement("span");
    badge.className = "badge";
    link.append(" ", badge);
  }
  badge.hidden = number === 0;
  badge.textContent = number > 99 ? "99+" : `${number}`;
  if (number === 0) link.removeAttribute("aria-label");
  else link.setAttribute("aria-label", `${link.dataset.label}, ${number} unread`);
}

/** Null where this browser has never shown the chat. */
function readMark() {
  const kept = document.cookie.split("; ").find((one) => one.startsWith(`${COOKIE}=${user}:`));
  if (kept === undefined) return null;
  const number = Number(kept.slice(kept.lastIndexOf(":") + 1));
  return Number.isSafeInteger(number) ? number : null;
}

/**
 * A browser that has never shown the chat does not know what has been read: what the shop has said since one's own last
 * word has not, as far as it is recent. Years of it need not come for a number.
 */
async function beginHere(live) {
  try {
    const { last } = await live.request("chat.history", { after: Number.MAX_SAFE_INTEGER, limit: 1 });
    const { items } = await live.request("chat.history", { after: Math.max(0, last - RECENT), limit: RECENT });
    live.follow(last);
    newest = Math.max(newest, last);
    const own = items.findLastIndex((message) => message.sender === user);
    if (document.querySelector("[data-chat]") === null) show(items.length - 1 - own);
  } catch {
    // The next connection tries again.
  }
}

if (link !== null) {
  link.dataset.label = link.textContent.trim();
  const mark = readMark();
  read = newest = mark ?? 0;
  const isChat = document.querySelector("[data-chat]") !== null; // which counts for itself
  const live = connection(mark);
  live.addEventListener("state", ({ detail }) => {
    if (detail.state === "connected" && !live.follows) beginHere(live);
  });
  live.addEventListener("chat.message", ({ detail: message }) => {
    if (message.sequence <= newest) return;
    newest = message.sequence;
    if (!isChat) live.hasSeen(newest);
    if (message.sender === user) markRead(newest); // who writes has seen what stands above
    else if (!isChat) show(count + 1);
  });
  live.addEventListener("chat.conversation", ({ detail: conversation }) => {
    if (conversation.customer !== user) return;
    if (conversation.unread === 0) markRead(conversation.last_sequence);
  });
}
