/**
 * What a policy is, to its user and inside.
 *
 * To its user a policy is two functions: `wrap` puts it around any `HttpClient`, `guard` around any other effect. Inside
 * it is a gate: every attempt passes the gates in their order, outermost first, before it is sent, and leaves them in
 * reverse when it has a response or has failed.
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
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import type { RequestInfo } from "../model/PoolError.ts"
import { abort, responseOf } from "./internal/discard.ts"
import { outcomeOf, Passage } from "./internal/passage.ts"

/**
 * A policy, as its user sees it. `E` is what it adds to the errors.
 *
 * @category models
 * @since 0.1.0
 */
export interface Policy<out E> {
  /** The client with this policy around every request. All its requests share the policy, whatever their host. */
  readonly wrap: <E1, R>(client: HttpClient.HttpClient.With<E1, R>) => HttpClient.HttpClient.With<E | E1, R>
  /** The effect with this policy around it. */
  readonly guard: <A, E1, R>(effect: Effect.Effect<A, E1, R>) => Effect.Effect<A, E | E1, R>
  /** Never there: only by it can the compiler tell `E`, which it cannot infer from generic functions. */
  readonly _E?: (() => E) | undefined
}

/**
 * One try of a request. It is the same object from the first `admit` to the end, so what a gate knows of an attempt it
 * may keep by it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  /** What is sent. A gate may put another in its place until it has admitted. A guarded effect has an empty one. */
  request: HttpClientRequest.HttpClientRequest
  /** As an error may show it: without secrets. Made when asked for. */
  readonly info: RequestInfo
  /** 1 for the first of its call. */
  readonly number: number
  /**
   * It has passed all gates, and in a pool it had a slot when it ended: the upstream may have seen it. Otherwise no gate
   * needs to think of the server.
   */
  readonly sent: boolean
  /**
   * Where a gate may leave what it must know at `settle`, so that a map is not needed. There is one for all gates: who
   * finds it taken leaves it alone.
   */
  mark?: unknown
  /** The same for the time when a rate limit took a token. */
  takenAt?: number | undefined
}

/**
 * How an attempt ended. The body of the response may still be on its way. `Success` is the end of a guarded effect. A
 * `Defect` is what a gate threw while it was asked, or what the attempt died of: it says nothing about the server.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Response"; readonly response: HttpClientResponse.HttpClientResponse }
  | { readonly _tag: "Success"; readonly value: unknown }
  | { readonly _tag: "Failure"; readonly error: unknown }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Defect"; readonly defect: unknown }

/**
 * A policy, as the request path sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gate<out E> {
  /**
   * Admits at once (`undefined`; nothing is allocated for that), or answers an effect that only waits, until it is
   * worthwhile to ask again, or fails with a refusal. What admission takes is taken in the call that answers
   * `undefined`, or was kept for this attempt before; never in the effect.
   */
  readonly admit: (attempt: Attempt) => Effect.Effect<void, E> | undefined
  /** The attempt, which was admitted, has ended. Gives back what admission took. */
  readonly settle: (attempt: Attempt, outcome: Outcome) => void
  /**
   * The attempt, for which `admit` was called once or more, has ended without admission: refused, interrupted, or died
   * of a defect. Gives back what is kept for it. For gates that keep something for those who wait: a place in a line, a
   * permit.
   */
  readonly abandon?: ((attempt: Attempt) => void) | undefined
}

/**
 * Takes one attempt of a request through the gates, sends it as they left it, and lets it leave them. What it comes to is
 * mostly a response.
 *
 * The result dies if a gate throws while it is left, with the first of such defects; a response is then discarded.
 *
 * @category combinators
 * @since 0.1.0
 */
export const through = <E, E1, R, A = HttpClientResponse.HttpClientResponse>(
  gates: ReadonlyArray<Gate<E>>,
  request: HttpClientRequest.HttpClientRequest,
  send: (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<A, E1, R>,
  number = 1
): Effect.Effect<A, E | E1, R> =>
  Effect.suspend(() => pass(new Passage(gates, request, number), (attempt) => send(attempt.request)))

/**
 * The policy that is these gates, outermost first.
 *
 * `name` stands for the guarded effect in errors, where a request has its URL. Default: effect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromGates = <E>(gates: ReadonlyArray<Gate<E>>, name = "effect"): Policy<E> => ({
  wrap: (client) => around(client, (request, send) => through(gates, request, send)),
  guard: (effect) => Effect.suspend(() => pass(new Passage(gates, undefined, 1, name), () => effect))
})

/**
 * The client whose requests are sent by `run`, which gets what sends them without it. For policies that send a request
 * more than once, or another one.
 *
 * @category combinators
 * @since 0.1.0
 */
export const around = <E, R, E1, R1>(
  client: HttpClient.HttpClient.With<E, R>,
  run: (
    request: HttpClientRequest.HttpClientRequest,
    send: (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>
  ) => Effect.Effect<HttpClientResponse.HttpClientResponse, E1, R1>
): HttpClient.HttpClient.With<E | E1, R | R1> =>
  HttpClient.makeWith<E, R, E | E1, R | R1>(
    Effect.flatMap((request) => run(request, (sent) => client.postprocess(Effect.succeed(sent)))),
    client.preprocess
  )

const pass = <E, A, E1, R>(
  passage: Passage<E>,
  send: (attempt: Attempt) => Effect.Effect<A, E1, R>
): Effect.Effect<A, E | E1, R> => {
  const enter = (): Effect.Effect<A, E | E1, R> => {
    const wait = passage.enter()
    return wait === undefined ? send(passage) : Effect.flatMap(wait, enter)
  }
  // Nothing is asked before its end is provided for.
  return Effect.onExit(Effect.suspend(enter), (exit) => {
    const outcome = outcomeOf(exit)
    const defect = passage.leave(outcome)
    if (defect === undefined) return Effect.void
    const response = responseOf(outcome)
    return Effect.andThen(response === undefined ? Effect.void : abort(response), Effect.die(defect.value))
  })
}
