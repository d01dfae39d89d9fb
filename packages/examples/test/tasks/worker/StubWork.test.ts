import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Random } from "effect"
import { TestClock } from "effect/testing"
import { TaskId } from "../../../src/tasks/domain/Task.ts"
import * as StubWork from "../../../src/tasks/worker/StubWork.ts"
import { Work } from "../../../src/tasks/worker/Work.ts"

const id = TaskId.make("607b6a8c-ca0e-4d2a-b48b-1f7dd8926e00")

/** How long it took, and what came of it. */
const runs = (count: number, options?: StubWork.Options) =>
  Effect.gen(function* () {
    const { run } = yield* Work
    const one = Effect.timed(Effect.result(run(id)))
    const all = yield* Effect.forkChild(
      Effect.all(
        Array.from({ length: count }, () => one),
        { concurrency: count }
      )
    )
    yield* TestClock.adjust("1 hour")
    return (yield* Fiber.join(all)).map(([time, end]) => ({
      millis: Duration.toMillis(time),
      end: end._tag === "Success" ? end.success : end.failure
    }))
  }).pipe(Random.withSeed("stub"), Effect.provide(StubWork.layer(options)))

describe("StubWork", () => {
  it.effect("takes 3 to 5 minutes and fails in about 10 % of all cases", () =>
    Effect.gen(function* () {
      const all = yield* runs(1000)
      assert.isTrue(all.every(({ millis }) => millis >= 180_000 && millis <= 300_000))
      assert.isAbove(Math.max(...all.map(({ millis }) => millis)), 290_000)
      assert.isBelow(Math.min(...all.map(({ millis }) => millis)), 190_000)
      const failed = all.filter(({ end }) => typeof end !== "string")
      assert.isAbove(failed.length, 60)
      assert.isBelow(failed.length, 140)
    })
  )

  it.effect("gives a result with a number", () =>
    Effect.gen(function* () {
      const all = yield* runs(100, { failures: 0 })
      for (const { end } of all) assert.match(String(end), /^io work result = \d$/)
      assert.isAbove(new Set(all.map(({ end }) => end)).size, 1)
    })
  )

  it.effect("does the same again under the same seed", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* runs(50), yield* runs(50))
    })
  )

  it.effect("takes the times and the share of failures that it is given", () =>
    Effect.gen(function* () {
      const all = yield* runs(20, { min: "10 millis", max: "20 millis", failures: 1 })
      assert.isTrue(all.every(({ millis }) => millis >= 10 && millis <= 20))
      for (const { end } of all) assert.include(String(end), "100 %")
      // A `max` below `min` is not a range that begins at its end.
      const [exact] = yield* runs(1, { min: "7 minutes", max: "1 minute", failures: 0 })
      assert.strictEqual(exact?.millis, 420_000)
    })
  )

  it.effect("is interrupted at once, at any time", () =>
    Effect.gen(function* () {
      const { run } = yield* Work
      for (const after of ["0 millis", "1 milli", "179 seconds"] as const) {
        const fiber = yield* Effect.forkChild(run(id))
        yield* TestClock.adjust(after)
        yield* Fiber.interrupt(fiber)
        assert.isDefined(fiber.pollUnsafe())
      }
    }).pipe(Effect.provide(StubWork.layer()))
  )
})
