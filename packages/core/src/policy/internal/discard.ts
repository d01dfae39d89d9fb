/** Responses that nobody will read. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import { hasProperty } from "effect/Predicate"
import * as Stream from "effect/Stream"
import type { Outcome } from "../Gate.ts"
import { isResponse } from "./passage.ts"

/** What is read of a body only to keep its connection, in bytes. */
const drainSize = 64 * 1024

/** How long that may take. */
const drainTime = "1 second"

/** The response of an outcome, or the one that its error holds. */
export const responseOf = (outcome: Outcome): HttpClientResponse | undefined => {
  if (outcome._tag === "Response") return outcome.response
  const error = outcome._tag === "Failure" ? outcome.error : undefined
  return hasProperty(error, "response") && isResponse(error.response) ? error.response : undefined
}

/** Aborts a response at once: to open its body and to leave it does that. */
export const abort = (response: HttpClientResponse): Effect.Effect<void> =>
  Effect.suspend(() => Stream.toPull(response.stream)).pipe(Effect.scoped, Effect.exit, Effect.asVoid)

/** Reads a body of up to 64 KiB, so that its connection can be used again; aborts one that is longer, or slow. */
export const drain = (response: HttpClientResponse): Effect.Effect<void> => {
  if (Number(response.headers["content-length"] ?? 0) > drainSize) return abort(response)
  // The reader of a web stream is taken one step before its release is provided for: nothing may come between.
  return Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Stream.toPull(response.stream), (pull) => {
      let read = 0
      const some = Effect.flatMap(pull, (chunks) => {
        for (const chunk of chunks) read += chunk.byteLength
        return read > drainSize ? Cause.done() : Effect.void
      })
      return restore(Effect.timeoutOption(Effect.forever(some), drainTime))
    })
  ).pipe(Effect.scoped, Effect.exit, Effect.asVoid)
}
