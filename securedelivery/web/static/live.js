// One WebSocket a page to /api/chat/live: JSON-RPC both ways, resumed after every loss, until nobody is logged in.
//
// Only import this module; a <script> of its own, with another address, would be another connection.

const FIRST_PAUSE = 500; // milliseconds, doubled with each try in vain
const LONGEST_PAUSE = 30_000;
const PING_EVERY = 25_000;
const PATIENCE = 10_000; // for any sign of life after a ping
const OPENING = 15_000;
const NOT_LOGGED_IN = 4401;
const REFUSED = 1008;
const FINAL = new Set(["credentials_changed", "account_deleted", "not_found", "forbidden", "invalid_params"]);

/** There is no connection, or it ended before the answer: whether it happened is not known. */
export class Lost extends Error {}

/** The shop said no. reason: the slug; data: what goes with it. */
export class Refused extends Error {
  constructor({ message, data }) {
    super(message);
    this.reason = data.reason;
    this.data = data;
  }
}

/**
 * Events: "state" (detail.state: connecting, connected, reconnecting, logged-out or refused), "resumed" (what happened in
 * between has reached nobody, but for messages), and each notification by its method, its params as detail.
 *
 * after: the last message that the page has, or null for no history; conversation: null is one's own.
 */
export class Live extends EventTarget {
  #after;
  #conversation;
  #socket = null;
  #requests = new Map();
  #lastId = 0;
  #tries = 0;
  #timer = null;
  #heartbeat = null;
  #deadline = null;
  hasBeenConnected = false;
  state = "connecting";

  constructor({ after = null, conversation = null } = {}) {
    super();
    this.#after = after;
    this.#conversation = conversation;
  }

  start() {
    addEventListener("online", () => (this.#socket === null ? this.#soon(0) : this.#probe()));
    addEventListener("offline", () => this.#probe());
    addEventListener("pagehide", () => this.#abandon()); // else the page could not be kept for the way back
    addEventListener("pageshow", (event) => event.persisted && this.#soon(0));
    this.#connect();
  }

  /** The page has the conversation up to this message. */
  hasSeen(sequence) {
    if (this.#after !== null) this.#after = Math.max(this.#after, sequence);
  }

  get follows() {
    return this.#after !== null;
  }

  /** From here on, a message that comes while there is no connection is made up for. */
  follow(sequence) {
    this.#after ??= sequence;
  }

  get connected() {
    return this.state === "connected";
  }

  /** The result, or Lost or Refused. */
  request(method, params = {}) {
    if (!this.connected) return Promise.reject(new Lost());
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#requests.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  /** As request(), for what is not worth a word when it fails. */
  hint(method, params) {
    this.request(method, params).catch(() => {});
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#socket !== null || this.#isOver()) return;
    const query = new URLSearchParams();
    if (this.#after !== null) query.set("after", this.#after);
    if (this.#conversation !== null) query.set("conversation", this.#conversation);
    const socket = new WebSocket(`wss://${location.host}/api/chat/live?${query}`);
    this.#socket = socket;
    this.#deadline = setTimeout(() => this.#lose(socket), OPENING);
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", (event) => socket === this.#socket && this.#receive(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => this.#closed(socket, event));
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    this.#alive();
    this.#heartbeat = setInterval(() => this.#probe(), PING_EVERY);
    const again = this.hasBeenConnected;
    this.hasBeenConnected = true;
    this.#enter("connected");
    if (again) this.dispatchEvent(new CustomEvent("resumed"));
  }

  #receive(message) {
    this.#alive();
    this.#tries = 0; // not when it opens: a shop that lets in and throws out at once is not to be stormed
    if (message.method !== undefined) {
      this.dispatchEvent(new CustomEvent(message.method, { detail: message.params }));
      return;
    }
    const waiting = this.#requests.get(message.id);
    this.#requests.delete(message.id);
    if (message.error !== undefined) waiting?.reject(new Refused(message.error));
    else waiting?.resolve(message.result);
  }

  #alive() {
    clearTimeout(this.#deadline);
    this.#deadline = null;
  }

  #probe() {
    if (!this.connected || this.#deadline !== null) return;
    const socket = this.#socket;
    this.#deadline = setTimeout(() => this.#lose(socket), PATIENCE);
    this.hint("system.ping");
  }

  /** No answer comes any more, and close() would wait for one. */
  #lose(socket) {
    socket.close();
    this.#closed(socket, { code: 1006, reason: "" });
  }

  /** The page is being left. What is only about to be connected the browser ends itself, without complaining of it. */
  #abandon() {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#lose(this.#socket);
    clearTimeout(this.#timer);
  }

  #closed(socket, { code, reason }) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#alive();
    clearInterval(this.#heartbeat);
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    if (code === NOT_LOGGED_IN) this.#enter("logged-out", reason);
    else if (code === REFUSED && FINAL.has(reason)) {
      this.#enter(reason.startsWith("credentials") || reason.startsWith("account") ? "logged-out" : "refused", reason);
    } else {
      this.#enter("reconnecting");
      const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#tries++);
      this.#soon(pause * (0.5 + Math.random() / 2)); // not all browsers of a shop that comes back at once
    }
    for (const { reject } of requests) reject(new Lost());
  }

  #soon(milliseconds) {
    clearTimeout(this.#timer);
    if (!this.#isOver()) this.#timer = setTimeout(() => this.#connect(), milliseconds);
  }

  #isOver() {
    return this.state === "logged-out" || this.state === "refused";
  }

  #enter(state, reason = "") {
    const changed = state !== this.state;
    this.state = state;
    if (changed) this.dispatchEvent(new CustomEvent("state", { detail: { state, reason } }));
  }
}

const WORDS = {
  connected: "Connected: what happens shows by itself.",
  reconnecting: "The connection is lost. Trying again …",
  "logged-out": "You are logged out.",
  refused: "Nothing more shows by itself here. Load the page again.",
};

function loginLink() {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Log in";
  return link;
}

let shared = null;

/**
 * The page's connection. Where it begins stands in the page: data-live-after and data-live-conversation; else after.
 *
 * It starts when all modules of the page have run, so that none misses anything. [data-live-state] says how it goes.
 */
export function connection(after = null) {
  if (shared !== null) return shared;
  const place = document.querySelector("[data-live-after]");
  shared = new Live({
    after: place === null ? after : Number(place.dataset.liveAfter),
    conversation: place?.dataset.liveConversation ? Number(place.dataset.liveConversation) : null,
  });
  shared.addEventListener("state", ({ detail }) => {
    for (const line of document.querySelectorAll("[data-live-state]")) {
      line.dataset.liveState = detail.state;
      line.textContent = WORDS[detail.state] ?? "";
      if (detail.state === "logged-out") line.append(" ", loginLink());
    }
  });
  addEventListener("DOMContentLoaded", () => shared.start(), { once: true });
  return shared;
}
