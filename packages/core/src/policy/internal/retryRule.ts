/**
 * Whether there is another attempt, and when. It neither sends nor waits: the pool does that on its callbacks, `wrap`
 * and `guard` in an Effect, and both ask here.
 *
 * ```
 *                  isFinal ──► yes: the caller has it
 *                     │ no
 *                     ▼
 * next: retryable? ─► maxRetries? ─► how long? ─► before the deadline? ─► budget? ─► onRetry ──► Again
 *          │ Final       │ Exhausted    │ Exhausted      │ Exhausted        │ Budget
 * ```
 *
 * The budget is asked last: what is not retried for another reason spends nothing of it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import { find, isPoolError, RetryExhausted } from "../../model/PoolError.ts"
import type { Attempt, Outcome } from "../Gate.ts"
import type { RetryInfo } from "../Retry.ts"
import type { RetryBudget } from "../RetryBudget.ts"
import { delayOf } from "./backoff.ts"
import { responseOf } from "./discard.ts"
import { isIdempotent, isReplayable } from "./replayable.ts"
import { parseRetryAfter } from "./retryAfter.ts"
import type { Resolved } from "./retryOptions.ts"
import { isFinal, isTransient, isUnsent } from "./transient.ts"

export type Decision =
  /** Once more, after so many milliseconds. */
  | { readonly _tag: "Again"; readonly delay: number }
  /** It is not retryable. */
  | { readonly _tag: "Final" }
  /** It is, but there is no further retry; so many were made. */
  | { readonly _tag: "Exhausted"; readonly reason: RetryExhausted["reason"]; readonly retries: number }
  /** It is, but all together have retried too often. */
  | { readonly _tag: "Budget" }

type Step = Effect.Success<ReturnType<typeof Schedule.toStep<unknown, Outcome, never, never>>>

/** What is known of a call that was not final at once. */
export interface RetryState {
  retries: number
  /** The last wait in milliseconds, as the backoff had it; 0 before the first. */
  previous: number
  step: Step | undefined
}

export interface Deps {
  readonly random: () => number
  /** Milliseconds since 1970. */
  readonly epoch: () => number
}

const final: Decision = { _tag: "Final" }
const overBudget: Decision = { _tag: "Budget" }

export class Rule {
  private readonly options: Resolved
  private readonly budget: RetryBudget | undefined
  private readonly deps: Deps
  private readonly statuses: ReadonlySet<number>

  constructor(options: Resolved, budget: RetryBudget | undefined, deps: Deps) {
    this.options = options
    this.budget = budget
    this.deps = deps
    this.statuses = new Set(options.statuses)
  }

  /** A call begins. */
  started(): void {
    this.budget?.deposit()
  }

  /** There is nothing to decide. Allocates nothing, and never throws. */
  isFinal(attempt: Attempt, outcome: Outcome): boolean {
    try {
      return !this.isRetryable(attempt, outcome)
    } catch {
      // `while` threw. `next` asks it again, where that is a defect of the call.
      return false
    }
  }

  /** For a call whose first outcome is not final. */
  state(): RetryState {
    return { retries: 0, previous: 0, step: undefined }
  }

  /** `remaining`: milliseconds to the deadline of the call, `Infinity` if it has none. */
  next(state: RetryState, attempt: Attempt, outcome: Outcome, remaining: number): Effect.Effect<Decision> {
    return Effect.suspend(() => {
      if (!this.isRetryable(attempt, outcome)) return Effect.succeed(final)
      if (state.retries >= this.options.maxRetries) return exhausted(state, "maxRetries")
      return Effect.flatMap(this.wait(state, outcome), (wait) => {
        if (wait === undefined) return exhausted(state, "schedule")
        const delay = Math.max(wait, Math.min(this.asked(outcome), this.options.maxRetryAfter))
        if (delay >= remaining) return exhausted(state, "deadline")
        if (this.budget?.withdraw() === false) return Effect.succeed(overBudget)
        state.retries++
        state.previous = wait
        return Effect.as(this.tell(attempt, outcome, delay), { _tag: "Again", delay })
      })
    })
  }

  private isRetryable(attempt: Attempt, outcome: Outcome): boolean {
    const { options } = this
    if (outcome._tag === "Response") {
      if (options.while === undefined && !this.statuses.has(outcome.response.status)) return false
      return this.maySendAgain(attempt, false) && (options.while === undefined || options.while(outcome, attempt))
    }
    if (outcome._tag !== "Failure") return false
    const known = find(outcome.error)
    if (isFinal(known) || !this.maySendAgain(attempt, isUnsent(known))) return false
    if (options.while !== undefined) return options.while(outcome, attempt)
    // Who guards an effect means that its failures are worth another attempt.
    return isTransient(outcome.error, this.statuses, attempt.request === HttpClientRequest.empty)
  }

  private maySendAgain({ request, sent }: Attempt, unsent: boolean): boolean {
    // It has not left the gates: nobody has touched its body.
    if (!sent) return true
    // While a connection is made, a transport may read the body already.
    if (!isReplayable(request.body)) return false
    if (unsent || this.options.retryNonIdempotent || isIdempotent(request.method)) return true
    const key = request.headers["idempotency-key"]
    return key !== undefined && key !== ""
  }

  /** By the backoff or the schedule; `undefined` at the end of the schedule. */
  private wait(state: RetryState, outcome: Outcome): Effect.Effect<number | undefined> {
    const { schedule } = this.options
    if (schedule === undefined) {
      return Effect.succeed(delayOf(this.options, state.retries, state.previous, this.deps.random))
    }
    const step = state.step === undefined ? Schedule.toStep(schedule) : Effect.succeed(state.step)
    return Effect.flatMap(step, (step) => {
      state.step = step
      return Pull.matchEffect(step(this.deps.epoch(), outcome), {
        onSuccess: ([, delay]) => Effect.succeed(Duration.toMillis(delay)),
        onDone: () => Effect.succeed(undefined),
        onFailure: Effect.failCause
      })
    })
  }

  /** How long the server, or the caller's own limit, wants to be left alone. */
  private asked(outcome: Outcome): number {
    if (outcome._tag === "Failure") {
      const known = find(outcome.error)
      if (known?._tag === "RateLimitExceeded") return Duration.toMillis(known.retryAfter)
    }
    return parseRetryAfter(responseOf(outcome)?.headers["retry-after"], this.deps.epoch()) ?? 0
  }

  private tell(attempt: Attempt, cause: Outcome, delay: number): Effect.Effect<void> {
    const { onRetry } = this.options
    if (onRetry === undefined || (cause._tag !== "Response" && cause._tag !== "Failure")) return Effect.void
    return Effect.suspend(() => {
      const info: RetryInfo = {
        attempt: attempt.number,
        cause,
        delay: Duration.millis(delay),
        request: attempt.info
      }
      return onRetry(info) ?? Effect.void
    }).pipe(Effect.catchCause((cause) => Effect.logWarning("onRetry failed; the request goes on", cause)))
  }
}

const exhausted = (state: RetryState, reason: RetryExhausted["reason"]): Effect.Effect<Decision> =>
  Effect.succeed({ _tag: "Exhausted", reason, retries: state.retries })

/**
 * What the caller gets of the last attempt. Its response is unread. An error that no `PoolError` can hold, because it is
 * not one, comes back as it is.
 */
export const result = <A, E>(
  decision: Exclude<Decision, { readonly _tag: "Again" }>,
  exit: Exit.Exit<A, E>,
  outcome: Outcome,
  attempts: number
): Exit.Exit<A, E | RetryExhausted> => {
  if (decision._tag !== "Exhausted" || outcome._tag !== "Failure" || !isPoolError(outcome.error)) return exit
  const { reason, retries } = decision
  // Without a retry nothing was exhausted, but what the deadline forbids the caller would not guess.
  if (retries === 0 && reason !== "deadline") return exit
  const last = outcome.error
  return Exit.fail(new RetryExhausted({ request: last.request, attempts, last, reason }))
}
