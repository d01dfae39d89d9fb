/**
 * A span for a request, by OpenTelemetry's conventions for HTTP clients (stable since 1.23), and the trace context that the
 * server goes on with.
 *
 * The span is the caller's whole request, all its attempts included: it begins before the first and ends when the
 * response's head is here, or with the error. It is left as an error by a failure and by a status of 400 and above, though
 * such a response is no failure of the effect. What the body does later is not in it.
 *
 * What it never does: it shows no credential (user info and secret-looking query values are replaced) and no header, and
 * it makes nothing when tracing is off: `References.TracerEnabled`, `Tracer.DisablePropagation` and
 * `HttpClient.TracerDisabledWhen` count as they do for Effect's own clients.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Tracer from "effect/Tracer"
import { type PoolError, requestInfo } from "../model/PoolError.ts"
import { methodName } from "./internal/method.ts"
import { type Server, serverOf } from "./internal/server.ts"

/**
 * What all spans to one origin have in common: made once, kept by whoever keeps the host.
 *
 * @category models
 * @since 0.1.0
 */
export interface Origin extends Server {
  readonly url: string
}

/**
 * Prepares the attributes of an origin, `https://api.test:8443` say.
 *
 * @category constructors
 * @since 0.1.0
 */
export const origin = (url: string): Origin => ({ url, ...serverOf(url) })

/**
 * Where a request goes: its origin, and its path with the query.
 *
 * @category models
 * @since 0.1.0
 */
export interface Target {
  readonly origin: Origin
  readonly path: string
}

/**
 * Whether a request gets a span: `true` always; `"auto"` only where somebody can see it, that is when a tracer is installed
 * or the request is made inside a span; `false` never.
 *
 * @category models
 * @since 0.1.0
 */
export type Mode = boolean | "auto"

/**
 * How requests become spans.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Where a request goes; a request without a target, as it is not valid, gets no span. */
  readonly target: (request: HttpClientRequest.HttpClientRequest) => Target | undefined
  /** Default `"auto"`. */
  readonly spans?: Mode | undefined
  /**
   * What stands for the path in the span's name, `/users/{id}` say: there must be few. Default none: the name is the
   * method, as a path can be anything.
   */
  readonly template?: ((request: HttpClientRequest.HttpClientRequest) => string | undefined) | undefined
}

type AnyFiber = Fiber.Fiber<unknown, unknown>

type Request = HttpClientRequest.HttpClientRequest

/**
 * Requests with a span around each. `execute` gets the request with the trace context in its headers, and the span, if
 * there is one, to add `http.request.resend_count` and the like.
 *
 * ```ts
 * import { ClientSpan } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpClient, type HttpClientRequest, type HttpClientResponse } from "effect/http"
 * import type { PoolError } from "@millrace/core/model/PoolError"
 *
 * const api = ClientSpan.origin("https://api.test")
 *
 * export const around = (
 *   execute: (
 *     request: HttpClientRequest.HttpClientRequest
 *   ) => Effect.Effect<HttpClientResponse.HttpClientResponse, PoolError>
 * ) => ClientSpan.traced(execute, { target: (request) => ({ origin: api, path: request.url }) })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const traced =
  <R = never>(
    execute: (request: Request, span: Tracer.Span | undefined) => Effect.Effect<HttpClientResponse, PoolError, R>,
    options: Options
  ): ((request: Request) => Effect.Effect<HttpClientResponse, PoolError, R>) =>
  (request) =>
    Effect.withFiber((fiber: AnyFiber) => {
      const mode = options.spans ?? "auto"
      const target = isOn(fiber, mode, request) ? options.target(request) : undefined
      if (target === undefined) return execute(request, undefined)
      const span = begin(fiber, request, target, options.template?.(request))
      return Effect.onExit(execute(propagate(fiber, request, span), span), (exit) => {
        end(fiber, span, exit)
        return Effect.void
      })
    })

/**
 * Whether a request of this fiber gets a span. For executors that do without `traced`.
 *
 * @category unsafe
 * @since 0.1.0
 */
export const isOn = (fiber: AnyFiber, mode: Mode, request: Request): boolean => {
  const { span, tracer, tracerEnabled } = fiber.cache
  if (!tracerEnabled || mode === false) return false
  if (mode === "auto" && tracer === undefined && span === undefined) return false
  return !fiber.getRef(Tracer.DisablePropagation) && !fiber.getRef(HttpClient.TracerDisabledWhen)(request)
}

/**
 * Begins the span of a request, below the fiber's own. Must be ended by `end`.
 *
 * @category unsafe
 * @since 0.1.0
 */
export const begin = (
  fiber: AnyFiber,
  request: Request,
  target: Target,
  template?: string | undefined
): Tracer.Span => {
  const parent = visible(fiber.cache.span)
  const links = fiber.getRef(References.TracerSpanLinks)
  const span = (fiber.cache.tracer ?? Tracer.nativeTracer).span({
    name: nameOf(fiber, request, template),
    parent,
    annotations: Context.empty(),
    links: links.slice(),
    startTime: now(fiber),
    kind: "client",
    root: false,
    sampled:
      Option.isSome(parent) && !parent.value.sampled
        ? false
        : !LogLevel.isGreaterThan(
            fiber.getRef(References.MinimumTraceLevel),
            fiber.getRef(References.CurrentTraceLevel)
          )
  })
  const annotations = fiber.getRef(References.TracerSpanAnnotations)
  for (const key in annotations) span.attribute(key, annotations[key])
  const method = methodName(request.method)
  span.attribute("http.request.method", method)
  if (method !== request.method) span.attribute("http.request.method_original", request.method)
  span.attribute("server.address", target.origin.address)
  span.attribute("server.port", target.origin.port)
  span.attribute("url.scheme", target.origin.scheme)
  span.attribute("url.full", urlOf(request, target))
  if (template !== undefined) span.attribute("url.template", template)
  return span
}

/**
 * The request with the headers by which the server's span becomes a child: `traceparent` (W3C) and `b3`, as Effect's
 * clients send and its servers read them; as it was while `HttpClient.TracerPropagationEnabled` is off.
 *
 * @category unsafe
 * @since 0.1.0
 */
export const propagate = (fiber: AnyFiber, request: Request, span: Tracer.Span): Request =>
  fiber.getRef(HttpClient.TracerPropagationEnabled)
    ? HttpClientRequest.makeWith(
        request.method,
        request.url,
        request.urlParams,
        request.hash,
        Headers.fromRecordUnsafe({ ...request.headers, ...traceContext(span) }),
        request.body
      )
    : request

/**
 * The values of these headers, as `HttpTraceContext.toHeaders` has them: for executors that write headers themselves, as to
 * make a new request costs as much as the span.
 *
 * @category unsafe
 * @since 0.1.0
 */
export const traceContext = (span: Tracer.Span): { readonly b3: string; readonly traceparent: string } => {
  const { spanId, traceId } = span
  const above = Option.isSome(span.parent) ? `-${span.parent.value.spanId}` : ""
  return {
    b3: `${traceId}-${spanId}-${span.sampled ? "1" : "0"}${above}`,
    traceparent: `00-${traceId.padStart(32, "0")}-${spanId}-${span.sampled ? "01" : "00"}`
  }
}

/**
 * Ends the span of a request with what became of it. `resends` is how often it was sent again; default: what a failure
 * tells.
 *
 * @category unsafe
 * @since 0.1.0
 */
export const end = (
  fiber: AnyFiber,
  span: Tracer.Span,
  exit: Exit.Exit<HttpClientResponse, PoolError>,
  resends = 0
): void => {
  if (Exit.isSuccess(exit)) {
    const { status } = exit.value
    span.attribute("http.response.status_code", status)
    if (resends > 0) span.attribute("http.request.resend_count", resends)
    if (status < 400) {
      span.end(now(fiber), Exit.void)
      return
    }
    span.attribute("error.type", String(status))
    span.end(now(fiber), statusExit(status))
    return
  }
  const found = Cause.findError(exit.cause)
  const error = Result.isSuccess(found) ? found.success : undefined
  const sentAgain = resends > 0 ? resends : error === undefined ? 0 : Math.max(0, error.attempts - 1)
  if (sentAgain > 0) span.attribute("http.request.resend_count", sentAgain)
  const status = error === undefined ? undefined : statusOf(error)
  if (status !== undefined) span.attribute("http.response.status_code", status)
  span.attribute("error.type", error === undefined ? unexpected(exit.cause) : errorType(error))
  span.end(now(fiber), exit)
}

/**
 * What an error is called in the attribute `error.type` of spans and metrics: the status that was refused, or its tag; of
 * `RetryExhausted` that of the last attempt.
 *
 * @category formatting
 * @since 0.1.0
 */
export const errorType = (error: PoolError): string => {
  const last = lastOf(error)
  return last._tag === "ResponseError" ? String(last.response.status) : last._tag
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const lastOf = (error: PoolError): PoolError => (error._tag === "RetryExhausted" ? lastOf(error.last) : error)

const statusOf = (error: PoolError): number | undefined => {
  const last = lastOf(error)
  return last._tag === "ResponseError" ? last.response.status : undefined
}

const unexpected = (cause: Cause.Cause<unknown>): string => (Cause.hasInterruptsOnly(cause) ? "Interrupted" : "Defect")

const now = (fiber: AnyFiber): bigint =>
  fiber.getRef(References.TracerTimingEnabled) ? fiber.getRef(Clock.Clock).currentTimeNanosUnsafe() : 0n

/** The span that others may see: those that Effect made to be skipped are. */
const visible = (span: Tracer.AnySpan | undefined): Option.Option<Tracer.AnySpan> => {
  if (span === undefined) return Option.none()
  if (!Context.get(span.annotations, Tracer.DisablePropagation)) return Option.some(span)
  return span._tag === "Span" ? visible(Option.getOrUndefined(span.parent)) : Option.none()
}

const nameOf = (fiber: AnyFiber, request: Request, template: string | undefined): string => {
  const given = fiber.getRef(HttpClient.SpanNameGenerator)(request)
  // By default it gives the method.
  if (given !== request.method) return given
  const method = methodName(given) === given ? given : "HTTP"
  return template === undefined ? method : `${method} ${template}`
}

const secretPlaces = /[?#@]/

const urlOf = (request: Request, { origin, path }: Target): string => {
  const url = origin.url + path
  return secretPlaces.test(url) ? requestInfo(request.method, url, request.urlParams).url : url
}

/** A status is an error to a tracer only in an exit that failed; one for each, as its stack would say nothing. */
const statusExits = new Map<number, Exit.Exit<never, Error>>()

const statusExit = (status: number): Exit.Exit<never, Error> => {
  const known = statusExits.get(status)
  if (known !== undefined) return known
  const error = new Error(`Status ${status}`)
  error.name = "StatusError"
  error.stack = `StatusError: Status ${status}`
  const exit = Exit.fail(error)
  statusExits.set(status, exit)
  return exit
}
