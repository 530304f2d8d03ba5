"use strict";
// The page works without this script. It shows changes without a reload, counts down, reads the code from the
// SMS where the browser can (WebOTP), and reports the result to the site that embeds the page.

const POLL_MS = 2000;
const main = document.getElementById("main");
const code = document.getElementById("code");
const origins = JSON.parse(document.body.dataset.origins || "[]");

function postToSite(message) {
  // The browser delivers it only if the page around this one has the origin.
  if (window.parent !== window) {
    for (const origin of origins) window.parent.postMessage(message, origin);
  }
}

function reload() {
  location.replace(main.dataset.here);
}

async function poll() {
  if (!document.hidden) {
    try {
      const response = await fetch(main.dataset.state, { headers: { Accept: "application/json" } });
      const state = await response.json();
      const isTyping = code && code.value !== "";
      if (state.stage && state.stage !== main.dataset.stage) {
        // A code that is being typed stays, unless it can no longer be used.
        if (!isTyping || state.stage !== "code") return reload();
      } else if (state.resend && state.resend !== main.dataset.resend && main.dataset.resend && !isTyping) {
        return reload();
      } else if (state.text) {
        const status = document.getElementById("status");
        if (status.textContent !== state.text) status.textContent = state.text;
      }
    } catch {
      // The connection may return: poll again.
    }
  }
  setTimeout(poll, POLL_MS);
}

function countDown(wait) {
  const ready = Date.now() + Number(wait.dataset.seconds) * 1000;
  const buttons = document.querySelectorAll("button.resend");
  const tick = () => {
    const left = Math.ceil((ready - Date.now()) / 1000);
    for (const button of buttons) button.disabled = left > 0;
    wait.textContent = left > 0 ? wait.dataset.text.replace("%", left) : wait.dataset.now;
    if (left > 0) setTimeout(tick, 250);
  };
  tick();
}

async function readCode() {
  const stop = new AbortController();
  code.form.addEventListener("submit", () => stop.abort());
  try {
    const found = await navigator.credentials.get({ otp: { transport: ["sms"] }, signal: stop.signal });
    if (found && found.code) {
      code.value = found.code;
      code.form.requestSubmit();
    }
  } catch {
    // The person refused, or no SMS came: they type the code.
  }
}

for (const form of document.forms) {
  // A second click must not send a second form.
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

if (main.dataset.state) setTimeout(poll, POLL_MS / 4);
const wait = document.getElementById("wait");
if (wait) countDown(wait);
if (code && "OTPCredential" in window) readCode();

if (origins.length) {
  const leave = document.getElementById("leave");
  if (leave) {
    leave.addEventListener("click", (event) => {
      if (window.parent === window) return;
      event.preventDefault();
      postToSite({ type: "otpqueue:cancelled" });
    });
  }
  if (main.dataset.message) postToSite(JSON.parse(main.dataset.message));
  new ResizeObserver(() => {
    postToSite({ type: "otpqueue:height", height: document.documentElement.offsetHeight });
  }).observe(document.body);
}
