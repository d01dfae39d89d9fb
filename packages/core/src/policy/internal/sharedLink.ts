/**
 * The way to the store of shared policies, and a breaker of its own around it.
 *
 * | from     | to       | when                                                                                |
 * |----------|----------|-------------------------------------------------------------------------------------|
 * | up       | down     | a call fails, or takes longer than `timeout`; a warning is logged                   |
 * | down     | trying   | a look at the store went well; the first is soon, later ones at growing intervals   |
 * | trying   | up       | a call went well; that the store is back is logged                                  |
 * | trying   | down     | a call failed again: still the same outage                                          |
 * | any      | closed   | the scope has ended                                                                 |
 *
 * While it is down or closed, nobody waits for it: who asks is told at once. A call is answered exactly once, and never
 * within the call itself. What comes after its time is told to `late`, which may give it back.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { Timers } from "../../model/Timers.ts"
import type { Store, StoreError } from "../SharedPolicies.ts"
import type { Resolved } from "./sharedOptions.ts"

/** Milliseconds to the first look: most outages are a connection that broke. */
const firstRetry = 100

/** A reply that takes so many times as long as it may will not come. */
const lost = 10

export interface Deps {
  readonly timers: Timers
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

export class StoreLink {
  readonly options: Resolved
  readonly store: Store
  readonly timers: Timers
  private readonly fork: Deps["fork"]
  private state: "up" | "down" | "trying" | "closed" = "up"
  private delay = firstRetry
  private retryAt = 0
  private cancelRetry: (() => void) | undefined = undefined
  private readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()

  constructor(store: Store, options: Resolved, deps: Deps) {
    this.store = store
    this.options = options
    this.timers = deps.timers
    this.fork = deps.fork
  }

  get available(): boolean {
    return this.state === "up" || this.state === "trying"
  }

  /** Milliseconds until the store is looked at again. */
  get retryAfter(): number {
    return this.state === "closed" ? Infinity : Math.max(0, this.retryAt - this.timers.now())
  }

  /** `done` gets `undefined` when the store does not answer. */
  call<A>(ask: Effect.Effect<A, StoreError>, done: (answer: A | undefined) => void, late?: (answer: A) => void): void {
    this.run(
      ask,
      (exit) => {
        if (Exit.isSuccess(exit)) this.succeeded()
        else this.failed(exit.cause)
        done(Exit.isSuccess(exit) ? exit.value : undefined)
      },
      late
    )
  }

  /** Tells the store what it need not answer. Not while it is down: what it knows of it expires there. */
  tell(ask: Effect.Effect<unknown, StoreError>): void {
    if (this.available) this.call(ask, () => {})
  }

  close(): void {
    this.state = "closed"
    this.cancelRetry?.()
    for (const fiber of this.fibers) fiber.interruptUnsafe()
  }

  private run<A>(
    ask: Effect.Effect<A, StoreError>,
    done: (exit: Exit.Exit<A, StoreError | Cause.TimeoutError>) => void,
    late?: (answer: A) => void
  ): void {
    const { timeout } = this.options
    let waiting = true
    const fiber = this.fork(Effect.andThen(Effect.yieldNow, ask))
    this.fibers.add(fiber)
    let cancel = this.timers.wait(timeout, () => {
      waiting = false
      cancel = this.timers.wait(timeout * (lost - 1), () => fiber.interruptUnsafe())
      done(Exit.fail(new Cause.TimeoutError(`no answer within ${timeout} ms`)))
    })
    fiber.addObserver((exit) => {
      this.fibers.delete(fiber)
      cancel()
      if (waiting) done(exit)
      else if (Exit.isSuccess(exit)) late?.(exit.value)
    })
  }

  private succeeded(): void {
    if (this.state !== "trying") return
    this.state = "up"
    this.delay = firstRetry
    this.fork(
      Effect.logWarning("The store of the shared policies is back: they are kept by all processes together again")
    )
  }

  private failed(cause: Cause.Cause<unknown>): void {
    if (!this.available) return
    if (this.state === "up") this.warn(cause)
    this.state = "down"
    this.retryLater()
  }

  private warn(cause: Cause.Cause<unknown>): void {
    const error = Cause.squash(cause)
    const why = error instanceof Error && error.message !== "" ? error.message : "it was interrupted"
    const consequence =
      this.options.onUnavailable === "local"
        ? "each process keeps the limits for itself until it is back"
        : "requests under them fail until it is back"
    this.fork(Effect.logWarning(`The store of the shared policies does not answer (${why}): ${consequence}`))
  }

  private retryLater(): void {
    const delay = Math.min(this.delay, this.options.retryInterval)
    this.delay = delay * 2
    this.retryAt = this.timers.now() + delay
    this.cancelRetry = this.timers.after(delay, this.retry)
  }

  private readonly retry = (): void => {
    this.run(this.store.check, (exit) => {
      if (this.state !== "down") return
      if (Exit.isSuccess(exit)) this.state = "trying"
      else this.retryLater()
    })
  }
}
