/**
 * Server-Sent Events as a typed stream that takes itself up where it broke (WHATWG HTML 9.2).
 *
 * What it promises:
 *
 * - Events come out in the order and form of the standard, however the bytes are cut; what an ended connection left
 *   incomplete is dropped.
 * - Once a stream has begun, an end or a break of its connection is followed by a new one that says `Last-Event-ID`,
 *   after the server's last `retry` or `reconnectDelay`, doubled for every new connection that brought no event.
 * - Nothing is sent again that is not safe to send again: POST and PATCH reconnect only when told to.
 * - The connection is read as fast as events are taken; one event holds at most `maxEventSize` characters.
 * - Whoever leaves the stream frees its slot at once; no timer stays.
 *
 * What it never does: it does not retry the first connection (the pool's retry policy does), it does not reconnect after
 * 4xx, after an answer that is no event stream, or after 204, by which a server says that there is nothing more.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import {
  ConnectError,
  DecodeError,
  find,
  InvalidRequest,
  type PoolError,
  requestInfo,
  ResponseError
} from "../model/PoolError.ts"
import { abort, drain } from "../policy/internal/discard.ts"
import { parseRetryAfter } from "../policy/internal/retryAfter.ts"
import { EventParser } from "./internal/eventParser.ts"
import { fields, type Resolved, resolve, rules } from "./internal/eventStreamOptions.ts"

/**
 * One event. `event` is `message` when the server named none; `id` is the last one that the server gave, in this event or
 * before it, and empty when it gave none.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event<out A = string> {
  readonly event: string
  readonly data: A
  readonly id: string
}

/**
 * What sends the requests: a pool, or anything with a client.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source<R = never> {
  readonly client: HttpClient.HttpClient.With<PoolError, R>
}

/**
 * How a stream is read and taken up again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Whether a stream whose connection ended or broke is taken up by a new one. Default: true for GET and QUERY, which
   * are safe and say what they want again; false for every other method.
   */
  readonly reconnect?: boolean | undefined
  /** The wait before a new connection until the server's `retry` says another. Default 3 s, as Chromium waits. */
  readonly reconnectDelay?: Duration.Input | undefined
  /** The longest wait, the server's own wishes included. Default 1 minute. */
  readonly maxReconnectDelay?: Duration.Input | undefined
  /** How many new connections are tried after the last event; `Infinity` for any number. Default 10. */
  readonly maxReconnects?: number | undefined
  /**
   * Whether 500, 502, 503 and 504 in answer to a new connection are waited out too, `Retry-After` respected; the standard
   * would end the stream. Default true.
   */
  readonly reconnectOnServerError?: boolean | undefined
  /** The most that one event may be, in UTF-16 code units. Default 1 Mi. */
  readonly maxEventSize?: number | undefined
  /** Where to begin: what `Last-Event-ID` says on the first connection. Default none. */
  readonly lastEventId?: string | undefined
  /**
   * Whether an event is the last, as `data: [DONE]` is for language models; it is not handed out. A connection that ends
   * before it has broken.
   */
  readonly until?: ((event: Event) => boolean) | undefined
}

/**
 * The events of a request.
 *
 * Fails with `ResponseError` for a status that is not 2xx (its response can still be read), `DecodeError` for an answer
 * that is no event stream and for an event above `maxEventSize`, `ConnectError` when connections keep ending without an
 * event, and `ConfigError` for options that are not valid.
 *
 * ```ts
 * import { EventStream, Pool } from "@millrace/core"
 * import { Console, Effect, Stream } from "effect"
 * import { HttpClientRequest } from "effect/http"
 *
 * export const program = Effect.gen(function* () {
 *   const pool = yield* Pool.Pool
 *   yield* EventStream.make(pool, HttpClientRequest.get("/ticks")).pipe(
 *     Stream.runForEach(({ data, event }) => Console.log(event, data))
 *   )
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  source: Source<R>,
  request: HttpClientRequest.HttpClientRequest,
  options: Options = {}
): Stream.Stream<Event, PoolError | ConfigError, R> =>
  Stream.unwrap(
    Effect.map(check(fields, options, rules), (given) => {
      const session = new Session(source, request, resolve(request.method, given))
      // One connection after the other in a loop: streams that follow each other by `concat` would pile up for ever.
      return Stream.flatMap(
        Stream.unfold(undefined, () => session.next),
        (events) => events
      )
    })
  )

/**
 * The events of a request, with their data decoded from JSON. Data that is no JSON, or not what the schema wants, is a
 * `DecodeError` and ends the stream; use `make` and decode one by one to go on.
 *
 * ```ts
 * import { EventStream, Pool } from "@millrace/core"
 * import { Effect, Schema, Stream } from "effect"
 * import { HttpClientRequest } from "effect/http"
 *
 * const Delta = Schema.Struct({ text: Schema.String })
 *
 * export const complete = Effect.fnUntraced(function* (prompt: string) {
 *   const pool = yield* Pool.Pool
 *   const request = yield* HttpClientRequest.post("/v1/completions").pipe(HttpClientRequest.bodyJson({ prompt }))
 *   return EventStream.schema(pool, request, Delta, { until: (_) => _.data === "[DONE]" }).pipe(
 *     Stream.map((_) => _.data.text)
 *   )
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const schema = <A, RD, R = never>(
  source: Source<R>,
  request: HttpClientRequest.HttpClientRequest,
  schema: Schema.ConstraintDecoder<A, RD>,
  options: Options = {}
): Stream.Stream<Event<A>, PoolError | ConfigError, R | RD> => {
  const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(schema))
  return Stream.mapEffect(make(source, request, options), (event) =>
    Effect.mapBoth(decode(event.data), {
      onSuccess: (data) => ({ event: event.event, data, id: event.id }),
      // The issue quotes the data, which may hold secrets.
      onFailure: () =>
        decodeError(request, `the data of an event, ${event.data.length} characters, does not fit its schema`)
    })
  )
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const infoOf = (request: HttpClientRequest.HttpClientRequest) =>
  requestInfo(request.method, request.url, request.urlParams)

const decodeError = (request: HttpClientRequest.HttpClientRequest, reason: string): PoolError =>
  new DecodeError({ request: infoOf(request), attempts: 1, reason })

type Events<R> = Stream.Stream<Event, PoolError, R>

/** The shortest wait after a connection without an event: a server may ask for none at all. */
const minBackoff = 100

const serverErrors: ReadonlySet<number> = new Set([500, 502, 503, 504])

const contentType = /^text\/event-stream[ \t]*(;|$)/i

const utf8 = new TextEncoder()

/** A header is bytes: each of the UTF-8 form becomes the character of that number. */
const headerValue = (id: string): string => Array.from(utf8.encode(id), (byte) => String.fromCharCode(byte)).join("")

/** One stream, over all its connections. */
class Session<R> {
  readonly #source: Source<R>
  readonly #request: HttpClientRequest.HttpClientRequest
  readonly #options: Resolved
  #lastEventId: string
  #reconnectDelay: number
  /** An event stream has been had: from now on it is taken up again. */
  #begun = false
  #over = false
  #connections = 0
  /** Since the last event. */
  #reconnects = 0
  #error: PoolError | undefined = undefined

  constructor(source: Source<R>, request: HttpClientRequest.HttpClientRequest, options: Resolved) {
    this.#source = source
    this.#request = HttpClientRequest.setHeaders(request, {
      accept: "text/event-stream",
      "cache-control": "no-store",
      ...request.headers
    })
    this.#options = options
    this.#lastEventId = options.lastEventId
    this.#reconnectDelay = options.reconnectDelay
  }

  /** The next connection, when its time has come; none when the stream is over. */
  get next(): Effect.Effect<readonly [Events<R>, undefined] | undefined, PoolError> {
    return Effect.suspend(() => {
      if (this.#over) return Effect.undefined
      if (this.#connections++ === 0) return Effect.succeed([this.#connection, undefined])
      const error = this.#error
      if (!this.#options.reconnect) {
        if (error !== undefined) return Effect.fail(error)
        return this.#options.until === undefined ? Effect.undefined : Effect.fail(this.#ended("before its last event"))
      }
      if (error !== undefined && !this.#passes(error)) return Effect.fail(error)
      if (this.#reconnects >= this.#options.maxReconnects) {
        return Effect.fail(error ?? this.#ended(`again, ${this.#reconnects} reconnects after the last event`))
      }
      return Effect.as(this.#wait(error), [this.#connection, undefined])
    })
  }

  /** Whether time may heal it. */
  #passes(error: PoolError): boolean {
    if (!this.#begun) return false
    switch (error._tag) {
      case "ConnectError":
      case "TimeoutError":
      case "RateLimitExceeded":
      case "CircuitOpen":
      case "PoolSaturated":
        return true
      case "RetryExhausted":
        return this.#passes(error.last)
      case "ResponseError":
        return this.#options.reconnectOnServerError && serverErrors.has(error.response.status)
      default:
        return false
    }
  }

  #wait(error: PoolError | undefined): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      const refused = error?._tag === "RetryExhausted" ? error.last : error
      const now = yield* Clock.currentTimeMillis
      let least = 0
      if (refused?._tag === "ResponseError") {
        least = parseRetryAfter(refused.response.headers["retry-after"], now) ?? 0
        yield* drain(refused.response)
      } else if (refused?._tag === "CircuitOpen" || refused?._tag === "RateLimitExceeded") {
        least = Duration.toMillis(refused.retryAfter)
      }
      const base = this.#reconnectDelay
      const reconnects = this.#reconnects++
      const backoff = reconnects === 0 ? base : Math.max(base, minBackoff) * 2 ** reconnects
      // All clients of a server that restarts come back at once, unless some come later; none comes too early.
      const late = 1 + 0.2 * (yield* Random.next)
      yield* Effect.sleep(Math.min(Math.max(backoff, least) * late, this.#options.maxReconnectDelay))
    })
  }

  /** One connection and what it brings; how it ended is in `#error`. */
  get #connection(): Events<R> {
    return Stream.catch(Stream.unwrap(this.#open), (error) => {
      this.#error = error
      return Stream.empty
    })
  }

  get #open(): Effect.Effect<Events<R>, PoolError, R | Scope.Scope> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        this.#error = undefined
        const id = this.#lastEventId
        const request =
          id === "" ? this.#request : HttpClientRequest.setHeader(this.#request, "last-event-id", headerValue(id))
        const response = yield* restore(this.#source.client.execute(request))
        const { status } = response
        if (status === 204) {
          this.#over = true
          return Stream.empty
        }
        if (status < 200 || status > 299) {
          return Stream.fail(new ResponseError({ request: infoOf(request), attempts: 1, response }))
        }
        yield* Scope.addFinalizer(yield* Effect.scope, abort(response))
        const type = response.headers["content-type"] ?? ""
        if (!contentType.test(type)) {
          return Stream.fail(decodeError(request, "its content type is not text/event-stream"))
        }
        this.#begun = true
        return this.#events(response)
      })
    )
  }

  #events(response: HttpClientResponse): Events<never> {
    const parser = new EventParser(this.#options.maxEventSize, this.#lastEventId)
    const bytes = Stream.mapError(response.stream, (error) => this.#readError(error))
    return Stream.transformPull(bytes, (pull) =>
      Effect.sync(() => {
        const more: Effect.Effect<readonly [Event, ...Array<Event>], PoolError | Cause.Done<void>> = Effect.suspend(
          () => {
            if (this.#over) return Cause.done()
            if (parser.tooLarge) return Effect.fail(this.#tooLarge)
            return Effect.flatMap(pull, (chunks) => {
              const [first, ...rest] = this.#parse(parser, chunks)
              return first === undefined ? more : Effect.succeed([first, ...rest])
            })
          }
        )
        return more
      })
    )
  }

  #parse(parser: EventParser, chunks: ReadonlyArray<Uint8Array>): ReadonlyArray<Event> {
    const events: Array<Event> = []
    for (const chunk of chunks) parser.feed(chunk, events)
    if (parser.retry !== undefined) this.#reconnectDelay = parser.retry
    this.#lastEventId = parser.lastEventId
    if (events.length > 0) this.#reconnects = 0
    const { until } = this.#options
    const last = until === undefined ? -1 : events.findIndex(until)
    if (last === -1) return events
    this.#over = true
    return events.slice(0, last)
  }

  get #tooLarge(): PoolError {
    return decodeError(
      this.#request,
      `an event is larger than \`maxEventSize\` of ${this.#options.maxEventSize} characters`
    )
  }

  #readError(error: HttpClientError): PoolError {
    return (
      find(error) ??
      new InvalidRequest({ request: infoOf(this.#request), attempts: 1, reason: "its response failed", cause: error })
    )
  }

  #ended(how: string): PoolError {
    const cause = new Error(`the event stream ended ${how}`)
    return new ConnectError({
      request: infoOf(this.#request),
      attempts: this.#connections,
      phase: "response",
      sent: true,
      cause
    })
  }
}
