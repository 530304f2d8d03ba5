// A whole flow with the types that openapi-typescript generates, and nothing but fetch.
// Arguments: URL of the API, API key, phone number, URL of the simulator's inbox. Prints one JSON object.

import type { components, operations } from "./schema";

declare const process: { argv: string[] };

type Operation = keyof operations;
type Body<Name extends Operation> = operations[Name] extends {
  requestBody?: { content: { "application/json": infer Content } };
}
  ? Content
  : never;
type Answers<Name extends Operation> = {
  [Status in keyof operations[Name]["responses"]]: operations[Name]["responses"][Status] extends {
    content: infer Content;
  }
    ? { status: Status; data: Content[keyof Content] }
    : { status: Status; data: undefined };
}[keyof operations[Name]["responses"]];
type OtpRequest = components["schemas"]["OtpRequest"];

const [, , api, key, number, inbox] = process.argv;

async function call<Name extends Operation>(
  _name: Name,
  method: string,
  path: string,
  body?: Body<Name>,
): Promise<Answers<Name>> {
  const response = await fetch(api + path, {
    method,
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, data: await response.json() } as Answers<Name>;
}

async function waitUntilSent(id: string): Promise<OtpRequest> {
  for (let poll = 0; poll < 20; poll += 1) {
    const polled = await call("getRequest", "GET", `/v1/otp-requests/${id}?wait=5`);
    if (polled.status !== 200) throw new Error(`polling was answered ${polled.status}`);
    if (polled.data.status !== "queued" && polled.data.status !== "sending") return polled.data;
  }
  throw new Error("the code was not sent");
}

const session = { session_id: "login-ts" };
const accepted = await call("sendCode", "POST", "/v1/otp-requests", { phone_number: number!, ...session });
if (accepted.status !== 202) throw new Error(`sending was answered ${accepted.status}`);
const id = accepted.data.id;
const sent = await waitUntilSent(id);

const early = await call("resendCode", "POST", `/v1/otp-requests/${id}/resend`, { channel: "voice" });
if (early.status !== 429) throw new Error(`an early resend was answered ${early.status}`);

const { messages } = (await (await fetch(inbox!)).json()) as { messages: { pin: string }[] };
const code = messages[0]!.pin;
const wrong = code === "000000" ? "111111" : "000000";
const verify = `/v1/otp-requests/${id}/verify`;
const refused = await call("verifyCode", "POST", verify, { code: wrong, ...session });
if (refused.status !== 422) throw new Error(`a wrong code was answered ${refused.status}`);
const verified = await call("verifyCode", "POST", verify, { code, ...session });
if (verified.status !== 200) throw new Error(`the code was answered ${verified.status}`);

const other = await call("sendCode", "POST", "/v1/otp-requests", { phone_number: number!, session_id: "other" });
if (other.status !== 202) throw new Error(`sending again was answered ${other.status}`);
const cancelled = await call("cancelRequest", "DELETE", `/v1/otp-requests/${other.data.id}`);
if (cancelled.status !== 200) throw new Error(`cancelling was answered ${cancelled.status}`);

console.log(
  JSON.stringify({
    accepted: accepted.data.status,
    sent: sent.status,
    early: [early.data.code, early.data.title],
    refused: [refused.data.code, refused.data.checks_left],
    verified: [verified.data.verified, verified.data.status, verified.data.reason],
    cancelled: [cancelled.data.status, cancelled.data.reason],
  }),
);
