/**
 * Everything a request through a pool can fail with, as one tagged union.
 *
 * Every member carries the `request` (method and URL, without credentials and without the values of query parameters
 * that look secret), the number of `attempts` that were begun (each has a slot), and a message that says what to do. The union
 * is closed: `Effect.catchTags` on it is exhaustive.
 *
 * `ConfigError` is not a member: it happens when a pool is built, not when a request is made.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as HttpClientError from "effect/http/HttpClientError"
import { type HttpClientRequest, makeWith } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import * as Redacted from "effect/Redacted"

const TypeId = "~@millrace/core/PoolError"

/**
 * What an error tells about its request. Never a header, a body or a credential.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestInfo {
  readonly method: string
  readonly url: string
}

interface Fields {
  readonly request: RequestInfo
  readonly attempts: number
}

/** Both are the caller's text, and the URL is as it came where it cannot be parsed: neither must forge a line of a log. */
const show = ({ method, url }: RequestInfo): string =>
  `${method.replaceAll(/[^\x21-\x7e]/g, "?")} ${url.replaceAll(/[\p{Cc}\u2028\u2029]/gu, "?")}`

/** @internal */
export const codeOf = (cause: unknown): string => {
  if (hasProperty(cause, "code") && typeof cause.code === "string") return cause.code
  return cause instanceof Error && cause.message !== "" ? cause.message : "unknown reason"
}

const after = (elapsed: Duration.Duration | undefined): string =>
  elapsed === undefined ? "" : ` after ${Math.round(Duration.toMillis(elapsed))} ms`

/**
 * Where a connection failed: while the name was resolved, the TCP connection or the TLS session was made, the proxy was
 * asked, the request was written, or the response was read.
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectPhase = "dns" | "tcp" | "tls" | "proxy" | "request" | "response"

/**
 * The connection could not be made, or broke.
 *
 * `sent` tells whether any byte of the request may have reached the server: when it is `false`, sending again is safe
 * whatever the method.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectError extends Data.TaggedError("ConnectError")<
  Fields & {
    readonly phase: ConnectPhase
    readonly sent: boolean
    readonly address?: string | undefined
    readonly elapsed?: Duration.Duration | undefined
    readonly cause?: unknown
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    const where = this.address === undefined ? "" : ` to ${this.address}`
    const what = this.phase === "request" || this.phase === "response" ? "Connection broke" : "Connection failed"
    return `${what}${where} (${this.phase}${after(this.elapsed)}): ${codeOf(this.cause)}. ${show(this.request)}: ${
      connectAdvice[this.phase]
    }`
  }
}

const connectAdvice: { readonly [K in ConnectPhase]: string } = {
  dns: "check the host name and the resolver",
  tcp: "check that the service listens there and that no firewall is between",
  tls: "check the certificate, the trusted CAs and `tls.servername`",
  proxy: "check the proxy's address and credentials",
  request: "the server closed the connection while the request was written; it may have been processed",
  response: "the server closed the connection before the response was complete; it may have been processed"
}

/**
 * The limit that ended a request.
 *
 * @category models
 * @since 0.1.0
 */
export type TimeoutPhase = "dial" | "tls" | "headers" | "bodyIdle" | "attempt" | "request"

const timeoutOption: { readonly [K in TimeoutPhase]: string } = {
  dial: "dialTimeout",
  tls: "tlsTimeout",
  headers: "responseHeaderTimeout",
  bodyIdle: "bodyIdleTimeout",
  attempt: "attemptTimeout",
  request: "requestTimeout"
}

/**
 * A time limit passed; `phase` names which, `timeout` is its length.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimeoutError extends Data.TaggedError("TimeoutError")<
  Fields & {
    readonly phase: TimeoutPhase
    readonly timeout: Duration.Duration
    /** How much of it the request waited for a slot; only with the phase `request`. */
    readonly waited?: Duration.Duration | undefined
    readonly address?: string | undefined
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    const where = this.address === undefined ? "" : ` to ${this.address}`
    const limit = Duration.toMillis(this.timeout)
    const waited = this.waited === undefined ? 0 : Math.round(Duration.toMillis(this.waited))
    if (waited * 2 >= limit) {
      return `${timeoutOption[this.phase]} of ${limit} ms passed, ${waited} ms of it without a slot. ${show(
        this.request
      )}: raise \`size\`, send less, or find out why answers are slow`
    }
    return `${timeoutOption[this.phase]} of ${limit} ms passed${where}. ${show(
      this.request
    )}: raise the limit or look at why the server is slow`
  }
}

/**
 * The server answered with a status that `failOnStatus` refuses. The response is unread and can still be read.
 *
 * @category errors
 * @since 0.1.0
 */
export class ResponseError extends Data.TaggedError("ResponseError")<
  Fields & {
    readonly response: HttpClientResponse
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    return `Status ${this.response.status}. ${show(this.request)}: \`response\` of this error holds the server's answer`
  }
  override toJSON(): unknown {
    return { _tag: this._tag, request: this.request, attempts: this.attempts, status: this.response.status }
  }
}

const exhaustedBy = {
  maxRetries: "`maxRetries` is used up",
  deadline: "the next attempt would begin after `requestTimeout`",
  schedule: "its schedule has ended"
}

/**
 * There is no further retry; `last` is what the last attempt ended with. `reason`: `maxRetries` is used up, the wait
 * before the next attempt would pass the deadline, or the schedule has ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class RetryExhausted extends Data.TaggedError("RetryExhausted")<
  Fields & {
    readonly last: PoolError
    readonly reason: keyof typeof exhaustedBy
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    const why = exhaustedBy[this.reason]
    return `Gave up after ${this.attempts} ${this.attempts === 1 ? "attempt" : "attempts"}: ${why}. Last: ${this.last.message}`
  }
}

/** What an error says when it is not the limit or the circuit that refuses. */
const storeUnavailable = (what: string, request: RequestInfo, retryAfter: Duration.Duration): string =>
  `The shared ${what} cannot be asked. ${show(request)}: its store does not answer; try again in ${Math.ceil(
    Duration.toMillis(retryAfter)
  )} ms, or let it fall back with \`onUnavailable: "local"\``

/**
 * The caller's own rate limit would be exceeded. With the reason `storeUnavailable` nobody knows: the limit is shared by
 * processes, and its store does not answer.
 *
 * @category errors
 * @since 0.1.0
 */
export class RateLimitExceeded extends Data.TaggedError("RateLimitExceeded")<
  Fields & {
    readonly retryAfter: Duration.Duration
    readonly reason?: "storeUnavailable" | undefined
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    if (this.reason !== undefined) return storeUnavailable("rate limit", this.request, this.retryAfter)
    const advice = Duration.isFinite(this.retryAfter)
      ? `try again in ${Duration.toMillis(this.retryAfter)} ms`
      : "it costs more than the limit ever allows; raise `limit` or `burst`"
    return `Rate limit reached. ${show(this.request)}: ${advice}`
  }
}

/**
 * The circuit breaker of the host is open. With the reason `storeUnavailable` nobody knows: the circuit is shared by
 * processes, and its store does not answer.
 *
 * @category errors
 * @since 0.1.0
 */
export class CircuitOpen extends Data.TaggedError("CircuitOpen")<
  Fields & {
    readonly retryAfter: Duration.Duration
    readonly reason?: "storeUnavailable" | undefined
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    if (this.reason !== undefined) return storeUnavailable("circuit breaker", this.request, this.retryAfter)
    const millis = Duration.toMillis(this.retryAfter)
    const why =
      millis === Infinity ? "it was isolated by hand" : `the host failed too often; next probe in ${millis} ms`
    return `Circuit is open. ${show(this.request)}: ${why}`
  }
}

const moreSlots = "raise `size`, send less, or find out why answers are slow"

const saturationAdvice = {
  maxWaiting: moreSlots,
  acquireTimeout: moreSlots,
  maxHosts: "raise `maxHosts`, or use a pool for each upstream",
  bulkhead: "raise the bulkhead's `maxConcurrent` or `maxWaiting`, or send less"
}

/**
 * There is no place for the request: the waiting line is full (`maxWaiting`), the request waited too long for a slot
 * (`acquireTimeout`), too many hosts are busy at once (`maxHosts`), or the bulkhead and its line are full (`bulkhead`).
 *
 * @category errors
 * @since 0.1.0
 */
export class PoolSaturated extends Data.TaggedError("PoolSaturated")<
  Fields & {
    readonly reason: keyof typeof saturationAdvice
    readonly limit: number
    readonly waiting: number
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    const limit = this.reason === "acquireTimeout" ? `${this.limit} ms` : String(this.limit)
    const advice = saturationAdvice[this.reason]
    return `No slot: ${this.reason} of ${limit} reached with ${this.waiting} requests waiting. ${show(this.request)}: ${advice}`
  }
}

/**
 * The pool's scope is closed or closing.
 *
 * @category errors
 * @since 0.1.0
 */
export class PoolClosed extends Data.TaggedError("PoolClosed")<Fields> {
  readonly [TypeId] = TypeId
  override get message(): string {
    return `The pool is closed. ${show(this.request)}: the scope that owns the pool has ended; make the request inside it`
  }
}

/**
 * Credentials could not be had, or were refused.
 *
 * @category errors
 * @since 0.1.0
 */
export class AuthError extends Data.TaggedError("AuthError")<
  Fields & {
    readonly reason: string
    readonly cause?: unknown
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    return `Authentication failed: ${this.reason}. ${show(this.request)}`
  }
}

/**
 * The server's answer cannot be understood: malformed or oversized headers, a body that contradicts its length, a
 * compressed body that is damaged or expands beyond `maxDecompressedSize`, text that is not JSON.
 *
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Data.TaggedError("DecodeError")<
  Fields & {
    readonly reason: string
    readonly cause?: unknown
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    return `The response cannot be decoded: ${this.reason}. ${show(this.request)}`
  }
}

/**
 * The request cannot be sent as it is: a relative URL without `baseUrl`, a path that climbs above the base, a header
 * that HTTP does not allow, a body stream that failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRequest extends Data.TaggedError("InvalidRequest")<
  Fields & {
    readonly reason: string
    readonly cause?: unknown
  }
> {
  readonly [TypeId] = TypeId
  override get message(): string {
    return `The request cannot be sent: ${this.reason}. ${show(this.request)}`
  }
}

/**
 * All that a request can fail with.
 *
 * @category errors
 * @since 0.1.0
 */
export type PoolError =
  | ConnectError
  | TimeoutError
  | ResponseError
  | RetryExhausted
  | RateLimitExceeded
  | CircuitOpen
  | PoolSaturated
  | PoolClosed
  | AuthError
  | DecodeError
  | InvalidRequest

/**
 * Tells whether a value is a `PoolError`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isPoolError = (u: unknown): u is PoolError => hasProperty(u, TypeId)

/**
 * Query parameters whose values are secret more often than not, beside those that Effect redacts.
 *
 * @internal
 */
export const secretNames =
  /token|secret|passw|pwd|api[-_]?key|access[-_]?key|private[-_]?key|^key$|credential|signature|^sig$|^auth|jwt|session|^code$|assertion/i

/**
 * The request as an error may show it: user info, secret-looking query values, and those that are `Redacted` in `params`
 * are replaced.
 *
 * @category constructors
 * @since 0.1.0
 */
export const requestInfo = (method: string, url: string, params?: UrlParams.UrlParams | undefined): RequestInfo => {
  const redacted = params?.params.filter(([, value]) => Redacted.isRedacted(value)).map(([name]) => name) ?? []
  return { method, url: UrlParams.redactUrl(UrlParams.redactUrl(url), [secretNames, ...redacted]) }
}

/** An `HttpClientError` shows the URL of its request. */
const withoutSecrets = (request: HttpClientRequest): HttpClientRequest => {
  const { url } = requestInfo(request.method, request.url)
  return url === request.url
    ? request
    : makeWith(request.method, url, request.urlParams, request.hash, request.headers, request.body)
}

/**
 * Folds a `PoolError` into the error that every Effect library expects of an `HttpClient`. The `PoolError` is its cause.
 *
 * @see {@link fromHttpClientError} for the way back
 * @category conversions
 * @since 0.1.0
 */
export const toHttpClientError = (
  error: PoolError,
  sent: HttpClientRequest,
  response?: HttpClientResponse | undefined
): HttpClientError.HttpClientError => {
  const description = error.message
  const request = withoutSecrets(sent)
  switch (error._tag) {
    case "ResponseError":
      return new HttpClientError.HttpClientError({
        reason: new HttpClientError.StatusCodeError({ request, response: error.response, cause: error, description })
      })
    case "InvalidRequest":
      return new HttpClientError.HttpClientError({
        reason: new HttpClientError.InvalidUrlError({ request, cause: error, description })
      })
    case "DecodeError":
      if (response !== undefined) {
        return new HttpClientError.HttpClientError({
          reason: new HttpClientError.DecodeError({ request, response, cause: error, description })
        })
      }
  }
  return new HttpClientError.HttpClientError({
    reason: new HttpClientError.TransportError({ request, cause: error, description })
  })
}

/**
 * Gets the `PoolError` back out of an `HttpClientError` that a pool made: when a body was read, or behind
 * `Pool.layerHttpClient`.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromHttpClientError = (error: HttpClientError.HttpClientError): Option.Option<PoolError> =>
  isPoolError(error.cause) ? Option.some(error.cause) : Option.none()

/**
 * The `PoolError` that an error of unknown kind is, or that it was folded from.
 *
 * @category conversions
 * @since 0.1.0
 */
export const find = (error: unknown): PoolError | undefined => {
  if (isPoolError(error)) return error
  return HttpClientError.isHttpClientError(error) && isPoolError(error.cause) ? error.cause : undefined
}
