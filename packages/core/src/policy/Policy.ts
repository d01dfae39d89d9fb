/**
 * The place of policies in the request path.
 *
 * A policy is a gate: every attempt passes the gates of its pool in their order, outermost first, before it asks for a
 * slot, and leaves them in reverse when it has a response or has failed.
 *
 * ```
 *          ┌── wait ──┐
 *          ▼          │
 * ──► admit(attempt) ─┴─► undefined: admitted ─── the attempt ends ──► settle(attempt, outcome)
 *          │
 *          └─ refused, interrupted, died ───────────────────────────► abandon(attempt)
 * ```
 *
 * What a gate may rely on:
 *
 * - `admit` either admits at once and answers `undefined`, or answers an effect to wait on. When that succeeds, `admit`
 *   is asked again, until it admits; when it fails, the attempt is refused. An attempt is in one gate at a time.
 * - Each gate that was asked hears of the end exactly once: by `settle` if it admitted, by `abandon` if it did not. So
 *   it is on success, failure, timeout, interruption at any moment, and whatever another gate throws.
 * - All gates are told the same outcome. A gate that refuses ends the attempt with that failure.
 *
 * What a gate must keep to:
 *
 * - `admit`, `settle` and `abandon` are synchronous; only they change the gate. The effect only waits: whatever it took
 *   would be lost to an interruption between its end and the next `admit`.
 * - The effect may end early, but not always at once: a gate that neither admits nor waits is asked for ever.
 * - A gate that is fair keeps the place of one that comes back. It puts the attempt into its line in `admit`, before it
 *   answers; a place that gets free it keeps for the first in the line, by the attempt, before it wakes it; the next
 *   `admit` of that attempt finds it. `abandon` takes the attempt out of the line, or passes on what was kept for it.
 *   Then nothing is lost, nobody jumps the line, and the effect has nothing to clean up.
 * - None of them should throw. What is thrown is a defect of the attempt, after every gate has heard of its end.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import { hasProperty } from "effect/Predicate"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

/**
 * One try of a request. It is the same object from the first `admit` to the end, so what a gate knows of an attempt it
 * may keep by it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  readonly request: HttpClientRequest
}

/**
 * How an attempt ended. The body of the response may still be on its way. A `Defect` is what a gate threw while it was
 * asked, or what the attempt died of: it says nothing about the server.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome<E> =
  | { readonly _tag: "Response"; readonly response: HttpClientResponse.HttpClientResponse }
  | { readonly _tag: "Failure"; readonly error: E }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Defect"; readonly defect: unknown }

/**
 * A policy, as the request path sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gate<E> {
  /**
   * Admits at once (`undefined`; nothing is allocated for that), or answers an effect that only waits, until it is
   * worthwhile to ask again, or fails with a refusal. What admission takes is taken in the call that answers
   * `undefined`, or was kept for this attempt before; never in the effect.
   */
  readonly admit: (attempt: Attempt) => Effect.Effect<void, E> | undefined
  /** The attempt, which was admitted, has ended. Gives back what admission took. */
  readonly settle: (attempt: Attempt, outcome: Outcome<E>) => void
  /**
   * The attempt, for which `admit` was called once or more, has ended without admission: refused, interrupted, or died
   * of a defect. Gives back what is kept for it. For gates that keep something for those who wait: a place in a line, a
   * permit.
   */
  readonly abandon?: ((attempt: Attempt) => void) | undefined
}

/**
 * Takes one attempt through the gates, sends it, and lets it leave them.
 *
 * The result dies if a gate throws while it is left, with the first of such defects; a response is then discarded.
 *
 * @category combinators
 * @since 0.1.0
 */
export const through = <E>(
  gates: ReadonlyArray<Gate<E>>,
  request: HttpClientRequest,
  send: Effect.Effect<HttpClientResponse.HttpClientResponse, E>
): Effect.Effect<HttpClientResponse.HttpClientResponse, E> =>
  Effect.suspend(() => {
    const attempt: Attempt = { request }
    // The gate that was asked and has not admitted is the one between these two, if any.
    let asked = 0
    let admitted = 0
    const enter = (): Effect.Effect<HttpClientResponse.HttpClientResponse, E> => {
      while (admitted < gates.length) {
        asked = admitted + 1
        const wait = gates[admitted]!.admit(attempt)
        if (wait !== undefined) return Effect.flatMap(wait, enter)
        admitted = asked
      }
      return send
    }
    // Nothing is asked before its end is provided for.
    return Effect.onExit(Effect.suspend(enter), (exit) => {
      const outcome = outcomeOf(exit)
      let died: Effect.Effect<never> | undefined
      for (let i = asked - 1; i >= 0; i--) {
        try {
          if (i < admitted) gates[i]!.settle(attempt, outcome)
          else gates[i]!.abandon?.(attempt)
        } catch (defect) {
          died ??= Effect.die(defect)
        }
      }
      return died === undefined ? Effect.void : Effect.andThen(discard(outcome), died)
    })
  })

/** As everywhere in Effect, a defect outweighs a failure, and that an interruption. */
const outcomeOf = <E>(exit: Exit.Exit<HttpClientResponse.HttpClientResponse, E>): Outcome<E> => {
  if (Exit.isSuccess(exit)) return { _tag: "Response", response: exit.value }
  const defect = Cause.findDefect(exit.cause)
  if (Result.isSuccess(defect)) return { _tag: "Defect", defect: defect.success }
  const error = Cause.findError(exit.cause)
  return Result.isSuccess(error) ? { _tag: "Failure", error: error.success } : { _tag: "Interrupted" }
}

/** Nobody will see the response, or the error that holds it. To open its body and leave it at once aborts the exchange. */
const discard = <E>(outcome: Outcome<E>): Effect.Effect<void> => {
  const holder = outcome._tag === "Failure" ? outcome.error : outcome
  if (!hasProperty(holder, "response") || !isResponse(holder.response)) return Effect.void
  const { response } = holder
  return Effect.suspend(() => Stream.toPull(response.stream)).pipe(Effect.scoped, Effect.exit, Effect.asVoid)
}

const isResponse = (u: unknown): u is HttpClientResponse.HttpClientResponse => hasProperty(u, HttpClientResponse.TypeId)
