/**
 * A storage that is away, as the worker sees it.
 *
 * - Whatever is asked of it ends within a time: an answer that does not come is a storage that cannot be reached.
 * - A defect of it is a refusal, so that nothing here dies of it.
 * - The log says once that it is away, and once that it is back; every refusal is there with its cause.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { TaskQueue } from "../queue/TaskQueue.ts"
import { StorageError } from "../storage/StorageError.ts"

/** Waits of 100 ms, twice as long each time, up to 1 s; ± 20 %, so that many do not come back at once. */
const backoff = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")]).pipe(Schedule.jittered)

const isAway = (error: unknown): boolean => error instanceof StorageError && error.reason === "unavailable"

/** Again and again while the storage is away. */
export const retrying = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(self, { schedule: backoff, while: isAway })

/** The same queue under the promises above. */
export const watched = (queue: TaskQueue["Service"], patience: Duration.Duration): TaskQueue["Service"] => {
  let away = false

  const answered = Effect.suspend(() => {
    if (!away) return Effect.void
    away = false
    return Effect.logInfo("The storage answers again")
  })

  const troubled = (error: StorageError) =>
    Effect.suspend(() => {
      if (error.reason === "refused") return Effect.logError(error.message, error.cause)
      if (away) return Effect.logDebug(error.message)
      away = true
      return Effect.logWarning(error.message, error.cause)
    })

  const asked = <A, E>(operation: string, self: () => Effect.Effect<A, E | StorageError>) => {
    const because = (reason: StorageError["reason"], cause: unknown) =>
      Effect.fail(new StorageError({ operation, reason, cause }))
    return Effect.suspend(self).pipe(
      Effect.timeoutOrElse({ duration: patience, orElse: () => because("unavailable", "no answer in time") }),
      Effect.catchDefect((defect) => because("refused", defect)),
      Effect.tap(answered),
      Effect.tapError((error) => (error instanceof StorageError ? troubled(error) : answered))
    )
  }

  return TaskQueue.of({
    claim: (claiming) => asked("claim", () => queue.claim(claiming)),
    renew: (claims, lease) => asked("renew", () => queue.renew(claims, lease)),
    complete: (claim, result) => asked("complete", () => queue.complete(claim, result)),
    fail: (claim, reason) => asked("fail", () => queue.fail(claim, reason)),
    release: (claims) => asked("release", () => queue.release(claims)),
    reclaim: (maxDeaths) => asked("reclaim", () => queue.reclaim(maxDeaths)),
    hints: queue.hints
  })
}
