// Parts of the page as they are now: fetched as the shop renders them, put in the place of those that are there.
//
// A part has an id and data-refresh, which names the page's address where the form that made the page has another. What
// somebody is typing into is left alone, and offered instead.

const TYPED = "input:not([type=hidden]), textarea, select";

let running = null;
let again = false;

/** Fetch the page once more and swap what has changed. Calls while one runs become one more. */
export function refresh() {
  if (running !== null) {
    again = true;
    return running;
  }
  running = fetchAndSwap()
    .catch(() => {}) // the connection's state is told elsewhere, and the next change tries again
    .finally(() => {
      running = null;
      if (again) {
        again = false;
        refresh();
      }
    });
  return running;
}

async function fetchAndSwap() {
  const address = document.querySelector("[data-refresh]")?.dataset.refresh || location.href;
  const response = await fetch(address, { headers: { Accept: "text/html" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const old of document.querySelectorAll("[data-refresh]")) {
    const now = fresh.getElementById(old.id);
    if (now === null || now.isEqualNode(old)) continue;
    const adopted = document.importNode(now, true);
    if (isBusy(old)) offer(old, adopted);
    else swap(old, adopted);
  }
}

function isBusy(part) {
  if (part.querySelector("form[data-sent]") !== null) return true;
  return [...part.querySelectorAll(TYPED)].some((field) => field === document.activeElement || isChanged(field));
}

function isChanged(field) {
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  if (field.tagName === "SELECT") return [...field.options].some((one) => one.selected !== one.defaultSelected);
  return field.value !== field.defaultValue;
}

function swap(old, now) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const opened = [...old.querySelectorAll("details[open][id]")].map((one) => one.id);
  old.replaceWith(now);
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused !== null) find(now, focused).focus({ preventScroll: true });
}

/** What stands in the new part where the focus was, else the part itself. */
function find(part, focused) {
  const same = [...part.querySelectorAll("a[href], button, summary, input, textarea, select")].find(
    (one) =>
      one.tagName === focused.tagName &&
      one.textContent.trim() === focused.textContent.trim() &&
      one.getAttribute("href") === focused.getAttribute("href") &&
      one.getAttribute("name") === focused.getAttribute("name"),
  );
  if (same === undefined) part.tabIndex = -1;
  return same ?? part;
}

function offer(old, now) {
  old.querySelector("[data-offer]")?.remove();
  const line = document.createElement("p");
  line.dataset.offer = "";
  line.className = "notice";
  line.setAttribute("role", "status");
  line.append("This has changed meanwhile. ");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button button-quiet";
  button.textContent = "Show it as it is now";
  button.addEventListener("click", () => {
    old.replaceWith(now);
    now.tabIndex = -1;
    now.focus();
  });
  line.append(button);
  old.prepend(line);
}

let region = null;

/** Have a screen reader say it, when it has finished what it is saying. */
export function announce(text) {
  if (region === null) {
    region = document.createElement("p");
    region.className = "visually-hidden";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = text;
}
