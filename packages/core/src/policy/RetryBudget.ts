/**
 * A limit for all retries together: a share of the requests, and a few each second in any case. So an upstream that
 * fails gets a fifth more requests than before, not four times as many.
 *
 * What it promises: whenever it allows a retry, then in the window that ends with it there are no more retries than
 * `ratio` × requests + `minPerSecond` × window. It keeps 22 numbers, whatever the traffic, and no timer.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as InternalTimers from "../model/internal/timers.ts"
import type { Timers } from "../model/Timers.ts"
import { type Shares, TypeId, WindowBudget } from "./internal/retryBudget.ts"
import { budgetFields, resolveBudget } from "./internal/retryOptions.ts"

/**
 * Requests and retries of some time. Several `Retry` policies may share one.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryBudget {
  readonly [TypeId]: typeof TypeId
  /** Counts a request: the first attempt of a call. */
  readonly deposit: () => void
  /** Counts a retry and says `true`, if there may be one now. */
  readonly withdraw: () => boolean
  /** How many retries there may be now. */
  readonly balance: Effect.Effect<number>
}

/**
 * The defaults are those of Finagle's `RetryBudget`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Retries for each request of the window. Default: 0.2. */
  readonly ratio?: number | undefined
  /** Retries a second that are allowed in any case: clients with few requests need them. Default: 10. */
  readonly minPerSecond?: number | undefined
  /** How long a request counts, and a retry. From 100 ms to 24 days. Default: 10 seconds. */
  readonly window?: Duration.Input | undefined
}

/**
 * A budget for the `budget` option of several policies.
 *
 * Fails with every invalid option at once.
 *
 * ```ts
 * import { Retry, RetryBudget } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const budget = yield* RetryBudget.make({ ratio: 0.1 })
 *   const reads = yield* Retry.make({ budget })
 *   const writes = yield* Retry.make({ maxRetries: 1, budget })
 *   return { reads, writes }
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<RetryBudget, ConfigError> =>
  Effect.gen(function* () {
    const shares = resolveBudget(yield* check<Shares>(budgetFields, options))
    return makeUnsafe(shares, InternalTimers.make(yield* Effect.context<never>()))
  })

/** @internal */
export const makeUnsafe = (shares: Shares, timers: Timers): RetryBudget => {
  const budget = new WindowBudget(shares, timers)
  return {
    [TypeId]: TypeId,
    deposit: () => budget.deposit(),
    withdraw: () => budget.withdraw(),
    balance: Effect.sync(() => budget.balance())
  }
}
