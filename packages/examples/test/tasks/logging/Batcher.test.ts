import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Batcher from "../../../src/tasks/logging/Batcher.ts"

const away = new Batcher.SinkError({ reason: "unavailable", message: "nobody there" })
const refused = new Batcher.SinkError({ reason: "refused", message: "no such column" })

/** A sink that keeps what it is given, and does as `behave` says first. */
const world = Effect.fnUntraced(function* (
  options: Partial<Batcher.Options<number>> = {},
  behave: (batch: ReadonlyArray<number>) => Effect.Effect<void, Batcher.SinkError> = () => Effect.void
) {
  const batches: Array<ReadonlyArray<number>> = []
  const tokens: Array<string> = []
  const reports: Array<Batcher.Report> = []
  let calls = 0
  const scope = yield* Scope.make()
  // A sink that is away is tried until the time for it is over.
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
    })
  )
  const batcher = yield* Batcher.make<number>({
    sink: (batch, token) => {
      calls++
      tokens.push(token)
      return Effect.andThen(
        behave(batch),
        Effect.sync(() => void batches.push(batch))
      )
    },
    batchSize: 3,
    batchInterval: Duration.seconds(5),
    buffer: 10,
    attempts: 3,
    pause: Duration.seconds(1),
    flushTimeout: Duration.seconds(5),
    report: (report) => Effect.sync(() => void reports.push(report)),
    ...options
  }).pipe(Scope.provide(scope))
  const offer = (...rows: ReadonlyArray<number>): void => rows.forEach(batcher.offer)
  return {
    ...batcher,
    batches,
    tokens,
    reports,
    calls: () => calls,
    offerAll: offer,
    close: Scope.close(scope, Exit.void)
  }
})

/** Lets everything happen that can happen now. */
const settle = TestClock.adjust(0)

const numbers = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from + 1 }, (_, n) => from + n)

describe("Batcher", () => {
  it.effect("a batch goes as soon as it is full", () =>
    Effect.gen(function* () {
      const { batches, counts, offerAll } = yield* world()
      offerAll(1, 2)
      yield* settle
      assert.deepStrictEqual(batches, [])
      offerAll(3, 4)
      yield* settle
      assert.deepStrictEqual(batches, [[1, 2, 3]])
      assert.deepStrictEqual(counts(), { written: 3, dropped: 0, waiting: 1 })
    })
  )

  it.effect("a batch that is not full goes when its first row has waited for the interval", () =>
    Effect.gen(function* () {
      const { batches, offerAll } = yield* world()
      yield* TestClock.adjust("1 hour")
      offerAll(1)
      yield* TestClock.adjust("3 seconds")
      offerAll(2)
      yield* TestClock.adjust("1999 millis")
      assert.deepStrictEqual(batches, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(batches, [[1, 2]])
      offerAll(3)
      yield* TestClock.adjust("4999 millis")
      assert.strictEqual(batches.length, 1)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(batches, [[1, 2], [3]])
    })
  )

  it.effect("a sink that was never there: rows wait, the newest are dropped and counted, and all is told once", () =>
    Effect.gen(function* () {
      const { batches, close, counts, offerAll, reports } = yield* world({}, () => Effect.fail(away))
      offerAll(...numbers(1, 14))
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(batches, [])
      assert.deepStrictEqual(counts(), { written: 0, dropped: 4, waiting: 10 })
      assert.deepStrictEqual(reports, [
        { event: "away", message: "Logs cannot be written and wait in memory: nobody there", dropped: 4 }
      ])
      const closing = yield* Effect.forkChild(close)
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(counts(), { written: 0, dropped: 14, waiting: 0 })
      assert.deepStrictEqual(reports.slice(1), [
        { event: "dropped", message: "Logs could not be written before the end", dropped: 10 }
      ])
    })
  )

  it.effect("pauses between attempts grow up to a minute", () =>
    Effect.gen(function* () {
      const { calls, offerAll } = yield* world({}, () => Effect.fail(away))
      offerAll(1, 2, 3)
      yield* settle
      assert.strictEqual(calls(), 1)
      for (const [n, seconds] of [1, 2, 4, 8, 16, 32, 60, 60, 60].entries()) {
        yield* TestClock.adjust(Duration.millis(seconds * 1_000 - 1))
        assert.strictEqual(calls(), n + 1)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(calls(), n + 2)
      }
    })
  )

  it.effect("a sink that comes back gets all rows in order, and how many are missing is told", () =>
    Effect.gen(function* () {
      let there = false
      const { batches, counts, offerAll, reports, tokens } = yield* world({}, () =>
        Effect.suspend(() => (there ? Effect.void : Effect.fail(away)))
      )
      offerAll(...numbers(1, 12))
      yield* TestClock.adjust("1 hour")
      offerAll(13)
      there = true
      yield* TestClock.adjust("1 minute")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(batches, [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]])
      assert.deepStrictEqual(counts(), { written: 10, dropped: 3, waiting: 0 })
      assert.deepStrictEqual(
        reports.map(({ dropped, event }) => [event, dropped]),
        [
          ["away", 2],
          ["back", 1]
        ]
      )
      // One batch, one token, however often it is tried.
      assert.strictEqual(new Set(tokens).size, 4)
    })
  )

  it.effect("a short trouble that nothing was lost by is not worth a word", () =>
    Effect.gen(function* () {
      let failures = 2
      const { batches, offerAll, reports } = yield* world({}, () =>
        Effect.suspend(() => (failures-- > 0 ? Effect.fail(away) : Effect.void))
      )
      offerAll(1, 2, 3)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(batches, [[1, 2, 3]])
      assert.deepStrictEqual(reports, [])
    })
  )

  it.effect("a batch that the sink refuses is dropped after the attempts, and those that follow are written", () =>
    Effect.gen(function* () {
      const { batches, calls, counts, offerAll, reports } = yield* world({}, (batch) =>
        batch.includes(2) ? Effect.fail(refused) : Effect.void
      )
      offerAll(...numbers(1, 6))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(batches, [[4, 5, 6]])
      assert.strictEqual(calls(), 4)
      assert.deepStrictEqual(counts(), { written: 3, dropped: 3, waiting: 0 })
      assert.deepStrictEqual(reports, [{ event: "dropped", message: "Logs are refused: no such column", dropped: 3 }])
    })
  )

  it.effect("a sink that dies is one that refuses: the next batch is written", () =>
    Effect.gen(function* () {
      const { batches, counts, offerAll, reports } = yield* world({ attempts: 1 }, (batch) => {
        if (batch.includes(1)) throw new Error("a bug")
        return batch.includes(4) ? Effect.die("another") : Effect.void
      })
      offerAll(...numbers(1, 9))
      yield* settle
      assert.deepStrictEqual(batches, [[7, 8, 9]])
      assert.deepStrictEqual(counts(), { written: 3, dropped: 6, waiting: 0 })
      assert.deepStrictEqual(
        reports.map(({ message }) => message),
        ["Logs are refused: Error: a bug", "Logs are refused: another"]
      )
    })
  )

  it.effect(
    "a slow sink holds up nobody: rows under way count as waiting, what does not fit is dropped and told once",
    () =>
      Effect.gen(function* () {
        const { batches, counts, offerAll, reports } = yield* world({}, () => Effect.sleep("10 seconds"))
        offerAll(...numbers(1, 5))
        yield* settle
        assert.deepStrictEqual(counts(), { written: 0, dropped: 0, waiting: 5 })
        offerAll(...numbers(6, 20))
        assert.deepStrictEqual(counts(), { written: 0, dropped: 10, waiting: 10 })
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(batches, [[1, 2, 3]])
        assert.deepStrictEqual(reports, [])
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(batches.flat(), numbers(1, 10))
        assert.deepStrictEqual(reports, [
          { event: "dropped", message: "Logs came faster than they could be written", dropped: 10 }
        ])
      })
  )

  it.effect("at the end what waits is written at once, in batches", () =>
    Effect.gen(function* () {
      const { batches, close, counts, offerAll, reports } = yield* world({ batchSize: 10 })
      offerAll(1, 2)
      yield* close
      assert.deepStrictEqual(batches, [[1, 2]])
      assert.deepStrictEqual(counts(), { written: 2, dropped: 0, waiting: 0 })
      assert.deepStrictEqual(reports, [])
      offerAll(3)
      assert.deepStrictEqual(counts(), { written: 2, dropped: 1, waiting: 0 })
    })
  )

  it.effect("the end does not wait for a pause to pass: it tries at once, and often", () =>
    Effect.gen(function* () {
      let there = false
      const { batches, calls, close, offerAll } = yield* world({}, () =>
        Effect.suspend(() => (there ? Effect.void : Effect.fail(away)))
      )
      offerAll(1, 2, 3, 4)
      yield* TestClock.adjust("1 hour")
      const before = calls()
      const closing = yield* Effect.forkChild(close)
      yield* settle
      assert.strictEqual(calls(), before + 1)
      there = true
      yield* TestClock.adjust("500 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(batches, [[1, 2, 3], [4]])
    })
  )

  it.effect("the end does not interrupt a batch that is under way, unless it takes too long", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<void>()
      const { batches, close, counts, offerAll } = yield* world({}, (batch) =>
        Effect.onInterrupt(Effect.sleep(batch.includes(1) ? "4 seconds" : "1 hour"), () =>
          Deferred.succeed(interrupted, undefined)
        )
      )
      offerAll(1, 2, 3, 4)
      yield* settle
      const closing = yield* Effect.forkChild(close)
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(batches, [[1, 2, 3]])
      assert.isFalse(yield* Deferred.isDone(interrupted))
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      yield* Deferred.await(interrupted)
      assert.deepStrictEqual(counts(), { written: 3, dropped: 1, waiting: 0 })
    })
  )

  const step = Schema.Union([
    Schema.Struct({ offer: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 })) }),
    Schema.Struct({ pass: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20_000 })) }),
    Schema.Struct({ sink: Schema.Literals(["good", "away", "refuses", "slow"]) })
  ])

  it.effect.prop(
    "whatever happens, every row is written once and in order, waits, or is counted; never more than the buffer in memory, never more than a batch at once",
    {
      steps: Schema.Array(step).check(Schema.isMaxLength(25)),
      batchSize: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 })),
      spare: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8 }))
    },
    ({ batchSize, spare, steps }) =>
      Effect.gen(function* () {
        let sink: "good" | "away" | "refuses" | "slow" = "good"
        let underWay = 0
        let most = 0
        const buffer = batchSize + spare
        const behave = Effect.fnUntraced(function* () {
          most = Math.max(most, ++underWay)
          if (sink === "slow") yield* Effect.sleep("7 seconds")
          if (sink === "away") return yield* away
          if (sink === "refuses") return yield* refused
        })
        const { batches, close, counts, offerAll, reports } = yield* world({ batchSize, buffer }, () =>
          Effect.ensuring(
            behave(),
            Effect.sync(() => void underWay--)
          )
        )
        let offered = 0
        const check = (): void => {
          const { dropped, waiting, written } = counts()
          assert.strictEqual(written + dropped + waiting, offered)
          assert.strictEqual(batches.flat().length, written)
          assert.isAtMost(waiting, buffer)
          assert.isAtMost(most, 1)
          assert.isTrue(batches.every((batch) => batch.length > 0 && batch.length <= batchSize))
          assert.isTrue(batches.flat().every((row, n, all) => n === 0 || row > (all[n - 1] ?? 0)))
        }
        for (const step of steps) {
          if ("offer" in step) {
            offerAll(...numbers(offered + 1, offered + step.offer))
            offered += step.offer
          } else if ("pass" in step) yield* TestClock.adjust(step.pass)
          else sink = step.sink
          check()
        }
        const closing = yield* Effect.forkChild(close)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
        check()
        assert.strictEqual(counts().waiting, 0)
        // What was dropped was told.
        assert.strictEqual(
          reports.reduce((sum, { dropped }) => sum + dropped, 0),
          counts().dropped
        )
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 150 } }
  )
})
