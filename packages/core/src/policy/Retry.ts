/**
 * More than one attempt for a call.
 *
 * What it promises:
 *
 * - There are never more than `maxRetries` + 1 attempts, whatever mix of statuses and errors they end with.
 * - Nothing is sent twice that must not be: methods that are not idempotent only with an `idempotency-key`, by
 *   `retryNonIdempotent`, or where nothing was sent; a body that can be read once never.
 * - `Retry-After` is a lower bound of the wait, up to `maxRetryAfter`. A wait that would end after the deadline is not
 *   begun.
 * - When retries run out on a response, the caller has that response, unread. A failure is `RetryExhausted`.
 * - Interruption ends a wait at once, and leaves nothing.
 *
 * It is not a gate but the loop around them: every attempt passes all gates.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Random from "effect/Random"
import type * as Schedule from "effect/Schedule"
import type { ConfigError } from "../model/ConfigError.ts"
import type { RequestInfo, RetryExhausted } from "../model/PoolError.ts"
import { check } from "../model/internal/check.ts"
import * as InternalTimers from "../model/internal/timers.ts"
import type { Timers } from "../model/Timers.ts"
import type { Jitter } from "./internal/backoff.ts"
import { abort, drain, responseOf } from "./internal/discard.ts"
import { outcomeOf, Passage } from "./internal/passage.ts"
import { isRetryBudget } from "./internal/retryBudget.ts"
import { fields, type Given, resolve, type Resolved, rules } from "./internal/retryOptions.ts"
import * as InternalRule from "./internal/retryRule.ts"
import { around, type Attempt, type Outcome, type Policy } from "./Gate.ts"
import * as RetryBudget from "./RetryBudget.ts"

// -----------------------------------------------------------------------------
// models
// -----------------------------------------------------------------------------

/**
 * What `onRetry` is told: that an attempt has ended so, and when the next one begins.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryInfo {
  /** The number of the attempt that has ended; 1 for the first of its call. */
  readonly attempt: number
  /** What it ended with. Its response will be discarded: its body must not be read. */
  readonly cause: Extract<Outcome, { readonly _tag: "Response" | "Failure" }>
  /** The wait before the next attempt. */
  readonly delay: Duration.Duration
  readonly request: RequestInfo
}

/**
 * Is told of every retry, before its wait; an effect is waited for. What it dies of is logged as a warning, and the retry
 * goes on.
 *
 * @category models
 * @since 0.1.0
 */
export type OnRetry = (info: RetryInfo) => Effect.Effect<void> | void

/**
 * Whether a failure or a response is worth another attempt. It may be asked twice about one attempt, and must not read
 * the response. What it throws is a defect of the call.
 *
 * @category models
 * @since 0.1.0
 */
export type While = (outcome: Outcome, attempt: Attempt) => boolean

/**
 * Says how long to wait; it sees what the attempt ended with.
 *
 * @category models
 * @since 0.1.0
 */
export type RetrySchedule = Schedule.Schedule<unknown, Outcome>

/**
 * All that can be set.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Attempts after the first, at most; 0 to 100. Default: 3. */
  readonly maxRetries?: number | undefined
  /** Statuses of responses that are worth another attempt. Default: 408, 429, 500, 502, 503, 504. */
  readonly statuses?: ReadonlyArray<number> | undefined
  /** The wait before the first retry. Default: 1 second. */
  readonly initialDelay?: Duration.Input | undefined
  /** By this each further wait is longer; `decorrelated` does not use it. Default: 2. */
  readonly multiplier?: number | undefined
  /** The longest wait, unless the server asks for more. Default: 30 seconds. */
  readonly maxDelay?: Duration.Input | undefined
  /**
   * How waits are spread, so that clients do not come back together: `proportional` strays by `jitterFactor`; `full`,
   * `equal` and `decorrelated` are those of "Exponential Backoff And Jitter" (AWS Architecture Blog). Default:
   * proportional.
   */
  readonly jitter?: Jitter | undefined
  /** How far `proportional` strays, from 0 to 1. Default: 0.1, which is ± 10 %. */
  readonly jitterFactor?: number | undefined
  /** The most that is waited because of a `Retry-After`. Default: 60 seconds. */
  readonly maxRetryAfter?: Duration.Input | undefined
  /** Whether POST, PATCH and others that are not idempotent are sent again without an `idempotency-key`. Default: false. */
  readonly retryNonIdempotent?: boolean | undefined
  /** Says how long to wait, instead of the backoff; its end ends the retries. `maxRetries` holds as well. */
  readonly schedule?: RetrySchedule | undefined
  /**
   * Says what is worth another attempt, instead of the default. It cannot say so of what is never retried: a request that
   * must not be sent twice, `CircuitOpen`, `PoolSaturated`, `PoolClosed`, `RetryExhausted`, and `requestTimeout`.
   */
  readonly while?: While | undefined
  /** Is told of every retry. */
  readonly onRetry?: OnRetry | undefined
  /** What all retries together may be; a budget that others share; `false` for no limit. Default: 20 % and 10 a second. */
  readonly budget?: RetryBudget.Options | RetryBudget.RetryBudget | false | undefined
}

/**
 * A retry policy. All calls through one share its budget.
 *
 * `guard` runs an effect again, whatever it does: guard only what may happen twice. It retries all failures but those of
 * this library that another attempt cannot help. `wrap` retries, of errors that it does not know, transport errors and
 * timeouts. Errors that are not `PoolError`s come back as they are when retries run out, not as `RetryExhausted`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Retry extends Policy<RetryExhausted> {}

// -----------------------------------------------------------------------------
// constructors
// -----------------------------------------------------------------------------

/**
 * A retry policy for any client, and any effect. It knows no deadline: an `Effect.timeout` around it interrupts it.
 *
 * Fails with every invalid option at once.
 *
 * ```ts
 * import { Retry } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpClient } from "effect/http"
 *
 * const program = Effect.gen(function* () {
 *   const retry = yield* Retry.make({ maxRetries: 2, initialDelay: "200 millis", jitter: "full" })
 *   const client = retry.wrap(yield* HttpClient.HttpClient)
 *   return yield* client.get("https://api.test/users")
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Retry, ConfigError> =>
  Effect.gen(function* () {
    const resolved = resolve(yield* check<Given>(fields, options, rules))
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const rule = makeUnsafe(resolved, {
      timers: InternalTimers.make(yield* Effect.context<never>()),
      random: () => random.nextDoubleUnsafe(),
      epoch: () => clock.currentTimeMillisUnsafe()
    })
    return {
      wrap: (client) => around(client, (request, send) => loop(rule, request, (attempt) => send(attempt.request))),
      guard: (effect) => loop(rule, undefined, () => effect)
    }
  })

/** @internal */
export interface Deps extends InternalRule.Deps {
  /** For the budget. */
  readonly timers: Timers
}

/** @internal */
export type Rule = InternalRule.Rule

/** @internal */
export type RetryState = InternalRule.RetryState

/** @internal */
export type Decision = InternalRule.Decision

/** @internal */
export const makeUnsafe = (options: Resolved, deps: Deps): Rule => {
  const { budget } = options
  const shared = budget === false || isRetryBudget(budget) ? budget : RetryBudget.makeUnsafe(budget, deps.timers)
  return new InternalRule.Rule(options, shared === false ? undefined : shared, deps)
}

/** @internal */
export const result = InternalRule.result

// -----------------------------------------------------------------------------
// the loop
// -----------------------------------------------------------------------------

const loop = <A, E, R>(
  rule: Rule,
  request: Attempt["request"] | undefined,
  run: (attempt: Attempt) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | RetryExhausted, R> =>
  // A response that came is in the hands of the caller, or discarded.
  Effect.uninterruptibleMask((restore) => {
    let state: RetryState | undefined
    const attemptNumber = (number: number): Effect.Effect<A, E | RetryExhausted, R> => {
      const attempt = new Passage([], request, number, request === undefined ? "effect" : undefined)
      attempt.enter()
      return Effect.flatMap(Effect.exit(restore(run(attempt))), (exit) => ended(attempt, exit))
    }
    const ended = (attempt: Attempt, exit: Exit.Exit<A, E>): Effect.Effect<A, E | RetryExhausted, R> => {
      const outcome = outcomeOf(exit)
      if (rule.isFinal(attempt, outcome)) return exit
      state ??= rule.state()
      const response = responseOf(outcome)
      const next = rule.next(state, attempt, outcome, Infinity)
      const decided = response === undefined ? restore(next) : discarding(response, next, restore)
      return Effect.flatMap(decided, (decision) =>
        decision._tag === "Again"
          ? Effect.flatMap(restore(Effect.sleep(decision.delay)), () => attemptNumber(attempt.number + 1))
          : result(decision, exit, outcome, attempt.number)
      )
    }
    rule.started()
    return attemptNumber(1)
  })

/** A response that nobody will have is read if that is soon done, aborted if not, and at any interruption. */
const discarding = (
  response: HttpClientResponse,
  next: Effect.Effect<Decision>,
  restore: (effect: Effect.Effect<Decision>) => Effect.Effect<Decision>
): Effect.Effect<Decision> =>
  restore(Effect.tap(next, ({ _tag }) => (_tag === "Again" ? drain(response) : Effect.void))).pipe(
    Effect.onError(() => abort(response))
  )
