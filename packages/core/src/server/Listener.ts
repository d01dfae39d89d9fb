/**
 * The port between a server pool and the sockets of a platform.
 *
 * A `Listener` opens, for one bind address, an `Acceptor`: the socket that accepts. Behind it stands, at any time, one
 * `Backend`: what speaks HTTP on the connections that it was given. The pool decides which backend is the current one;
 * to replace it the accepting socket is not touched, so no connection attempt ever finds nobody.
 *
 * ```
 *                      ┌──► backend (old): keeps its connections, drains
 * clients ──► acceptor ┤
 *                      └──► backend (current): gets every new connection
 * ```
 *
 * What every platform promises:
 *
 * - `open` completes when the address really accepts, or fails; it never leaves a half-open socket.
 * - An acceptor whose socket is lost says so; its backends keep the connections that they have.
 * - A connection that is accepted is given to the current backend, at once, and never to another one.
 * - `handle` and `secure` hold from the next request, and the next handshake, on; no connection is closed for it.
 * - `drain` closes no connection in the middle of a response before its time is up.
 * - A handler runs in a fiber of its own that is interrupted when its client leaves.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"

/**
 * What answers requests. Its failures are answered as Effect's servers do: what is `Respondable` by its response, all else
 * by an empty 500.
 *
 * @category models
 * @since 0.1.0
 */
export type Handler = Effect.Effect<HttpServerResponse, unknown, HttpServerRequest | Scope.Scope>

/**
 * Opens acceptors. Provided by a platform: `NodeListener.layer` on Node.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  /** Binds, and accepts until the scope closes; connections wait in the system's queue until `use` names a backend. */
  readonly open: (address: Address) => Effect.Effect<Acceptor, ListenError, Scope.Scope>
}

/**
 * The service tag of the platform's listener.
 *
 * @category services
 * @since 0.1.0
 */
export const Listener: Context.Service<Listener, Listener> = Context.Service("@millrace/core/Listener")

/**
 * Where to accept.
 *
 * @category models
 * @since 0.1.0
 */
export interface Address {
  /** A name or an IP address without brackets; `undefined`: all of this machine. */
  readonly host: string | undefined
  /** 0: the system chooses. */
  readonly port: number
}

/**
 * An address that accepts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Acceptor {
  /** With the port that the system chose. */
  readonly address: { readonly host: string; readonly port: number }
  /** Makes a backend, which gets no connection yet. Fails when the certificates cannot be used. */
  readonly backend: (settings: Settings, handler: Handler, log?: RequestLog) => Effect.Effect<Backend, ListenError>
  /** Connections that come from now on are for this one. */
  readonly use: (backend: Backend) => Effect.Effect<void>
  /** Accepts no more; connections that were given away are not touched. Closing twice is harmless. */
  readonly close: Effect.Effect<void>
  /** Never succeeds; fails when it accepts no more although nobody has asked it to close, and says why. */
  readonly lost: Effect.Effect<never, ListenError>
}

/**
 * What speaks HTTP on the connections that it has.
 *
 * @category models
 * @since 0.1.0
 */
export interface Backend {
  readonly handle: (handler: Handler) => Effect.Effect<void>
  /** New certificates; fails, and keeps the old ones, when they cannot be used or there is no TLS here. */
  readonly secure: (tls: TlsSettings) => Effect.Effect<void, ListenError>
  readonly counts: () => Counts
  /**
   * Ends its connections: says `Connection: close` on what is answered, closes those that are idle or fall idle, lets
   * requests under way finish, and cuts what is left after `timeout` milliseconds. Completes when none is left.
   */
  readonly drain: (timeout: number) => Effect.Effect<Drained>
}

/**
 * Is told of each request that a backend answers. It is called for every one of them, so it is quick, and never throws.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestLog {
  /** Its head is here. */
  readonly begin: (method: string) => LoggedRequest
}

/**
 * A request under way; may be the same object for several. It ends once, in one of these ways.
 *
 * @category models
 * @since 0.1.0
 */
export interface LoggedRequest {
  /** All of the response is sent, or the connection is gone. `status`: of the head, if one was sent. */
  readonly ended: (status: number | undefined, millis: number) => void
  /** It had become another protocol, as a WebSocket does: how long that was says nothing about requests. */
  readonly left: () => void
}

/**
 * What a backend has done, and has now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counts {
  /** Open now, those in a TLS handshake included. */
  readonly connections: number
  /** Requests whose response is not sent completely. */
  readonly active: number
  /** Since it was made. */
  readonly accepted: number
  readonly requests: number
  /** Responses with a status from 500 on. */
  readonly failures: number
  /** Connections that were refused as there were `maxConnections`. */
  readonly refused: number
}

/**
 * How a drain ended: connections that it had to cut, with the requests that were under way on them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Drained {
  readonly connections: number
  readonly requests: number
}

/**
 * How a backend speaks. Durations in milliseconds, `Infinity` for none.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settings {
  readonly tls: TlsSettings | undefined
  /** A whole request, its body included. */
  readonly readTimeout: number
  /** The head of a request. */
  readonly readHeaderTimeout: number
  /** A response, from the end of its request to its own end; streams too. */
  readonly writeTimeout: number
  /** Between two requests of a connection. */
  readonly idleTimeout: number
  readonly maxHeaderBytes: number
  /**
   * A body that says it is larger is answered with 413 before any handler; one that shows it while a handler collects it
   * fails there, so that it is a 413, too. A handler that streams a body without a length counts by itself.
   */
  readonly maxBodyBytes: number
  readonly maxConnections: number
  readonly keepAlive: boolean
}

/**
 * Certificates as PEM text.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsSettings {
  readonly cert: string
  readonly key: Redacted.Redacted
  /** Authorities of client certificates. */
  readonly ca: string | ReadonlyArray<string> | undefined
  /** Whether clients must, may, or need not show a certificate. */
  readonly clientAuth: "none" | "request" | "require"
  readonly minVersion: "TLSv1.2" | "TLSv1.3"
}

/**
 * An address cannot be bound, or is lost, or certificates cannot be used.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenError extends Data.TaggedError("ListenError")<{
  /** `lost`: it had been bound, and accepts no more. */
  readonly reason: "bind" | "lost" | "tls"
  /** `127.0.0.1:8080` */
  readonly address: string
  /** What to do about it; without secrets. */
  readonly advice: string
  readonly cause: unknown
}> {
  override get message(): string {
    return `${summaries[this.reason](this.address)}: ${this.advice}`
  }
}

const summaries = {
  bind: (address: string) => `Cannot listen on ${address}`,
  lost: (address: string) => `${address} does not accept any more`,
  tls: (address: string) => `TLS of ${address} cannot be used`
}
