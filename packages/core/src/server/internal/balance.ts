/**
 * Which of several targets gets a request.
 *
 * A target is passed over while its circuit is open, and for a while after it could not be connected to. When all are, one
 * is asked nevertheless: it may be better, and nothing is lost.
 */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Order from "effect/Order"
import type { Pool } from "../../client/Pool.ts"
import type { PoolError } from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import { isIdempotent } from "../../policy/internal/replayable.ts"

export class Target {
  readonly pool: Pool
  readonly base: URL | undefined
  /** What stands before a path: empty where the pool's own base URL does. */
  readonly prefix: string
  pending = 0
  requests = 0
  /** Of those that are pending, the WebSockets. */
  webSockets = 0
  /** It is passed over until then. */
  outUntil = -Infinity

  constructor(pool: Pool, base: URL | undefined) {
    this.pool = pool
    this.base = base
    this.prefix = base === undefined ? "" : base.origin + base.pathname.replace(/\/+$/, "")
  }

  /** The path and query under it. */
  urlOf(path: string, query: string | undefined): string {
    return `${this.prefix}${path}${query === undefined ? "" : `?${query}`}`
  }
}

/** None of the request has reached a server: another may get it, whatever its method. */
export const neverSent = (error: PoolError, method: string): boolean => {
  switch (error._tag) {
    case "ConnectError":
      return !error.sent
    case "TimeoutError":
      return error.phase === "dial" || error.phase === "tls"
    case "CircuitOpen":
    case "PoolClosed":
      return true
    case "PoolSaturated":
      // Whoever has waited for a slot as long as they may, has waited long enough.
      return error.reason !== "acquireTimeout"
    case "RetryExhausted":
      // An attempt before the last may have been sent.
      return isIdempotent(method) && neverSent(error.last, method)
    default:
      return false
  }
}

/** The target itself is at fault, as far as one request can know. */
const unreachable = (error: PoolError): boolean => {
  if (error._tag === "RetryExhausted") return unreachable(error.last)
  if (error._tag === "ConnectError") return !error.sent && error.phase !== "request" && error.phase !== "response"
  if (error._tag === "TimeoutError") return error.phase === "dial" || error.phase === "tls"
  return error._tag === "PoolClosed"
}

const fewerPending = Order.mapInput(Order.Number, (target: Target) => target.pending)

export interface Settings {
  readonly strategy: "roundRobin" | "leastPending"
  readonly failTimeout: number
}

export class Balancer {
  readonly targets: Arr.NonEmptyReadonlyArray<Target>
  readonly #settings: Settings
  readonly #timers: Timers
  #next = 0

  constructor(targets: Arr.NonEmptyReadonlyArray<Target>, settings: Settings, timers: Timers) {
    this.targets = targets
    this.#settings = settings
    this.#timers = timers
  }

  /** The next; where all are out, the first in turn. */
  readonly choose: Effect.Effect<Target> = Effect.suspend(() => {
    const order = this.#order(this.#next)
    return Effect.map(this.#firstIn(order), (first) => {
      const target = first ?? order[0]
      // Behind the one that gets it, not behind the turn: or the next of one that is out would get twice as much.
      this.#next = (this.targets.indexOf(target) + 1) % this.targets.length
      return target
    })
  })

  /** Another one, if there is one that is not out. */
  other(than: Target): Effect.Effect<Target | undefined> {
    return Effect.suspend(() =>
      this.#firstIn(this.#order(this.targets.indexOf(than)).filter((target) => target !== than))
    )
  }

  failed(target: Target, error: PoolError): void {
    if (unreachable(error)) target.outUntil = this.#timers.now() + this.#settings.failTimeout
  }

  /** Its address answers. */
  reached(target: Target): void {
    target.outUntil = -Infinity
  }

  isOut(target: Target): Effect.Effect<boolean> {
    if (target.outUntil > this.#timers.now()) return Effect.succeed(true)
    if (target.base === undefined) return Effect.succeed(false)
    return Effect.map(target.pool.hostPolicies(target.base), (policies) => {
      const state = Option.getOrUndefined(policies)?.circuitBreaker?.snapshot().state
      // An open one whose time is over waits for the attempt that makes it half-open.
      return state?._tag === "Isolated" || (state?._tag === "Open" && Duration.toMillis(state.retryAfter) > 0)
    })
  }

  // ------------------------------------------------------------------ private

  /** All of them, the one at `start` first. */
  #order(start: number): Arr.NonEmptyReadonlyArray<Target> {
    const order = Arr.rotate(this.targets, -start)
    return this.#settings.strategy === "leastPending" ? Arr.sort(order, fewerPending) : order
  }

  #firstIn(order: ReadonlyArray<Target>): Effect.Effect<Target | undefined> {
    const [first, ...rest] = order
    if (first === undefined) return Effect.succeed(undefined)
    return Effect.flatMap(this.isOut(first), (out) => (out ? this.#firstIn(rest) : Effect.succeed(first)))
  }
}
