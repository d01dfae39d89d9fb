/**
 * A bulkhead: at most `maxConcurrent` attempts at once, at most `maxWaiting` that wait for one of them to end.
 *
 * What it promises:
 *
 * - First come, first served. A permit that gets free belongs to the first in the line before that one is woken, so nobody
 *   who comes meanwhile takes it.
 * - No permit is lost and the line has no holes, whenever an attempt is interrupted: while it waits, when it has been
 *   woken and has not come back, while it runs.
 * - Who finds no place in the line, or waits longer than `maxWait`, fails with `PoolSaturated` whose reason is `bulkhead`.
 *   Nobody is refused or made to wait while a permit is free.
 *
 * A permit is held from admission until the head of the response, an error or an interruption. The body is not under it:
 * what bounds the bodies under way is the number of slots of the pool. A guarded effect holds it to its end.
 *
 * This is the contract of Effect's `Semaphore`, not the thing itself: a gate must answer at once, in a call, and an
 * uncontended `Semaphore` still is an effect, which costs more than the rest of the gates together.
 *
 * One bulkhead is shared by all hosts of the client it is around; `Policy.perHost(Bulkhead.make(...))` makes one for each.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as ClockTimers from "../model/internal/timers.ts"
import type { PoolSaturated } from "../model/PoolError.ts"
import type { Timers } from "../model/Timers.ts"
import { fields, type Resolved, resolve, rules } from "./internal/bulkheadOptions.ts"
import { Permits } from "./internal/permits.ts"
import { fromGates, type Gate, type Policy } from "./Gate.ts"

/**
 * What a user says about a bulkhead.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** At most so many attempts at once, 1 to 1 000 000. Required: only you know what the upstream can bear. */
  readonly maxConcurrent: number
  /**
   * At most so many wait for a permit. Default: 0, as Polly's bulkhead and resilience4j's `maxWaitDuration`: a bulkhead is
   * there so that a slow upstream is felt at once, and a pool has a line of its own.
   */
  readonly maxWaiting?: number | undefined
  /** How long one waits for a permit. Default: none; the other limits of the request rule. */
  readonly maxWait?: Duration.Input | undefined
}

/**
 * `active` permits are held, or kept for one that has just been woken; `waiting` are in the line; `rejected` were refused
 * since the beginning.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly active: number
  readonly waiting: number
  readonly rejected: number
}

/**
 * A bulkhead.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bulkhead extends Policy<PoolSaturated> {
  /** For `Pool.make`'s second argument, where all hosts are to share these permits. */
  readonly gate: Gate<PoolSaturated>
  /** What it holds now, for metrics. */
  readonly snapshot: () => Snapshot
}

/**
 * A bulkhead with all its permits. Fails with everything that is wrong with the options.
 *
 * ```ts
 * import { Bulkhead } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const bulkhead = yield* Bulkhead.make({ maxConcurrent: 10, maxWaiting: 100, maxWait: "1 second" })
 *   return yield* bulkhead.guard(Effect.succeed("the answer"))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Bulkhead, ConfigError> =>
  Effect.gen(function* () {
    const resolved = resolve(yield* check(fields, options, (read) => rules(read, options)))
    return makeUnsafe(resolved, { timers: ClockTimers.make(yield* Effect.context<never>()) })
  })

/** @internal */
export const makeUnsafe = (options: Resolved, deps: { readonly timers: Timers }): Bulkhead =>
  new Wall(options, deps.timers)

/** A pool has one for every host it knows: what a request does not need is made when somebody asks for it. */
class Wall implements Bulkhead {
  readonly gate: Permits
  private policy: Policy<PoolSaturated> | undefined

  constructor(options: Resolved, timers: Timers) {
    this.gate = new Permits(options, timers)
  }

  get wrap() {
    return this.face.wrap
  }

  get guard() {
    return this.face.guard
  }

  get snapshot() {
    return (): Snapshot => ({ active: this.gate.active, waiting: this.gate.waiting, rejected: this.gate.rejected })
  }

  private get face(): Policy<PoolSaturated> {
    return (this.policy ??= fromGates([this.gate]))
  }
}
