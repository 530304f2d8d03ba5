// The library over a real API. tests/client/test_javascript.py serves it and sends the codes:
// `GET $OTPQUEUE_TEST_WORKER/code?number=...` runs a worker and returns the code that arrived.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AlreadyVerifiedError,
  CodeIncorrectError,
  InvalidPhoneNumberError,
  NotSentYetError,
  OtpqueueClient,
  RequestCancelledError,
  RequestNotFoundError,
  ResendTooSoonError,
  UnauthenticatedError,
} from "../otpqueue.js";

const WORKER = process.env.OTPQUEUE_TEST_WORKER;
const options = { skip: WORKER ? false : "no API: run tests/client/test_javascript.py" };
const otp = WORKER && new OtpqueueClient();

async function receiveCode(number) {
  const reply = await fetch(`${WORKER}/code?number=${encodeURIComponent(number)}`);
  return (await reply.json()).code;
}

function mistype(code) {
  return String((Number(code) + 1) % 1_000_000).padStart(6, "0");
}

test("the life of a code", options, async () => {
  const number = "+447700900780";
  const sessionId = "login-1";
  const accepted = await otp.sendCode(number, { sessionId, clientReference: "order-4711" });
  assert.equal(accepted.status, "queued");
  assert.equal(accepted.clientReference, "order-4711");
  await assert.rejects(otp.verifyCode(accepted, "123456", { sessionId }), NotSentYetError);

  const [sent, code] = await Promise.all([otp.waitForRequest(accepted), receiveCode(number)]);
  assert.equal(sent.status, "sent");
  assert.ok(sent.expiresAt > new Date());
  await assert.rejects(otp.resendCode(sent, { channel: "voice" }), (error) => {
    assert.ok(error instanceof ResendTooSoonError);
    return error.retryAfter > 5;
  });

  await assert.rejects(otp.verifyCode(sent.id, mistype(code), { sessionId }), (error) => {
    assert.ok(error instanceof CodeIncorrectError);
    assert.deepEqual([error.status, error.code, error.checksLeft], [422, "code_incorrect", 4]);
    return true;
  });
  const verified = await otp.verifyCode(sent.id, code, { sessionId });
  assert.equal(verified.status, "verified");
  await assert.rejects(otp.verifyCode(sent.id, code, { sessionId }), AlreadyVerifiedError);
  assert.deepEqual((await otp.getRequest(sent)).verifiedAt, verified.verifiedAt);
});

test("a cancelled request", options, async () => {
  const request = await otp.sendCode("+447700900781");
  assert.equal((await otp.cancelRequest(request)).status, "cancelled");
  assert.equal((await otp.waitForRequest(request)).reason, "cancelled_by_client");
  await assert.rejects(otp.verifyCode(request, "123456"), RequestCancelledError);
});

test("errors name the field and the call", options, async () => {
  await assert.rejects(otp.sendCode("12"), (error) => {
    assert.ok(error instanceof InvalidPhoneNumberError);
    assert.deepEqual([error.field, error.errors.length], ["phone_number", 1]);
    return error.requestId && error.message.includes(error.requestId);
  });
  await assert.rejects(otp.getRequest("no-such-id"), RequestNotFoundError);
  await assert.rejects(new OtpqueueClient({ apiKey: "oq_unknown" }).sendCode("+447700900782"), UnauthenticatedError);
});

test("the same Idempotency-Key sends one code", options, async () => {
  const first = await otp.sendCode("+447700900783", { idempotencyKey: "sign-up-1" });
  const again = await otp.sendCode("+447700900783", { idempotencyKey: "sign-up-1" });
  assert.deepEqual(again, first);
});
