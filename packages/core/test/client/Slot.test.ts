import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Pool } from "../../src/client/Pool.ts"
import type { Slot } from "../../src/client/Slot.ts"
import { onWire, start, tagged, text, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const slotOf = (pool: Pool, index: number): Slot => {
  const slot = pool.slots[index]
  if (slot === undefined) throw new Error(`no slot ${index}`)
  return slot
}

describe("Slot", () => {
  it.effect("there are as many as the pool is large, each with its number", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(new Wire(), { size: 3 })
      assert.deepStrictEqual(
        pool.slots.map((slot) => slot.index),
        [0, 1, 2]
      )
    })
  )

  it.effect("its client uses this slot only", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.answer(`slot ${sent.slot}`))
      const pool = yield* onWire(wire, { size: 4 })
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* text(slotOf(pool, 2).client.get("/")), "slot 2")
      assert.strictEqual(wire.opened, 1)
      assert.deepStrictEqual(yield* slotOf(pool, 2).stats, { state: "free", requests: 3, connectionsOpen: 1 })
      assert.deepStrictEqual(yield* slotOf(pool, 0).stats, { state: "free", requests: 0, connectionsOpen: 0 })
    })
  )

  it.effect("its client waits while it is busy, in one order of arrival with those that take any slot", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* onWire(wire, { size: 1 })
      yield* start(pool.client.get("/first"))
      yield* start(pool.client.get("/any"))
      yield* start(slotOf(pool, 0).client.get("/pinned-1"))
      yield* start(slotOf(pool, 0).client.get("/pinned-2"))
      assert.strictEqual((yield* pool.stats).waiting, 3)
      for (let i = 0; i < 4; i++) {
        wire.at(i).reply()
        yield* turn
      }
      assert.deepStrictEqual(wire.paths, ["/first", "/any", "/pinned-1", "/pinned-2"])
      assert.strictEqual((yield* pool.stats).waiting, 0)
    })
  )

  it.effect("an interrupted request for a certain slot leaves no hole", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* onWire(wire, { size: 2 })
      const client = slotOf(pool, 1).client
      yield* start(client.get("/0"))
      const waiting = yield* start(client.get("/1"))
      yield* start(client.get("/2"))
      yield* Fiber.interrupt(waiting)
      assert.strictEqual((yield* pool.stats).waiting, 1)
      wire.at(0).reply()
      yield* turn
      wire.at(1).reply()
      yield* turn
      assert.deepStrictEqual(wire.paths, ["/0", "/2"])
      assert.deepStrictEqual(yield* slotOf(pool, 1).stats, { state: "free", requests: 2, connectionsOpen: 1 })
    })
  )

  it.effect("is used although it is ejected when the caller wants it and no other", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.refuse())
      const pool = yield* onWire(wire, { size: 4, ejection: { failures: 1, base: "5 seconds" } })
      const slot = slotOf(pool, 0)
      for (let i = 0; i < 3; i++) tagged(yield* Effect.flip(slot.client.get("/")), "ConnectError")
      assert.deepStrictEqual(yield* slot.stats, { state: "ejected", requests: 3, connectionsOpen: 0 })
      assert.strictEqual((yield* pool.stats).ejections, 1, "one that rests already is not ejected again")
      assert.strictEqual((yield* pool.stats).ejected, 1)
      wire.onSend = (sent) => sent.answer("ok")
      assert.strictEqual(yield* text(slot.client.get("/")), "ok")
      assert.strictEqual((yield* slot.stats).state, "ejected")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* slot.stats).state, "free")
      assert.strictEqual((yield* pool.stats).ejected, 0)
    })
  )

  it.effect("keeps its count of free slots when it is restored while it is used", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.refuse())
      const pool = yield* onWire(wire, { size: 2, ejection: { failures: 1, base: "5 seconds" } })
      const slot = slotOf(pool, 0)
      yield* Effect.exit(slot.client.get("/"))
      wire.onSend = (sent) => sent.write()
      yield* start(slot.client.get("/long"))
      assert.strictEqual((yield* slot.stats).state, "busy")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* slot.stats).state, "busy")
      yield* start(pool.client.get("/other"))
      yield* start(pool.client.get("/waits"))
      assert.strictEqual((yield* pool.stats).waiting, 1)
      wire.at(-2).reply()
      yield* turn
      assert.deepStrictEqual(wire.paths.slice(1), ["/long", "/other", "/waits"])
      assert.deepStrictEqual(wire.slots.slice(1), [0, 1, 0])
    })
  )

  it.effect("counts over all origins", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => (sent.path === "/stuck" ? sent.write() : sent.answer("ok")))
      const pool = yield* onWire(wire, { size: 2 })
      const { client, stats } = slotOf(pool, 0)
      yield* client.get("/")
      yield* client.get("http://other.test/")
      yield* start(client.get("http://third.test/stuck"))
      assert.deepStrictEqual(yield* stats, { state: "busy", requests: 3, connectionsOpen: 3 })
    })
  )
})
