/**
 * The default connector on Node: one undici `Client` per slot and origin, driven by `dispatch`.
 *
 * The exchange of the pool is undici's dispatch handler: between undici's parser and the pool there is no Readable, no
 * Promise and no AbortController. What undici would do with its own clocks and queues, the pool does: undici's timeouts
 * are off, and it is given one request at a time.
 *
 * Connections are made here, not by undici, and *before* a request is handed over. So a request that is interrupted
 * while its slot connects is simply forgotten, and the next one takes the connection.
 *
 * Known: undici closes the connection after a body on a method that does not expect one (all but PUT, POST, PATCH, QUERY,
 * PROPFIND and PROPPATCH, so GET and DELETE, too), as servers differ on where such a request ends. The next request has a
 * new connection.
 *
 * @since 0.1.0
 */
import {
  Connector,
  type Control,
  type Exchange,
  type Failure,
  type RawHeaders,
  type Target,
  type Transport
} from "@millrace/core/client/Connector"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Socket } from "node:net"
import { Readable } from "node:stream"
import { type buildConnector, Client, type Dispatcher } from "undici"
import * as RequestBody from "./internal/body.ts"
import { afterTurn } from "./internal/afterTurn.ts"
import { decompress } from "./internal/decompress.ts"
import { dial, type Dialed, DialError } from "./internal/dial.ts"
import { withoutBytes } from "./internal/parserError.ts"
import { type Proxy, proxyFor } from "./internal/proxy.ts"
import { upgrade } from "./internal/upgrade.ts"

/**
 * Provides the connector.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { UndiciConnector } from "@millrace/node"
 * import { Layer } from "effect"
 *
 * export const layer = Pool.layer({ baseUrl: "http://localhost:8080" }).pipe(Layer.provide(UndiciConnector.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector> = Layer.sync(Connector, () => ({
  open: (target) => new UndiciTransport(target),
  decompress,
  upgrade,
  afterTurn
}))

/** How long before the end that a server announces (`Keep-Alive: timeout`) a connection is given up. */
const keepAliveMargin = 1000
/** What a socket takes at once; more may be on its way for long after undici has handed it over. */
const socketBuffer = 64 * 1024
/** setTimeout's limit; undici accepts no Infinity. */
const forever = 0x7fff_ffff

/**
 * Calls of an exchange come from undici, and so keep undici's order. What ends them:
 *
 * - `Control.abort`: undici calls `onResponseError` with the reason once more, before `abort` returns, and then nothing: it
 *   has let go of the request and destroyed the connection. An exchange that ended before hears nothing.
 * - `cancel`: undici may still call `onRequestStart`, which throws; then it calls `onResponseError` with what was thrown.
 * - `close`: `onResponseError` for whatever is under way, whether it waits for its connection, for undici, or for an
 *   answer; a later `send` is answered the same way.
 *
 * So the exchange must ignore what comes after its own end, as that of the pool does.
 */
class UndiciTransport implements Transport {
  readonly #target: Target
  readonly #proxy: Proxy | undefined
  #client: Client | undefined = undefined
  /** The connection, as long as it lives. */
  #socket: Socket | undefined = undefined
  /** Whether undici has been given the connection. */
  #given = false
  /** What will be sent when the connection is made. */
  #waiting: Exchange | undefined = undefined
  /** What undici has, but has not begun to write. */
  #unsent: Uploading | undefined = undefined
  /** Set while undici waits for the connection. */
  #asking: buildConnector.Callback | undefined = undefined
  /** Reports the end of the last connection, unless that is done. */
  #reportEnd: () => void = () => {}
  #cancelDial: (() => void) | undefined = undefined
  #cancelIdle: (() => void) | undefined = undefined
  #closed = false

  constructor(target: Target) {
    this.#target = target
    this.#proxy = proxyFor(target)
  }

  send(exchange: Exchange): void {
    if (this.#closed) {
      exchange.onResponseError(null, closedByOwner())
      return
    }
    if (this.#socket !== undefined && !this.#socket.destroyed) {
      this.#dispatch(exchange)
      return
    }
    this.#waiting = exchange
    this.#dial()
  }

  cancel(exchange: Exchange): void {
    if (this.#waiting === exchange) this.#waiting = undefined
    // undici asks a source for its first piece before it finds that nobody wants the request.
    if (this.#unsent?.exchange === exchange) this.#unsent.cancel()
  }

  retire(): void {
    this.#socket?.destroy()
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#closed = true
    const waiting = this.#waiting
    this.#waiting = undefined
    this.#cancelDial?.()
    this.#cancelIdle?.()
    const socket = this.#socket
    const client = this.#client
    if (!this.#given) socket?.destroy()
    waiting?.onResponseError(null, closedByOwner())
    return Effect.andThen(client === undefined ? Effect.void : Effect.promise(() => client.destroy()), closed(socket))
  })

  classify(error: Error): Failure {
    return classify(error)
  }

  /** undici takes a reset for the end of a body without length. */
  broken(): Error | undefined {
    return this.#socket?.errored ?? undefined
  }

  // ------------------------------------------------------------------ connecting

  /** Makes the connection, for whoever wants it by then: at most one is under way. */
  #dial(): void {
    this.#cancelDial ??= dial(this.#target, (result) => {
      this.#cancelDial = undefined
      const asking = this.#asking
      const exchange = this.#waiting
      this.#asking = undefined
      this.#waiting = undefined
      if (result instanceof DialError) {
        asking?.(result, null)
        exchange?.onResponseError(null, result)
        return
      }
      this.#adopt(result)
      if (asking !== undefined) {
        this.#given = true
        asking(null, result.socket)
      } else {
        // Until undici asks for it, which it does not for a request that it refuses.
        this.#keep(result.socket)
      }
      if (exchange !== undefined) this.#dispatch(exchange)
    })
  }

  #adopt({ address, millis, socket }: Dialed): void {
    // The one before is destroyed, but its `close` may come later than this one.
    this.#reportEnd()
    this.#socket = socket
    this.#given = false
    this.#reportEnd = () => {
      this.#reportEnd = () => {}
      this.#target.observer.disconnected(reasonOf(socket))
    }
    const reportEnd = this.#reportEnd
    socket.once("close", () => {
      if (this.#socket !== socket) return
      this.#socket = undefined
      reportEnd()
    })
    this.#target.observer.connected({ address, millis })
  }

  /** Nobody uses it: keeps it for the next, but not for ever, and not the process for it. */
  #keep(socket: Socket): void {
    socket.unref()
    this.#cancelIdle?.()
    this.#cancelIdle = this.#target.timers.after(this.#target.options.idleConnectionTimeout, () => socket.destroy())
  }

  /** undici asks for a connection: it gets the one that is ready, or, when that died meanwhile, a new one. */
  readonly #connect = (_options: unknown, callback: buildConnector.Callback): void => {
    const socket = this.#socket
    if (socket !== undefined && !socket.destroyed && !this.#given) {
      this.#given = true
      this.#cancelIdle?.()
      this.#cancelIdle = undefined
      // undici takes it for one that nobody has touched.
      socket.ref()
      // undici does not look at its queue again when it is called back at once.
      queueMicrotask(() => callback(null, socket))
      return
    }
    this.#asking = callback
    this.#dial()
  }

  // ------------------------------------------------------------------ sending

  /** Never throws: it is called from inside an event of a socket, where that would end the process. */
  #dispatch(exchange: Exchange): void {
    try {
      const { body } = exchange
      if (body._tag === "Empty") this.#hand(exchange, exchange.headers, null, exchange)
      else if (body._tag === "Uint8Array" && body.contentLength <= socketBuffer) {
        this.#hand(exchange, exchange.headers, body.text ?? body.body, exchange)
      } else this.#dispatchBody(exchange)
    } catch (error) {
      exchange.onResponseError(null, RequestBody.asError(error))
    }
  }

  #dispatchBody(exchange: Exchange): void {
    const encoded = RequestBody.encode(exchange.body, exchange.services)
    if (encoded instanceof Error) {
      exchange.onResponseError(null, encoded)
      return
    }
    const headers = [...exchange.headers]
    const add = (name: string, value: string | number | undefined) => {
      if (value !== undefined && !headers.some((header, i) => i % 2 === 0 && header.toLowerCase() === name)) {
        headers.push(name, String(value))
      }
    }
    add("content-type", encoded.contentType)
    add("content-length", encoded.contentLength)
    const { body } = encoded
    // A Readable, as undici destroys it as soon as the connection is gone; an iterable it leaves waiting for its source.
    const source =
      typeof body === "object" && body !== null && Symbol.asyncIterator in body && !(body instanceof Readable)
        ? // undici stops listening when the request is over, which may be before the source says that it was stopped.
          Readable.from(body, { objectMode: false }).on("error", () => {})
        : body
    const uploading = new Uploading(exchange, encoded.cancel, () => {
      this.#unsent = undefined
      return this.#socket
    })
    this.#unsent = uploading
    this.#hand(exchange, headers, source, uploading)
  }

  #hand(
    exchange: Exchange,
    headers: Array<string>,
    body: NonNullable<Dispatcher.DispatchOptions["body"]> | null,
    handler: Dispatcher.DispatchHandler
  ): void {
    this.#client ??= this.#makeClient()
    const options: Dispatcher.DispatchOptions = { method: exchange.method, path: exchange.path, headers, body }
    // undici closes the connection after a HEAD unless it is told not to.
    if (exchange.method === "HEAD") options.reset = false
    const proxy = this.#proxy
    if (proxy !== undefined && this.#target.origin.startsWith("http:")) {
      options.path = this.#target.origin + exchange.path
      if (proxy.authorization !== undefined) {
        options.headers = [...headers, "proxy-authorization", proxy.authorization]
      }
    }
    this.#client.dispatch(options, handler)
  }

  #makeClient(): Client {
    const { options, origin } = this.#target
    return new Client(settled(origin), {
      allowH2: false,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: options.maxHeaderSize,
      keepAliveTimeout: Math.min(options.idleConnectionTimeout, forever),
      keepAliveMaxTimeout: forever,
      keepAliveTimeoutThreshold: keepAliveMargin,
      connect: this.#connect
    })
  }
}

/**
 * An exchange whose body is produced, or written, for a while: however it ends, its producer is told, and it is sent when
 * the connection has taken all of it.
 */
class Uploading implements Dispatcher.DispatchHandler {
  readonly exchange: Exchange
  readonly cancel: () => void
  readonly #begin: () => Socket | undefined
  #socket: Socket | undefined = undefined
  #control: Control | undefined = undefined
  #over = false

  constructor(exchange: Exchange, cancel: () => void, begin: () => Socket | undefined) {
    this.exchange = exchange
    this.cancel = cancel
    this.#begin = begin
  }

  onRequestStart(control: Dispatcher.DispatchController): void {
    const { cancel } = this
    this.#socket = this.#begin()
    this.#control = {
      abort: (reason) => {
        control.abort(reason)
        this.#over = true
        cancel()
      },
      pause: () => control.pause(),
      resume: () => control.resume()
    }
    try {
      this.exchange.onRequestStart(this.#control)
    } catch (error) {
      cancel()
      throw error
    }
  }

  onRequestSent(): void {
    if (this.#socket?.writableNeedDrain === true) this.#socket.once("drain", () => this.#sent())
    else this.#sent()
  }

  /** What is left of a body may leave, or end, after the answer: the exchange may have been sent again by then. */
  #sent(): void {
    if (!this.#over) this.exchange.onRequestSent()
  }

  onResponseStarted(): void {
    this.exchange.onResponseStarted()
  }

  onResponseStart(control: Dispatcher.DispatchController, status: number, headers: RawHeaders): void {
    this.exchange.onResponseStart(this.#control ?? control, status, headers)
  }

  onResponseData(control: Dispatcher.DispatchController, chunk: Uint8Array): void {
    this.exchange.onResponseData(this.#control ?? control, chunk)
  }

  onResponseEnd(control: Dispatcher.DispatchController): void {
    this.#over = true
    this.cancel()
    this.exchange.onResponseEnd(this.#control ?? control)
  }

  /** A stream can fail with anything. */
  onResponseError(_control: Dispatcher.DispatchController | null, error: unknown): void {
    this.#over = true
    this.cancel()
    this.exchange.onResponseError(null, RequestBody.asError(error))
  }
}

/**
 * undici asks the URL of its client for origin and protocol with every request, and Node makes new strings of them each
 * time, which undici then compares by their letters: about 2 % of a request. This one has them ready.
 */
const settled = (origin: string): URL => {
  const url = new URL(origin)
  return Object.defineProperties(url, { origin: { value: url.origin }, protocol: { value: url.protocol } })
}

const closedByOwner = (): Error => new Error("the connection was closed by its owner")

const closed = (socket: Socket | undefined): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (socket === undefined || socket.closed) resume(Effect.void)
    else socket.once("close", () => resume(Effect.void))
  })

const codeOf = (error: Error): string =>
  "code" in error && typeof error.code === "string" ? error.code : error.message

/** What a connection that has closed was closed by, in a word. */
const reasonOf = (socket: Socket): string => {
  const error = socket.errored
  if (error === null) return "closed"
  if (error.message === "socket idle timeout") return "idle"
  if (error.message === "aborted") return "aborted"
  if (error.message === "reset" || error.message === "other side closed") return "closed"
  return codeOf(error)
}

const classify = (error: Error): Failure => {
  if (error instanceof DialError) return error.failure
  if (error instanceof RequestBody.RequestBodyError)
    return { _tag: "Rejected", reason: error.message, cause: error.cause }
  const code = codeOf(error)
  // undici means to give it a code, but finds none.
  if (error.name === "HTTPParserError") {
    return { _tag: "Protocol", reason: `it is not HTTP/1.1 (${error.message})`, cause: withoutBytes(error) }
  }
  switch (code) {
    case "UND_ERR_HEADERS_OVERFLOW":
      return { _tag: "Protocol", reason: "its headers are larger than `maxHeaderSize`", cause: error }
    case "UND_ERR_RES_CONTENT_LENGTH_MISMATCH":
      return { _tag: "Protocol", reason: "its body is not as long as `content-length` says", cause: error }
    case "UND_ERR_INVALID_ARG":
    case "UND_ERR_NOT_SUPPORTED":
    case "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH":
      return { _tag: "Rejected", reason: error.message, cause: error }
    case "UND_ERR_SOCKET":
      if (error.message === "bad response" || error.message === "bad upgrade") {
        return {
          _tag: "Protocol",
          reason: "the server answered 100 Continue, or an upgrade, without being asked",
          cause: error
        }
      }
  }
  return { _tag: "Broken", cause: error }
}
