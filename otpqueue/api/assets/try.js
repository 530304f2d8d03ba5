"use strict";
// The shop's page, the handset, and the live view. The shop's back end is under /try.

const byId = (id) => document.getElementById(id);
const simulator = document.body.dataset.simulator;
const POLL_MS = 700;
const STATES = {
  queued: ["queued"], sending: ["queued"], sent: ["queued", "sent"], delivered: ["queued", "sent", "delivered"],
  undelivered: ["queued", "sent"], verified: ["queued", "sent", "verified"],
};
// The simulator lists messages that it reports as undelivered. A handset does not get them.
const LOST = new Set([...document.querySelectorAll("[data-lost]")].map((one) => one.dataset.lost));
const KNOWN_NUMBER = "+447700900123";

let page = null;
let newest = null;
let shownMessages = "";
let lastJson = "";
const seen = { steps: new Set(), first: null };

async function call(method, path, body) {
  const options = { method };
  if (body) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  return { status: response.status, answer: await response.json() };
}

function say(text) {
  byId("said").textContent = text;
}

function showJson(title, value) {
  const text = JSON.stringify(value, null, 2);
  if (text === lastJson) return;
  lastJson = text;
  byId("json-title").textContent = title;
  byId("json").textContent = text;
}

function showSteps(status) {
  for (const step of byId("steps").children) {
    step.classList.toggle("done", seen.steps.has(step.dataset.step));
    step.classList.remove("bad");
  }
  const ended = { undelivered: "delivered", failed: "sent", expired: "verified", locked: "verified", cancelled: "verified" };
  const names = { delivered: "delivered", sent: "sent", verified: "verified" };
  for (const [name, text] of Object.entries(names)) {
    document.querySelector(`#steps [data-step=${name}]`).textContent = text;
  }
  if (ended[status]) {
    const step = document.querySelector(`#steps [data-step=${ended[status]}]`);
    step.classList.add("bad");
    step.textContent = status;
  }
}

function note(...steps) {
  for (const step of steps) seen.steps.add(step);
}

// The shop

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const knows = new FormData(event.target).get("knows");
  const state = crypto.randomUUID();
  sessionStorage.setItem("state", state);
  const wanted = { state, ...(knows ? { phone_number: KNOWN_NUMBER } : {}) };
  say("");
  try {
    let made = await call("POST", "/try/pages", wanted);
    for (let tries = 0; made.answer.code === "return_url_not_registered" && tries < 5; tries += 1) {
      // The API reads the shop's settings again within a second.
      await new Promise((done) => setTimeout(done, 400));
      made = await call("POST", "/try/pages", wanted);
    }
    if (made.status !== 201) return say(made.answer.detail);
    page = made.answer;
    seen.steps.clear();
    note("created");
    showSteps("");
    showJson("POST /v1/verification-pages", page);
    const verify = document.createElement("otpqueue-verify");
    verify.setAttribute("src", page.url);
    verify.addEventListener("verified", (found) => redeem(found.detail));
    verify.addEventListener("cancelled", startAgain);
    byId("login").hidden = true;
    byId("second").hidden = false;
    byId("second").replaceChildren(verify);
    byId("again").hidden = false;
    byId("again").textContent = "Start again";
  } catch {
    say("The API cannot be reached.");
  }
});

async function redeem({ token, state }) {
  if (state !== sessionStorage.getItem("state")) return say("This result belongs to another log-in.");
  const { status, answer } = await call("POST", "/try/redeem", { token });
  byId("second").replaceChildren();
  byId("second").hidden = true;
  byId("again").hidden = false;
  if (status !== 200) return say(answer.detail);
  byId("login").hidden = true;
  byId("signed").hidden = false;
  byId("verified").textContent = answer.phone_number;
  note("queued", "sent", "verified", "redeemed");
  showSteps("verified");
  page = null;
  showJson("POST /v1/verification-pages/redeem", answer);
}

function startAgain() {
  page = null;
  seen.steps.clear();
  showSteps("");
  say("");
  byId("second").replaceChildren();
  byId("second").hidden = true;
  byId("signed").hidden = true;
  byId("again").hidden = true;
  byId("login").hidden = false;
  byId("mail").focus();
}
byId("again").addEventListener("click", startAgain);

// What a customer types into the hosted page. It has the same origin here, so this script may fill it in.

function insidePage() {
  return document.querySelector("otpqueue-verify iframe")?.contentDocument ?? null;
}

function typeCode(code) {
  const field = insidePage()?.getElementById("code");
  if (!field || !code) return;
  field.value = code;
  field.focus();
}

byId("use").addEventListener("click", () => typeCode(newest?.pin));
byId("wrong").addEventListener("click", () => {
  typeCode(newest && String((Number(newest.pin) + 1) % 1000000).padStart(6, "0"));
});
byId("expire").addEventListener("click", async () => {
  await call("POST", "/try/clock", {});
  // The provider says so at the next check.
  typeCode(newest?.pin);
});
for (const button of document.querySelectorAll("#numbers button")) {
  button.addEventListener("click", () => {
    const inside = insidePage();
    const field = inside?.getElementById("number");
    if (!field) return;
    inside.getElementById("country").value = button.dataset.country;
    field.value = button.dataset.number;
    field.focus();
  });
}

// The handset

function keyOf(message) {
  return message.pinId + message.sentAt + message.channel;
}

function show(messages) {
  const items = messages.slice(0, 4).map((message) => {
    const item = document.createElement("li");
    const said = document.createElement("small");
    const when = new Date(message.sentAt).toLocaleTimeString();
    said.textContent = `${message.channel === "VOICE" ? "Call, spoken text" : "SMS"} · to ..${message.to.slice(-4)} · ${when}`;
    item.append(message.text, said);
    return item;
  });
  if (!items.length) {
    const none = document.createElement("li");
    none.className = "none";
    none.textContent = "No messages yet.";
    items.push(none);
  }
  byId("messages").replaceChildren(...items);
}

let ringing = null;
const answered = new Set();

function receive(messages) {
  const calls = messages.filter((one) => one.channel === "VOICE" && !answered.has(keyOf(one)));
  ringing = calls[0] ?? null;
  byId("call").hidden = !ringing;
  show(messages.filter((one) => !calls.includes(one)));
  newest = messages.find((one) => !calls.includes(one)) ?? null;
}

function endCall(isAnswered) {
  if (!ringing) return;
  const { text } = ringing;
  answered.add(keyOf(ringing));
  shownMessages = "";
  if (isAnswered && "speechSynthesis" in window) {
    speechSynthesis.speak(new SpeechSynthesisUtterance(text.replace(/\d/g, "$& ")));
  }
}
byId("answer").addEventListener("click", () => endCall(true));
byId("decline").addEventListener("click", () => endCall(false));

async function readHandset() {
  const response = await fetch(`${simulator}/_simulator/messages?limit=20`);
  const { messages } = await response.json();
  if (seen.first === null) seen.first = messages.length ? keyOf(messages[0]) : "";
  // Messages from before this page was opened belong to others.
  const older = messages.findIndex((one) => keyOf(one) === seen.first);
  const own = (older < 0 ? messages : messages.slice(0, older)).filter((one) => !LOST.has(one.to));
  const shown = own.map(keyOf).join();
  if (shown !== shownMessages) {
    shownMessages = shown;
    receive(own);
  }
}

async function readPage() {
  if (!page) return;
  const { status, answer } = await call("GET", `/try/pages/${page.id}`);
  if (status !== 200 || !page || !answer.request) return;
  const { request } = answer;
  note(...(STATES[request.status] ?? ["queued"]));
  showSteps(request.status);
  showJson(`GET /v1/otp-requests/${request.id}`, request);
}

async function poll() {
  try {
    await Promise.all([readHandset(), readPage()]);
  } catch {
    // The simulator may be restarting: poll again.
  }
  const canType = Boolean(newest && insidePage()?.getElementById("code"));
  for (const id of ["use", "wrong", "expire"]) byId(id).disabled = !canType;
  setTimeout(poll, POLL_MS);
}
poll();

// The hosted page in a window of its own returns here with a token.
const back = new URLSearchParams(location.search);
if (back.has("verification_token")) {
  history.replaceState(null, "", "/try");
  redeem({ token: back.get("verification_token"), state: back.get("state") });
}
