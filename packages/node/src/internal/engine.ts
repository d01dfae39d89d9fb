/**
 * A Node server that never listens: what parses HTTP, and TLS, on the sockets that it is handed.
 *
 * A server that never listened keeps no list of its connections and checks no timeout; the `listening` event is all that
 * starts both. Whoever makes an engine closes it, or its timer stays.
 *
 * @since 0.1.0
 */
import type { Settings, TlsSettings } from "@millrace/core/server/Listener"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { Answer } from "./answer.ts"
import type { Connection } from "./connection.ts"
import { isFaulty } from "./faulty.ts"
import { admits, tlsOptions } from "./serverTls.ts"

/** The longest time that Node's timers know; a longer one would be taken for a millisecond. */
const longest = 2 ** 31 - 1

/** In whole milliseconds, 0 for none: Node's form. */
const millis = (time: number): number => (time === Infinity ? 0 : Math.min(Math.ceil(time), longest))

/** How often Node looks for requests that take too long. */
const checkInterval = (shortest: number): number =>
  shortest === Infinity ? 30_000 : Math.min(Math.max(Math.ceil(shortest / 4), 5), 1000)

/** Browsers and Java's client offer h2c with any request; RFC 9113 (section 3.1) has withdrawn it. */
const offersH2c = (request: Http.IncomingMessage): boolean => /^\s*h2c\s*(,|$)/i.test(request.headers.upgrade ?? "")

/** The others are requests as any other: a faulty one is refused as such. */
const upgrades = (request: Http.IncomingMessage): boolean => !offersH2c(request) && !isFaulty(request)

const optionsOf = (settings: Settings) => {
  const { idleTimeout, maxHeaderBytes, readHeaderTimeout, readTimeout } = settings
  const headersTimeout = Math.min(readHeaderTimeout, readTimeout)
  return {
    requestTimeout: millis(readTimeout),
    headersTimeout: millis(headersTimeout),
    connectionsCheckingInterval: checkInterval(headersTimeout),
    keepAliveTimeout: millis(idleTimeout),
    // Clients are told `idleTimeout`; the time above it is for requests that are on their way.
    keepAliveTimeoutBuffer: Math.min(millis(idleTimeout), 1000),
    maxHeaderSize: maxHeaderBytes,
    // Whatever this process was started with: `--insecure-http-parser` is for clients of old servers.
    insecureHTTPParser: false,
    shouldUpgradeCallback: upgrades,
    ServerResponse: Answer
  }
}

/** Who has the peer's end of `socket`: the only thing that a TLS socket shows of the one below it. */
const peerOf = (socket: Socket): string => `${socket.localAddress} ${socket.remoteAddress} ${socket.remotePort}`

/** @internal */
export class Engine {
  readonly tls: TlsSettings | undefined
  readonly #server: Http.Server<typeof Http.IncomingMessage, typeof Answer>
  /** By the socket that speaks HTTP. */
  readonly #connections = new WeakMap<Duplex, Connection>()
  readonly #handshakes = new Map<string, Connection>()
  #size = 0
  #retired = false

  constructor(settings: Settings) {
    const { readHeaderTimeout, tls } = settings
    this.tls = tls
    const options = optionsOf(settings)
    if (tls === undefined) this.#server = Http.createServer(options)
    else {
      const handshake = readHeaderTimeout === Infinity ? undefined : { handshakeTimeout: millis(readHeaderTimeout) }
      const server = Https.createServer({ ...options, ...tlsOptions(tls), ...handshake })
      server.prependListener("secureConnection", (socket) => this.#secured(socket))
      this.#server = server
    }
    this.#server.on("request", (request, response) => this.#connections.get(request.socket)?.request(request, response))
    // Node would answer these by itself: nobody here would know of it, and bodies would be called for that are refused.
    this.#server.on("checkContinue", (request, response) =>
      this.#connections.get(request.socket)?.request(request, response, true)
    )
    this.#server.on("checkExpectation", (request, response) =>
      this.#connections.get(request.socket)?.refuse(response, 417)
    )
    this.#server.on("upgrade", (request, socket, head) => this.#connections.get(socket)?.upgrade(request, socket, head))
    this.#server.emit("listening")
  }

  /** Speaks on the socket of `connection` until it closes. */
  attach(connection: Connection): void {
    const { raw } = connection
    this.#size++
    raw.once("close", () => {
      this.#size--
      this.#end()
    })
    if (this.tls === undefined) {
      this.#connections.set(raw, connection)
      this.#server.emit("connection", raw)
      raw.resume()
    } else {
      const peer = peerOf(raw)
      this.#handshakes.set(peer, connection)
      raw.once("close", () => this.#handshakes.delete(peer))
      // As `https` has its sockets: only so it learns of a client that leaves in the handshake.
      raw.allowHalfOpen = false
      this.#server.emit("connection", raw)
    }
  }

  /** Whether its connections may be answered by who demands `tls`. */
  admittedBy(tls: TlsSettings | undefined): boolean {
    return admits(tls, this.tls)
  }

  /** No connection comes any more: ends with the last one. */
  retire(): void {
    this.#retired = true
    this.#end()
  }

  #secured(socket: Socket): void {
    const peer = peerOf(socket)
    const connection = this.#handshakes.get(peer)
    if (connection === undefined) return
    this.#handshakes.delete(peer)
    this.#connections.set(socket, connection)
    connection.secured(socket)
  }

  #end(): void {
    if (this.#retired && this.#size === 0) this.#server.close()
  }
}
