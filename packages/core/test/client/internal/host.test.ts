import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Connector } from "../../../src/client/Connector.ts"
import * as Pool from "../../../src/client/Pool.ts"
import { onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { Connection, Wire } from "../../fixtures/wire.ts"

const writing = () => new Wire((sent) => sent.write())

describe("host", () => {
  describe("the waiting line", () => {
    it.effect("serves first come first", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 2 })
        for (let i = 0; i < 10; i++) yield* start(pool.client.get(`/${i}`))
        assert.strictEqual((yield* pool.stats).waiting, 8)
        for (let i = 0; i < 10; i++) {
          wire.at(i).reply()
          yield* turn
        }
        assert.deepStrictEqual(
          wire.paths,
          Array.from({ length: 10 }, (_, i) => `/${i}`)
        )
        assert.strictEqual((yield* pool.stats).waiting, 0)
      })
    )

    it.effect("is not jumped by one that comes when a slot has just become free", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        yield* start(pool.client.get("/first"))
        yield* start(pool.client.get("/waits"))
        // In the same turn: the answer, and then a newcomer.
        wire.at(0).reply()
        yield* start(pool.client.get("/newcomer"))
        assert.deepStrictEqual(wire.paths, ["/first", "/waits"])
      })
    )

    it.effect("is bounded by maxWaiting", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, maxWaiting: 2 })
        const fibers = [
          yield* start(text(pool.client.get("/0"))),
          yield* start(text(pool.client.get("/1"))),
          yield* start(text(pool.client.get("/2")))
        ]
        const error = tagged(yield* Effect.flip(pool.client.get("/3")), "PoolSaturated")
        assert.deepStrictEqual([error.reason, error.limit, error.waiting, error.attempts], ["maxWaiting", 2, 2, 0])
        assert.strictEqual(error.request.url, "http://test.local/3")
        for (const [i, fiber] of fibers.entries()) {
          wire.at(i).reply(`${i}`)
          assert.strictEqual(yield* Fiber.join(fiber), `${i}`)
        }
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.saturated, stats.active, stats.waiting], [1, 0, 0])
      })
    )

    it.effect("of one host does not fill that of another", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, maxWaiting: 1 })
        yield* start(pool.client.get("http://a.local/0"))
        yield* start(pool.client.get("http://a.local/1"))
        tagged(yield* Effect.flip(pool.client.get("http://a.local/2")), "PoolSaturated")
        yield* start(pool.client.get("http://b.local/0"))
        yield* start(pool.client.get("http://b.local/1"))
        assert.strictEqual((yield* pool.stats).waiting, 2)
      })
    )

    it.effect("is left by requests whose time is up together with that of the one before them", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, requestTimeout: 100 })
        const fibers = [
          yield* start(Effect.flip(pool.client.get("/0"))),
          yield* start(Effect.flip(pool.client.get("/1"))),
          yield* start(Effect.flip(pool.client.get("/2")))
        ]
        yield* TestClock.adjust(100)
        const errors = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
        assert.deepStrictEqual(
          errors.map((error) => [tagged(error, "TimeoutError").phase, error.attempts]),
          [
            ["request", 1],
            ["request", 0],
            ["request", 0]
          ]
        )
        assert.deepStrictEqual(wire.paths, ["/0"])
      })
    )

    it.effect("may not exist at all", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, maxWaiting: 0 })
        yield* start(pool.client.get("/0"))
        tagged(yield* Effect.flip(pool.client.get("/1")), "PoolSaturated")
        for (const slot of pool.slots) tagged(yield* Effect.flip(slot.client.get("/2")), "PoolSaturated")
        assert.strictEqual((yield* pool.stats).waiting, 0)
      })
    )

    it.effect("is bounded in time by acquireTimeout", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, acquireTimeout: "2 seconds" })
        yield* start(pool.client.get("/0"))
        const late = yield* start(Effect.flip(pool.client.get("/1")))
        yield* TestClock.adjust("1 seconds")
        yield* start(pool.client.get("/2"))
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(late.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const error = tagged(yield* Fiber.join(late), "PoolSaturated")
        assert.deepStrictEqual([error.reason, error.limit, error.attempts], ["acquireTimeout", 2000, 0])
        wire.at(0).reply()
        yield* turn
        assert.deepStrictEqual(wire.paths, ["/0", "/2"])
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* pool.stats).saturated, 1, "one that has a slot does not wait any more")
      })
    )

    it.effect("a thousand that are interrupted at once leave nothing", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 2 })
        const running = [yield* start(text(pool.client.get("/"))), yield* start(text(pool.client.get("/")))]
        const waiting: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let i = 0; i < 1000; i++) {
          waiting.push(yield* Effect.forkChild(pool.client.get("/waits"), { startImmediately: true }))
        }
        assert.strictEqual((yield* pool.stats).waiting, 1000)
        yield* Fiber.interruptAll(waiting)
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.waiting, stats.active, stats.failures], [0, 2, 0])
        wire.at(0).reply("a")
        wire.at(1).reply("b")
        assert.deepStrictEqual(yield* Fiber.joinAll(running), ["a", "b"])
        assert.deepStrictEqual([wire.sent.length, wire.opened], [2, 2])
        wire.onSend = (sent) => sent.answer("free")
        for (let i = 0; i < 4; i++) assert.strictEqual(yield* text(pool.client.get("/")), "free")
        assert.strictEqual(wire.opened, 2)
      })
    )

    it.effect.prop(
      "any of them may leave in any order: the rest are served in theirs",
      [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 11 })))],
      ([leaving]) =>
        Effect.gen(function* () {
          const wire = writing()
          const pool = yield* onWire(wire, { size: 1 })
          const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
          for (let i = 0; i < 12; i++) {
            fibers.push(yield* Effect.forkChild(pool.client.get(`/${i}`), { startImmediately: true }))
          }
          const gone = new Set(leaving.filter((i) => i !== 0))
          for (const i of leaving) {
            const fiber = fibers[i]
            if (fiber !== undefined && gone.has(i)) yield* Fiber.interrupt(fiber)
          }
          const stay = fibers.flatMap((_, i) => (gone.has(i) ? [] : [`/${i}`]))
          assert.strictEqual((yield* pool.stats).waiting, stay.length - 1)
          for (let i = 0; i < stay.length; i++) wire.at(i).reply()
          assert.deepStrictEqual(wire.paths, stay)
          assert.strictEqual((yield* pool.stats).active, 0)
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 50 } }
    )

    it.effect("goes on when one after the other fails at once", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        yield* start(pool.client.get("/first"))
        const fibers: Array<Fiber.Fiber<Exit.Exit<unknown, unknown>>> = []
        for (let i = 0; i < 2000; i++) {
          fibers.push(yield* Effect.forkChild(Effect.exit(pool.client.get("/x")), { startImmediately: true }))
        }
        wire.onSend = (sent) => sent.refuse()
        wire.at(0).reply()
        const exits = yield* Fiber.joinAll(fibers)
        assert.isTrue(exits.every(Exit.isFailure))
        assert.strictEqual((yield* pool.stats).failures, 2000)
      })
    )
  })

  describe("two of them", () => {
    it.effect("do not starve each other: A hangs on all its slots, B answers", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => (sent.origin === "http://a.test" ? sent.write() : sent.answer("B")))
        const pool = yield* onWire(wire, { size: 2, maxWaiting: 10 })
        for (let i = 0; i < 10; i++) yield* start(pool.client.get("http://a.test/"))
        assert.strictEqual((yield* pool.stats).waiting, 8)
        for (let i = 0; i < 10; i++) assert.strictEqual(yield* text(pool.client.get("http://b.test/")), "B")
        assert.deepStrictEqual(
          wire.sent.filter((sent) => sent.origin === "http://b.test").map((sent) => sent.slot),
          [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
        )
      })
    )

    it.effect("have connections, rotation and counters of their own", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer())
        const pool = yield* onWire(wire, { size: 3 })
        for (let i = 0; i < 3; i++) {
          yield* pool.client.get("http://a.test/")
          yield* pool.client.get("http://b.test/")
          yield* pool.client.get("http://b.test/")
        }
        const slotsOf = (origin: string) => wire.sent.filter((sent) => sent.origin === origin).map((sent) => sent.slot)
        assert.deepStrictEqual(slotsOf("http://a.test"), [0, 1, 2])
        assert.deepStrictEqual(slotsOf("http://b.test"), [0, 1, 2, 0, 1, 2])
        assert.strictEqual((yield* pool.stats).connectionsOpen, 6)
        assert.strictEqual((yield* pool.stats).hosts, 2)
      })
    )
  })

  describe("a connector that cannot open", () => {
    it.effect("costs the request, not the slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("ok"))
        let broken = true
        const layer = Layer.succeed(Connector, {
          open: (target) => {
            if (broken) throw new Error("bad connector")
            return new Connection(wire, target)
          }
        })
        const pool = yield* Pool.make({ baseUrl: "http://test.local", size: 1, drainTimeout: 0 }).pipe(
          Effect.provide(layer)
        )
        const error = tagged(yield* Effect.flip(pool.client.get("/")), "ConnectError")
        assert.include(error.message, "bad connector")
        assert.isFalse(error.sent)
        broken = false
        assert.strictEqual(yield* text(pool.client.get("/")), "ok")
      })
    )
  })

  describe("a connector that throws when it is to send", () => {
    it.effect("costs the request that it threw at, not the slot, and not those that wait", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const first = yield* start(text(pool.client.get("/first")))
        const bad = yield* start(Effect.flip(pool.client.get("/bad")))
        const waiting = [yield* start(text(pool.client.get("/a"))), yield* start(text(pool.client.get("/b")))]
        wire.onSend = (sent) => {
          if (sent.path === "/bad") throw new Error("bad connector")
          sent.write()
        }
        wire.at(0).reply("first")
        assert.strictEqual(yield* Fiber.join(first), "first", "it has its answer")
        const error = tagged(yield* Fiber.join(bad), "ConnectError")
        assert.isFalse(error.sent)
        assert.strictEqual(error.cause instanceof Error && error.cause.message, "bad connector")
        // Nothing of it was written, so it was tried on a second connection.
        assert.deepStrictEqual(wire.paths, ["/first", "/bad", "/bad", "/a"])
        wire.at(3).reply("a")
        yield* turn
        wire.at(4).reply("b")
        assert.deepStrictEqual(yield* Fiber.joinAll(waiting), ["a", "b"])
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.active, stats.waiting], [0, 0])
      })
    )
  })

  describe("a connector that answers at once", () => {
    it.effect("may do so within `send`", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("now"))
        const pool = yield* onWire(wire, { size: 1 })
        const all = yield* Effect.all(
          Array.from({ length: 50 }, () => text(pool.client.get("/"))),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(new Set(all), new Set(["now"]))
      })
    )
  })
})
