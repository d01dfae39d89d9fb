/**
 * A transport without a socket: a function from what is sent to a reply, in the place of a connection.
 *
 * It plays a connection's life, so that a pool can be tested on it: the first request of a slot "connects", `retire` and
 * a failure of the kind `Broken`, `Connect` or `ConnectTimeout` "disconnect", and so does an abort.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Cookies from "effect/http/Cookies"
import { isHttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import type { Control, Exchange, Failure, RawHeaders, Respond, Target, Transport } from "../Connector.ts"
import { TransportError } from "./transportError.ts"

/** A response, as a transport hands it to an exchange. */
export interface Reply {
  readonly status: number
  readonly headers: RawHeaders
  readonly body: Stream.Stream<Uint8Array, unknown>
}

/** May throw, and fail with a `TransportError` or anything else: that plays a connection that broke. */
export type Answering = (exchange: Exchange, target: Target) => Effect.Effect<Reply, unknown>

/** The answers of a plain function. */
export const answering =
  <E>(respond: Respond<E>): Answering =>
  (exchange, target) =>
    Effect.map(respond(requestOf(exchange, target), { slot: target.slot, origin: target.origin }), (response) => ({
      status: response.status,
      headers: rawHeaders(response),
      body: bodyOf(response)
    }))

export class FunctionTransport implements Transport {
  private readonly target: Target
  private readonly answer: Answering
  private connected = false
  private running: Fiber.Fiber<void> | undefined = undefined

  constructor(target: Target, answer: Answering) {
    this.target = target
    this.answer = answer
  }

  send(exchange: Exchange): void {
    this.running = Effect.runForkWith(exchange.services)(this.run(exchange))
  }

  cancel(): void {
    this.running?.interruptUnsafe()
  }

  retire(): void {
    this.disconnect("retired")
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const { running } = this
    return Effect.andThen(
      running === undefined ? Effect.void : Fiber.interrupt(running),
      Effect.sync(() => this.disconnect("closed"))
    )
  })

  classify(error: Error): Failure {
    return error instanceof TransportError ? error.failure : { _tag: "Broken", cause: error }
  }

  private run(exchange: Exchange): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.connected) {
        this.connected = true
        this.target.observer.connected({ address: undefined, millis: 0 })
      }
      const open = Latch.makeUnsafe(true)
      let aborted = false
      const control: Control = {
        abort: () => {
          aborted = true
          this.disconnect("aborted")
          this.cancel()
        },
        pause: () => open.closeUnsafe(),
        resume: () => open.openUnsafe()
      }
      exchange.onRequestStart(control)
      exchange.onRequestSent()
      // A function that throws is one that broke.
      return Effect.suspend(() => this.answer(exchange, this.target)).pipe(
        Effect.flatMap(({ body, headers, status }) => {
          exchange.onResponseStarted()
          exchange.onResponseStart(control, status, headers)
          return Stream.runForEachArray(body, (chunks) =>
            Effect.andThen(
              open.await,
              Effect.sync(() => chunks.forEach((chunk) => exchange.onResponseData(control, chunk)))
            )
          )
        }),
        Effect.exit,
        Effect.map((exit) => {
          // By then the connection may be that of another exchange.
          if (!aborted) this.finish(exchange, control, exit)
        })
      )
    })
  }

  private finish(exchange: Exchange, control: Control, exit: Exit.Exit<void, unknown>): void {
    if (Exit.isSuccess(exit)) {
      exchange.onResponseEnd(control)
      return
    }
    const error = errorOf(Cause.squash(exit.cause))
    const { _tag } = this.classify(error)
    if (_tag === "Broken" || _tag === "Connect" || _tag === "ConnectTimeout") this.disconnect("broken")
    exchange.onResponseError(control, error)
  }

  private disconnect(reason: string): void {
    if (!this.connected) return
    this.connected = false
    this.target.observer.disconnected(reason)
  }
}

const requestOf = (exchange: Exchange, target: Target): HttpClientRequest.HttpClientRequest => {
  const headers: Record<string, string> = {}
  for (let i = 0; i < exchange.headers.length; i += 2) headers[exchange.headers[i]!] = exchange.headers[i + 1]!
  return HttpClientRequest.empty.pipe(
    HttpClientRequest.setUrl(target.origin + exchange.path),
    (request) =>
      HttpClientRequest.makeWith(
        exchange.method,
        request.url,
        request.urlParams,
        request.hash,
        request.headers,
        exchange.body
      ),
    HttpClientRequest.setHeaders(headers)
  )
}

const rawHeaders = (response: HttpClientResponse): RawHeaders => {
  const cookies = Cookies.toSetCookieHeaders(response.cookies)
  // Headers have one value for each name; cookies do not fit into one.
  return cookies.length === 0 ? response.headers : { ...response.headers, "set-cookie": cookies }
}

/** A response made of `new Response(null)` has no stream to fail with. */
const bodyOf = (response: HttpClientResponse): Stream.Stream<Uint8Array, unknown> =>
  Stream.catchIf(
    response.stream,
    (error) => isHttpClientError(error) && error.reason._tag === "EmptyBodyError",
    () => Stream.empty
  )

const errorOf = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error), { cause: error }))
