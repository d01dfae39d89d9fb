/**
 * No more requests than a limit allows; those above it wait in a line, or fail at once.
 *
 * What it promises:
 *
 * - Attempts, not calls, take tokens: that is what the server sees. One that was never sent gives its tokens back.
 * - First come, first served, whatever each costs. A caller that is interrupted gives its place back and loses no token,
 *   not even one that was already kept for it.
 * - Those who wait are let go one by one, as tokens come; never all at one instant, and there is no burst after a wait.
 * - Whoever would have to wait longer than `maxWait`, finds `maxQueue` waiting, or asks for more than there can ever be,
 *   fails at once with `RateLimitExceeded`. A pause that makes a wait too long ends it in the same way.
 * - A server that says that it has had enough is left alone until it says, but no longer than `maxPause`.
 *
 * What each algorithm promises, of tokens that were taken and used:
 *
 * | `algorithm`      | in any time t                                          | memory              |
 * | ---------------- | ------------------------------------------------------ | ------------------- |
 * | `tokenBucket`    | at most burst + limit × t / interval                   | constant            |
 * | `slidingWindow`  | at most limit, for t = interval, wherever it begins    | 8 bytes × limit     |
 * | `slidingCounter` | at most limit × (1 + t / interval), for t ≤ interval   | constant            |
 *
 * It never limits how many requests are under way at once (a bulkhead does that), never looks at other processes, and
 * keeps nothing of an attempt that has ended. A policy is one limit: for one per host, `Policy.perHost`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as Timers from "../model/internal/timers.ts"
import type { RateLimitExceeded } from "../model/PoolError.ts"
import { type Deps, RateLimitGate } from "./internal/rateLimitGate.ts"
import { fields, type Given, resolve, type Resolved, rules } from "./internal/rateLimitOptions.ts"
import { fromGates, type Gate, type Policy } from "./Gate.ts"

/**
 * How much, and what happens above that.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Tokens for each `interval`. A request costs one, unless `cost` says otherwise. */
  readonly limit: number
  /** The time that `limit` is for, up to 24 days. */
  readonly interval: Duration.Input
  /** How tokens are counted. Default: `tokenBucket`. */
  readonly algorithm?: "tokenBucket" | "slidingWindow" | "slidingCounter" | undefined
  /** What an unused token bucket holds, so how many requests can be made at once. Default: `limit`. */
  readonly burst?: number | undefined
  /** A request that would have to wait longer fails at once; 0: each that would have to wait does. Default: no limit. */
  readonly maxWait?: Duration.Input | undefined
  /** Requests that may wait; one more fails at once. Default: 10 000, as many as may wait for a slot of a pool. */
  readonly maxQueue?: number | undefined
  /**
   * The tokens that a request costs, rounded up; 0: none. A number that is negative or none at all is a defect. A guarded
   * effect has an empty request. Default: 1.
   */
  readonly cost?: ((request: HttpClientRequest) => number) | undefined
  /**
   * Whether a response can make it pause: `Retry-After` (RFC 9110, 10.2.3) with status 429 or 503; `RateLimit`
   * (draft-ietf-httpapi-ratelimit-headers), `RateLimit-*` of its earlier versions, and `X-RateLimit-*`, when nothing
   * remains. Default: true.
   */
  readonly respectHeaders?: boolean | undefined
  /**
   * The longest such pause: a header that is wrong by years must not stop a client for years. Default: 60 seconds, the
   * interval that most limits are for; a server that means longer says so again.
   */
  readonly maxPause?: Duration.Input | undefined
}

/**
 * What a limit has and what it owes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  /** Tokens that the algorithm has, whether or not it is paused. */
  readonly available: number
  /** Requests and other callers in the line. */
  readonly waiting: number
  /** What is left of a pause. */
  readonly pausedFor: Duration.Duration
}

/**
 * A limit, for requests and for anything else.
 *
 * @category models
 * @since 0.1.0
 */
export interface RateLimit extends Policy<RateLimitExceeded> {
  /** For `Pool.make`'s second argument, where all hosts are to share this limit. */
  readonly gate: Gate<RateLimitExceeded>
  /**
   * Takes tokens (default 1, rounded up) for whatever the caller does next, and answers how long it waited. They are spent:
   * only an interruption while it waits gives them back.
   */
  readonly acquire: (count?: number) => Effect.Effect<Duration.Duration, RateLimitExceeded>
  /** Lets nobody pass for so long from now, whatever pause there is; 0 ends it. Not bounded by `maxPause`. */
  readonly pause: (duration: Duration.Input) => Effect.Effect<void>
  readonly stats: Effect.Effect<Stats>
  /** The same at once, for metrics. */
  readonly snapshot: () => Stats
}

/**
 * A rate limit of its own. Everything that it wraps and guards shares it.
 *
 * Fails with `ConfigError`, which lists all options that are not valid.
 *
 * ```ts
 * import * as RateLimit from "@millrace/core/policy/RateLimit"
 * import * as Effect from "effect/Effect"
 * import * as HttpClient from "effect/http/HttpClient"
 *
 * const program = Effect.gen(function* () {
 *   const limit = yield* RateLimit.make({ limit: 100, interval: "1 second", burst: 10, maxWait: "5 seconds" })
 *   const client = limit.wrap(yield* HttpClient.HttpClient)
 *   return yield* client.get("https://api.test/users")
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<RateLimit, ConfigError> =>
  Effect.contextWith((services: Context.Context<never>) =>
    Effect.map(
      check<Given>(fields, options, (given) => rules(given, options)),
      (given) => {
        const clock = Context.get(services, Clock.Clock)
        return makeUnsafe(resolve(given), {
          timers: Timers.make(services),
          epoch: () => clock.currentTimeMillisUnsafe()
        })
      }
    )
  )

/** @internal */
export const makeUnsafe = (options: Resolved, deps: Deps): RateLimit => {
  const gate = new RateLimitGate(options, deps)
  const { dispenser } = gate
  const snapshot = (): Stats => ({
    available: dispenser.available,
    waiting: dispenser.waiting,
    pausedFor: Duration.millis(dispenser.pausedFor)
  })
  return {
    ...fromGates([gate], "rateLimit"),
    gate,
    acquire: (count = 1) => Effect.map(gate.acquire(count), Duration.millis),
    pause: (duration) =>
      Effect.sync(() => dispenser.setPause(Math.max(0, Duration.toMillis(Duration.fromInputUnsafe(duration))))),
    stats: Effect.sync(snapshot),
    snapshot
  }
}
