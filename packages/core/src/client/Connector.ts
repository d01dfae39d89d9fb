/**
 * The port between a pool and the sockets of a platform.
 *
 * A `Connector` opens, for one slot and one origin, a `Transport`: at most one connection, over which it sends one
 * exchange at a time. The pool decides *which* transport sends *what* and *when*; the transport connects when it first
 * has something to send, reports what it sees, and reconnects when its connection is gone.
 *
 * The names of the callbacks are those of undici's dispatch handler, so that on Node an exchange is handed to undici as
 * it is, with nothing between.
 *
 * What every transport promises:
 *
 * - `send` never throws and is never called while an exchange is under way.
 * - For each `send` it calls `onResponseEnd` or `onResponseError` exactly once, or nothing after `cancel` or
 *   `Control.abort`.
 * - After `Control.abort` the connection is not used again.
 * - It owns no retry, no queue, and no time limit but those of connecting.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { HttpBody } from "effect/http/HttpBody"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { answering, FunctionTransport } from "./internal/functionTransport.ts"
import type { ConnectPhase, PoolError, RequestInfo } from "../model/PoolError.ts"
import type { RawConnection } from "../model/RawConnection.ts"
import type { Timers } from "../model/Timers.ts"
import type { ConnectionOptions } from "./PoolConfig.ts"

/**
 * Opens transports. Provided by a platform: `UndiciConnector.layer` on Node.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connector {
  readonly open: (target: Target) => Transport
  /** Decodes a body by its `content-encoding`; absent where the platform's transport already does. */
  readonly decompress?: Decompress | undefined
  /** Asks for another protocol; absent where the platform cannot hand over a connection. */
  readonly upgrade?: Upgrade | undefined
  /**
   * Calls `f` when everything that has come in this turn of the event loop has been handed over, and before any timer: a
   * busy pool wakes all its callers then, together. Absent where nothing tells; they are woken in a microtask then.
   */
  readonly afterTurn?: ((f: () => void) => void) | undefined
}

/**
 * Sends one GET that asks for another protocol (RFC 9110, 7.8), over a connection of its own that lives as long as the
 * scope. Its only time limits are those of connecting.
 *
 * @category models
 * @since 0.1.0
 */
export type Upgrade = (
  target: Target,
  request: { readonly path: string; readonly headers: ReadonlyArray<string> }
) => Effect.Effect<Switched | Declined, Failure, Scope.Scope>

/**
 * The server has switched: 101. The bytes that it sent too early come first.
 *
 * @category models
 * @since 0.1.0
 */
export interface Switched {
  readonly _tag: "Switched"
  readonly headers: RawHeaders
  readonly connection: RawConnection
}

/**
 * The server has answered as if it had not been asked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Declined {
  readonly _tag: "Declined"
  readonly status: number
  readonly headers: RawHeaders
  readonly body: ReadableStream<Uint8Array>
}

/**
 * The service tag of the platform's connector.
 *
 * @category services
 * @since 0.1.0
 */
export const Connector: Context.Service<Connector, Connector> = Context.Service("@millrace/core/Connector")

/**
 * Answers a request without a socket.
 *
 * @category models
 * @since 0.1.0
 */
export type Respond<E> = (
  request: HttpClientRequest,
  context: { readonly slot: number; readonly origin: string }
) => Effect.Effect<HttpClientResponse, E>

export { TransportError } from "./internal/transportError.ts"
export type { Timers } from "../model/Timers.ts"

/**
 * A connector made of a plain function: enough to test whatever uses a pool, and the pool itself, without sockets and
 * on the `TestClock`. Nothing in it keeps a process alive: a program on it alone needs a runner that does (`runMain`).
 *
 * ```ts
 * // run
 * import { Connector, Pool } from "@millrace/core"
 * import { Effect, Layer } from "effect"
 * import { HttpClientResponse } from "effect/http"
 *
 * const connector = Connector.layerFunction((request) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, new Response("hello", { status: 200 })))
 * )
 * const pool = Pool.layer({ baseUrl: "http://test.local", size: 2 }).pipe(Layer.provide(connector))
 *
 * const program = Effect.gen(function* () {
 *   const { client } = yield* Pool.Pool
 *   const response = yield* client.get("/greeting")
 *   return yield* response.text
 * })
 * console.log(await Effect.runPromise(Effect.provide(program, pool))) // hello
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFunction = <E>(respond: Respond<E>): Layer.Layer<Connector> =>
  Layer.succeed(Connector, { open: (target) => new FunctionTransport(target, answering(respond)) })

/**
 * Where a transport leads, and for whom.
 *
 * @category models
 * @since 0.1.0
 */
export interface Target {
  /** Number of the slot in its pool, from 0. */
  readonly slot: number
  /** For example `https://api.test:8443`; the default port is left out, as in `URL.origin`. */
  readonly origin: string
  readonly options: ConnectionOptions
  readonly observer: Observer
  readonly timers: Timers
}

/**
 * What the pool wants to know of a transport's connections. Called by the transport, never from inside `open`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Observer {
  readonly connected: (info: { readonly address: string | undefined; readonly millis: number }) => void
  readonly disconnected: (reason: string) => void
}

/**
 * At most one connection to one origin.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transport {
  readonly send: (exchange: Exchange) => void
  /** Takes back an exchange whose `onRequestStart` has not been called yet. */
  readonly cancel: (exchange: Exchange) => void
  /** Closes the idle connection; the next `send` makes a new one. */
  readonly retire: () => void
  /** Destroys everything, at once; completes when the sockets are closed. */
  readonly close: Effect.Effect<void>
  /** Says what kind of failure an error given to `onResponseError` is. */
  readonly classify: (error: Error) => Failure
  /**
   * The error, if any, by which the connection has just ended, for a transport that takes such an end for the end of a
   * body without length. RFC 9112 §8: that body is incomplete.
   */
  readonly broken?: (() => Error | undefined) | undefined
}

/**
 * What a transport's failure means. The exchange turns it into a `PoolError`.
 *
 * `Broken` is a connection that was made and then lost: only that may be a stale keep-alive connection. `Given` is the
 * error itself, from a transport that plays more than a connection, as test doubles do.
 *
 * @category models
 * @since 0.1.0
 */
export type Failure =
  | {
      readonly _tag: "Connect"
      readonly phase: ConnectPhase
      readonly address: string | undefined
      readonly millis: number
      readonly cause: unknown
    }
  | {
      readonly _tag: "ConnectTimeout"
      readonly phase: "dial" | "tls"
      readonly address: string | undefined
      readonly millis: number
    }
  | { readonly _tag: "Broken"; readonly cause: unknown }
  | { readonly _tag: "Protocol"; readonly reason: string; readonly cause: unknown }
  | { readonly _tag: "Rejected"; readonly reason: string; readonly cause: unknown }
  | {
      readonly _tag: "Given"
      readonly error: (at: { readonly request: RequestInfo; readonly attempts: number }) => PoolError
    }

/**
 * What a transport may do to a request under way.
 *
 * @category models
 * @since 0.1.0
 */
export interface Control {
  readonly abort: (reason: Error) => void
  readonly pause: () => void
  readonly resume: () => void
}

/**
 * One request on its way, as a transport sees it: what to send, and whom to tell.
 *
 * @category models
 * @since 0.1.0
 */
export interface Exchange {
  readonly method: string
  /** Path and query. */
  readonly path: string
  /** Name, value, name, value… */
  readonly headers: Array<string>
  readonly body: HttpBody
  /** What runs the effects of a streamed request body. */
  readonly services: Context.Context<never>

  /** The request is about to be written. Throws when the exchange was cancelled: nothing must be written then. */
  onRequestStart(control: Control): void
  /** The whole request, its body included, has been handed to the connection. */
  onRequestSent(): void
  /** The first byte of a response has arrived. */
  onResponseStarted(): void
  /** A status line and headers. Interim responses (below 200) may come before the real one. */
  onResponseStart(control: Control, status: number, headers: RawHeaders): void
  onResponseData(control: Control, chunk: Uint8Array): void
  onResponseEnd(control: Control): void
  onResponseError(control: Control | null, error: Error): void
}

/**
 * Headers as they came: lower-case names; repeated ones as arrays.
 *
 * @category models
 * @since 0.1.0
 */
export interface RawHeaders {
  readonly [name: string]: string | Array<string> | undefined
}

/**
 * Decodes `source` by the codings named in `content-encoding` (in the order of the header) and fails when more than
 * `limit` bytes come out. `undefined` when a coding is not known.
 *
 * @category models
 * @since 0.1.0
 */
export type Decompress = (
  encodings: ReadonlyArray<string>,
  limit: number
) => undefined | (<E>(source: Stream.Stream<Uint8Array, E>) => Stream.Stream<Uint8Array, E | DecompressFailure>)

/**
 * Why a body could not be decompressed.
 *
 * @category models
 * @since 0.1.0
 */
export interface DecompressFailure {
  readonly _tag: "DecompressFailure"
  readonly reason: string
  readonly cause: unknown
}
