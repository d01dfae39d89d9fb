import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Stream } from "effect"
import type { PoolEvent } from "../../../src/client/PoolEvent.ts"
import * as Announcer from "../../../src/client/internal/announcer.ts"
import { start, turn } from "../../fixtures/pools.ts"

const added = (n: number): PoolEvent => ({ _tag: "HostAdded", origin: `http://${n}.test` })
const closed: PoolEvent = { _tag: "Closed", aborted: 0 }

/** An announcer, and what a listener of it has seen. */
const listened = Effect.gen(function* () {
  const announcer = yield* Announcer.make
  const seen: Array<PoolEvent> = []
  const listener = yield* start(Stream.runForEach(announcer.stream, (event) => Effect.sync(() => seen.push(event))))
  return { announcer, seen, listener }
})

describe("announcer", () => {
  it.effect("publishes in a later microtask, never in the call, in the order of the calls", () =>
    Effect.gen(function* () {
      const { announcer, seen } = yield* listened
      const atOnce = yield* Effect.promise(() => {
        for (let n = 0; n < 3; n++) announcer.announce(added(n))
        const length = seen.length
        return Promise.resolve().then(() => [length, seen.length])
      })
      assert.deepStrictEqual(atOnce, [0, 3])
      assert.deepStrictEqual(seen, [added(0), added(1), added(2)])
      announcer.announce(added(3))
      yield* turn
      assert.deepStrictEqual(seen.slice(3), [added(3)])
    })
  )

  it.effect("publishes what a listener causes after all that it has heard of", () =>
    Effect.gen(function* () {
      const announcer = yield* Announcer.make
      const seen: Array<PoolEvent> = []
      const listener = (event: PoolEvent) =>
        Effect.sync(() => {
          if (seen.length === 0) announcer.announce(added(9))
          seen.push(event)
        })
      yield* start(Stream.runForEach(announcer.stream, listener))
      announcer.announce(added(0))
      announcer.announce(added(1))
      yield* turn
      assert.deepStrictEqual(seen, [added(0), added(1), added(9)])
    })
  )

  it.effect("tells every listener what happens from when it listens", () =>
    Effect.gen(function* () {
      const { announcer, seen } = yield* listened
      announcer.announce(added(0))
      yield* turn
      const late = yield* start(Stream.runCollect(Stream.take(announcer.stream, 1)))
      announcer.announce(added(1))
      assert.deepStrictEqual(yield* Fiber.join(late), [added(1)])
      assert.deepStrictEqual(seen, [added(0), added(1)])
    })
  )

  it.effect("needs no listener", () =>
    Effect.gen(function* () {
      const announcer = yield* Announcer.make
      announcer.announce(added(0))
      yield* turn
    })
  )

  it.effect("drops the oldest for a listener that is more than 256 behind, and for no other", () =>
    Effect.gen(function* () {
      const { announcer, seen } = yield* listened
      const gate = yield* Latch.make()
      const slow = yield* start(
        Stream.runCollect(
          Stream.takeUntil(
            Stream.mapEffect(announcer.stream, (event) => Effect.as(gate.await, event)),
            (event) => event._tag === "HostEvicted"
          )
        )
      )
      const all: Array<PoolEvent> = Array.from({ length: 999 }, (_, n) => added(n))
      all.push({ _tag: "HostEvicted", origin: "http://last.test" })
      for (const [n, event] of all.entries()) {
        announcer.announce(event)
        if (n % 100 === 99) yield* turn
      }
      yield* gate.open
      const behind = yield* Fiber.join(slow)
      assert.deepStrictEqual(behind.slice(-256), all.slice(-256))
      assert.notInclude(behind, all[500])
      assert.isBelow(behind.length, 1000)
      assert.deepStrictEqual(seen, all)
    })
  )

  describe("the stream", () => {
    it.effect("ends with Closed", () =>
      Effect.gen(function* () {
        const { announcer, listener, seen } = yield* listened
        announcer.announce(added(0))
        announcer.announce(closed)
        announcer.announce(added(1))
        yield* Fiber.join(listener)
        assert.deepStrictEqual(seen, [added(0), closed])
      })
    )

    it.effect("is empty after it, also when something happens later", () =>
      Effect.gen(function* () {
        const announcer = yield* Announcer.make
        announcer.announce(closed)
        assert.deepStrictEqual(yield* Stream.runCollect(announcer.stream), [], "before it is published")
        yield* turn
        assert.deepStrictEqual(yield* Stream.runCollect(announcer.stream), [])
        announcer.announce({ _tag: "ConnectionClosed", origin: "http://h.test", slot: 0, reason: "closed" })
        yield* turn
        const late = yield* start(Stream.runCollect(announcer.stream))
        assert.deepStrictEqual(late.pollUnsafe(), Exit.succeed([]))
      })
    )
  })
})
