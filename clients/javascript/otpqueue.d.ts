/** Client library of the otpqueue API for Node.js 18 and newer. For back ends only. */

export const VERSION: string;

export type Channel = "sms" | "voice";
export type FinalStatus = "verified" | "failed" | "expired" | "locked" | "cancelled";
/** A later version of the API may add a status. */
export type Status = "queued" | "sending" | "sent" | "delivered" | "undelivered" | FinalStatus | (string & {});

/** The statuses that do not change any more. */
export const FINAL_STATUSES: readonly FinalStatus[];

/** Bounds of retries, in seconds. */
export interface RetryPolicy {
  /** Maximum number of attempts, including the first; 1 turns retries off. */
  readonly attempts: number;
  /** No attempt starts later than this after the first. */
  readonly total: number;
  /** Maximum pause before the first retry. It doubles with each retry; the pause is a random part of it. */
  readonly backoff: number;
  readonly maxBackoff: number;
  /** An error with a longer `Retry-After` is thrown at once. */
  readonly maxRetryAfter: number;
}

export const RETRY_POLICY: RetryPolicy;

/** The newest resend of a request. */
export interface PasscodeResend {
  readonly status: "pending" | "sent" | "failed" | (string & {});
  readonly channel: Channel | null;
  /** Why it failed. */
  readonly reason: string | null;
}

/** A request for a code, at the moment of the response. */
export interface PasscodeRequest {
  readonly id: string;
  readonly status: Status;
  /** Why the request ended. */
  readonly reason: string | null;
  /** Infobip's code for the last failure. */
  readonly providerCode: string | null;
  /** Masked. */
  readonly phoneNumber: string | null;
  readonly channel: Channel;
  readonly clientReference: string | null;
  readonly createdAt: Date;
  /** Deadline for sending the code. */
  readonly sendBy: Date;
  readonly sentAt: Date | null;
  /** When the code expires; null until it is sent. */
  readonly expiresAt: Date | null;
  readonly verifiedAt: Date | null;
  /** How many more codes can be checked. */
  readonly checksLeft: number;
  /** How many more times the code can be resent. */
  readonly sendsLeft: number;
  /** Earliest time of the next resend. */
  readonly resendAfter: Date | null;
  /** The newest resend. */
  readonly resend: PasscodeResend | null;
}

export interface ClientOptions {
  /** Else the environment variable OTPQUEUE_URL. */
  baseUrl?: string;
  /** Else the environment variable OTPQUEUE_API_KEY. */
  apiKey?: string;
  /** Bounds each attempt, in seconds; 20 by default. */
  timeout?: number;
  /** Members that differ from RETRY_POLICY. */
  retries?: Partial<RetryPolicy>;
  /** Another implementation of fetch. */
  fetch?: typeof fetch;
}

export interface SendOptions {
  /** Country of a national number, ISO 3166 alpha-2. */
  country?: string;
  channel?: Channel;
  language?: string;
  /** Binds the code to a login session. */
  sessionId?: string;
  /** IP address of the end user. */
  clientIp?: string;
  clientReference?: string;
  idempotencyKey?: string;
}

export interface VerifyOptions {
  /** The value given to `sendCode`. */
  sessionId?: string;
  phoneNumber?: string;
  /** IP address of the end user. */
  clientIp?: string;
  idempotencyKey?: string;
}

export interface ResendOptions {
  channel?: Channel;
  idempotencyKey?: string;
}

export interface WaitOptions {
  until?: (request: PasscodeRequest) => boolean;
  /** In seconds; 30 by default. */
  timeout?: number;
}

/** Calls the API. Create one and share it. */
export class OtpqueueClient {
  constructor(options?: ClientOptions);
  /** Requests a code for a number in E.164, or a national number of a `country`. */
  sendCode(phoneNumber: string, options?: SendOptions): Promise<PasscodeRequest>;
  /** Returns the current state of a request. */
  getRequest(request: PasscodeRequest | string): Promise<PasscodeRequest>;
  /** Returns the request as soon as `until` is true of it or it has ended, by default when it was sent. */
  waitForRequest(request: PasscodeRequest | string, options?: WaitOptions): Promise<PasscodeRequest>;
  /** Checks a code. It returns only if the code is correct, and throws otherwise. */
  verifyCode(request: PasscodeRequest | string, code: string, options?: VerifyOptions): Promise<PasscodeRequest>;
  /** Sends the same code again, on the same channel unless another is given. */
  resendCode(request: PasscodeRequest | string, options?: ResendOptions): Promise<PasscodeRequest>;
  /** Cancels a request. A request that has ended does not change. */
  cancelRequest(request: PasscodeRequest | string): Promise<PasscodeRequest>;
}

/** Returns whether the status of a request does not change any more. */
export function isFinal(request: PasscodeRequest): boolean;
/** Returns whether a worker has still to send the code, for the first time or again. */
export function isBeingSent(request: PasscodeRequest): boolean;
/** Returns whether no worker has to send the code: it was sent, or the request ended. */
export function isSettled(request: PasscodeRequest): boolean;

/** A genuine event. It can arrive twice: process each `id` once. */
export interface ReceivedWebhook {
  readonly id: string;
  readonly type: string;
  /** When the event happened: ISO 8601. */
  readonly timestamp: string;
  readonly data: { readonly [member: string]: unknown };
}

export interface WebhookOptions {
  /** How far `webhook-timestamp` may be from `now`, in seconds; 300 by default. */
  tolerance?: number;
  /** Unix time. */
  now?: number;
}

/** Returns the event of a webhook, if it was signed with one of the secrets; throws InvalidWebhookError else. */
export function verifyWebhook(
  headers: Headers | { readonly [name: string]: string | string[] | undefined },
  body: string | Uint8Array,
  secrets: string | readonly string[],
  options?: WebhookOptions,
): ReceivedWebhook;

/** A field of the call that is not valid. */
export interface InvalidInput {
  readonly field: string;
  readonly message: string;
}

/** Problem details: RFC 9457. */
export interface ProblemDetails {
  readonly code?: string;
  readonly title: string;
  readonly detail: string;
  readonly [member: string]: unknown;
}

/** A call did not succeed. */
export class OtpqueueClientError extends Error {}

/** The API did not answer, after all retries. */
export class NoResponseError extends OtpqueueClientError {}

/** The response is not one of otpqueue's. */
export class InvalidResponseError extends OtpqueueClientError {}

/** The awaited state was not reached in time. */
export class WaitTimeoutError extends OtpqueueClientError {
  /** The last known state. */
  readonly request: PasscodeRequest;
}

/** The webhook is not genuine or too old. */
export class InvalidWebhookError extends OtpqueueClientError {}

/** The API rejected the call. */
export class ProblemError extends OtpqueueClientError {
  readonly problem: ProblemDetails;
  /** HTTP status. */
  readonly status: number;
  /** Stable name of the problem; null if the response has no problem details. */
  readonly code: string | null;
  readonly detail: string;
  readonly errors: readonly InvalidInput[];
  /** The first field that is not valid. */
  readonly field: string | null;
  /** Seconds to wait before another call, if the API names them. */
  readonly retryAfter: number | null;
  /** The id of the call in the logs of otpqueue. */
  readonly requestId: string | null;
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
  readonly reason: string | null;
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
  readonly checksLeft: number;
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
  readonly limit: string | null;
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
