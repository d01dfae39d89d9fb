/**
 * Rows go to a sink in batches, from a bounded buffer, without anybody waiting for it.
 *
 * What it promises:
 *
 * - `offer` never waits and never fails. Whatever the sink does, those who offer do not notice.
 * - A batch goes as soon as it is full, or when its first row has waited for `batchInterval`. Rows keep their order; one batch at
 *   a time.
 * - No more than `buffer` rows are in memory, those under way to the sink included. One more is dropped: the newest, so that
 *   what is kept tells how a trouble began, without gaps.
 * - Every row offered is written, still waiting, or counted as dropped.
 * - A sink that is away is tried for ever, with growing pauses. A batch that it refuses is dropped after `attempts`, so that one bad row
 *   does not hold up all that follow.
 * - When the scope closes, what waits is written, for at most `flushTimeout`; the rest is counted as dropped.
 *
 * `Stream.groupedWithin` makes batches too; it holds rows beyond a queue's bound, and loses them when it is interrupted.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"

/** Why a batch was not written. */
export class SinkError extends Data.TaggedError("SinkError")<{
  /** `refused`: these rows will never do. `unavailable`: the same batch may be written later. */
  readonly reason: "unavailable" | "refused"
  /** Without secrets. */
  readonly message: string
}> {}

/** Writes a batch, or part of nothing; one that comes twice has the same token. */
export type Sink<A> = (batch: ReadonlyArray<A>, token: string) => Effect.Effect<void, SinkError>

/** What became of the rows so far. */
export interface Counts {
  readonly written: number
  readonly dropped: number
  /** In memory now. */
  readonly waiting: number
}

/** What those who run the service should know. */
export interface Report {
  /** `away`: rows wait. `back`: they are written again. `dropped`: some are lost. */
  readonly event: "away" | "back" | "dropped"
  readonly message: string
  /** Rows lost since the last report. */
  readonly dropped: number
}

export interface Options<A> {
  readonly sink: Sink<A>
  readonly batchSize: number
  readonly batchInterval: Duration.Duration
  /** At least `batchSize`. */
  readonly buffer: number
  /** Failures in a row before `away` is reported, and before a batch that is refused is dropped. */
  readonly attempts: number
  /** After the first failure; doubled after each, up to a minute. */
  readonly pause: Duration.Duration
  readonly flushTimeout: Duration.Duration
  readonly report: (report: Report) => Effect.Effect<void>
}

export interface Batcher<in A> {
  readonly offer: (row: A) => void
  readonly counts: () => Counts
}

const longestPause = Duration.minutes(1)

/** While it closes: there is no time for long pauses. */
const closingPause = Duration.millis(500)

/** Starts a batcher that ends with the scope. */
export const make = Effect.fnUntraced(function* <A>(
  options: Options<A>
): Effect.fn.Return<Batcher<A>, never, Scope.Scope> {
  const { attempts, batchInterval, batchSize, buffer, report } = options
  const rows: Array<A> = []
  const wakes = yield* Queue.sliding<void>(1)
  const wake = (): void => void Queue.offerUnsafe(wakes, undefined)
  let state: "open" | "closing" | "closed" = "open"
  let written = 0
  let dropped = 0
  let unreported = 0

  const drop = (count: number): void => {
    dropped += count
    unreported += count
  }

  const tell = (event: Report["event"], message: string) =>
    Effect.suspend(() => {
      const lost = unreported
      unreported = 0
      return report({ event, message, dropped: lost })
    })

  const until = (condition: () => boolean) =>
    Effect.gen(function* () {
      while (!condition()) yield* Queue.take(wakes)
    })

  const pause = (failures: number) => {
    const growing = Duration.min(Duration.times(options.pause, 2 ** (failures - 1)), longestPause)
    return state === "open"
      ? Effect.raceFirst(
          Effect.sleep(growing),
          until(() => state !== "open")
        )
      : Effect.sleep(Duration.min(growing, closingPause))
  }

  const send = (batch: ReadonlyArray<A>, token: string) =>
    Effect.suspend(() => options.sink(batch, token)).pipe(
      Effect.catchDefect((defect) => Effect.fail(new SinkError({ reason: "refused", message: String(defect) }))),
      Effect.match({ onFailure: (error) => error, onSuccess: () => undefined })
    )

  /** The rows stay in the buffer until it is over with them: they are in memory, so they count. */
  const write = Effect.fnUntraced(function* (batch: ReadonlyArray<A>) {
    const token = crypto.randomUUID()
    for (let failures = 1; ; failures++) {
      const error = yield* send(batch, token)
      if (error === undefined) {
        rows.splice(0, batch.length)
        written += batch.length
        return failures > attempts ? yield* tell("back", "Logs are written again") : undefined
      }
      if (error.reason === "refused" && failures >= attempts) {
        rows.splice(0, batch.length)
        drop(batch.length)
        return yield* tell("dropped", `Logs are refused: ${error.message}`)
      }
      if (failures === attempts) yield* tell("away", `Logs cannot be written and wait in memory: ${error.message}`)
      yield* pause(failures)
    }
  })

  const run = Effect.gen(function* () {
    for (;;) {
      yield* until(() => rows.length > 0 || state !== "open")
      if (rows.length === 0) return
      yield* Effect.timeoutOption(
        until(() => rows.length >= batchSize || state !== "open"),
        batchInterval
      )
      yield* write(rows.slice(0, batchSize))
      if (unreported > 0 && rows.length < batchSize)
        yield* tell("dropped", "Logs came faster than they could be written")
    }
  })

  const fiber = yield* Effect.forkScoped(run)
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      state = "closing"
      wake()
      yield* Effect.timeoutOption(Fiber.await(fiber), options.flushTimeout)
      state = "closed"
      yield* Fiber.interrupt(fiber)
      drop(rows.length)
      rows.length = 0
      if (unreported > 0) yield* tell("dropped", "Logs could not be written before the end")
    })
  )

  return {
    offer: (row) => {
      if (state === "closed" || rows.length >= buffer) return drop(1)
      rows.push(row)
      if (rows.length === 1 || rows.length === batchSize) wake()
    },
    counts: () => ({ written, dropped, waiting: rows.length })
  }
})
