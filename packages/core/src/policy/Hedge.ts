/**
 * Hedged requests: when an answer takes long, the same request is sent once more, and the first response wins.
 *
 * It cuts the tail of latencies that has nothing to do with the request: a collection of garbage, a busy core, a lost
 * packet. The idea, and that a delay at the 95th percentile costs about 5 % more requests, are from J. Dean and
 * L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013.
 *
 * What it promises:
 *
 * - A request has at most two attempts. The second is sent after `delay`, or after the `percentile` of the last
 *   latencies; a request that has ended by then, with a failure too, has none: that is for a retry.
 * - Only what may be sent twice is: an idempotent method, and a body that can be read again.
 * - At most `maxRatio` of these requests, and one more, get a second attempt; quiet times save up ten at most. So a
 *   server that is slow altogether is not asked twice for everything.
 * - The first response wins, whatever its status. The failure of one attempt waits for the other; when both fail, the
 *   earlier failure is the result. The loser is interrupted, which aborts it, and not waited for.
 * - An interruption of the caller interrupts both; a response that it overtakes is discarded.
 *
 * The rule (whether and when) is apart from the machine (who runs, who wins): the pool has a machine of its own.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import { abort } from "./internal/discard.ts"
import { fields, type Resolved, resolve, rules } from "./internal/hedgeOptions.ts"
import { Latencies } from "./internal/latency.ts"
import { isResponse } from "./internal/passage.ts"
import { race } from "./internal/race.ts"
import { isIdempotent, isReplayable } from "./internal/replayable.ts"
import { around, type Policy } from "./Gate.ts"

/**
 * When a second attempt is sent, and how often at most. Without a `delay` it is learned.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * A fixed time after which the second attempt is sent. Together with `percentile`: only until `minSamples` latencies
   * are known. Default: learned.
   */
  readonly delay?: Duration.Input | undefined
  /**
   * The share of latencies, from 0.5 to 0.999 and among the last 1024, after which the second attempt is sent. Default:
   * 0.95 (Dean and Barroso), or none when there is a `delay`.
   */
  readonly percentile?: number | undefined
  /** The shortest delay that is learned: below it there is nothing to gain. Default: 10 ms (the example of Dean and Barroso). */
  readonly minDelay?: Duration.Input | undefined
  /** Latencies that must be known before a percentile of them counts, at most 1024. Default: 100. */
  readonly minSamples?: number | undefined
  /** Second attempts, as a share of the requests that may be hedged, from 0.0001 to 1. Default: 0.1. */
  readonly maxRatio?: number | undefined
}

/**
 * What a hedge has done so far.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  /** Requests that could have been hedged. */
  readonly requests: number
  /** Second attempts that were sent. */
  readonly hedges: number
  /** Second attempts whose response came first. */
  readonly wins: number
  /** Time until a second attempt now; `undefined` while too few latencies are known. */
  readonly delay: Duration.Duration | undefined
}

/**
 * A hedge. A guarded effect must be one that may run twice at once: nobody but its author can know.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hedge extends Policy<never> {
  /** What it has done so far. */
  readonly snapshot: () => Snapshot
}

/**
 * Whether and when a second attempt is sent: for a machine that runs both. Times are in milliseconds; without a request
 * it is a guarded effect that is asked for.
 *
 * @internal
 */
export interface Rule {
  /**
   * Asked once for each request, as it starts: whole milliseconds until a second attempt. `undefined`: none, as it may
   * not be sent twice, too few latencies are known, or the budget is spent.
   */
  readonly delay: (request?: HttpClientRequest) => number | undefined
  /** The delay has passed, and the second attempt could be sent: may it? `true` spends the budget. */
  readonly fire: () => boolean
  /**
   * How long a first attempt took to its response, or, if the second one won, until then: that it took at least. Without
   * the slow ones the percentile would sink with every hedge.
   */
  readonly observe: (millis: number, request?: HttpClientRequest) => void
  /** A second attempt had the first response. */
  readonly won: () => void
  readonly snapshot: () => Snapshot
}

/** Parts of one second attempt: the budget is counted in whole numbers, so that nothing is lost to rounding. */
const whole = 10_000

/** How many second attempts can be saved up. */
const maxSaved = 10

/** After how many latencies the percentile is looked up anew. */
const refresh = 32

class LearnedRule implements Rule {
  private readonly options: Resolved
  private readonly share: number
  private saved = whole
  private requests = 0
  private hedges = 0
  private wins = 0
  /** Whole milliseconds; `undefined`: unknown yet. */
  private current: number | undefined
  /** Made when the first latency is known: a host without traffic has none. */
  private latencies: Latencies | undefined
  private untilRefresh: number

  constructor(options: Resolved) {
    this.options = options
    this.share = Math.floor(options.maxRatio * whole + 1e-6)
    this.current = options.delay === undefined ? undefined : Math.ceil(options.delay)
    this.untilRefresh = options.minSamples
  }

  delay(request?: HttpClientRequest): number | undefined {
    if (!mayRunTwice(request)) return undefined
    this.requests++
    this.saved = Math.min(this.saved + this.share, maxSaved * whole)
    return this.saved < whole ? undefined : this.current
  }

  fire(): boolean {
    if (this.saved < whole) return false
    this.saved -= whole
    this.hedges++
    return true
  }

  observe(millis: number, request?: HttpClientRequest): void {
    const { minDelay, percentile } = this.options
    if (percentile === undefined || !mayRunTwice(request)) return
    this.latencies ??= new Latencies()
    this.latencies.add(millis)
    if (--this.untilRefresh > 0) return
    this.untilRefresh = refresh
    this.current = Math.max(this.latencies.percentile(percentile), Math.ceil(minDelay))
  }

  won(): void {
    this.wins++
  }

  snapshot(): Snapshot {
    const { current, hedges, requests, wins } = this
    return { requests, hedges, wins, delay: current === undefined ? undefined : Duration.millis(current) }
  }
}

const mayRunTwice = (request: HttpClientRequest | undefined): boolean =>
  request === undefined || (isIdempotent(request.method) && isReplayable(request.body))

/** @internal */
export const makeUnsafe = (options: Resolved): Rule => new LearnedRule(options)

const fromRule = (rule: Rule): Hedge => {
  const run = <A, E, R>(effect: Effect.Effect<A, E, R>, request?: HttpClientRequest): Effect.Effect<A, E, R> =>
    Clock.clockWith((clock) => {
      const start = clock.monotonicTimeNanosUnsafe()
      const observe = (): void => rule.observe(Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6, request)
      const delay = rule.delay(request)
      if (delay === undefined) {
        return Effect.map(effect, (value) => {
          observe()
          return value
        })
      }
      return race({
        first: effect,
        delay,
        second: () => (rule.fire() ? effect : undefined),
        won: (by) => {
          observe()
          if (by === "second") rule.won()
        },
        discard: (value) => (isResponse(value) ? abort(value) : Effect.void)
      })
    })

  return {
    wrap: (client) => around(client, (request, send) => run(send(request), request)),
    guard: (effect) => run(effect),
    snapshot: () => rule.snapshot()
  }
}

/**
 * Makes a hedge. Invalid options fail with a `ConfigError` that lists all of them.
 *
 * All that it wraps shares what it learns and its budget: use one for each upstream, `Policy.perHost` say.
 *
 * ```ts
 * import { Hedge } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpClient } from "effect/http"
 *
 * const program = Effect.gen(function* () {
 *   const hedge = yield* Hedge.make({ percentile: 0.95, maxRatio: 0.05 })
 *   const client = hedge.wrap(yield* HttpClient.HttpClient)
 *   return yield* client.get("https://api.test/users/1")
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Hedge, ConfigError> =>
  Effect.map(check(fields, options, rules), (given) => fromRule(makeUnsafe(resolve(given))))
