// Refreshes a page: fetches it again and replaces the parts that changed.
// Without this script the pages work and must be reloaded by hand.
"use strict";
(() => {
  const main = document.getElementById("main");
  const note = document.getElementById("fresh");
  const every = () => Number(main.dataset.refresh || 0) * 1000;
  const localTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  let shownAt = Date.now();
  let askedAt = Date.now();
  let failing = "";
  let ended = false;
  let asking = false;

  function ago(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds < 2) return "just now";
    if (seconds < 100) return `${seconds} s ago`;
    return `${Math.floor(seconds / 60)} min ago`;
  }

  function showLocalTimes() {
    for (const time of main.querySelectorAll("time[datetime]")) {
      if (!time.title.includes("here")) {
        const utc = time.title ? `${time.title} · ` : "";
        time.title = `${utc}${localTime.format(new Date(time.dateTime))} here`;
      }
    }
  }

  function typing() {
    const active = document.activeElement;
    if (active && main.contains(active) && active.matches("input, select, textarea")) return true;
    for (const field of main.querySelectorAll("input:not([type=hidden]), textarea")) {
      if (field.value !== field.defaultValue) return true;
    }
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && main.contains(selection.anchorNode));
  }

  function showFreshness() {
    if (!note) return;
    const box = note.parentElement;
    const age = Date.now() - shownAt;
    const stale = ended || failing !== "" || (every() && age > Math.max(3 * every(), 30000));
    box.classList.toggle("stale", Boolean(stale));
    let text = `Updated ${ago(age)}`;
    if (ended) text = `You are logged out. Page from ${ago(age)}`;
    else if (failing) text = `${failing} Page from ${ago(age)}`;
    else if (every() && typing()) text = `Paused while you type or select. Updated ${ago(age)}`;
    if (note.textContent !== text) note.textContent = text;
  }

  function focusable(root) {
    return [...root.querySelectorAll("a[href], button, summary, input, select, [tabindex]")];
  }

  // Which part of the page has the focus, so that its successor gets it.
  function focusPlace(part) {
    const active = document.activeElement;
    if (!active || active === document.body || !part.contains(active)) return null;
    return { id: active.id, number: focusable(part).indexOf(active) };
  }

  function giveFocus(part, place) {
    if (!place) return;
    const heir = (place.id && document.getElementById(place.id)) || focusable(part)[place.number];
    if (heir) heir.focus({ preventScroll: true });
  }

  function replace(old, fresh) {
    for (const details of fresh.querySelectorAll("details[id]")) {
      const before = document.getElementById(details.id);
      if (before) details.open = before.open;
    }
    if (fresh.matches("details[id]")) fresh.open = old.open;
    const comparable = old.cloneNode(true);
    for (const time of [comparable, ...comparable.querySelectorAll("time[title]")]) {
      if (time.matches("time[title]")) {
        const utc = time.title.split(" · ")[0];
        if (utc.endsWith("here")) time.removeAttribute("title");
        else time.title = utc;
      }
    }
    if (comparable.isEqualNode(fresh)) return;
    const place = focusPlace(old);
    const scrolled = [...old.querySelectorAll(".wide")].map((box) => [box.scrollLeft, box.scrollTop]);
    const heir = document.adoptNode(fresh);
    old.replaceWith(heir);
    heir.querySelectorAll(".wide").forEach((box, number) => {
      if (scrolled[number]) [box.scrollLeft, box.scrollTop] = scrolled[number];
    });
    giveFocus(heir, place);
  }

  function swap(page) {
    const fresh = page.getElementById("main");
    const keep = (child) => child.id !== "freshness";
    const before = [...main.children].filter(keep);
    const after = [...fresh.children].filter(keep);
    const x = window.scrollX;
    const y = window.scrollY;
    const alike = before.length === after.length && before.every((one, n) => one.tagName === after[n].tagName);
    if (alike) {
      before.forEach((one, number) => replace(one, after[number]));
    } else {
      const place = focusPlace(main);
      const open = new Set([...main.querySelectorAll("details[open]")].map((one) => one.id));
      before.forEach((one) => one.remove());
      after.forEach((one) => main.append(document.adoptNode(one)));
      for (const details of main.querySelectorAll("details[id]")) details.open = open.has(details.id);
      giveFocus(main, place);
    }
    for (const id of ["stops", "alert-count"]) {
      const old = document.getElementById(id);
      const heir = page.getElementById(id);
      if (old && heir && !old.isEqualNode(heir)) old.replaceWith(document.adoptNode(heir));
    }
    document.title = page.title;
    window.scrollTo(x, y);
    showLocalTimes();
    if (fresh.dataset.refresh === undefined) main.removeAttribute("data-refresh");
  }

  async function refresh() {
    asking = true;
    askedAt = Date.now();
    try {
      const response = await fetch(window.location.href, {
        headers: { "X-Console-Refresh": "1" },
        cache: "no-store",
        redirect: "manual",
        signal: AbortSignal.timeout(10000),
      });
      if (response.type === "opaqueredirect") {
        ended = true;
      } else if (!response.ok) {
        failing = `The server answers ${response.status}.`;
      } else {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        if (!document.getElementById("freshness")) {
          window.location.reload();
        } else if (!typing()) {
          swap(page);
          shownAt = Date.now();
          failing = "";
        }
      }
    } catch {
      failing = "The server does not answer.";
    }
    asking = false;
    showFreshness();
  }

  function look() {
    const due = every() && Date.now() - askedAt >= every();
    if (due && !asking && !ended && !document.hidden && !typing()) refresh();
    showFreshness();
  }

  showLocalTimes();
  showFreshness();
  window.setInterval(look, 1000);
  document.addEventListener("visibilitychange", look);
})();
