/**
 * The place of policies in the request path.
 *
 * A policy is a gate: every attempt passes the gates of its pool in their order, outermost first, before it asks for a
 * slot, and settles them in reverse when it has a response or has failed.
 *
 * What a gate may rely on:
 *
 * - `admit` is called once per attempt. It answers `undefined` (go on: nothing is allocated for that), or an effect to
 *   wait on, which may fail.
 * - `settle` is called exactly once for each attempt that the gate admitted: on success, failure, timeout and
 *   interruption. Not for one that it refused, or that was interrupted while it waited in this gate.
 * - A gate that refuses ends the attempt; the gates before it are settled with that failure.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Result from "effect/Result"

/**
 * One try of a request.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  readonly request: HttpClientRequest
}

/**
 * How an attempt ended. The body of the response may still be on its way.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome<E> =
  | { readonly _tag: "Response"; readonly response: HttpClientResponse }
  | { readonly _tag: "Failure"; readonly error: E }
  | { readonly _tag: "Interrupted" }

/**
 * A policy, as the request path sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gate<E> {
  readonly admit: (attempt: Attempt) => Effect.Effect<void, E> | undefined
  readonly settle: (attempt: Attempt, outcome: Outcome<E>) => void
}

const outcomeOf = <E>(exit: Exit.Exit<HttpClientResponse, E>): Outcome<E> => {
  if (Exit.isSuccess(exit)) return { _tag: "Response", response: exit.value }
  const error = Cause.findError(exit.cause)
  return Result.isSuccess(error) ? { _tag: "Failure", error: error.success } : { _tag: "Interrupted" }
}

/**
 * Takes one attempt through the gates, sends it, and settles them.
 *
 * @category combinators
 * @since 0.1.0
 */
export const through = <E>(
  gates: ReadonlyArray<Gate<E>>,
  request: HttpClientRequest,
  send: Effect.Effect<HttpClientResponse, E>
): Effect.Effect<HttpClientResponse, E> =>
  Effect.suspend(() => {
    const attempt: Attempt = { request }
    let admitted = 0
    const enter: Effect.Effect<HttpClientResponse, E> = Effect.suspend(() => {
      for (; admitted < gates.length; admitted++) {
        const wait = gates[admitted]!.admit(attempt)
        if (wait === undefined) continue
        return Effect.flatMap(wait, () => {
          admitted++
          return enter
        })
      }
      return send
    })
    return Effect.onExit(enter, (exit) =>
      Effect.sync(() => {
        const outcome = outcomeOf(exit)
        while (admitted > 0) gates[--admitted]!.settle(attempt, outcome)
      })
    )
  })
