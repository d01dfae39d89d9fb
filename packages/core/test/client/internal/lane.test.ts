import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Random, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Pool } from "../../../src/client/Pool.ts"
import type { Failure } from "../../../src/client/Connector.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"
import type { PoolEvent } from "../../../src/client/PoolEvent.ts"
import { onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { Wire } from "../../fixtures/wire.ts"

const answering = () => new Wire((sent) => sent.answer("ok"))

/** A generator that always says the same. */
const withRandom = (value: number) =>
  Effect.provideService(Random.Random, { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => value })

const eventsOf = (pool: Pool) =>
  Effect.gen(function* () {
    const seen: Array<PoolEvent> = []
    yield* Effect.forkScoped(
      Stream.runForEach(pool.events, (event) => Effect.sync(() => seen.push(event))),
      {
        startImmediately: true
      }
    )
    yield* turn
    return seen
  })

describe("lane", () => {
  describe("the age of a connection", () => {
    it.effect("ends it between two requests", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { size: 1, maxConnectionAge: "10 minutes" }).pipe(withRandom(0.5))
        const events = yield* eventsOf(pool)
        yield* pool.client.get("/")
        yield* TestClock.adjust("599 seconds")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 1)
        yield* TestClock.adjust("1 seconds")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 2)
        yield* turn
        assert.deepStrictEqual(
          events.filter((event) => event._tag === "ConnectionClosed"),
          [{ _tag: "ConnectionClosed", origin: "http://test.local", slot: 0, reason: "retired" }]
        )
        yield* TestClock.adjust("599 seconds")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 2, "the new one has an age of its own")
      })
    )

    it.effect("does not end it during a request", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, {
          size: 1,
          maxConnectionAge: "1 seconds",
          bodyIdleTimeout: "Infinity",
          requestTimeout: "Infinity"
        })
        const fiber = yield* start(text(pool.client.get("/")))
        wire.at(0).head().data("long")
        yield* TestClock.adjust("1 hour")
        assert.isTrue(wire.at(0).connection.connected)
        wire.at(0).end()
        assert.strictEqual(yield* Fiber.join(fiber), "long")
        assert.isTrue(wire.at(0).connection.connected, "nobody needs it now")
        wire.onSend = (sent) => sent.answer()
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 2)
      })
    )

    it.effect("is never over where there is no limit", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { size: 1, maxConnectionAge: "Infinity" })
        yield* pool.client.get("/")
        yield* TestClock.adjust("365 days")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 1)
      })
    )

    it.effect.prop(
      "varies by at most 10 % to both sides, from connection to connection",
      [Schema.String],
      ([seed]) =>
        Effect.gen(function* () {
          const size = 20
          const wire = answering()
          const pool = yield* onWire(wire, { size, maxConnectionAge: "1000 seconds" }).pipe(Random.withSeed(seed))
          const round = Effect.forEach(pool.slots, (slot) => slot.client.get("/"), { discard: true })
          yield* round
          yield* TestClock.adjust("899 seconds")
          yield* round
          assert.strictEqual(wire.opened, size, "none is retired before 90 %")
          yield* TestClock.adjust("101 seconds")
          yield* round
          assert.isAbove(wire.opened, size, "some are at 100 %")
          assert.isBelow(wire.opened, 2 * size, "and some are not")
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 20, seed: 4 } }
    )

    it.effect("is at most 110 %", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { size: 1, maxConnectionAge: "1000 seconds" }).pipe(withRandom(0.999999))
        yield* pool.client.get("/")
        yield* TestClock.adjust("1099 seconds")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 1)
        yield* TestClock.adjust("1 seconds")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 2)
      })
    )

    it.effect("lets a new instance have its share: connections are renewed one after the other", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { size: 4, maxConnectionAge: "60 seconds" })
        for (let i = 0; i < 4; i++) yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 4)
        for (let second = 0; second < 70; second++) {
          yield* TestClock.adjust("1 seconds")
          for (let i = 0; i < 4; i++) yield* pool.client.get("/")
        }
        assert.strictEqual(wire.opened, 8)
      })
    )
  })

  describe("maxRequestsPerConnection", () => {
    it.effect.prop(
      "is how many requests a connection does",
      [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 7 }))],
      ([n]) =>
        Effect.gen(function* () {
          const wire = answering()
          const pool = yield* onWire(wire, { size: 1, maxRequestsPerConnection: n })
          for (let i = 1; i <= 3 * n; i++) {
            yield* pool.client.get("/")
            assert.strictEqual(wire.opened, Math.ceil(i / n))
          }
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 10 } }
    )

    it.effect("counts a request that was sent again only where it was sent", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { size: 1, maxRequestsPerConnection: 3 })
        yield* pool.client.get("/")
        wire.onSend = (sent) => {
          wire.onSend = (again) => again.answer("ok")
          sent.write().lose()
        }
        assert.strictEqual(yield* text(pool.client.get("/")), "ok")
        assert.strictEqual(wire.opened, 2)
        yield* pool.client.get("/")
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 2)
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 3)
      })
    )
  })

  describe("health", () => {
    const ejection: Options = { ejection: { failures: 3, base: "5 seconds", max: "12 seconds" } }
    const failing = (failure: "refuse" | "lose") =>
      new Wire((sent) => (failure === "refuse" ? sent.refuse() : sent.write().lose()))
    const slotOf = (pool: Pool, index: number) => pool.slots[index] ?? assert.fail(`no slot ${index}`)
    const fail = (pool: Pool, times: number, slot = 0) =>
      Effect.gen(function* () {
        for (let i = 0; i < times; i++) tagged(yield* Effect.flip(slotOf(pool, slot).client.get("/")), "ConnectError")
      })
    const state = (pool: Pool, slot = 0) => Effect.map(slotOf(pool, slot).stats, (stats) => stats.state)

    for (const failure of ["refuse", "lose"] as const) {
      it.effect(
        `${failure === "refuse" ? "connections that cannot be made" : "connections that break"} eject it, n in a row`,
        () =>
          Effect.gen(function* () {
            const pool = yield* onWire(failing(failure), { size: 4, ...ejection })
            const events = yield* eventsOf(pool)
            yield* fail(pool, 2)
            assert.strictEqual(yield* state(pool), "free")
            yield* fail(pool, 1)
            assert.strictEqual(yield* state(pool), "ejected")
            const stats = yield* pool.stats
            assert.deepStrictEqual([stats.ejected, stats.ejections], [1, 1])
            yield* TestClock.adjust("4999 millis")
            assert.strictEqual(yield* state(pool), "ejected")
            yield* TestClock.adjust("1 millis")
            assert.strictEqual(yield* state(pool), "free")
            assert.strictEqual((yield* pool.stats).ejected, 0)
            yield* turn
            assert.deepStrictEqual(
              events.filter((event) => event._tag === "SlotEjected" || event._tag === "SlotRestored"),
              [
                {
                  _tag: "SlotEjected",
                  origin: "http://test.local",
                  slot: 0,
                  millis: 5000,
                  reason: failure === "refuse" ? "ECONNREFUSED" : "reset by peer"
                },
                { _tag: "SlotRestored", origin: "http://test.local", slot: 0 }
              ]
            )
          })
      )
    }

    it.effect("every connection that cannot be made is told and counted, also of a slot that rests", () =>
      Effect.gen(function* () {
        const failures: Array<Failure> = [
          { _tag: "ConnectTimeout", phase: "dial", address: "192.0.2.1:80", millis: 5000 },
          { _tag: "ConnectTimeout", phase: "tls", address: undefined, millis: 10_000 },
          { _tag: "Connect", phase: "tls", address: "192.0.2.1:80", millis: 4, cause: new Error("bad certificate") },
          { _tag: "Connect", phase: "dns", address: undefined, millis: 1, cause: undefined },
          { _tag: "Broken", cause: new Error("reset by peer") },
          { _tag: "Protocol", reason: "garbage", cause: undefined }
        ]
        const rest = [...failures]
        const wire = new Wire((sent) => {
          const failure = rest.shift()
          if (failure === undefined) sent.answer()
          else sent.fail(failure)
        })
        const pool = yield* onWire(wire, { size: 2, ejection: { failures: 2, base: "5 seconds" } })
        const events = yield* eventsOf(pool)
        while (rest.length > 0) yield* Effect.exit(slotOf(pool, 0).client.get("/"))
        yield* turn
        const failed = { _tag: "ConnectionFailed", origin: "http://test.local", slot: 0 } as const
        assert.deepStrictEqual(
          events.filter((event) => event._tag !== "HostAdded"),
          [
            { ...failed, phase: "dial", address: "192.0.2.1:80", millis: 5000, reason: "timeout" },
            { ...failed, phase: "tls", address: undefined, millis: 10_000, reason: "timeout" },
            { _tag: "SlotEjected", origin: "http://test.local", slot: 0, millis: 5000, reason: "timeout" },
            { ...failed, phase: "tls", address: "192.0.2.1:80", millis: 4, reason: "bad certificate" },
            { ...failed, phase: "dns", address: undefined, millis: 1, reason: "unknown reason" },
            { _tag: "StaleRetry", origin: "http://test.local", slot: 0 }
          ]
        )
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.connectionsFailed, stats.connectionsOpened, stats.connectionsClosed], [4, 0, 0])
      })
    )

    it.effect("the n-th ejection lasts n times as long, up to a bound", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(failing("refuse"), { size: 4, ...ejection })
        for (const seconds of [5, 10, 12, 12]) {
          yield* fail(pool, 3)
          yield* TestClock.adjust(seconds * 1000 - 1)
          assert.strictEqual(yield* state(pool), "ejected")
          yield* TestClock.adjust(1)
          assert.strictEqual(yield* state(pool), "free")
        }
      })
    )

    it.effect("an answer resets both counts, whatever its status", () =>
      Effect.gen(function* () {
        const wire = failing("refuse")
        const pool = yield* onWire(wire, { size: 4, ...ejection })
        const refuse = wire.onSend
        const succeed = Effect.gen(function* () {
          wire.onSend = (sent) => sent.answer("", 500)
          yield* slotOf(pool, 0).client.get("/")
          wire.onSend = refuse
        })
        yield* fail(pool, 2)
        yield* succeed
        yield* fail(pool, 2)
        assert.strictEqual(yield* state(pool), "free")
        yield* fail(pool, 1)
        yield* TestClock.adjust("5 seconds")
        yield* succeed
        yield* fail(pool, 3)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(yield* state(pool), "free", "the first one again")
      })
    )

    it.effect("failures that are not the connection's do not count", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write().fail({ _tag: "Protocol", reason: "garbage", cause: undefined }))
        const pool = yield* onWire(wire, { size: 4, ...ejection })
        for (let i = 0; i < 5; i++) yield* Effect.exit(slotOf(pool, 0).client.get("/"))
        assert.strictEqual(yield* state(pool), "free")
      })
    )

    it.effect.prop(
      "never more than half of the slots are ejected",
      [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 }))],
      ([size]) =>
        Effect.gen(function* () {
          const pool = yield* onWire(failing("refuse"), { size, ...ejection })
          for (let slot = 0; slot < size; slot++) yield* fail(pool, 6, slot)
          assert.strictEqual((yield* pool.stats).ejected, Math.floor(size / 2))
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 20 } }
    )

    it.effect("can be turned off", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(failing("refuse"), { size: 4, ejection: false })
        yield* fail(pool, 50)
        assert.strictEqual((yield* pool.stats).ejections, 0)
      })
    )

    it.effect("whoever waits gets the slot when it is restored", () =>
      Effect.gen(function* () {
        const wire = failing("refuse")
        const pool = yield* onWire(wire, { size: 2, ...ejection })
        yield* fail(pool, 3)
        wire.onSend = (sent) => sent.write()
        yield* start(pool.client.get("/stuck"))
        const waiting = yield* start(text(pool.client.get("/waiting")))
        assert.strictEqual((yield* pool.stats).waiting, 1)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual([wire.at(-1).path, wire.at(-1).slot], ["/waiting", 0])
        wire.at(-1).reply("served")
        assert.strictEqual(yield* Fiber.join(waiting), "served")
      })
    )

    it.effect("whoever waits gets another one that becomes free, not the ejected one", () =>
      Effect.gen(function* () {
        const wire = failing("refuse")
        const pool = yield* onWire(wire, { size: 2, ...ejection })
        yield* fail(pool, 3)
        wire.onSend = (sent) => sent.write()
        yield* start(pool.client.get("/stuck"))
        yield* start(pool.client.get("/waiting"))
        wire.at(-1).reply()
        yield* turn
        assert.deepStrictEqual([wire.at(-1).path, wire.at(-1).slot], ["/waiting", 1])
      })
    )
  })

  describe("a connection that is lost while nobody uses it", () => {
    it.effect("is made again for the next request", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { size: 1 })
        const events = yield* eventsOf(pool)
        yield* pool.client.get("/")
        wire.at(0).connection.disconnect("idle")
        wire.at(0).connection.target.observer.disconnected("twice")
        assert.strictEqual((yield* pool.stats).connectionsOpen, 0)
        yield* pool.client.get("/")
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.connectionsOpened, stats.connectionsClosed, stats.connectionsOpen], [2, 1, 1])
        yield* turn
        assert.deepStrictEqual(
          events.flatMap((event) => (event._tag === "ConnectionClosed" ? [event.reason] : [])),
          ["idle"]
        )
      })
    )
  })

  it.effect("a late answer does not hurt whoever has the slot now", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* onWire(wire, { size: 1 })
      const first = yield* start(pool.client.get("/1"))
      yield* Fiber.interrupt(first)
      const second = yield* start(text(pool.client.get("/2")))
      wire.at(0).exchange.onResponseError(null, new Error("late"))
      wire.at(0).end()
      assert.isUndefined(second.pollUnsafe())
      assert.strictEqual((yield* pool.stats).active, 1)
      wire.at(1).reply("two")
      assert.deepStrictEqual(yield* Fiber.await(second), Exit.succeed("two"))
    })
  )
})
