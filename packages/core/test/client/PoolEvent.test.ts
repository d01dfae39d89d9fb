import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { PoolEvent } from "../../src/client/PoolEvent.ts"
import { onWire, start, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

describe("PoolEvent", () => {
  it.effect("tells the life of a pool, in order", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.answer())
      const scope = yield* Scope.make()
      const pool = yield* onWire(wire, {
        size: 2,
        maxWaiting: 0,
        maxHosts: 1,
        maxRequestsPerConnection: 2,
        ejection: { failures: 1, base: "5 seconds" },
        selection: "strict"
      }).pipe(Effect.provideService(Scope.Scope, scope))
      const seen: Array<PoolEvent> = []
      yield* Effect.forkScoped(
        Stream.runForEach(pool.events, (event) => Effect.sync(() => seen.push(event))),
        {
          startImmediately: true
        }
      )
      yield* turn
      const next = Effect.andThen(
        turn,
        Effect.sync(() => seen.splice(0))
      )
      const origin = "http://test.local"
      const opened = (slot: number, at = origin): PoolEvent => ({
        _tag: "ConnectionOpened",
        origin: at,
        slot,
        address: `192.0.2.1:${slot}`,
        millis: 7
      })
      const closed = (slot: number, reason: string, at = origin): PoolEvent => ({
        _tag: "ConnectionClosed",
        origin: at,
        slot,
        reason
      })

      yield* pool.client.get("/")
      assert.deepStrictEqual(yield* next, [{ _tag: "HostAdded", origin }, opened(0)])

      wire.onSend = (sent) => sent.refuse()
      yield* Effect.exit(pool.client.get("/"))
      assert.deepStrictEqual(yield* next, [
        {
          _tag: "ConnectionFailed",
          origin,
          slot: 1,
          address: "192.0.2.1:80",
          millis: 3,
          phase: "tcp",
          reason: "ECONNREFUSED"
        },
        { _tag: "SlotEjected", origin, slot: 1, millis: 5000, reason: "ECONNREFUSED" }
      ])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* next, [{ _tag: "SlotRestored", origin, slot: 1 }])

      wire.onSend = (sent) => {
        wire.onSend = (again) => again.answer()
        sent.write().lose()
      }
      yield* pool.client.get("/")
      assert.deepStrictEqual(yield* next, [closed(0, "broken"), { _tag: "StaleRetry", origin, slot: 0 }, opened(0)])

      wire.onSend = (sent) => sent.write()
      const aborted = yield* start(pool.client.get("/"))
      yield* Fiber.interrupt(aborted)
      assert.deepStrictEqual(yield* next, [opened(1), closed(1, "aborted")])

      const busy = [yield* start(pool.client.get("/")), yield* start(pool.client.get("/"))]
      for (let i = 0; i < 3; i++) yield* Effect.exit(pool.client.get("/"))
      assert.deepStrictEqual(yield* next, [opened(1), { _tag: "Saturated", origin, reason: "maxWaiting" }])
      wire.at(-1).reply()
      wire.at(-2).reply()
      yield* Fiber.joinAll(busy)

      wire.onSend = (sent) => sent.answer()
      yield* pool.client.get("http://other.test/")
      assert.deepStrictEqual(
        (yield* next).filter((event) => event._tag === "HostEvicted" || event._tag === "HostAdded"),
        [
          { _tag: "HostEvicted", origin },
          { _tag: "HostAdded", origin: "http://other.test" }
        ]
      )

      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* next, [
        { _tag: "Closing", active: 0 },
        closed(0, "closed", "http://other.test"),
        { _tag: "Closed", aborted: 0 }
      ])
    })
  )
})
