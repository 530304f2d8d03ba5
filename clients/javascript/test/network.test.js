// The library over a network that fails on demand, and its webhooks. No server is needed.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import {
  CodeIncorrectError,
  InvalidCallError,
  InvalidResponseError,
  InvalidWebhookError,
  NoResponseError,
  NotFoundError,
  OtpqueueClient,
  ServerError,
  ServiceUnavailableError,
  TooManyRequestsError,
  UnprocessableError,
  WaitTimeoutError,
  isBeingSent,
  verifyWebhook,
} from "../otpqueue.js";

const ID = "01a2052f-2ea3-74ff-be34-094b06e1f8b0";
const REQUEST = {
  id: ID,
  status: "queued",
  phone_number: "+44********23",
  channel: "sms",
  created_at: "2026-03-01T12:00:00.000Z",
  send_by: "2026-03-01T12:01:30.000Z",
  sent_at: null,
  checks_left: 5,
  resend_after: null,
  resend: null,
};
const OK = () => Response.json(REQUEST, { status: 202 });
const QUICK = { backoff: 0.001, maxBackoff: 0.002 };

function problem(status, code, headers = {}, members = {}) {
  return () => Response.json({ title: "T", status, detail: "D.", code, ...members }, { status, headers });
}

/** Returns a client over these replies, the last one for ever, and the calls that it makes. */
function over(replies, retries = QUICK) {
  const calls = [];
  const left = [...replies];
  const fetch = async (url, options) => {
    calls.push({ url, ...options });
    return (left.length > 1 ? left.shift() : left[0])();
  };
  const client = new OtpqueueClient({ baseUrl: "http://otpqueue.test/", apiKey: "oq_key", retries, fetch });
  return { client, calls };
}

function fail() {
  throw new TypeError("fetch failed");
}

for (const [name, failure] of Object.entries({
  "no connection": fail,
  "503": problem(503, "too_busy", { "Retry-After": "0" }),
  "503 without Retry-After": problem(503, "database_unavailable"),
  "502 of a proxy": () => new Response("<html>", { status: 502 }),
  "429": problem(429, "limit_exceeded", { "Retry-After": "0" }),
  "409": problem(409, "idempotency_in_progress", { "Retry-After": "0" }),
})) {
  test(`${name} is retried with the same Idempotency-Key`, async () => {
    const { client, calls } = over([failure, failure, OK]);
    const request = await client.sendCode("+447700900123");
    assert.equal(request.id, ID);
    assert.equal(calls.length, 3);
    assert.equal(new Set(calls.map((call) => call.headers["Idempotency-Key"])).size, 1);
    assert.equal(new Set(calls.map((call) => call.body)).size, 1);
  });
}

for (const [failure, Kind] of [
  [problem(422, "code_incorrect"), CodeIncorrectError],
  [problem(429, "limit_exceeded", { "Retry-After": "6" }), TooManyRequestsError],
  [problem(429, "resend_too_soon"), TooManyRequestsError],
  [problem(503, "daily_cap_reached", { "Retry-After": "3600" }), ServiceUnavailableError],
  [problem(500, "internal_error"), ServerError],
  [problem(404, "of_a_later_version"), NotFoundError],
  [problem(422, "constructor"), UnprocessableError],
  [problem(418, "of_a_later_version"), InvalidCallError],
  [() => new Response(null, { status: 301 }), InvalidResponseError],
  [() => new Response("<html>"), InvalidResponseError],
  [() => Response.json([1]), InvalidResponseError],
]) {
  test(`${Kind.name} is thrown at once`, async () => {
    const { client, calls } = over([failure]);
    await assert.rejects(client.verifyCode(ID, "123456"), Kind);
    assert.equal(calls.length, 1);
  });
}

test("attempts and time are bounded", async () => {
  const none = over([fail]);
  await assert.rejects(none.client.sendCode("+447700900123"), (error) => {
    assert.ok(error instanceof NoResponseError);
    assert.ok(error.cause instanceof TypeError);
    assert.ok(!error.message.includes("447700900123"));
    return true;
  });
  assert.equal(none.calls.length, 4);
  const late = over([problem(503, "too_busy", { "Retry-After": "5" })], { total: 4 });
  await assert.rejects(late.client.sendCode("+447700900123"), ServiceUnavailableError);
  assert.equal(late.calls.length, 1);
  const once = over([fail, OK], { attempts: 1 });
  await assert.rejects(once.client.sendCode("+447700900123"), NoResponseError);
});

test("a hung API times out", async () => {
  const fetch = (_, { signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const client = new OtpqueueClient({
    baseUrl: "http://otpqueue.test",
    apiKey: "oq_key",
    timeout: 0.05,
    retries: { attempts: 1 },
    fetch,
  });
  // A timer of its own: the timer of AbortSignal.timeout does not keep the process alive.
  const alive = setTimeout(() => {}, 10_000);
  await assert.rejects(client.getRequest(ID), /TimeoutError/);
  clearTimeout(alive);
});

test("each call has an Idempotency-Key of its own, or the caller's", async () => {
  const { client, calls } = over([OK]);
  await client.sendCode("+447700900123");
  await client.sendCode("+447700900123");
  await client.resendCode(ID);
  await client.sendCode("+447700900123", { idempotencyKey: "mine" });
  await client.getRequest(ID);
  const keys = calls.map((call) => call.headers["Idempotency-Key"]);
  assert.equal(new Set(keys.slice(0, 3)).size, 3);
  assert.deepEqual(keys.slice(3), ["mine", undefined]);
});

test("polls do not spin, and may take as long as they wait", async () => {
  const headers = { ETag: '"a"', "Retry-After": "1" };
  const first = () => Response.json(REQUEST, { headers });
  const { client, calls } = over([first, () => new Response(null, { status: 304, headers })]);
  await assert.rejects(client.waitForRequest(ID, { timeout: 0.3 }), (error) => {
    assert.ok(error instanceof WaitTimeoutError);
    return error.request.id === ID;
  });
  assert.ok(calls.length >= 2 && calls.length <= 4, `${calls.length} calls`);
  assert.ok(!calls[0].url.includes("wait"));
  assert.match(calls[1].url, /\?wait=0\.[0-9]{3}$/);
  assert.equal(calls[1].headers["If-None-Match"], '"a"');
});

test("times are dates, and a pending resend is still to be sent", async () => {
  const body = { ...REQUEST, status: "sent", resend: { status: "pending", channel: "voice", reason: null } };
  const { client } = over([() => Response.json(body)]);
  const request = await client.getRequest(ID);
  assert.equal(request.sendBy.toISOString(), REQUEST.send_by);
  assert.equal(request.sentAt, null);
  assert.ok(isBeingSent(request));
  assert.throws(() => (request.status = "verified"), TypeError);
});

test("bad options are rejected, without the key in the message", () => {
  for (const options of [
    { baseUrl: "otpqueue.test", apiKey: "oq_secret" },
    { baseUrl: "http://otpqueue.test", apiKey: "oq_secret\n" },
  ]) {
    assert.throws(
      () => new OtpqueueClient(options),
      (error) => error instanceof TypeError && !error.message.includes("oq_secret"),
    );
  }
});

const SECRET = `whsec_${Buffer.alloc(32, 1).toString("base64")}`;
const OTHER = `whsec_${Buffer.alloc(32, 2).toString("base64")}`;
const NOW = 1_772_366_400;
const BODY = '{"type":"otp_request.sent","timestamp":"2026-03-01T12:00:00.000Z","data":{"id":"1"}}';

function sign(secret, { body = BODY, id = "msg_1", at = NOW } = {}) {
  const key = Buffer.from(secret.slice(6), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${at}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": `${at}`, "webhook-signature": `v1,${signature}` };
}

test("genuine webhooks are verified, also while the secret is rotated", () => {
  const both = { ...sign(SECRET) };
  both["webhook-signature"] += ` ${sign(OTHER)["webhook-signature"]}`;
  for (const [headers, body, secrets] of [
    [sign(SECRET), BODY, SECRET],
    [sign(SECRET), Buffer.from(BODY), [OTHER, SECRET]],
    [both, BODY, OTHER],
    [new Headers(sign(SECRET)), BODY, SECRET],
    [Object.fromEntries(Object.entries(sign(SECRET)).map(([name, value]) => [name.toUpperCase(), value])), BODY, SECRET],
  ]) {
    const event = verifyWebhook(headers, body, secrets, { now: NOW });
    assert.deepEqual([event.id, event.type, event.data], ["msg_1", "otp_request.sent", { id: "1" }]);
  }
});

test("everything else is no webhook", () => {
  for (const [headers, body, secret] of [
    [sign(OTHER), BODY, SECRET],
    [sign(SECRET), `${BODY} `, SECRET],
    [{ ...sign(SECRET), "webhook-id": "msg_2" }, BODY, SECRET],
    [{ ...sign(SECRET), "webhook-timestamp": "noon" }, BODY, SECRET],
    [{ ...sign(SECRET), "webhook-signature": "v1, v2,AAAA é" }, BODY, SECRET],
    [{}, BODY, SECRET],
    [sign(SECRET, { at: NOW - 301 }), BODY, SECRET],
    [sign(SECRET, { at: NOW + 301 }), BODY, SECRET],
    [sign(SECRET, { body: "[]" }), "[]", SECRET],
    [sign(SECRET, { body: "nonsense" }), "nonsense", SECRET],
  ]) {
    assert.throws(() => verifyWebhook(headers, body, secret, { now: NOW }), InvalidWebhookError);
  }
  for (const secrets of ["", "whsec_", "nonsense!", [], ["whsec_AAAA", "whsec_"]]) {
    assert.throws(() => verifyWebhook(sign(SECRET), BODY, secrets, { now: NOW }), TypeError);
  }
  assert.throws(() => verifyWebhook(sign(SECRET), JSON.parse(BODY), SECRET, { now: NOW }), /raw body/);
});
