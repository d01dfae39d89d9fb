/**
 * Policies together: one for each host, or the standard stack of them.
 *
 * What a policy is, to its user and inside, stands in `Gate.ts`; each has a module of its own.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import type { AuthError, CircuitOpen, PoolError, PoolSaturated, RateLimitExceeded } from "../model/PoolError.ts"
import * as Bulkhead from "./Bulkhead.ts"
import * as CircuitBreaker from "./CircuitBreaker.ts"
import { around, fromGates, type Gate, type Policy } from "./Gate.ts"
import * as Hedge from "./Hedge.ts"
import { fields } from "./internal/standardOptions.ts"
import * as Middleware from "./Middleware.ts"
import * as RateLimit from "./RateLimit.ts"
import * as Retry from "./Retry.ts"
import * as Timeout from "./Timeout.ts"

export { around, type Attempt, fromGates, type Gate, type Outcome, type Policy, through } from "./Gate.ts"

/**
 * A policy of its own for every origin, made by `make` when the origin is first seen: so that one host's failures do not
 * stop requests to another. The one unused for longest makes room when there are `max` (default 1000).
 *
 * ```ts
 * import { CircuitBreaker, Policy } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpClient } from "effect/http"
 *
 * export const guarded = Effect.gen(function* () {
 *   const client = yield* HttpClient.HttpClient
 *   return client.pipe(Policy.perHost(CircuitBreaker.make({ consecutiveFailures: 3 })))
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const perHost =
  <E, E2, R2>(make: Effect.Effect<Pick<Policy<E>, "wrap" | "_E">, E2, R2>, max = 1000) =>
  <E1, R>(client: HttpClient.HttpClient.With<E1, R>): HttpClient.HttpClient.With<E | E1 | E2, R | R2> => {
    const clients = new Map<string, HttpClient.HttpClient.With<E | E1, R>>()
    const bare = HttpClient.makeWith<E1, R, E1, R>(client.postprocess, Effect.succeed)
    const of = (origin: string): Effect.Effect<HttpClient.HttpClient.With<E | E1, R>, E2, R2> => {
      const known = clients.get(origin)
      if (known !== undefined) {
        // The first in a map is the one that was put in first.
        clients.delete(origin)
        clients.set(origin, known)
        return Effect.succeed(known)
      }
      return Effect.map(make, (policy) => {
        // Somebody else may have made it meanwhile.
        const made = clients.get(origin) ?? policy.wrap(bare)
        clients.set(origin, made)
        for (const oldest of clients.keys()) {
          if (clients.size <= max) break
          clients.delete(oldest)
        }
        return made
      })
    }
    return HttpClient.makeWith<E1, R, E | E1 | E2, R | R2>(
      Effect.flatMap((request) =>
        Effect.flatMap(of(originOf(request.url)), (mine) => mine.postprocess(Effect.succeed(request)))
      ),
      client.preprocess
    )
  }

const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : "")

/**
 * The standard stack for any client. A policy is on when it is given; `true` is its defaults.
 *
 * @category models
 * @since 0.1.0
 */
export interface StandardOptions {
  /** Functions around every request, outermost first. Default: none. */
  readonly middleware?: ReadonlyArray<Middleware.Middleware> | undefined
  /** The whole call, waits and all attempts included. Default: none. */
  readonly requestTimeout?: Timeout.Options["requestTimeout"]
  /** Sends again what failed, when that is safe. Default: none. */
  readonly retry?: Retry.Options | boolean | undefined
  /** Sends a second attempt beside a slow first one. Default: none. */
  readonly hedge?: Hedge.Options | boolean | undefined
  /** Credentials for every attempt, as `Auth.policy` makes it. Default: none. */
  readonly auth?: Pick<Policy<AuthError>, "wrap"> | undefined
  /** How many attempts a host gets in a time. Default: none. */
  readonly rateLimit?: RateLimit.Options | false | undefined
  /** Refuses at once while a host fails. Default: none. */
  readonly circuitBreaker?: CircuitBreaker.Options | boolean | undefined
  /** How many attempts a host gets at a time. Default: none. */
  readonly bulkhead?: Bulkhead.Options | false | undefined
  /** One attempt. Default: none. */
  readonly attemptTimeout?: Timeout.Options["attemptTimeout"]
}

/**
 * The policies that are given, in the order of the standard stack, outermost first: middleware, `requestTimeout`, retry,
 * hedge, and for every attempt auth, rate limit, circuit breaker, bulkhead, `attemptTimeout`. Each host has its own limit,
 * breaker, bulkhead and retry budget.
 *
 * A pool has the same as options, and runs them without a fiber of their own; this is for clients that are no pool.
 *
 * Fails with every invalid option at once.
 *
 * ```ts
 * import { Policy } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpClient } from "effect/http"
 *
 * export const program = Effect.gen(function* () {
 *   const standard = yield* Policy.standard({
 *     requestTimeout: "10 seconds",
 *     retry: { maxRetries: 2 },
 *     circuitBreaker: true,
 *     rateLimit: { limit: 100, interval: "1 second" }
 *   })
 *   const client = (yield* HttpClient.HttpClient).pipe(standard)
 *   return yield* client.get("https://api.test/users")
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const standard = (
  options: StandardOptions
): Effect.Effect<
  <E, R>(client: HttpClient.HttpClient.With<E, R>) => HttpClient.HttpClient.With<E | PoolError | ConfigError, R>,
  ConfigError
> =>
  Effect.map(check(fields, options), () => {
    const { attemptTimeout, auth, middleware = [], requestTimeout } = options
    // A policy that is on has the options that were checked.
    const forHost = Effect.gen(function* () {
      const retry = yield* on(options.retry, Retry.make)
      const hedge = yield* on(options.hedge, Hedge.make)
      const attempt = yield* gates(options)
      const call = yield* Timeout.make({ requestTimeout })
      const one = yield* Timeout.make({ attemptTimeout })
      const wrap = <E, R>(client: HttpClient.HttpClient.With<E, R>): Wide<E, R> => {
        const put = (inner: Wide<E, R>, policy: Policy<PoolError> | undefined): Wide<E, R> =>
          policy === undefined ? inner : policy.wrap(inner)
        const sent = put(
          put(
            around<E, R, E | PoolError, R>(client, (request, send) => send(request)),
            one
          ),
          attempt
        )
        const authorized = auth === undefined ? sent : auth.wrap(sent)
        return put(put(put(authorized, hedge), retry), call)
      }
      return { wrap }
    })
    return (client) => Middleware.wrap(middleware)(perHost<PoolError, ConfigError, never>(forHost)(client))
  })

type Wide<E, R> = HttpClient.HttpClient.With<E | PoolError, R>

/** The policy, unless it is off. */
const on = <O extends object, P>(
  options: O | boolean | undefined,
  make: (options?: O) => Effect.Effect<P, ConfigError>
): Effect.Effect<P | undefined, ConfigError> =>
  options === undefined || options === false ? Effect.succeed(undefined) : make(options === true ? undefined : options)

type Refusal = RateLimitExceeded | CircuitOpen | PoolSaturated

/** What an attempt passes before it is sent; a circuit that is known to be open refuses before the limit's line. */
const gates = ({ bulkhead, circuitBreaker, rateLimit }: StandardOptions): Effect.Effect<Policy<Refusal>, ConfigError> =>
  Effect.gen(function* () {
    const circuit = yield* on(circuitBreaker, CircuitBreaker.make)
    const limit = rateLimit === undefined || rateLimit === false ? undefined : yield* RateLimit.make(rateLimit)
    const permits = bulkhead === undefined || bulkhead === false ? undefined : yield* Bulkhead.make(bulkhead)
    const all: ReadonlyArray<Gate<Refusal> | undefined> = [
      limit === undefined ? undefined : circuit?.early,
      limit?.gate,
      circuit?.gate,
      permits?.gate
    ]
    return fromGates(all.filter((gate) => gate !== undefined))
  })
