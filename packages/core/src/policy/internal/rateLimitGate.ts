/**
 * The rate limit, as attempts and other callers meet it: which attempt waits as whom, what it took, and what its response
 * says about the server's limit. Of an attempt that has ended nothing is kept.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import { RateLimitExceeded, type RequestInfo } from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import type { Attempt, Gate, Outcome } from "../Gate.ts"
import { responseOf } from "./discard.ts"
import { Dispenser, type Waiter } from "./rateLimitDispenser.ts"
import { rawHeadersOf } from "../../model/internal/rawHeaders.ts"
import { pauseOf } from "./rateLimitHeaders.ts"
import type { Resolved } from "./rateLimitOptions.ts"

export interface Deps {
  readonly timers: Timers
  /** Milliseconds since 1970, for the dates in responses. */
  readonly epoch: () => number
  /** A response has made it pause, for so many milliseconds from now. */
  readonly onPause?: ((millis: number) => void) | undefined
}

interface Taken {
  readonly cost: number
  readonly at: number
}

export class RateLimitGate implements Gate<RateLimitExceeded> {
  readonly dispenser: Dispenser
  private readonly options: Resolved
  private readonly deps: Deps
  /** Those that wait, or were granted and have not come back yet. */
  private readonly waiters = new Map<Attempt, Waiter>()
  /** What those took that have been admitted, unless it was one token and their own field could hold when. */
  private readonly taken = new Map<Attempt, Taken>()

  constructor(options: Resolved, deps: Deps) {
    this.options = options
    this.deps = deps
    this.dispenser = new Dispenser(options, deps.timers)
  }

  /** The attempts that it keeps something of. */
  get attempts(): number {
    return this.waiters.size + this.taken.size
  }

  admit(attempt: Attempt): Effect.Effect<void, RateLimitExceeded> | undefined {
    const waiter = this.waiters.size === 0 ? undefined : this.waiters.get(attempt)
    if (waiter !== undefined) return this.again(attempt, waiter)
    const { cost } = this.options
    const tokens = cost === undefined ? 1 : costOf(cost, attempt.request)
    const at = this.dispenser.take(tokens)
    if (at === undefined) return this.wait(attempt, tokens)
    this.admitted(attempt, tokens, at)
    return undefined
  }

  settle(attempt: Attempt, outcome: Outcome): void {
    const taken = this.forget(attempt)
    if (attempt.sent) {
      if (this.options.respectHeaders) this.heed(outcome)
    } else if (taken !== undefined) this.dispenser.giveBack(taken.cost, taken.at)
  }

  abandon(attempt: Attempt): void {
    const waiter = this.waiters.get(attempt)
    if (waiter === undefined) return
    this.waiters.delete(attempt)
    this.dispenser.leave(waiter)
  }

  /** Tokens for whoever it is; answers how long that took, in milliseconds. */
  acquire(count: number): Effect.Effect<number, RateLimitExceeded> {
    const { dispenser } = this
    return Effect.suspend(() => {
      let waiter: Waiter | undefined
      const enter = Effect.suspend((): Effect.Effect<number, RateLimitExceeded> => {
        const tokens = whole(count)
        if (dispenser.take(tokens) !== undefined) return Effect.succeed(0)
        const joined = dispenser.join(tokens)
        if (typeof joined === "number") return Effect.fail(exceeded(direct, 0, joined))
        waiter = joined
        return Effect.flatMap(woken(joined), () =>
          joined.state === "granted"
            ? Effect.succeed(joined.at - joined.since)
            : Effect.fail(exceeded(direct, 0, joined.at))
        )
      })
      // Nobody joins before its end is provided for.
      return Effect.onExit(enter, (exit) =>
        Effect.sync(() => {
          if (waiter !== undefined && Exit.isFailure(exit)) dispenser.leave(waiter)
        })
      )
    })
  }

  private admitted(attempt: Attempt, cost: number, at: number): void {
    if (cost === 1 && attempt.takenAt === undefined) attempt.takenAt = at
    else this.taken.set(attempt, { cost, at })
  }

  /** What it took, where that can still be given back. */
  private forget(attempt: Attempt): Taken | undefined {
    const taken = this.taken.size === 0 ? undefined : this.taken.get(attempt)
    if (taken !== undefined) {
      this.taken.delete(attempt)
      return taken
    }
    const at = attempt.takenAt
    attempt.takenAt = undefined
    // Nothing is made for what is nearly never asked for.
    return at === undefined || attempt.sent ? undefined : { cost: 1, at }
  }

  private wait(attempt: Attempt, cost: number): Effect.Effect<void, RateLimitExceeded> {
    const joined = this.dispenser.join(cost)
    if (typeof joined === "number") return refuse(attempt, joined)
    this.waiters.set(attempt, joined)
    return woken(joined)
  }

  /** It comes back from its wait, maybe before its time. */
  private again(attempt: Attempt, waiter: Waiter): Effect.Effect<void, RateLimitExceeded> | undefined {
    switch (waiter.state) {
      case "waiting":
        return woken(waiter)
      case "refused":
        return refuse(attempt, waiter.at)
      case "granted":
        this.waiters.delete(attempt)
        this.admitted(attempt, waiter.cost, waiter.at)
        return undefined
    }
  }

  private heed(outcome: Outcome): void {
    const response = responseOf(outcome)
    if (response === undefined) return
    const pause = pauseOf(response.status, rawHeadersOf(response), this.deps.epoch)
    if (pause === undefined || pause === 0) return
    const capped = Math.min(pause, this.options.maxPause)
    this.dispenser.extendPause(capped)
    this.deps.onPause?.(capped)
  }
}

/** Waits until somebody has decided about it. It has nothing to clean up: who stops waiting says so. */
const woken = (waiter: Waiter): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (waiter.state === "waiting") waiter.wake = () => resume(Effect.void)
    else resume(Effect.void)
  })

const direct: RequestInfo = { method: "acquire", url: "rateLimit" }

const refuse = (attempt: Attempt, wait: number): Effect.Effect<never, RateLimitExceeded> =>
  Effect.fail(exceeded(attempt.info, attempt.number - 1, wait))

const exceeded = (request: RequestInfo, attempts: number, wait: number): RateLimitExceeded =>
  new RateLimitExceeded({ request, attempts, retryAfter: Duration.millis(Math.ceil(wait)) })

export const costOf = (cost: (request: HttpClientRequest) => number, request: HttpClientRequest): number =>
  whole(cost(request))

const whole = (count: number): number => {
  if (count >= 0) return Math.ceil(count)
  throw new RangeError(`A cost must be a number of tokens, at least 0, not ${count}`)
}
