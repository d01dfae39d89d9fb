/**
 * Rate limits and circuit breakers that all processes keep together, in a store such as Redis.
 *
 * They take the options of {@link RateLimit} and {@link CircuitBreaker} and mean the same by them. A pool asks the
 * {@link SharedPolicies} of its context, if there are any, when it makes the policies of a host; so does
 * {@link rateLimit} and {@link circuitBreaker} for use alone. `@millrace/node` has the one for Redis.
 *
 * What they promise while the store answers:
 *
 * - All processes together never take more than the limit, whatever their clocks say: the store's clock counts.
 * - A circuit that one process opens is open for all: at once for those that wait for the store, for the others within
 *   `maxStaleness`. All processes together never have more than `halfOpenMax` probes under way.
 * - An attempt that is interrupted, at whatever moment, gives back what the store has given for it.
 *
 * And when it does not:
 *
 * - Nobody waits for it longer than `timeout`, and after the first failure nobody waits at all until it is back: the
 *   attempts go to a policy of the process alone, or fail, as `onUnavailable` says.
 * - One warning when it is gone, one when it is back.
 * - What was told to it at that moment may be lost. Tokens are then fewer than allowed, not more, until they come anew;
 *   a probe's place is free again after 30 s, or `openFor` if that is longer.
 *
 * They never keep an order between processes: among the attempts of one, who comes first is served first; between two, who
 * asks first.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as Timers from "../model/internal/timers.ts"
import type { CircuitOpen, RateLimitExceeded } from "../model/PoolError.ts"
import * as CircuitBreaker from "./CircuitBreaker.ts"
import * as CircuitOptions from "./internal/circuitBreakerOptions.ts"
import * as LimitOptions from "./internal/rateLimitOptions.ts"
import { SharedCircuitGate } from "./internal/sharedCircuit.ts"
import { SharedLimitGate } from "./internal/sharedLimit.ts"
import { StoreLink } from "./internal/sharedLink.ts"
import { fields, resolve } from "./internal/sharedOptions.ts"
import { fromGates, type Gate, type Policy } from "./Gate.ts"
import * as RateLimit from "./RateLimit.ts"

/**
 * What holds for all shared policies of a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * While the store does not answer: `local`, each process keeps the whole limit, and a circuit, for itself; `fail`,
   * requests fail with `RateLimitExceeded` or `CircuitOpen`, whose `reason` is `storeUnavailable`. Default: `local`.
   */
  readonly onUnavailable?: "local" | "fail" | undefined
  /** How long the store may take to answer. Default: 250 ms. */
  readonly timeout?: Duration.Input | undefined
  /**
   * How old what is known of a closed circuit may be before the store is asked again. 0: it is asked before each request.
   * Default: 100 ms.
   */
  readonly maxStaleness?: Duration.Input | undefined
  /** The longest time between two looks at a store that does not answer; the first is after 100 ms. Default: 1 s. */
  readonly retryInterval?: Duration.Input | undefined
}

/**
 * What the pool uses of a rate limit.
 *
 * @category models
 * @since 0.1.0
 */
export interface LimitFace {
  readonly gate: Gate<RateLimitExceeded>
  readonly snapshot: () => RateLimit.Stats
}

/**
 * What the pool uses of a circuit breaker. `early` stands before what may wait, and refuses where it is known that `gate`
 * would.
 *
 * @category models
 * @since 0.1.0
 */
export interface CircuitFace {
  readonly gate: Gate<CircuitOpen>
  readonly early: Gate<CircuitOpen>
  readonly snapshot: () => CircuitBreaker.Snapshot
}

/**
 * Makes shared policies out of the options of local ones. Who uses the same `key` with the same store shares the policy;
 * `local` is the policy that takes its place while the store is gone.
 *
 * @category models
 * @since 0.1.0
 */
export interface SharedPolicies {
  readonly rateLimit: (
    key: string,
    options: LimitOptions.Resolved,
    local: LimitFace,
    onPause?: (millis: number) => void
  ) => LimitFace
  readonly circuitBreaker: (
    key: string,
    options: CircuitOptions.Resolved,
    local: CircuitFace,
    /** What this process sees of the changes of state, whoever made them. */
    onChange?: (change: CircuitBreaker.Change) => void
  ) => CircuitFace
}

/**
 * The shared policies of the context. Default: none, all policies are those of the process.
 *
 * @category references
 * @since 0.1.0
 */
export const SharedPolicies: Context.Reference<SharedPolicies | undefined> = Context.Reference<
  SharedPolicies | undefined
>("@millrace/core/policy/SharedPolicies", { defaultValue: () => undefined })

/**
 * The store did not do what it was asked.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreError extends Data.TaggedError("StoreError")<{
  /** For a log: without secrets. */
  readonly reason: string
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.reason
  }
}

/**
 * A limit in a store. Times are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface SharedLimit {
  readonly key: string
  readonly algorithm: LimitOptions.Resolved["algorithm"]
  readonly limit: number
  readonly interval: number
  /** The most that can be taken at once. */
  readonly capacity: number
}

/**
 * What the store said to a question for tokens.
 *
 * @category models
 * @since 0.1.0
 */
export interface Taken {
  /** How many of those asked for, from the first on, have their tokens. */
  readonly granted: number
  /** Milliseconds until the next one can have its own; 0 when all have. */
  readonly wait: number
  /** When, by the store's clock and in its unit, and in which of its entries these tokens were taken. */
  readonly at: number
  readonly entry: number
  /** Whole tokens that are left. */
  readonly available: number
}

/**
 * A circuit in a store. Times are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface SharedCircuit extends Omit<CircuitOptions.Resolved, "openFor" | "isFailure" | "slowCallDuration"> {
  readonly key: string
  /** How long a probe that is not heard of keeps its place, at least; or as long as the circuit was open. */
  readonly lease: number
}

/**
 * The state of a circuit in a store. Times are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface CircuitView {
  readonly state: "Closed" | "Open" | "HalfOpen"
  /** Another with every change of state. */
  readonly generation: number
  /** How often it has opened since it was closed. */
  readonly openings: number
  /** Until it may be half-open, or until it is worthwhile to ask for a probe again. */
  readonly remaining: number
  /** How long it was to stay open, when it last opened. */
  readonly openFor: number
  /** Why it has this state; `undefined` when it never had another. */
  readonly reason: CircuitBreaker.ChangeReason | undefined
  readonly counts: CircuitBreaker.Counts
  readonly probes: number
  readonly successes: number
}

/**
 * What the store said to those who want to pass a circuit: its state, and the leases of the probes if it is half-open.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entered {
  readonly view: CircuitView
  readonly leases: ReadonlyArray<number>
}

/**
 * The port to what keeps the policies of all processes. Each operation is one step: nobody sees half of it. All that is
 * stored expires when it is not used any more.
 *
 * An end of an attempt is a digit: 0 for a success; plus 1 if it failed, plus 2 if it was slow.
 *
 * @category ports
 * @since 0.1.0
 */
export interface Store {
  /** Takes tokens for as many as there are for, from the first on. `waited`: they go one by one, at the limit's pace. */
  readonly take: (limit: SharedLimit, costs: ReadonlyArray<number>, waited: boolean) => Effect.Effect<Taken, StoreError>
  /** Never makes room for more than the limit allows. */
  readonly giveBack: (
    limit: SharedLimit,
    tokens: { readonly count: number; readonly at: number; readonly entry: number }
  ) => Effect.Effect<void, StoreError>
  /** Nobody gets tokens for so many milliseconds; it only makes a running pause longer. */
  readonly pause: (limit: SharedLimit, millis: number) => Effect.Effect<void, StoreError>
  /** The state for those who want to pass, and up to `probes` leases if it is half-open or can become so. */
  readonly enter: (circuit: SharedCircuit, probes: number) => Effect.Effect<Entered, StoreError>
  /** Counts ends of attempts, if it is still that generation; it may trip, then for `openFor`. */
  readonly record: (
    circuit: SharedCircuit,
    of: { readonly generation: number; readonly ends: string; readonly openFor: number }
  ) => Effect.Effect<CircuitView, StoreError>
  /** The end of a probe; `undefined`: it says nothing, and another may take its place. */
  readonly endProbe: (
    circuit: SharedCircuit,
    of: {
      readonly generation: number
      readonly lease: number
      readonly end: number | undefined
      readonly openFor: number
    }
  ) => Effect.Effect<CircuitView, StoreError>
  /** Does as little as shows that it can do the others. */
  readonly check: Effect.Effect<void, StoreError>
}

/**
 * Shared policies in a store, until the scope ends; after that they are local, or fail. Fails with everything that is
 * wrong with the options.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (store: Store, options: Options = {}): Effect.Effect<SharedPolicies, ConfigError, Scope.Scope> =>
  Effect.gen(function* () {
    const resolved = resolve(yield* check(fields, options))
    const services = yield* Effect.context<never>()
    const random = yield* Random.Random
    const clock = Context.get(services, Clock.Clock)
    const link = new StoreLink(store, resolved, {
      timers: Timers.make(services),
      fork: Effect.runForkWith(services)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => link.close()))
    return {
      rateLimit: (key, limit, local, onPause) => {
        const epoch = (): number => clock.currentTimeMillisUnsafe()
        const gate = new SharedLimitGate(key, limit, local, { link, epoch, onPause })
        return { gate, snapshot: () => gate.snapshot() }
      },
      circuitBreaker: (key, circuit, local, onChange) => {
        const gate = new SharedCircuitGate(key, circuit, local, {
          link,
          random: () => random.nextDoubleUnsafe(),
          onChange
        })
        return { gate, early: gate.early, snapshot: () => gate.snapshot() }
      }
    }
  })

/**
 * Provides shared policies in a store.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (store: Store, options?: Options): Layer.Layer<never, ConfigError> =>
  Layer.effect(SharedPolicies, make(store, options))

/**
 * A rate limit that all processes keep together who use the same key; one of this process where the context has no shared
 * policies. Fails with everything that is wrong with the options.
 *
 * ```ts
 * import { SharedPolicies } from "@millrace/core"
 * import * as Effect from "effect/Effect"
 *
 * const program = Effect.gen(function* () {
 *   const limit = yield* SharedPolicies.rateLimit("geocoder", { limit: 100, interval: "1 second" })
 *   return yield* limit.guard(Effect.succeed("the answer"))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const rateLimit = (
  key: string,
  options: RateLimit.Options
): Effect.Effect<Policy<RateLimitExceeded> & LimitFace, ConfigError> =>
  Effect.gen(function* () {
    const resolved = LimitOptions.resolve(
      yield* check<LimitOptions.Given>(LimitOptions.fields, options, (given) => LimitOptions.rules(given, options))
    )
    const services = yield* Effect.context<never>()
    const clock = Context.get(services, Clock.Clock)
    const local = RateLimit.makeUnsafe(resolved, {
      timers: Timers.make(services),
      epoch: () => clock.currentTimeMillisUnsafe()
    })
    const face = (yield* SharedPolicies)?.rateLimit(key, resolved, local) ?? local
    return { ...fromGates([face.gate], "rateLimit"), gate: face.gate, snapshot: face.snapshot }
  })

/**
 * A circuit breaker that all processes keep together who use the same key; one of this process where the context has no
 * shared policies. Fails with everything that is wrong with the options.
 *
 * ```ts
 * import { SharedPolicies } from "@millrace/core"
 * import * as Effect from "effect/Effect"
 *
 * const program = Effect.gen(function* () {
 *   const breaker = yield* SharedPolicies.circuitBreaker("geocoder", { failureRate: 0.5 })
 *   return yield* breaker.guard(Effect.succeed("the answer"))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const circuitBreaker = (
  key: string,
  options: CircuitBreaker.Options = {}
): Effect.Effect<Policy<CircuitOpen> & CircuitFace, ConfigError> =>
  Effect.gen(function* () {
    const resolved = CircuitOptions.resolve(yield* check(CircuitOptions.fields, options, CircuitOptions.rules))
    const random = yield* Random.Random
    const local = CircuitBreaker.makeUnsafe(resolved, {
      timers: Timers.make(yield* Effect.context<never>()),
      random: () => random.nextDoubleUnsafe()
    })
    const face = (yield* SharedPolicies)?.circuitBreaker(key, resolved, local) ?? local
    return { ...fromGates([face.gate]), gate: face.gate, early: face.early, snapshot: face.snapshot }
  })
