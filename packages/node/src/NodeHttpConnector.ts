/**
 * A connector on `node:http`: for those who cannot have undici, and as proof that the port fits more than one client.
 *
 * It makes its connections itself (`dial`: the same limits, proxies and TLS options as `UndiciConnector`) and lends the
 * one it has to node's agent, request by request.
 *
 * @since 0.1.0
 */
import { Connector, type Exchange, type Failure, type Target, type Transport } from "@millrace/core/client/Connector"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Socket } from "node:net"
import { decompress } from "./internal/decompress.ts"
import { dial, DialError } from "./internal/dial.ts"
import { afterTurn } from "./internal/afterTurn.ts"
import { classify, Running, SocketAgent } from "./internal/nodeHttp.ts"
import { proxyFor } from "./internal/proxy.ts"
import { upgrade } from "./internal/upgrade.ts"

/**
 * Provides the connector.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector> = Layer.sync(Connector, () => ({
  open: (target) => new NodeHttpTransport(target),
  decompress,
  upgrade,
  afterTurn
}))

/** How long before the end that a server announces (`Keep-Alive: timeout`) a connection is given up. */
const keepAliveMargin = 1000

const noop = (): void => {}

const closedByOwner = (): Error => new Error("the connection was closed by its owner")

class NodeHttpTransport implements Transport {
  readonly #target: Target
  readonly #proxyHeaders: ReadonlyArray<string> | undefined
  readonly #agent = new SocketAgent()
  #socket: Socket | undefined = undefined
  /** What will be sent when the connection is made. */
  #waiting: Exchange | undefined = undefined
  #running: Running | undefined = undefined
  #cancelDial: (() => void) | undefined = undefined
  #cancelIdle = noop
  #closed = false

  constructor(target: Target) {
    this.#target = target
    const proxy = target.origin.startsWith("http:") ? proxyFor(target) : undefined
    if (proxy !== undefined) {
      this.#proxyHeaders = proxy.authorization === undefined ? [] : ["proxy-authorization", proxy.authorization]
    }
  }

  send(exchange: Exchange): void {
    if (this.#closed) return exchange.onResponseError(null, closedByOwner())
    this.#cancelIdle()
    if (this.#socket !== undefined && !this.#socket.destroyed) return this.#write(exchange, this.#socket)
    this.#waiting = exchange
    if (this.#cancelDial === undefined) this.#dial()
  }

  cancel(exchange: Exchange): void {
    if (this.#waiting === exchange) this.#waiting = undefined
  }

  retire(): void {
    this.#socket?.destroy()
  }

  readonly close: Effect.Effect<void> = Effect.callback<void>((resume) => {
    this.#closed = true
    const waiting = this.#waiting
    this.#waiting = undefined
    this.#cancelDial?.()
    this.#cancelDial = undefined
    this.#cancelIdle()
    const socket = this.#socket
    if (socket === undefined || socket.closed) resume(Effect.void)
    else socket.once("close", () => resume(Effect.void)).destroy()
    waiting?.onResponseError(null, closedByOwner())
    this.#running?.fail(closedByOwner())
  })

  classify(error: Error): Failure {
    return classify(error)
  }

  #dial(): void {
    this.#cancelDial = dial(this.#target, (result) => {
      this.#cancelDial = undefined
      const exchange = this.#waiting
      this.#waiting = undefined
      if (result instanceof DialError) return exchange?.onResponseError(null, result)
      const { address, millis, socket } = result
      this.#socket = socket
      this.#agent.socket = socket
      socket.once("close", () => {
        if (this.#socket === socket) {
          this.#socket = undefined
          this.#cancelIdle()
        }
        this.#target.observer.disconnected(socket.errored?.message ?? "closed")
      })
      this.#target.observer.connected({ address, millis })
      if (exchange === undefined) this.#idle(socket, Infinity)
      else this.#write(exchange, socket)
    })
  }

  #write(exchange: Exchange, socket: Socket): void {
    this.#running = new Running(exchange, socket, (keepAlive) => {
      this.#running = undefined
      // Before the exchange is told, as it may send the next request at once.
      this.#idle(socket, keepAlive)
    })
    const { options, origin } = this.#target
    this.#running.start({ agent: this.#agent, maxHeaderSize: options.maxHeaderSize }, origin, this.#proxyHeaders)
  }

  /** `promised` is how long the server says that it keeps the connection. */
  #idle(socket: Socket, promised: number): void {
    if (socket.destroyed) return
    socket.unref()
    const limit = Math.min(this.#target.options.idleConnectionTimeout, promised - keepAliveMargin)
    if (limit <= 0) socket.destroy()
    else if (limit !== Infinity) this.#cancelIdle = this.#target.timers.after(limit, () => socket.destroy())
  }
}
