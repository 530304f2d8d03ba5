"use strict";

const byId = (id) => document.getElementById(id);
const simulator = document.body.dataset.simulator;
const session = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
const digits = () => byId("number").value.replace(/\D/g, "");

function say(text, kind = "") {
  byId("said").textContent = text;
  byId("said").className = kind;
}

async function call(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return { ok: response.ok, answer: await response.json() };
}

async function submit(form, work) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await work();
  } catch {
    say("The API cannot be reached.", "bad");
  } finally {
    button.disabled = false;
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(event.target, async () => {
    const { ok, answer } = await call("/request-otp", { phoneNumber: byId("number").value, sessionId: session });
    say(ok ? "A code is on its way to the handset." : answer.error, ok ? "" : "bad");
    if (ok) {
      byId("check").hidden = false;
      byId("code").value = "";
      byId("code").focus();
    }
  });
});

byId("check").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(event.target, async () => {
    const { ok, answer } = await call("/verify-otp", {
      phoneNumber: byId("number").value, otp: byId("code").value, sessionId: session,
    });
    if (ok) {
      say("Signed in: the number is verified.", "good");
      byId("check").hidden = true;
    } else {
      const left = answer.checks_left === undefined ? "" : ` ${answer.checks_left} tries left.`;
      say(answer.error + left, "bad");
    }
  });
});

function show(messages) {
  const items = messages.slice(0, 5).map((message) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date(message.sentAt).toLocaleTimeString();
    item.append(message.text, time);
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

let shown = "";
async function poll() {
  try {
    const number = digits();
    const response = await fetch(`${simulator}/_simulator/messages?to=${number}`);
    const { messages } = await response.json();
    const newest = number + (messages.length ? messages[0].pinId + messages[0].sentAt : "");
    if (newest !== shown) {
      shown = newest;
      show(messages);
    }
  } catch {
    // The simulator may be restarting: poll again.
  }
  setTimeout(poll, 700);
}
poll();
