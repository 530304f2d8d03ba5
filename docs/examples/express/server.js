// Sign up and log in by phone: a back end with Express. docs/clients.md describes how to run it.

import { randomBytes } from "node:crypto";

import cookieSession from "cookie-session";
import express from "express";
import * as otpqueue from "otpqueue-client";

const app = express();
const otp = new otpqueue.OtpqueueClient(); // reads OTPQUEUE_URL and OTPQUEUE_API_KEY
const users = new Set(); // a real application has a database
const statuses = new Map(); // status of each request, as webhooks report it

// Before every parser: the signature is over the raw body.
app.post("/webhooks/otpqueue", express.raw({ type: "*/*" }), (request, response) => {
  // Two secrets, separated by a space, while the secret is rotated.
  const secrets = process.env.WEBHOOK_SECRETS.split(" ");
  const event = otpqueue.verifyWebhook(request.headers, request.body ?? "", secrets);
  // A repeated event changes nothing.
  if (event.type.startsWith("otp_request.")) statuses.set(event.data.id, event.data.status);
  response.sendStatus(204);
});

app.use(cookieSession({ secret: process.env.SESSION_SECRET, sameSite: "lax" }), express.urlencoded());

app.get("/", ({ session }, response) => response.send(renderPage(session)));

app.post("/codes", async (request, response) => {
  const number = `+${String(request.body.number).replace(/\D/g, "")}`;
  // Binds the code to this browser: elsewhere the code is wrong.
  const sessionId = randomBytes(16).toString("base64url");
  request.session = { number, sessionId };
  const passcode = await otp.sendCode(number, { sessionId, clientIp: request.ip });
  request.session.requestId = passcode.id;
  response.redirect("/");
});

app.post("/resend", requirePasscode, async ({ session, body }, response) => {
  await otp.resendCode(session.requestId, { channel: body.channel });
  response.redirect("/");
});

app.post("/login", requirePasscode, async (request, response) => {
  const { requestId, sessionId, number } = request.session;
  await otp.verifyCode(requestId, request.body.code, { sessionId });
  // Only here is the number proven: verifyCode throws for every other code.
  request.session = { user: number, signedUp: !users.has(number) };
  users.add(number);
  response.redirect("/");
});

function requirePasscode(request, response, next) {
  return request.session.requestId ? next() : response.redirect("/");
}

app.use((error, { session }, response, next) => {
  if (error instanceof otpqueue.InvalidWebhookError) return response.sendStatus(401);
  if (!(error instanceof otpqueue.OtpqueueClientError)) return next(error);
  console.info("otpqueue:", error.message);
  response.status(error.status ?? 503).send(renderPage(session, describeError(error)));
});

function describeError(error) {
  if (error instanceof otpqueue.CodeIncorrectError) return `Wrong code. ${error.checksLeft} attempts left.`;
  if (error instanceof otpqueue.InvalidRequestError)
    return "This is not a phone number with + and country code, or not a code of six digits.";
  if (error instanceof otpqueue.UnprocessableError) return "We cannot send codes to this number.";
  if (error instanceof otpqueue.TooManyRequestsError) return `Please wait ${error.retryAfter ?? 60} seconds.`;
  if (error instanceof otpqueue.NotSentYetError) return "Your code is on its way.";
  if (error instanceof otpqueue.RequestEndedError) return "This code is no longer valid. Request a new one.";
  return "This does not work at the moment. Please try again later.";
}

// Inserts no text of the user: a number has digits only.
function renderPage({ user, signedUp, requestId, number }, error) {
  const status = statuses.get(requestId);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Log in</title>
${error ? `<p role="alert">${error}</p>` : ""}
${user ? `<p>${signedUp ? "Welcome" : "Welcome back"}, ${user}.</p>` : ""}
${requestId ? `<p>Enter the code that we sent to ${number}. ${status ? `Status: ${status}.` : ""}</p>
<form method="post" action="/login">
  <label>Code <input name="code" inputmode="numeric" autocomplete="one-time-code" required></label>
  <button>Log in</button>
</form>
<form method="post" action="/resend">
  <button name="channel" value="sms">Send again</button>
  <button name="channel" value="voice">Call me</button>
</form>` : ""}
${user ? "" : `<form method="post" action="/codes">
  <label>Phone number <input name="number" type="tel" autocomplete="tel" required></label>
  <button>Send a code</button>
</form>`}
</html>`;
}

const server = app.listen(process.env.PORT ?? 3000, () => console.log(`listening on ${server.address().port}`));
