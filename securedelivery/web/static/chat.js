// A conversation, live: what comes appears, and what is written goes out once, whatever becomes of the connection.
//
// Without a connection the form does it all, with a new page for each message.

import { connection, Lost, Refused } from "./live.js";
import { refresh } from "./refresh.js";
import { markRead, show } from "./unread.js";

const TYPING_EVERY = 3_000; // milliseconds between two hints to the other side
const TYPING_LASTS = 6_000;
const AGAIN = 2_000; // before another try where the shop was busy
const NEAR = 80; // pixels from the end that count as being there

const log = document.querySelector("[data-chat]");
const form = document.querySelector("form[data-chat-form]");
const field = form?.elements.text;
const me = log.dataset.me;
const atStaff = log.dataset.side === "agent";
const named = log.dataset.liveConversation ? { conversation: Number(log.dataset.liveConversation) } : {};
const template = document.querySelector("#message-template").content;
const writing = document.querySelector("[data-chat-writing]");
const below = document.querySelector("[data-chat-below]");

const live = connection();
let conversation = named.conversation ?? (Number(log.dataset.conversation) || null);
let last = Number(log.dataset.liveAfter);
let marked = atStaff ? 0 : last; // a customer's page is marked as it is made
let unseen = 0;
let standing = null;

// What comes

live.addEventListener("chat.message", ({ detail: message }) => {
  if (!isHere(message)) return;
  conversation = message.conversation;
  live.hasSeen(message.sequence);
  if (message.sequence <= last) return;
  last = message.sequence;
  const follow = isAtEnd() || message.sender === me;
  outbox.find((one) => one.key === message.message_key && message.sender === me)?.end();
  append(message);
  if (message.sender !== me) {
    stopWriting();
    if (document.hidden) show(++unseen);
  }
  if (follow) toEnd();
  else below.hidden = false;
  if (last === 1 && !atStaff) tellState({ status: "waiting" }); // of which nobody is told
  markSeen();
});

live.addEventListener("chat.typing", ({ detail }) => {
  if (detail.conversation !== conversation || detail.sender === me) return;
  writing.textContent = `${detail.sender} is writing …`;
  clearTimeout(writing.timer);
  writing.timer = setTimeout(stopWriting, TYPING_LASTS);
});

live.addEventListener("chat.conversation", ({ detail }) => {
  if (atStaff ? detail.conversation !== conversation : detail.customer !== me) return;
  if (atStaff) lookAgain(detail);
  else tellState(detail);
});

live.addEventListener("resumed", () => atStaff && refresh().then(markSeen));

function isHere(message) {
  if (conversation !== null) return message.conversation === conversation;
  return message.role === "customer" && message.sender === me; // one's own begins with one's own words
}

const STATES = {
  waiting: () => "You are in the queue: the next agent who is free answers here.",
  assigned: ({ agent }) => `${agent} is here for you.`,
  resolved: () => "The shop has marked this as answered. Write, and it is open again.",
};

/** Who has the conversation says what an agent may do with it. Each look is written down, so none for nothing. */
async function lookAgain(now) {
  const before = standing;
  standing = `${now.status} ${now.agent}`;
  if (standing !== before) await refresh();
  markSeen();
  if (now.last_sequence > last) catchUp(); // nobody has it, so nobody was told what is said
}

async function catchUp() {
  try {
    const { items } = await live.request("chat.history", { ...named, after: last });
    for (const message of items) live.dispatchEvent(new CustomEvent("chat.message", { detail: message }));
  } catch (error) {
    if (!(error instanceof Lost || error instanceof Refused)) throw error;
  }
}

function tellState(now) {
  const line = document.querySelector("[data-chat-state]");
  const text = STATES[now.status]?.(now) ?? "";
  if (line.textContent !== text) line.textContent = text;
}

function stopWriting() {
  clearTimeout(writing.timer);
  writing.textContent = "";
}

// How it stands there

function append(message) {
  document.querySelector("[data-chat-empty]")?.remove();
  const day = message.at.slice(0, 10);
  if (log.dataset.day !== day) {
    log.dataset.day = day;
    const line = document.createElement("p");
    line.className = "chat-day";
    line.textContent = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeZone: "UTC" }).format(new Date(message.at));
    log.insertBefore(line, outbox[0]?.element ?? null);
  }
  const element = drawn(message.sender, message.role, message.text);
  element.id = `m${message.sequence}`;
  const time = element.querySelector("time");
  time.dateTime = message.at;
  time.textContent = message.at.slice(11, 16);
  log.insertBefore(element, outbox[0]?.element ?? null); // what is not sent yet comes behind what is
}

function drawn(sender, role, text) {
  const element = template.firstElementChild.cloneNode(true);
  element.classList.add((role === "agent") === atStaff ? "message-ours" : "message-theirs");
  element.querySelector(".message-from").textContent = sender === me ? "You" : sender;
  element.querySelector(".message-text").textContent = text;
  return element;
}

function isAtEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
}

function toEnd() {
  log.scrollTop = log.scrollHeight;
  below.hidden = true;
}

// What has been seen

function markSeen() {
  if (document.hidden || last <= marked || !live.connected) return;
  if (atStaff && document.querySelector("[data-chat-marks]") === null) return; // whoever only looks has not read it
  const upTo = last;
  marked = last;
  live.request("chat.mark_read", { ...named, up_to: upTo }).then(
    () => !atStaff && markRead(upTo),
    () => (marked = 0), // the next occasion marks it
  );
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = 0;
  show(0);
  markSeen();
});
live.addEventListener("state", ({ detail }) => {
  if (detail.state === "connected") {
    markSeen();
    flush();
  }
});
log.addEventListener("scroll", () => isAtEnd() && (below.hidden = true), { passive: true });
below.addEventListener("click", () => {
  toEnd();
  field?.focus();
});

// What is written

/** A message on its way. key: the same for every try, so that the shop says it once. */
class Outgoing {
  constructor(text) {
    this.key = crypto.randomUUID();
    this.text = text;
    this.element = drawn(me, atStaff ? "agent" : "customer", text);
    this.element.classList.add("message-pending");
    this.element.setAttribute("aria-live", "off"); // it is read out once it is there
    this.element.querySelector("time").textContent = "sending …";
    log.append(this.element);
  }

  /** The shop has it. Where it belongs shows when it comes by itself, behind what was said before it. */
  answered() {
    this.isAnswered = true;
    this.element.querySelector("time").textContent = "sent";
  }

  /** It is not to be sent, or to stand there, any more. */
  end() {
    const place = outbox.indexOf(this);
    if (place >= 0) outbox.splice(place, 1);
    this.element.remove();
  }

  /** Nothing is lost: the text goes back where it was typed. */
  refused(why) {
    this.end();
    field.value = field.value === "" ? this.text : `${this.text}\n${field.value}`;
    fail(why);
    field.focus();
  }
}

const outbox = [];
let flushing = false;

/** One after the other, in the order in which they were written. */
async function flush() {
  if (flushing) return;
  flushing = true;
  try {
    while (live.connected) {
      const next = outbox.find((one) => !one.isAnswered);
      if (next === undefined) break;
      await send(next);
    }
  } finally {
    flushing = false;
  }
}

async function send(outgoing) {
  try {
    const message = await live.request("chat.send", { ...named, text: outgoing.text, message_key: outgoing.key });
    conversation = message.conversation;
    if (message.sequence <= last) outgoing.end();
    else outgoing.answered();
  } catch (error) {
    if (error instanceof Lost) return; // flush() again, once there is a connection
    if (!(error instanceof Refused)) throw error;
    if (error.reason === "unavailable") await new Promise((resolve) => setTimeout(resolve, AGAIN));
    else outgoing.refused(error.message);
  }
}

form?.addEventListener("submit", (event) => {
  if (live.state === "logged-out") {
    event.preventDefault();
    fail("you are logged out. Log in again, in another tab: what you have written stays here.");
    return;
  }
  if (!live.hasBeenConnected || live.state === "refused") return; // the form does it
  event.preventDefault();
  const text = field.value.trim();
  if (text === "") return;
  fail("");
  field.value = "";
  grow();
  document.querySelector("[data-chat-empty]")?.remove();
  outbox.push(new Outgoing(text));
  toEnd();
  field.focus();
  flush();
});

field?.addEventListener("keydown", (event) => {
  // On a phone's keyboard Enter is for lines; while a word is being composed it is for the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
  event.preventDefault();
  form.requestSubmit();
});

let hinted = 0;
field?.addEventListener("input", () => {
  grow();
  if (field.value.trim() === "" || Date.now() - hinted < TYPING_EVERY || !live.connected || last === 0) return;
  hinted = Date.now();
  live.hint("chat.typing", named);
});

addEventListener("beforeunload", (event) => outbox.some((one) => !one.isAnswered) && event.preventDefault());

function grow() {
  field.rows = Math.min(6, Math.max(2, field.value.split("\n").length));
}

function fail(why) {
  const line = document.querySelector("[data-chat-error]");
  line.hidden = why === "";
  line.textContent = why === "" ? "" : `Not sent: ${why}`;
  if (why === "") field.removeAttribute("aria-invalid");
  else field.setAttribute("aria-invalid", "true");
}

if (!matchMedia("(pointer: coarse)").matches) document.querySelector("[data-chat-keys]")?.removeAttribute("hidden");

if (!document.hidden) show(0);
toEnd();
