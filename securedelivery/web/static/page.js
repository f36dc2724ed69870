// On every page: a form that is sent once is not sent twice, and what the shop has said meanwhile is marked.

import "./unread.js";

const SLOW = 20_000; // after that somebody may try again

addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent !== undefined) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "";
  form.setAttribute("aria-busy", "true");
  setTimeout(() => release(form), SLOW);
});

// A page that comes back from the browser's memory has not been sent.
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(release));

function release(form) {
  delete form.dataset.sent;
  form.removeAttribute("aria-busy");
}
