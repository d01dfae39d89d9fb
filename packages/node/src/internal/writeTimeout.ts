/**
 * Cuts the responses that take too long. Node has no such timeout: its `server.timeout` is about silence.
 *
 * One timer for all; so a response may last a tenth of the time longer than allowed, and at most a second.
 *
 * @since 0.1.0
 */
import type { ServerResponse } from "node:http"
import type { Connection } from "./connection.ts"

/** @internal */
export class WriteTimeout {
  readonly #timeout: number
  readonly #connections: Iterable<Connection>
  /** When the request of a response was seen to be complete. */
  readonly #since = new WeakMap<ServerResponse, number>()
  readonly #timer: NodeJS.Timeout | undefined

  constructor(timeout: number, connections: Iterable<Connection>) {
    this.#timeout = timeout
    this.#connections = connections
    if (timeout !== Infinity) {
      this.#timer = setInterval(() => this.#check(), Math.min(Math.max(timeout / 10, 5), 1000)).unref()
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #check(): void {
    const now = performance.now()
    for (const connection of this.#connections) {
      for (const response of connection.responses) {
        if (!response.req.complete) continue
        const since = this.#since.get(response)
        if (since === undefined) this.#since.set(response, now)
        else if (now - since >= this.#timeout) connection.cut()
      }
    }
  }
}
