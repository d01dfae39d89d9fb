/**
 * Functions around every request of a client: to change it, to look at its response, to recover from its failure.
 *
 * ```
 *             list[0]        list[1]
 * request ──► request ─────► request ─────► retry, limits, the wire
 *                                                      │
 * caller  ◄── response ◄──── response ◄───── response ─┤
 *         ◄── error    ◄──── error    ◄───── failure ──┘
 * ```
 *
 * What it promises:
 *
 * - Requests pass the list in its order, responses and failures in reverse: the first of the list is the outermost.
 * - They run once for a call, outside of retries and hedges, however many attempts there are.
 * - A middleware sees what comes from further inside: what its own `request` or `response` fails with goes to the
 *   `error` of those outside of it. An `error` that recovers with a response gives it to the `response` of those.
 * - A response is not lost: when a `response` fails, dies or is interrupted, what it was given is discarded.
 * - Interruption and defects pass by: no middleware can catch them.
 * - An empty list costs nothing.
 *
 * The ready ones never show a body, nor a secret: `logging`, `metrics`, `idempotencyKey`, `headers`, `userAgent`.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import { find, type PoolError } from "../model/PoolError.ts"
import { run } from "./internal/onion.ts"
import { kindOf, showError, showHeaders, showRequest } from "./internal/redact.ts"

/**
 * A middleware; it has what it needs of the three. `E` is what it may fail with of its own: for a pool a `PoolError`,
 * the default, so that its users still know all that can happen.
 *
 * `error` gets whatever failed, and answers with a response, with that same error, or with one of its own. Which errors
 * there are is not its choice: `PoolError.isPoolError` and `PoolError.find` tell.
 *
 * ```ts
 * import { type Middleware, PoolError } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpClientRequest, HttpClientResponse } from "effect/http"
 *
 * const tenant: Middleware.Middleware = {
 *   name: "tenant",
 *   request: (request) => Effect.succeed(HttpClientRequest.setHeader(request, "x-tenant", "blue"))
 * }
 *
 * const emptyWhenOpen: Middleware.Middleware = {
 *   error: (error, request) =>
 *     PoolError.isPoolError(error) && error._tag === "CircuitOpen"
 *       ? Effect.succeed(HttpClientResponse.fromWeb(request, new Response("[]")))
 *       : Effect.fail(error)
 * }
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Middleware<out E = PoolError> {
  /** For people. */
  readonly name?: string | undefined
  /** The request as it came; answers the one to send. */
  readonly request?:
    | ((
        request: HttpClientRequest.HttpClientRequest,
        call: Call
      ) => Effect.Effect<HttpClientRequest.HttpClientRequest, E>)
    | undefined
  /** The response from inside, and the request as this middleware sent it on. */
  readonly response?:
    | ((
        response: HttpClientResponse,
        request: HttpClientRequest.HttpClientRequest,
        call: Call
      ) => Effect.Effect<HttpClientResponse, E>)
    | undefined
  /** The failure from inside. Where it does not pass on an error that holds a response, that is its to discard. */
  readonly error?:
    | (<E1>(
        error: E1,
        request: HttpClientRequest.HttpClientRequest,
        call: Call
      ) => Effect.Effect<HttpClientResponse, E | E1>)
    | undefined
}

/**
 * One call, the same object for all middleware and from its begin to its end: what belongs to a call may be kept by it,
 * in a `WeakMap` say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  /** Milliseconds since it came to the outermost middleware. */
  readonly elapsed: number
}

/**
 * Puts middleware around any client, the first of the list outermost. A pool has an option for it.
 *
 * ```ts
 * import { Middleware } from "@millrace/core"
 * import { HttpClient } from "effect/http"
 *
 * const around = Middleware.wrap([Middleware.logging(), Middleware.userAgent("billing/1.0")])
 * const program = (client: HttpClient.HttpClient) => around(client).get("https://api.test/users/1")
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const wrap =
  <E>(list: ReadonlyArray<Middleware<E>>) =>
  <E1, R>(client: HttpClient.HttpClient.With<E1, R>): HttpClient.HttpClient.With<E | E1, R> =>
    HttpClient.makeWith<E1, R, E | E1, R>(
      Effect.flatMap(run(list, (request) => client.postprocess(Effect.succeed(request)))),
      client.preprocess
    )

// -----------------------------------------------------------------------------
// Ready ones
// -----------------------------------------------------------------------------

/**
 * What is logged, how loud, and what else is secret.
 *
 * @category models
 * @since 0.1.0
 */
export interface LoggingOptions {
  /** Below 400. Default: `Debug`. `None` logs nothing, here and below. */
  readonly success?: LogLevel.Severity | "None" | undefined
  /** 400 to 499. Default: `Warn`. */
  readonly clientError?: LogLevel.Severity | "None" | undefined
  /** From 500 on. Default: `Error`. */
  readonly serverError?: LogLevel.Severity | "None" | undefined
  /** No response. Default: `Error`. */
  readonly failure?: LogLevel.Severity | "None" | undefined
  /** Whether headers are logged, without the values of secret ones. Default: `false`. */
  readonly headers?: boolean | undefined
  /**
   * Headers and query parameters whose values are secret too: names, whatever their case, or patterns. Never shown are
   * `authorization`, `cookie`, `set-cookie`, `x-api-key`, `proxy-authorization`, and what looks like a secret by its name.
   */
  readonly redact?: ReadonlyArray<string | RegExp> | undefined
}

/**
 * Logs every call at its end, with Effect's logger: a line for people, and annotations `http.request.method`, `url.full`,
 * `http.response.status_code`, `error.type` (OpenTelemetry's names), `attempts` (of a failure), `durationMs` (to the head of the
 * response).
 *
 * An interrupted call has no end of its own: it is not logged. Of an error that is no `PoolError` only the kind is
 * logged, since its message may quote what is secret.
 *
 * @category constructors
 * @since 0.1.0
 */
export const logging = (options: LoggingOptions = {}): Middleware<never> => {
  const { clientError = "Warn", failure = "Error", headers = false, redact = [], serverError = "Error" } = options
  const { success = "Debug" } = options

  const log = (
    level: LogLevel.Severity | "None",
    request: HttpClientRequest.HttpClientRequest,
    call: Call,
    end: () => { readonly text: string; readonly annotations: Record<string, unknown> }
  ): Effect.Effect<void> => {
    if (level === "None") return Effect.void
    return Effect.flatMap(LogLevel.isEnabled(level), (enabled) => {
      if (!enabled) return Effect.void
      const { method, url } = showRequest(request, redact)
      const durationMs = Math.round(call.elapsed * 1000) / 1000
      const { annotations, text } = end()
      return Effect.logWithLevel(level)(`${method} ${url} ${text} in ${Math.round(durationMs)} ms`).pipe(
        Effect.annotateLogs({
          "http.request.method": method,
          "url.full": url,
          ...annotations,
          ...(headers ? { "http.request.headers": showHeaders(request.headers, redact) } : {}),
          durationMs
        })
      )
    })
  }

  return {
    name: "logging",
    response: (response, request, call) => {
      const { status } = response
      const level = status < 400 ? success : status < 500 ? clientError : serverError
      return Effect.as(
        log(level, request, call, () => ({
          text: `-> ${status}`,
          annotations: {
            "http.response.status_code": status,
            ...(headers ? { "http.response.headers": showHeaders(response.headers, redact) } : {})
          }
        })),
        response
      )
    },
    error: (error, request, call) =>
      Effect.andThen(
        log(failure, request, call, () => {
          const attempts = find(error)?.attempts
          return {
            text: `failed: ${showError(error, redact)}`,
            annotations: { "error.type": kindOf(error), ...(attempts === undefined ? {} : { attempts }) }
          }
        }),
        Effect.fail(error)
      )
  }
}

/**
 * How a key is made, and for what.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdempotencyKeyOptions {
  /** Makes a key; must never make the same one twice. Default: a random UUID (version 4) of the platform's `crypto`. */
  readonly generate?: Effect.Effect<string> | undefined
  /** Default: `POST` and `PATCH`. */
  readonly methods?: ReadonlyArray<string> | undefined
}

const uuid = Effect.sync(() => globalThis.crypto.randomUUID())

/**
 * Gives each `POST` and `PATCH` that has none an `Idempotency-Key`: one for the call, the same for all its attempts, so
 * that the server can tell a retry from a second order. With it they may be retried: give it only to servers that heed it.
 *
 * The header is that of draft-ietf-httpapi-idempotency-key-header, its value without quotes, as servers read it today.
 * Browsers have `crypto.randomUUID` on secure pages only: give a `generate` elsewhere.
 *
 * @category constructors
 * @since 0.1.0
 */
export const idempotencyKey = (options: IdempotencyKeyOptions = {}): Middleware<never> => {
  const { generate = uuid, methods = ["POST", "PATCH"] } = options
  return {
    name: "idempotencyKey",
    request: (request) =>
      methods.includes(request.method) && request.headers["idempotency-key"] === undefined
        ? Effect.map(generate, (key) => HttpClientRequest.setHeader(request, "idempotency-key", key))
        : Effect.succeed(request)
  }
}

/**
 * Sends these headers, unless the request has its own. For what is always the same a pool's `headers` do it cheaper.
 *
 * @category constructors
 * @since 0.1.0
 */
export const headers = (input: Headers.Input): Middleware<never> => {
  const defaults = Headers.fromInput(input)
  return {
    name: "headers",
    request: (request) =>
      Effect.succeed(HttpClientRequest.setHeaders(request, Headers.merge(defaults, request.headers)))
  }
}

/**
 * Sends this `User-Agent`, unless the request has its own.
 *
 * @category constructors
 * @since 0.1.0
 */
export const userAgent = (value: string): Middleware<never> => ({
  ...headers({ "user-agent": value }),
  name: "userAgent"
})

/**
 * What the metrics are called, and what marks them.
 *
 * @category models
 * @since 0.1.0
 */
export interface MetricsOptions {
  /** Comes before `.calls` and `.duration`. Default: `http.client`. */
  readonly name?: string | undefined
  /** Added to each: the upstream's name say. Few different values, as each is a series of its own. */
  readonly attributes?: Readonly<Record<string, string>> | undefined
}

const methods: ReadonlySet<string> = new Set([
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "TRACE",
  "QUERY"
])

/**
 * Two of Effect's metrics: a counter of calls that ended, and a timer (milliseconds, to the head of the response). Attributes:
 * `method` (`_OTHER` for one that is not common) and `outcome`: `2xx` and so on, or the kind of the error.
 *
 * For clients that are no pool, or names of one's own: a pool has metrics by itself. Interrupted calls do not count.
 *
 * @category constructors
 * @since 0.1.0
 */
export const metrics = (options: MetricsOptions = {}): Middleware<never> => {
  const { attributes = {}, name = "http.client" } = options
  const calls = Metric.counter(`${name}.calls`, { incremental: true, description: "Calls that ended" })
  const duration = Metric.timer(`${name}.duration`, { description: "Time to the response" })
  // Attributes are dear: each series is made once.
  const series = new Map<string, readonly [typeof calls, typeof duration]>()

  const record = (request: HttpClientRequest.HttpClientRequest, outcome: string, call: Call): Effect.Effect<void> => {
    const method = methods.has(request.method) ? request.method : "_OTHER"
    const key = `${method} ${outcome}`
    let pair = series.get(key)
    if (pair === undefined) {
      const all = { ...attributes, method, outcome }
      pair = [Metric.withAttributes(calls, all), Metric.withAttributes(duration, all)]
      series.set(key, pair)
    }
    return Effect.andThen(Metric.update(pair[0], 1), Metric.update(pair[1], Duration.millis(call.elapsed)))
  }

  return {
    name: "metrics",
    response: (response, request, call) =>
      Effect.as(record(request, `${Math.floor(response.status / 100)}xx`, call), response),
    error: (error, request, call) => Effect.andThen(record(request, kindOf(error), call), Effect.fail(error))
  }
}
