/**
 * Time limits for any `HttpClient` and any effect.
 *
 * What it promises: what takes longer is interrupted, and then fails with a `TimeoutError` whose `phase` names the limit.
 * What cannot be interrupted is waited for. Time is Effect's `Clock`.
 *
 * It ends with the head of the response: the time to read a body is not limited. A pool has these two limits as options
 * of its own, cheaper and with the body in them; this is for clients that are no pool.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import { type RequestInfo, requestInfo, TimeoutError, type TimeoutPhase } from "../model/PoolError.ts"
import { fields, type Resolved, resolve } from "./internal/timeoutOptions.ts"
import { around, type Policy } from "./Gate.ts"

/**
 * The limits. Both apply to what is wrapped, so the shorter one ends it; what differs is the name in the error, and where
 * it belongs: `requestTimeout` around a retry, `attemptTimeout` inside it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A whole request, with all its attempts. Default: none. */
  readonly requestTimeout?: Duration.Input | undefined
  /** One attempt. Default: none. */
  readonly attemptTimeout?: Duration.Input | undefined
}

/**
 * A time limit as a policy.
 *
 * @category models
 * @since 0.1.0
 */
export interface Timeout extends Policy<TimeoutError> {}

const guarded: RequestInfo = { method: "guard", url: "effect" }

/** @internal */
export const makeUnsafe = ({ attemptTimeout, requestTimeout }: Resolved): Timeout => {
  const millis = Math.min(attemptTimeout, requestTimeout)
  const timeout = Duration.millis(millis)
  // When both are as long, it is the whole that was too slow.
  const phase: TimeoutPhase = attemptTimeout < requestTimeout ? "attempt" : "request"

  const limit = <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    request?: HttpClientRequest
  ): Effect.Effect<A, E | TimeoutError, R> => {
    if (millis === Infinity) return effect
    return Effect.timeoutOrElse(effect, {
      duration: timeout,
      orElse: () => {
        const info = request === undefined ? guarded : requestInfo(request.method, request.url, request.urlParams)
        return Effect.fail(new TimeoutError({ request: info, attempts: 1, phase, timeout }))
      }
    })
  }

  return {
    wrap: (client) => around(client, (request, send) => limit(send(request), request)),
    guard: (effect) => limit(effect)
  }
}

/**
 * Makes time limits. Invalid options fail with a `ConfigError` that lists all of them.
 *
 * ```ts
 * import { Timeout } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const timeout = yield* Timeout.make({ requestTimeout: "2 seconds" })
 *   return yield* timeout.guard(Effect.never).pipe(Effect.catchTag("TimeoutError", (error) => Effect.succeed(error.phase)))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Timeout, ConfigError> =>
  Effect.map(check(fields, options), (given) => makeUnsafe(resolve(given)))
