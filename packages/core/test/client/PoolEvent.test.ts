import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { PoolEvent } from "../../src/client/PoolEvent.ts"
import type { Pool } from "../../src/client/Pool.ts"
import type { PoolError } from "../../src/model/PoolError.ts"
import { onWire, start, tagged, text, turn } from "../fixtures/pools.ts"
import { type Connection, type Sent, Wire } from "../fixtures/wire.ts"

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

  describe("a listener", () => {
    const is = (event: PoolEvent, tag: PoolEvent["_tag"]) => event._tag === tag

    /** Does something at every event of a kind. */
    const on = (pool: Pool, tag: PoolEvent["_tag"], react: Effect.Effect<unknown>) =>
      start(Stream.runForEach(pool.events, (event) => (is(event, tag) ? react : Effect.void)))

    /** Counts what is under way on each connection. */
    const exclusive = (react: (sent: Sent) => void) => {
      const current = new Map<Connection, Sent>()
      let overlaps = 0
      const over = new Set<Sent>()
      const wire = new Wire((sent) => {
        const before = current.get(sent.connection)
        if (before !== undefined && !over.has(before) && !before.aborted && !before.cancelled) overlaps++
        current.set(sent.connection, sent)
        react(sent)
      })
      /** Ends an exchange by what `how` does; it is over before the pool hears of it. */
      const finish = (sent: Sent, how: (sent: Sent) => void) => {
        over.add(sent)
        how(sent)
      }
      return { wire, finish, overlaps: () => overlaps }
    }

    const idle = (pool: Pool) =>
      Effect.map(pool.stats, ({ active, waiting }) => assert.deepStrictEqual([active, waiting], [0, 0]))

    it.effect("that interrupts the request which is sent again, ends it, and no other", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer())
        const pool = yield* onWire(wire, { size: 1 })
        yield* pool.client.get("/first")
        wire.onSend = (sent) => sent.write()
        const request = yield* start(pool.client.get("/stale"))
        yield* on(pool, "StaleRetry", Fiber.interrupt(request))
        wire.at(1).lose()
        assert.strictEqual(wire.sent.length, 3, "it is sent again before anybody hears of it")
        yield* turn
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(request)))
        assert.isTrue(wire.at(2).aborted)
        yield* idle(pool)
        wire.onSend = (sent) => sent.answer("next")
        assert.strictEqual(yield* text(pool.client.get("/next")), "next")
        yield* idle(pool)
      })
    )

    it.effect("that interrupts the request which is sent again, leaves the waiting ones one connection each", () =>
      Effect.gen(function* () {
        const { finish, overlaps, wire } = exclusive((sent) => sent.write())
        const pool = yield* onWire(wire, { size: 2 })
        const [slot] = pool.slots
        if (slot === undefined) return assert.fail("no slot")
        const first = yield* start(slot.client.get("/first"))
        finish(wire.at(0), (sent) => sent.reply())
        yield* Fiber.join(first)
        const request = yield* start(slot.client.get("/stale"))
        const pinned = [yield* start(text(slot.client.get("/a"))), yield* start(text(slot.client.get("/b")))]
        yield* on(pool, "StaleRetry", Fiber.interrupt(request))
        finish(wire.at(1), (sent) => sent.lose())
        yield* turn
        assert.deepStrictEqual(wire.paths, ["/first", "/stale", "/stale", "/a"])
        finish(wire.at(3), (sent) => sent.reply("a"))
        yield* turn
        finish(wire.at(4), (sent) => sent.reply("b"))
        assert.deepStrictEqual(yield* Fiber.joinAll(pinned), ["a", "b"])
        assert.strictEqual(overlaps(), 0)
        yield* idle(pool)
      })
    )

    it.effect("that interrupts the request which ejected its slot, changes nothing", () =>
      Effect.gen(function* () {
        const { finish, overlaps, wire } = exclusive(() => {})
        const pool = yield* onWire(wire, { size: 2, ejection: { failures: 1, base: "5 seconds" } })
        const [slot] = pool.slots
        if (slot === undefined) return assert.fail("no slot")
        const request = yield* start(Effect.exit(slot.client.get("/refused")))
        const pinned = [yield* start(text(slot.client.get("/a"))), yield* start(text(slot.client.get("/b")))]
        yield* on(pool, "SlotEjected", Fiber.interrupt(request))
        finish(wire.at(0), (sent) => sent.refuse())
        yield* turn
        assert.deepStrictEqual(wire.paths, ["/refused", "/a"])
        finish(wire.at(1), (sent) => sent.answer("a"))
        yield* turn
        finish(wire.at(2), (sent) => sent.answer("b"))
        assert.deepStrictEqual(yield* Fiber.joinAll(pinned), ["a", "b"])
        yield* idle(pool)
        // The ejected slot is left out: of two more requests one waits, until it is back.
        const more = [yield* start(text(pool.client.get("/c"))), yield* start(text(pool.client.get("/d")))]
        assert.deepStrictEqual(wire.slots.slice(3), [1])
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(wire.slots.slice(3), [1, 0])
        for (const i of [3, 4]) finish(wire.at(i), (sent) => sent.answer("more"))
        assert.deepStrictEqual(yield* Fiber.joinAll(more), ["more", "more"])
        assert.strictEqual(overlaps(), 0)
        yield* idle(pool)
      })
    )

    it.effect("that uses the pool when a host is added, does not get beyond maxHosts", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, { maxHosts: 1 })
        const nested: Array<Exit.Exit<unknown, PoolError>> = []
        yield* on(
          pool,
          "HostAdded",
          Effect.map(Effect.exit(pool.client.get("http://nested.test/")), (exit) => nested.push(exit))
        )
        const outer = yield* start(text(pool.client.get("http://outer.test/")))
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.origin),
          ["http://outer.test"]
        )
        assert.strictEqual((yield* pool.stats).hosts, 1)
        const error = yield* Effect.flip(nested[0] ?? Effect.die("nothing was nested"))
        assert.strictEqual(tagged(error, "PoolSaturated").reason, "maxHosts")
        wire.at(0).reply("outer")
        assert.strictEqual(yield* Fiber.join(outer), "outer")
        yield* idle(pool)
      })
    )

    it.effect("hears nothing before the call that causes it has returned", () =>
      Effect.gen(function* () {
        const wire = new Wire()
        const pool = yield* onWire(wire, { size: 2, ejection: { failures: 1 } })
        const heard: Array<string> = []
        yield* start(Stream.runForEach(pool.events, (event) => Effect.sync(() => heard.push(event._tag))))
        yield* start(Effect.exit(pool.client.get("/")))
        assert.deepStrictEqual(heard, ["HostAdded"])
        const during = yield* Effect.sync(() => {
          wire.at(0).begin().refuse()
          return heard.length
        })
        assert.strictEqual(during, 1)
        yield* turn
        assert.deepStrictEqual(heard, [
          "HostAdded",
          "ConnectionOpened",
          "ConnectionClosed",
          "ConnectionFailed",
          "SlotEjected"
        ])
      })
    )
  })
})
