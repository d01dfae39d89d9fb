/**
 * The two lanes of a pool's client.
 *
 * `execute`, and with it every verb, takes the fast lane: straight to an exchange. A client that a caller has
 * transformed (`withScope`, `followRedirects`, `transform`, `mapRequest`…) no longer has that `execute`; it goes through
 * `preprocess` and `postprocess`, which lead to `HttpClient.make` over the same exchanges, for only that knows the
 * signal by which `withScope` aborts.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Option from "effect/Option"
import { fromHttpClientError, type PoolError, secretNames, toHttpClientError } from "../../model/PoolError.ts"
import * as ClientSpan from "../../observe/ClientSpan.ts"
import { run as withMiddleware } from "../../policy/internal/onion.ts"
import * as BaseUrl from "./baseUrl.ts"
import { invalid } from "./failures.ts"
import type { Trace } from "./call.ts"
import type { PoolState } from "./state.ts"

/** Any slot. */
export const anySlot = -1

type Run = (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<HttpClientResponse, PoolError>

/** The fast lane. */
export const execute = (state: PoolState, slot: number, streaming: boolean): Run => {
  const { middleware, observe } = state.config
  const send = (
    request: HttpClientRequest.HttpClientRequest,
    services: Context.Context<never>,
    trace: Trace | undefined
  ) =>
    Effect.callback<HttpClientResponse, PoolError>((resume) => {
      const running = state.begin(request, services, resume, slot, streaming, trace)
      if (running instanceof Error) {
        resume(Effect.fail(running))
        return
      }
      return Effect.sync(() => running.interrupt())
    })
  // Only a streamed body runs effects, which need the caller's services.
  const bare = (request: HttpClientRequest.HttpClientRequest, trace: Trace | undefined) =>
    request.body._tag === "Stream"
      ? Effect.withFiber((fiber) => send(request, fiber.context, trace))
      : send(request, state.services, trace)
  const untraced = withMiddleware(middleware, (request) => bare(request, undefined))
  if (observe.spans === false) return untraced

  const traced = (request: HttpClientRequest.HttpClientRequest, trace: Trace) =>
    middleware.length === 0
      ? bare(request, trace)
      : Effect.withParentSpan(withMiddleware(middleware, (sent) => bare(sent, trace))(request), trace.span, {
          captureStackTrace: false
        })
  return (request) =>
    Effect.withFiber((fiber) => {
      const target = ClientSpan.isOn(fiber, observe.spans, request) ? state.target(request) : undefined
      if (target === undefined) return untraced(request)
      const trace = beginTrace(fiber, request, target)
      return Effect.onExit(traced(request, trace), (exit) => {
        ClientSpan.end(fiber, trace.span, exit)
        return Effect.void
      })
    })
}

const beginTrace = (
  fiber: Fiber.Fiber<unknown, unknown>,
  request: HttpClientRequest.HttpClientRequest,
  target: ClientSpan.Target
): Trace => {
  const span = ClientSpan.begin(fiber, request, target)
  if (!fiber.getRef(HttpClient.TracerPropagationEnabled)) return { span, headers: [] }
  const { b3, traceparent } = ClientSpan.traceContext(span)
  return { span, headers: ["b3", b3, "traceparent", traceparent] }
}

export const make = (state: PoolState, slot: number): HttpClient.HttpClient.With<PoolError> => {
  const slow = HttpClient.makeWith<PoolError, never, PoolError, never>(
    Effect.flatMap(transformable(state, slot)),
    (request) => absolute(state, request)
  )
  return Object.assign(slow, { execute: execute(state, slot, false) })
}

/** The same client with the errors that Effect's libraries expect. */
export const makeFolded = (state: PoolState): HttpClient.HttpClient => {
  const run = execute(state, anySlot, false)
  const transformed = transformable(state, anySlot)
  const slow = HttpClient.makeWith<HttpClientError, never, HttpClientError, never>(
    Effect.flatMap((request) => Effect.mapError(transformed(request), (error) => toHttpClientError(error, request))),
    (request) => Effect.mapError(absolute(state, request), (error) => toHttpClientError(error, request))
  )
  return Object.assign(slow, {
    execute: (request: HttpClientRequest.HttpClientRequest) =>
      Effect.mapError(run(request), (error) => toHttpClientError(error, request))
  })
}

const transformable = (state: PoolState, slot: number): Run => {
  const transport = HttpClient.make((request, _url, signal, fiber) =>
    Effect.callback<HttpClientResponse, PoolError>((resume) => {
      const services = request.body._tag === "Stream" ? fiber.context : state.services
      const call = state.beginCall(request, services, resume, slot)
      if (call instanceof Error) {
        resume(Effect.fail(call))
        return
      }
      const onAbort = () => call.abort(invalid(request, "its signal was aborted"))
      if (call.running) {
        signal.addEventListener("abort", onAbort, { once: true })
        call.onDone = () => signal.removeEventListener("abort", onAbort)
      }
      return Effect.sync(() => call.interrupt())
    }).pipe(Effect.mapError((error) => toHttpClientError(error, request)))
  )
  const { middleware, observe } = state.config
  return withMiddleware(middleware, (request) =>
    Effect.withFiber((fiber) => {
      const run = Effect.mapError(transport.execute(request), (error) => unfold(error, request))
      // This lane's spans are Effect's own; they must hide as much as the pool's.
      return ClientSpan.isOn(fiber, observe.spans, request)
        ? Effect.updateService(run, UrlParams.CurrentRedactedNames, (known) => [...known, secretNames])
        : Effect.provideService(run, HttpClient.TracerDisabledWhen, () => true)
    })
  )
}

/** What a transformed client sees must be absolute: `HttpClient.make` parses it, redirects are resolved against it. */
const absolute = (
  state: PoolState,
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<HttpClientRequest.HttpClientRequest, PoolError> => {
  // The parameters stay apart: in the URL, those that are `Redacted` would no longer be known for it.
  const { body, hash, headers, method, url, urlParams } = request
  const target = BaseUrl.resolve(
    state.base,
    HttpClientRequest.makeWith(method, url, UrlParams.empty, hash, headers, body)
  )
  return target.origin === undefined
    ? Effect.fail(invalid(request, target.reason))
    : Effect.succeed(HttpClientRequest.makeWith(method, target.origin + target.path, urlParams, hash, headers, body))
}

const unfold = (error: HttpClientError, request: HttpClientRequest.HttpClientRequest): PoolError =>
  Option.getOrElse(fromHttpClientError(error), () =>
    invalid(
      request,
      "its URL cannot be parsed after `mapRequest`; use `mapRequestInput` to change a relative path",
      error
    )
  )
