/**
 * Cuts the responses that take too long. Node has no such timeout: its `server.timeout` is about silence.
 *
 * One timer for all; so a response may last a tenth of the time longer than allowed, and at most a second.
 *
 * @since 0.1.0
 */
import type { Exchange } from "./backend.ts"

/** @internal */
export class WriteTimeout {
  readonly #timeout: number
  readonly #running: ReadonlySet<Exchange>
  /** When the request of an exchange was seen to be complete. */
  readonly #since = new WeakMap<Exchange, number>()
  readonly #timer: NodeJS.Timeout | undefined

  constructor(timeout: number, running: ReadonlySet<Exchange>) {
    this.#timeout = timeout
    this.#running = running
    if (timeout !== Infinity) {
      this.#timer = setInterval(() => this.#check(), Math.min(Math.max(timeout / 10, 5), 1000)).unref()
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #check(): void {
    const now = performance.now()
    for (const exchange of this.#running) {
      if (!exchange.request.complete) continue
      const since = this.#since.get(exchange)
      if (since === undefined) this.#since.set(exchange, now)
      else if (now - since >= this.#timeout) exchange.connection.raw.destroy()
    }
  }
}
