/**
 * Client library of the otpqueue API for Node.js 18 and newer. It has no dependencies.
 *
 * For back ends only: a web page must not contain an API key.
 */

import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";

export const VERSION = "0.2.0";

/** The statuses that do not change any more. */
export const FINAL_STATUSES = Object.freeze(["verified", "failed", "expired", "locked", "cancelled"]);

const REQUESTS = "/v1/otp-requests";
/** How long one poll waits at the API for a change. */
const LONG_POLL_S = 20;
/** Pause between polls if the API names none. */
const POLL_S = 1;

/**
 * Bounds of retries, in seconds. A call is repeated after no response, 429, 502, 503 and 504, and after 409
 * `idempotency_in_progress` and `check_in_progress`. Every repetition has the same Idempotency-Key.
 */
export const RETRY_POLICY = Object.freeze({
  /** Maximum number of attempts, including the first; 1 turns retries off. */
  attempts: 4,
  /** No attempt starts later than this after the first. */
  total: 45,
  /** Maximum pause before the first retry. It doubles with each retry; the pause is a random part of it. */
  backoff: 0.25,
  maxBackoff: 4,
  /** An error with a longer `Retry-After` is thrown at once. */
  maxRetryAfter: 5,
});

/** A call did not succeed. */
export class OtpqueueClientError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = this.constructor.name;
  }
}

/** The API did not answer, after all retries. The call may have succeeded: repeat it with the same key. */
export class NoResponseError extends OtpqueueClientError {}

/** The response is not one of otpqueue's. Check the base URL and the proxies in between. */
export class InvalidResponseError extends OtpqueueClientError {}

/** The awaited state was not reached in time. `request` is the last known state. */
export class WaitTimeoutError extends OtpqueueClientError {
  constructor(request) {
    super(`Request ${request.id} is still ${request.status}.`);
    this.request = request;
  }
}

/** The webhook is not genuine or too old. Answer 401 and ignore it. */
export class InvalidWebhookError extends OtpqueueClientError {}

/** The API rejected the call. */
export class ProblemError extends OtpqueueClientError {
  constructor(problem, { status, retryAfter = null, requestId = null }) {
    const errors = Array.isArray(problem.errors) ? problem.errors : [];
    const fields = errors.map((one) => ` ${one.field} ${one.message}.`).join("");
    const call = requestId ? ` (call ${requestId})` : "";
    super(`${status} ${problem.code ?? problem.title}: ${problem.detail}${fields}${call}`);
    /** The problem details (RFC 9457), all members. */
    this.problem = problem;
    /** HTTP status. */
    this.status = status;
    /** Stable name of the problem; null if the response has no problem details, as from a proxy. */
    this.code = problem.code ?? null;
    /** What is wrong, and what to do. For developers, not for end users. */
    this.detail = problem.detail;
    /** The fields that are not valid. */
    this.errors = errors;
    /** The first field that is not valid. */
    this.field = errors[0]?.field ?? null;
    /** Seconds to wait before another call, if the API names them. */
    this.retryAfter = retryAfter;
    /** `X-Request-Id`: the id of the call in the logs of otpqueue. */
    this.requestId = requestId;
  }
}

/** The call is not valid: a mistake in the calling program, or in what a user entered. */
export class InvalidCallError extends ProblemError {}

/** The input is not valid. `errors` names each field. */
export class InvalidRequestError extends InvalidCallError {}

/** The phone number is not valid. */
export class InvalidPhoneNumberError extends InvalidRequestError {}

/** The body is not a JSON object. */
export class MalformedJsonError extends InvalidCallError {}

/** The path does not support the method. */
export class MethodNotAllowedError extends InvalidCallError {}

/** The body did not arrive in time. */
export class BodyTimeoutError extends InvalidCallError {}

/** The body is too large. */
export class BodyTooLargeError extends InvalidCallError {}

/** The body is not sent as JSON. */
export class UnsupportedMediaTypeError extends InvalidCallError {}

/** The URL is too long. */
export class UriTooLongError extends InvalidCallError {}

/** The headers are too large, or too many. */
export class HeadersTooLargeError extends InvalidCallError {}

/** The HTTP request is not valid. */
export class BadHttpError extends InvalidCallError {}

/** The API did not accept the credentials. */
export class AuthenticationError extends ProblemError {}

/** The API key is missing, unknown, expired or revoked. */
export class UnauthenticatedError extends AuthenticationError {
  /** Which of these it is, if the API names it, for example `expired_key`. */
  get reason() {
    return this.problem.reason ?? null;
  }
}

/** The call is not permitted. */
export class ForbiddenError extends ProblemError {}

/** The API key does not have the scope that this call needs. */
export class MissingScopeError extends ForbiddenError {}

/** The base URL must begin with `https://`. Replace the API key: it was sent unencrypted. */
export class HttpsRequiredError extends ForbiddenError {}

/** Too many consecutive wrong codes. An operator must unlock the number. */
export class NumberLockedError extends ForbiddenError {}

/** The API does not know what the call names. */
export class NotFoundError extends ProblemError {}

/** No request of this client has this id. */
export class RequestNotFoundError extends NotFoundError {}

/** The path does not exist. Check the base URL. */
export class PathNotFoundError extends NotFoundError {}

/** The request's state does not permit the call now. */
export class ConflictError extends ProblemError {}

/** No code has been sent yet. */
export class NotSentYetError extends ConflictError {}

/** Another check of the request is in progress. */
export class CheckInProgressError extends ConflictError {}

/** The code was already verified. */
export class AlreadyVerifiedError extends ConflictError {}

/** The first call with this Idempotency-Key is still in progress. */
export class IdempotencyInProgressError extends ConflictError {}

/** The code is already being sent. */
export class ResendInProgressError extends ConflictError {}

/** The code expires too soon to resend it. Make a new request. */
export class ResendTooLateError extends ConflictError {}

/** No resends are left. Make a new request. */
export class ResendsExhaustedError extends ConflictError {}

/** The request has ended. Make a new request. */
export class RequestEndedError extends ProblemError {}

/** The request has expired. */
export class CodeExpiredError extends RequestEndedError {}

/** Too many wrong codes for this request. */
export class RequestLockedError extends RequestEndedError {}

/** The request was cancelled or replaced by a newer one. */
export class RequestCancelledError extends RequestEndedError {}

/** The code could not be sent. */
export class RequestFailedError extends RequestEndedError {}

/** The call is valid, but the API does not accept its content. */
export class UnprocessableError extends ProblemError {}

/** The code is wrong, or belongs to another session. */
export class CodeIncorrectError extends UnprocessableError {
  /** How many more codes can be checked. */
  get checksLeft() {
    return Number(this.problem.checks_left ?? 0);
  }
}

/** Codes are not sent to this number. */
export class NumberNotAllowedError extends UnprocessableError {}

/** Codes are not sent to numbers of this country. */
export class CountryNotAllowedError extends UnprocessableError {}

/** The Idempotency-Key was already used with a different body. */
export class IdempotencyKeyReusedError extends UnprocessableError {}

/** The call comes too soon. Retry after `retry_after` seconds. */
export class TooManyRequestsError extends ProblemError {}

/** A limit is exceeded. */
export class LimitExceededError extends TooManyRequestsError {
  /** Name of the limit. */
  get limit() {
    return this.problem.limit ?? null;
  }
}

/** Too many wrong codes for this number or address. Codes already sent remain valid. */
export class TooManyWrongCodesError extends TooManyRequestsError {}

/** The code was sent recently. */
export class ResendTooSoonError extends TooManyRequestsError {}

/** Sending to this range of numbers is paused. */
export class DestinationPausedError extends TooManyRequestsError {}

/** The service failed. */
export class ServerError extends ProblemError {}

/** An error in otpqueue, which it has logged. */
export class InternalServerError extends ServerError {}

/** The service is temporarily unavailable. */
export class ServiceUnavailableError extends ServerError {}

/** Infobip could not check the code. */
export class ProviderUnavailableError extends ServiceUnavailableError {}

/** The database of otpqueue is unavailable. */
export class DatabaseUnavailableError extends ServiceUnavailableError {}

/** Rate limits cannot be checked, so no code is sent. */
export class LimitsUnavailableError extends ServiceUnavailableError {}

/** Too many calls are in progress. */
export class TooBusyError extends ServiceUnavailableError {}

/** An operator has stopped sending. Codes already sent can still be verified. */
export class SendingStoppedError extends ServiceUnavailableError {}

/** The daily sending cap is reached. Sending resumes at 00:00 UTC. */
export class DailyCapReachedError extends ServiceUnavailableError {}

const BY_CODE = {
  invalid_request: InvalidRequestError,
  invalid_phone_number: InvalidPhoneNumberError,
  malformed_json: MalformedJsonError,
  method_not_allowed: MethodNotAllowedError,
  body_timeout: BodyTimeoutError,
  body_too_large: BodyTooLargeError,
  unsupported_media_type: UnsupportedMediaTypeError,
  uri_too_long: UriTooLongError,
  headers_too_large: HeadersTooLargeError,
  bad_http: BadHttpError,
  unauthenticated: UnauthenticatedError,
  missing_scope: MissingScopeError,
  https_required: HttpsRequiredError,
  number_locked: NumberLockedError,
  request_not_found: RequestNotFoundError,
  not_found: PathNotFoundError,
  not_sent_yet: NotSentYetError,
  check_in_progress: CheckInProgressError,
  already_verified: AlreadyVerifiedError,
  idempotency_in_progress: IdempotencyInProgressError,
  resend_in_progress: ResendInProgressError,
  resend_too_late: ResendTooLateError,
  resends_exhausted: ResendsExhaustedError,
  expired: CodeExpiredError,
  locked: RequestLockedError,
  cancelled: RequestCancelledError,
  failed: RequestFailedError,
  code_incorrect: CodeIncorrectError,
  number_not_allowed: NumberNotAllowedError,
  country_not_allowed: CountryNotAllowedError,
  idempotency_key_reused: IdempotencyKeyReusedError,
  limit_exceeded: LimitExceededError,
  too_many_wrong_codes: TooManyWrongCodesError,
  resend_too_soon: ResendTooSoonError,
  destination_paused: DestinationPausedError,
  internal_error: InternalServerError,
  provider_unavailable: ProviderUnavailableError,
  database_unavailable: DatabaseUnavailableError,
  limits_unavailable: LimitsUnavailableError,
  too_busy: TooBusyError,
  sending_stopped: SendingStoppedError,
  daily_cap_reached: DailyCapReachedError,
};

/** Classes of unknown codes. Other 4xx are an InvalidCallError, other 5xx a ServerError. */
const BY_STATUS = {
  401: AuthenticationError,
  403: ForbiddenError,
  404: NotFoundError,
  409: ConflictError,
  410: RequestEndedError,
  422: UnprocessableError,
  429: TooManyRequestsError,
  502: ServiceUnavailableError,
  503: ServiceUnavailableError,
  504: ServiceUnavailableError,
};

/** Calls the API. Create one and share it. */
export class OtpqueueClient {
  #baseUrl;
  #apiKey;
  #timeout;
  #retries;
  #fetch;

  /**
   * @param {object} [options]
   * @param {string} [options.baseUrl] else the environment variable OTPQUEUE_URL
   * @param {string} [options.apiKey] else the environment variable OTPQUEUE_API_KEY
   * @param {number} [options.timeout] bounds each attempt, in seconds
   * @param {object} [options.retries] members that differ from RETRY_POLICY
   * @param {typeof fetch} [options.fetch] another implementation of fetch
   */
  constructor({ baseUrl, apiKey, timeout = 20, retries = {}, fetch = globalThis.fetch } = {}) {
    this.#baseUrl = (baseUrl || process.env.OTPQUEUE_URL || "").replace(/\/+$/, "");
    this.#apiKey = apiKey || process.env.OTPQUEUE_API_KEY || "";
    if (!/^https?:\/\//.test(this.#baseUrl)) {
      throw new TypeError("baseUrl, or OTPQUEUE_URL, must begin with https:// or http://.");
    }
    if (!/^[\x21-\x7e]+$/.test(this.#apiKey)) {
      throw new TypeError("apiKey, or OTPQUEUE_API_KEY, must be an API key without white space.");
    }
    this.#timeout = timeout;
    this.#retries = { ...RETRY_POLICY, ...retries };
    this.#fetch = fetch;
  }

  /** Requests a code for a number in E.164, or a national number of a `country`. */
  async sendCode(phoneNumber, options = {}) {
    const { country, channel, language, sessionId, clientIp, clientReference, idempotencyKey } = options;
    const body = {
      phone_number: phoneNumber,
      country,
      channel,
      language,
      session_id: sessionId,
      client_ip: clientIp,
      client_reference: clientReference,
    };
    return this.#post(REQUESTS, body, idempotencyKey);
  }

  /** Returns the current state of a request, given by its id or a former state. */
  async getRequest(request) {
    return readRequest(await this.#call({ method: "GET", path: buildPath(request) }));
  }

  /**
   * Returns the request as soon as `until` is true of it or it has ended, by default when it was sent.
   * The result may have ended: check its `status`. `timeout` is in seconds.
   */
  async waitForRequest(request, { until = isSettled, timeout = 30 } = {}) {
    const deadline = now() + timeout;
    const path = buildPath(request);
    let seen = null;
    let etag = null;
    // At once: the state may be reached already. Only the next polls wait for a change.
    let wait = 0;
    for (;;) {
      const asked = now();
      const reply = await this.#call({ method: "GET", path, wait, etag });
      if (reply.status !== 304 || seen === null) {
        seen = readRequest(reply);
        etag = reply.headers.get("etag");
      }
      if (until(seen) || isFinal(seen)) return seen;
      const remaining = deadline - now();
      if (remaining <= 0) throw new WaitTimeoutError(seen);
      // `wait` ends when the status changes, which it does not when a code is resent.
      const isResent = isBeingSent(seen) && !["queued", "sending"].includes(seen.status);
      const answeredEarly = reply.status === 304 && now() - asked < wait / 2;
      if (isResent || answeredEarly || !etag) {
        await sleep(Math.min(readRetryAfter(reply.headers) ?? POLL_S, remaining));
      }
      wait = isResent || !etag ? 0 : Math.max(0, Math.min(LONG_POLL_S, deadline - now()));
    }
  }

  /** Checks a code. It returns only if the code is correct, and throws otherwise. */
  async verifyCode(request, code, { sessionId, phoneNumber, clientIp, idempotencyKey } = {}) {
    const body = { code, session_id: sessionId, phone_number: phoneNumber, client_ip: clientIp };
    return this.#post(`${buildPath(request)}/verify`, body, idempotencyKey);
  }

  /** Sends the same code again, on the same channel unless another is given. */
  async resendCode(request, { channel, idempotencyKey } = {}) {
    return this.#post(`${buildPath(request)}/resend`, { channel }, idempotencyKey);
  }

  /** Cancels a request. A request that has ended does not change. */
  async cancelRequest(request) {
    return readRequest(await this.#call({ method: "DELETE", path: buildPath(request) }));
  }

  async #post(path, body, idempotencyKey = randomUUID()) {
    return readRequest(await this.#call({ method: "POST", path, body, idempotencyKey }));
  }

  async #call(call) {
    const begun = now();
    for (let attempts = 1; ; attempts++) {
      const { reply, error } = await this.#exchange(call);
      if (reply) return reply;
      const pause = choosePause(error, { policy: this.#retries, attempts, begun });
      if (pause === null) throw error;
      await sleep(pause);
    }
  }

  async #exchange({ method, path, body, idempotencyKey, wait = 0, etag }) {
    const headers = {
      Authorization: `Bearer ${this.#apiKey}`,
      Accept: "application/json",
      "User-Agent": `otpqueue-client-javascript/${VERSION}`,
    };
    if (body) headers["Content-Type"] = "application/json";
    if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
    if (wait) headers["If-None-Match"] = etag;
    const query = wait ? `?wait=${wait.toFixed(3)}` : "";
    // A long poll may take as long as it waits, beyond the timeout of other calls.
    const signal = AbortSignal.timeout(Math.ceil((this.#timeout + wait) * 1000));
    const options = { method, headers, body: body && JSON.stringify(body), redirect: "manual", signal };
    let reply;
    try {
      const response = await this.#fetch(this.#baseUrl + path + query, options);
      reply = { status: response.status, headers: response.headers, text: await response.text() };
    } catch (cause) {
      const name = cause?.cause?.code ?? cause?.name ?? "error";
      return { error: new NoResponseError(`No response to ${method} ${path}: ${name}.`, { cause }) };
    }
    if ((reply.status >= 200 && reply.status < 300) || reply.status === 304) return { reply };
    if (reply.status >= 400) return { error: buildError(reply) };
    return { error: new InvalidResponseError(`${method} ${path} was answered ${reply.status}.`) };
  }
}

/** Returns whether the status of a request does not change any more. */
export function isFinal(request) {
  return FINAL_STATUSES.includes(request.status);
}

/** Returns whether a worker has still to send the code, for the first time or again. */
export function isBeingSent(request) {
  const isWaiting = ["queued", "sending"].includes(request.status) || request.resend?.status === "pending";
  return !isFinal(request) && isWaiting;
}

/** Returns whether no worker has to send the code: it was sent, or the request ended. */
export function isSettled(request) {
  return !isBeingSent(request);
}

/**
 * Returns the event of a webhook, if it was signed with one of the secrets; throws InvalidWebhookError
 * otherwise. `headers` are those of the request, `body` is its body before any JSON parser. Give the old and
 * the new secret while a secret is rotated. `tolerance` is in seconds, `now` a Unix time.
 */
export function verifyWebhook(headers, body, secrets, { tolerance = 300, now: at = Date.now() / 1000 } = {}) {
  const keys = [secrets].flat().map(decodeSecret);
  if (keys.length === 0) throw new TypeError("Give at least one webhook secret.");
  if (typeof body !== "string" && !(body instanceof Uint8Array)) {
    throw new TypeError("Give the raw body, before any JSON parser.");
  }
  const given = readHeaders(headers);
  const id = given["webhook-id"] ?? "";
  const timestamp = given["webhook-timestamp"] ?? "";
  if (!id || !/^[0-9]+$/.test(timestamp)) {
    throw new InvalidWebhookError("The headers webhook-id and webhook-timestamp are missing or not valid.");
  }
  if (Math.abs(at - Number(timestamp)) > tolerance) {
    throw new InvalidWebhookError("The webhook-timestamp is too far from this machine's time.");
  }
  const raw = Buffer.from(body);
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), raw]);
  const signatures = (given["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one));
  let isGenuine = false;
  for (const key of keys) {
    const expected = Buffer.from(`v1,${createHmac("sha256", key).update(signed).digest("base64")}`);
    for (const signature of signatures) {
      const matches = signature.length === expected.length && timingSafeEqual(signature, expected);
      isGenuine = matches || isGenuine;
    }
  }
  if (!isGenuine) {
    throw new InvalidWebhookError("No webhook-signature matches. Check the secret and the raw body.");
  }
  const event = parseJson(raw.toString("utf8"));
  const isEvent =
    typeof event?.type === "string" && !Number.isNaN(Date.parse(event.timestamp)) && event.data != null;
  if (!isEvent) throw new InvalidWebhookError("The body is not an event of otpqueue.");
  return { id, type: event.type, timestamp: event.timestamp, data: event.data };
}

function decodeSecret(secret) {
  const text = typeof secret === "string" ? secret.replace(/^whsec_/, "") : "";
  // Without the secret: errors are logged.
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw new TypeError("A webhook secret is whsec_ and Base64.");
  return Buffer.from(text, "base64");
}

function readHeaders(headers) {
  const pairs = typeof headers.entries === "function" ? [...headers.entries()] : Object.entries(headers);
  return Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), String(value)]));
}

function choosePause(error, { policy, attempts, begun }) {
  if (attempts >= policy.attempts || !isRetryable(error)) return null;
  const jitter = Math.random();
  const ceiling = Math.min(policy.maxBackoff, policy.backoff * 2 ** (attempts - 1));
  let pause = ceiling * (0.5 + jitter / 2);
  const retryAfter = error.retryAfter ?? null;
  if (retryAfter !== null) {
    if (retryAfter > policy.maxRetryAfter) return null;
    // Later than asked, so that callers that were rejected together do not return together.
    pause = retryAfter + policy.backoff * jitter;
  }
  return now() - begun + pause <= policy.total ? pause : null;
}

function isRetryable(error) {
  if (error instanceof TooManyRequestsError) return error.retryAfter !== null;
  const kinds = [NoResponseError, ServiceUnavailableError, IdempotencyInProgressError, CheckInProgressError];
  return kinds.some((kind) => error instanceof kind);
}

function buildError({ status, headers, text }) {
  const body = parseJson(text);
  const problem =
    typeof body?.code === "string"
      ? body
      : { title: `HTTP ${status}`, detail: "The response has no problem details. A proxy may have sent it." };
  const rest = status >= 500 ? ServerError : InvalidCallError;
  const known = Object.hasOwn(BY_CODE, problem.code ?? "") ? BY_CODE[problem.code] : undefined;
  const Kind = known ?? BY_STATUS[status] ?? rest;
  return new Kind(problem, {
    status,
    retryAfter: readRetryAfter(headers),
    requestId: headers.get("x-request-id"),
  });
}

function readRequest({ status, text }) {
  const body = parseJson(text);
  if (typeof body?.id !== "string" || typeof body.status !== "string") {
    throw new InvalidResponseError(`The body of a ${status} response is not a request of otpqueue.`);
  }
  return Object.freeze(camelCase(body));
}

/** Returns an object with `checksLeft` for `checks_left`; times become Dates. */
function camelCase(value) {
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      const camel = name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
      const isTime = (name.endsWith("_at") || TIMES.includes(name)) && typeof member === "string";
      if (isTime) return [camel, new Date(member)];
      const isObject = member !== null && typeof member === "object" && !Array.isArray(member);
      return [camel, isObject ? Object.freeze(camelCase(member)) : member];
    }),
  );
}

const TIMES = ["send_by", "resend_after"];

function readRetryAfter(headers) {
  const text = headers.get("retry-after") ?? "";
  if (/^[0-9]+$/.test(text)) return Number(text);
  // A time is a date of HTTP, which begins with the day of the week.
  const moment = /^[A-Z][a-z]{2},/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(moment) ? null : Math.max(0, (moment - Date.now()) / 1000);
}

function buildPath(request) {
  return `${REQUESTS}/${encodeURIComponent(typeof request === "string" ? request : request.id)}`;
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function now() {
  return performance.now() / 1000;
}

function sleep(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
