import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Stream } from "effect"
import { Listeners } from "../../../src/policy/internal/listeners.ts"
import { start, turn } from "../../fixtures/pools.ts"

describe("Listeners", () => {
  it.effect("each hears what is told while it listens, and leaves nothing behind, interrupted or at its end", () =>
    Effect.gen(function* () {
      const listeners = new Listeners<number>()
      listeners.tell(0)
      const patient = yield* start(Stream.runCollect(Stream.take(listeners.stream, 2)))
      const impatient = yield* start(Stream.runDrain(listeners.stream))
      assert.strictEqual(listeners.size, 2)
      yield* Fiber.interrupt(impatient)
      assert.strictEqual(listeners.size, 1)
      listeners.tell(1)
      listeners.tell(2)
      assert.deepStrictEqual(yield* Fiber.join(patient), [1, 2])
      assert.strictEqual(listeners.size, 0)
    })
  )

  it.effect("a listener that is behind loses the oldest, and nobody waits for it", () =>
    Effect.gen(function* () {
      const listeners = new Listeners<number>()
      const busy = yield* Deferred.make<void>()
      const seen: Array<number> = []
      const listener = yield* start(
        Stream.runForEach(listeners.stream, (n) => {
          seen.push(n)
          return Deferred.await(busy)
        })
      )
      listeners.tell(-1)
      yield* turn
      for (let n = 0; n < 100; n++) listeners.tell(n)
      yield* Deferred.succeed(busy, undefined)
      yield* turn
      assert.deepStrictEqual(seen, [-1, ...Array.from({ length: 64 }, (_, i) => i + 36)])
      yield* Fiber.interrupt(listener)
    })
  )
})
