/**
 * A circuit breaker: stops sending to an upstream that fails, for as long as it needs to recover.
 *
 * - **Closed**: attempts pass. Their ends are counted; when a rule says so, the circuit trips.
 * - **Open**: attempts fail with `CircuitOpen` at once, for `openFor`.
 * - **Half-open**: after that, `halfOpenMax` attempts pass as probes, the others still fail. It closes after as many
 *   successes, and opens again on one failure.
 * - **Isolated**: open until told otherwise. Only by hand.
 *
 * What it promises:
 *
 * - It never waits and never sends anything itself.
 * - An attempt that says nothing about the upstream counts for nothing: interrupted, dead of a defect, refused by another
 *   policy, never sent. If it was a probe, another may take its place: no path leaves the circuit half-open for ever.
 * - The end of an attempt that was admitted in an older state changes nothing in a newer one.
 * - Nothing runs in the background: an open circuit becomes half-open when the first attempt asks after `openFor`.
 *
 * One breaker is one circuit, whatever the host: around a client for many hosts put `Policy.perHost(CircuitBreaker.make())`.
 * In a pool every host has its own.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as Timers from "../model/internal/timers.ts"
import type { CircuitOpen } from "../model/PoolError.ts"
import { Circuit, type Deps, EarlyGate } from "./internal/circuit.ts"
import { fields, type Resolved, resolve, rules } from "./internal/circuitBreakerOptions.ts"
import { verdictOf } from "./internal/circuitVerdict.ts"
import { Listeners } from "./internal/listeners.ts"
import { fromGates, type Gate, type Outcome, type Policy } from "./Gate.ts"

/**
 * What a user may say about a circuit breaker. Everything is optional.
 *
 * The rules stand beside each other: the first that trips opens the circuit. The rates look at a window, by count or by
 * time, and need a minimum of calls in it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Failures in a row that trip it; `Infinity`: this alone never does. Default: 5, as Envoy's outlier detection. */
  readonly consecutiveFailures?: number | undefined
  /** The share of failures in the window that trips it, above 0 to 1. Default: none. */
  readonly failureRate?: number | undefined
  /** The share of slow calls in the window that trips it, above 0 to 1; needs `slowCallDuration`. Default: none. */
  readonly slowCallRate?: number | undefined
  /** A call is slow when it takes so long from its admission to the head of its response. Default: none. */
  readonly slowCallDuration?: Duration.Input | undefined
  /** The window of the rates: the last so many calls. Default: 100, as resilience4j. */
  readonly windowCalls?: number | undefined
  /** The window of the rates by time instead, in ten buckets. Default: none. */
  readonly windowDuration?: Duration.Input | undefined
  /** Calls in the window below which no rate trips it. Default: 20, as Hystrix, or `windowCalls` if that is less. */
  readonly minimumCalls?: number | undefined
  /**
   * How long it stays open. Successive openings take the successive delays of a `Schedule`, and its last when it has
   * ended; after the circuit has closed they begin anew. Default: 30 s, as Envoy's `base_ejection_time`.
   */
  readonly openFor?: Duration.Input | Schedule.Schedule<unknown, unknown> | undefined
  /** Probes at once when half-open; it closes after as many successes. Default: 1, as Polly. */
  readonly halfOpenMax?: number | undefined
  /**
   * What counts: `true` is a failure, `false` a success, `undefined` neither. It is asked about every attempt that was
   * sent and has ended with a response, a value or a failure. Default: {@link isFailure}.
   */
  readonly isFailure?: ((outcome: Outcome) => boolean | undefined) | undefined
}

/**
 * What a closed circuit has counted, in the window of the rates; without a rate, since it closed. `consecutiveFailures`
 * knows no window.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counts {
  readonly consecutiveFailures: number
  readonly calls: number
  readonly failures: number
  readonly slowCalls: number
}

/**
 * The state of a circuit. `probes` are under way, `successes` are those that have ended well. An open circuit whose
 * `retryAfter` is zero becomes half-open with the next attempt.
 *
 * @category models
 * @since 0.1.0
 */
export type State =
  | ({ readonly _tag: "Closed" } & Counts)
  | { readonly _tag: "Open"; readonly retryAfter: Duration.Duration }
  | { readonly _tag: "HalfOpen"; readonly probes: number; readonly successes: number }
  | { readonly _tag: "Isolated" }

/**
 * The rule that tripped a circuit.
 *
 * @category models
 * @since 0.1.0
 */
export type TripReason = "consecutiveFailures" | "failureRate" | "slowCallRate"

/**
 * Why a circuit changed its state: a rule, what happened while it was open or half-open, or the operation of that name.
 *
 * @category models
 * @since 0.1.0
 */
export type ChangeReason = TripReason | "elapsed" | "probeFailed" | "probesSucceeded" | "isolate" | "close" | "reset"

/**
 * A change of state, when it has happened. `openFor` is there when it opens.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly from: State["_tag"]
  readonly to: State["_tag"]
  readonly reason: ChangeReason
  readonly openFor: Duration.Duration | undefined
}

/**
 * The state, how often the circuit has opened, and how many attempts it has refused.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly state: State
  readonly opened: number
  readonly rejected: number
}

/**
 * A circuit breaker.
 *
 * @category models
 * @since 0.1.0
 */
export interface CircuitBreaker extends Policy<CircuitOpen> {
  /** Gives permission, or refuses; behind everything that may wait. */
  readonly gate: Gate<CircuitOpen>
  /** Refuses where `gate` would refuse now, and takes nothing; before what may wait, so that nobody waits for a refusal. */
  readonly early: Gate<CircuitOpen>
  readonly state: Effect.Effect<State>
  /** What happens from now on; a listener that is more than 64 changes behind loses the oldest. */
  readonly changes: Stream.Stream<Change>
  /** The state and the counters now, for metrics. */
  readonly snapshot: () => Snapshot
  /** Opens it until {@link CircuitBreaker.close} or {@link CircuitBreaker.reset}. */
  readonly isolate: Effect.Effect<void>
  /** Closes it, whatever it was. A closed one keeps what it has counted. */
  readonly close: Effect.Effect<void>
  /** Makes it as new: closed, with nothing counted, and the first `openFor` next. */
  readonly reset: Effect.Effect<void>
}

/**
 * Which ends are failures, unless `isFailure` says otherwise.
 *
 * Failures: status 408 and 5xx, connections that fail or break, timeouts of an attempt that was begun, answers that
 * cannot be decoded, any other error of an effect. Successes: all other responses, 4xx too, as the host answers; values.
 * Neither: 429, what never reached the upstream (`CircuitOpen`, `RateLimitExceeded`, `PoolSaturated`, `PoolClosed`,
 * `AuthError`, `InvalidRequest`, a timeout without an attempt), interruptions and defects.
 *
 * ```ts
 * import { CircuitBreaker } from "@millrace/core"
 *
 * const breaker = CircuitBreaker.make({
 *   isFailure: (outcome) =>
 *     outcome._tag === "Response" && outcome.response.status === 404 ? true : CircuitBreaker.isFailure(outcome)
 * })
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isFailure: (outcome: Outcome) => boolean | undefined = verdictOf

/**
 * A circuit breaker, closed. Fails with everything that is wrong with the options.
 *
 * ```ts
 * import { CircuitBreaker } from "@millrace/core"
 * import { Effect, Schedule } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const breaker = yield* CircuitBreaker.make({
 *     failureRate: 0.5,
 *     windowDuration: "10 seconds",
 *     openFor: Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])
 *   })
 *   return yield* breaker.guard(Effect.succeed("the answer"))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<CircuitBreaker, ConfigError> =>
  Effect.gen(function* () {
    const resolved = resolve(yield* check(fields, options, rules))
    const timers = Timers.make(yield* Effect.context<never>())
    const random = yield* Random.Random
    return makeUnsafe(resolved, { timers, random: () => random.nextDoubleUnsafe() })
  })

/** @internal */
export const makeUnsafe = (options: Resolved, deps: Deps): CircuitBreaker => new Breaker(options, deps)

/** A pool has one for every host it knows: what a request does not need is made when somebody asks for it. */
class Breaker implements CircuitBreaker {
  readonly gate: Circuit
  readonly early: Gate<CircuitOpen>
  private policy: Policy<CircuitOpen> | undefined
  private listeners: Listeners<Change> | undefined

  constructor(options: Resolved, deps: Deps) {
    this.gate = new Circuit(options, {
      timers: deps.timers,
      random: deps.random,
      onChange: (change) => {
        this.listeners?.tell(change)
        deps.onChange?.(change)
      }
    })
    this.early = new EarlyGate(this.gate)
  }

  get wrap() {
    return this.face.wrap
  }

  get guard() {
    return this.face.guard
  }

  get state() {
    return Effect.sync(() => this.gate.view)
  }

  get changes() {
    this.listeners ??= new Listeners<Change>()
    return this.listeners.stream
  }

  get isolate() {
    return Effect.sync(() => this.gate.isolate())
  }

  get close() {
    return Effect.sync(() => this.gate.close())
  }

  get reset() {
    return Effect.sync(() => this.gate.reset())
  }

  get snapshot() {
    return (): Snapshot => ({ state: this.gate.view, opened: this.gate.opened, rejected: this.gate.rejected })
  }

  private get face(): Policy<CircuitOpen> {
    return (this.policy ??= fromGates([this.gate]))
  }
}
