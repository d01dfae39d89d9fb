import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Option, Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import { vi } from "vitest"
import type { Pool } from "../../../src/client/Pool.ts"
import { Host } from "../../../src/client/internal/host.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"
import type { PoolEvent } from "../../../src/client/PoolEvent.ts"
import { CountingClock, onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { type Sent, Wire } from "../../fixtures/wire.ts"

const answering = () => new Wire((sent) => sent.answer("ok"))
const writing = () => new Wire((sent) => sent.write())

const getRoot = HttpClientRequest.get("/")

const closedOf = (error: { readonly _tag: string }) => assert.strictEqual(error._tag, "PoolClosed")

/** A pool whose scope the test closes itself. */
const closeable = (wire: Wire, options: Options = {}) =>
  Effect.gen(function* () {
    const clock = new CountingClock(yield* Clock.Clock)
    const scope = yield* Scope.make()
    const pool = yield* onWire(wire, { drainTimeout: "10 seconds", ...options }).pipe(
      Effect.provideService(Scope.Scope, scope),
      Effect.provideService(Clock.Clock, clock)
    )
    const seen: Array<PoolEvent> = []
    yield* Effect.forkScoped(
      Stream.runForEach(pool.events, (event) => Effect.sync(() => seen.push(event))),
      {
        startImmediately: true
      }
    )
    yield* turn
    return { pool, clock, seen, close: Scope.close(scope, Exit.void) }
  })

describe("state", () => {
  describe("hosts", () => {
    it.effect("are made on first use, and known by their origin", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(answering())
        assert.deepStrictEqual(yield* pool.hostStats("http://a.test"), Option.none())
        yield* pool.client.get("http://A.test:80/x")
        for (const name of ["http://a.test", "http://a.test/", "http://A.test:80/y?z", new URL("http://a.test/q")]) {
          const stats = Option.getOrThrow(yield* pool.hostStats(name))
          assert.deepStrictEqual([stats.origin, stats.requests], ["http://a.test", 1])
        }
        for (const name of ["https://a.test", "http://a.test:81", "a.test", ""]) {
          assert.deepStrictEqual(yield* pool.hostStats(name), Option.none())
        }
      })
    )

    it.effect("beyond maxHosts replace the one that is idle for longest", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { maxHosts: 2 })
        const use = (name: string) => Effect.andThen(pool.client.get(`http://${name}.test/`), TestClock.adjust(10))
        const known = Effect.forEach(["a", "b", "c", "d"], (name) =>
          Effect.map(pool.hostStats(`http://${name}.test`), (stats) => (Option.isSome(stats) ? name : ""))
        ).pipe(Effect.map((names) => names.join("")))
        yield* use("a")
        yield* use("b")
        yield* use("a")
        yield* use("c")
        assert.strictEqual(yield* known, "ac")
        yield* turn
        assert.isTrue(wire.sent.find((sent) => sent.origin === "http://b.test")?.connection.closed)
        assert.isFalse(wire.sent.find((sent) => sent.origin === "http://a.test")?.connection.closed)
        yield* use("d")
        assert.strictEqual(yield* known, "cd")
        assert.strictEqual((yield* pool.stats).hosts, 2)
      })
    )

    it.effect("that are busy are never replaced", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { maxHosts: 2 })
        const a = yield* start(text(pool.client.get("http://a.test/")))
        yield* start(pool.client.get("http://b.test/"))
        for (const client of [pool.client, ...pool.slots.slice(0, 1).map((slot) => slot.client)]) {
          const error = tagged(yield* Effect.flip(client.get("http://c.test/")), "PoolSaturated")
          assert.deepStrictEqual([error.reason, error.limit, error.request.url], ["maxHosts", 2, "http://c.test/"])
        }
        assert.strictEqual((yield* pool.stats).saturated, 2)
        wire.at(0).reply("a")
        assert.strictEqual(yield* Fiber.join(a), "a")
        wire.onSend = (sent) => sent.answer("c")
        assert.strictEqual(yield* text(pool.client.get("http://c.test/")), "c")
        assert.deepStrictEqual(yield* pool.hostStats("http://a.test"), Option.none())
      })
    )

    it.effect("that are replaced leave their counts to the pool", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(answering(), { maxHosts: 1 })
        yield* pool.client.get("http://a.test/")
        yield* pool.client.get("http://a.test/")
        yield* pool.client.get("http://b.test/")
        yield* turn
        const stats = yield* pool.stats
        assert.deepStrictEqual(
          [stats.requests, stats.responses, stats.connectionsOpened, stats.connectionsClosed, stats.connectionsOpen],
          [3, 3, 3, 2, 1]
        )
        yield* pool.client.get("http://a.test/")
        assert.strictEqual(Option.getOrThrow(yield* pool.hostStats("http://a.test")).requests, 1)
      })
    )

    it.effect("that are replaced while a slot of theirs rests leave no timer", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.refuse())
        const { clock, pool } = yield* closeable(wire, {
          maxHosts: 1,
          ejection: { failures: 1 },
          requestTimeout: "Infinity"
        })
        yield* Effect.exit(pool.client.get("http://a.test/"))
        assert.strictEqual(clock.sleeping, 1)
        wire.onSend = (sent) => sent.answer()
        yield* pool.client.get("http://b.test/")
        yield* turn
        assert.isAtMost(clock.sleeping, 1, "but that of the header timeout")
        yield* TestClock.adjust("61 seconds")
        assert.strictEqual((yield* pool.stats).ejected, 0)
      })
    )
  })

  describe("settings of a host", () => {
    const headerOf = (pool: Pool, wire: Wire, url: string, headers = {}) =>
      Effect.map(pool.client.get(url, { headers }), () => wire.at(-1).header("x-team"))

    it.effect("headers are defaults: those of the request go over them", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { headers: { "X-Team": "blue" } })
        assert.strictEqual(yield* headerOf(pool, wire, "/"), "blue")
        assert.strictEqual(yield* headerOf(pool, wire, "/", { "x-team": "red" }), "red")
        assert.strictEqual(yield* headerOf(pool, wire, "/", { "X-Other": "1" }), "blue")
        assert.strictEqual(wire.at(-1).header("x-other"), "1")
        assert.strictEqual(wire.at(-1).exchange.headers.length, 4)
      })
    )

    it.effect("credentials in the pool's headers go to the base origin only", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { headers: { authorization: "Bearer s3cret" } })
        for (const url of ["/", "http://test.local/x", "http://TEST.local:80/"]) {
          yield* pool.client.get(url)
          assert.strictEqual(wire.at(-1).header("authorization"), "Bearer s3cret")
        }
        for (const url of [
          "http://evil.test/",
          "https://test.local/",
          "http://test.local:81/",
          "http://test.local.evil.test/"
        ]) {
          yield* pool.client.get(url)
          assert.isUndefined(wire.at(-1).header("authorization"), url)
        }
      })
    )

    it.effect("can be given before the first use and changed later", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { hosts: { "http://b.test": { headers: { "x-team": "configured" } } } })
        assert.strictEqual(yield* headerOf(pool, wire, "http://b.test/"), "configured")
        yield* pool.configureHost("http://a.test", { headers: { "x-team": "before" } })
        assert.strictEqual(yield* headerOf(pool, wire, "http://a.test/"), "before")
        yield* pool.configureHost(new URL("http://a.test"), { headers: { "x-team": "after" } })
        assert.strictEqual(yield* headerOf(pool, wire, "http://a.test/"), "after")
        assert.isUndefined(yield* headerOf(pool, wire, "http://c.test/"))
      })
    )

    it.effect("survive the eviction of the host", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { maxHosts: 1 })
        yield* pool.configureHost("http://a.test", { headers: { "x-team": "kept" } })
        for (const origin of ["http://a.test/", "http://b.test/"]) yield* pool.client.get(origin)
        assert.strictEqual(yield* headerOf(pool, wire, "http://a.test/"), "kept")
      })
    )

    it.effect("time limits hold for requests that start from then on", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { requestTimeout: "60 seconds" })
        const before = yield* start(Effect.flip(pool.client.get("http://a.test/")))
        yield* pool.configureHost("http://a.test", { requestTimeout: "1 seconds" })
        const after = yield* start(Effect.flip(pool.client.get("http://a.test/")))
        const other = yield* start(Effect.flip(pool.client.get("http://b.test/")))
        yield* TestClock.adjust("1 seconds")
        assert.strictEqual(tagged(yield* Fiber.join(after), "TimeoutError").phase, "request")
        assert.isUndefined(before.pollUnsafe())
        assert.isUndefined(other.pollUnsafe())
      })
    )

    it.effect("that are not valid are refused, and change nothing", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire)
        yield* pool.configureHost("http://a.test", { headers: { "x-team": "good" } })
        const error = yield* Effect.flip(
          pool.configureHost("http://a.test", { requestTimeout: -1, headers: { "x y": "bad" } })
        )
        assert.strictEqual(error._tag, "ConfigError")
        assert.strictEqual(error.problems.length, 2)
        assert.strictEqual((yield* Effect.flip(pool.configureHost("not an origin", {})))._tag, "ConfigError")
        assert.strictEqual(yield* headerOf(pool, wire, "http://a.test/"), "good")
      })
    )
  })

  describe("closing", () => {
    it.effect("without traffic is at once, twice is harmless", () =>
      Effect.gen(function* () {
        const wire = answering()
        const { clock, close, pool, seen } = yield* closeable(wire)
        yield* pool.client.get("/")
        yield* close
        yield* close
        assert.isTrue(wire.connections.every((connection) => connection.closed))
        assert.strictEqual(clock.sleeping, 0)
        yield* turn
        assert.deepStrictEqual(
          seen.filter((event) => event._tag === "Closing" || event._tag === "Closed"),
          [
            { _tag: "Closing", active: 0 },
            { _tag: "Closed", aborted: 0 }
          ]
        )
      })
    )

    it.effect("of a pool that was never used", () =>
      Effect.gen(function* () {
        const wire = answering()
        const { clock, close } = yield* closeable(wire)
        yield* close
        assert.strictEqual(wire.connections.length, 0)
        assert.strictEqual(clock.sleeping, 0)
      })
    )

    it.effect("refuses new requests on every way", () =>
      Effect.gen(function* () {
        const { close, pool } = yield* closeable(answering())
        yield* close
        const error = tagged(yield* Effect.flip(pool.client.get("/x")), "PoolClosed")
        assert.deepStrictEqual([error.attempts, error.request.url], [0, "http://test.local/x"])
        closedOf(yield* Effect.flip(pool.client.postprocess(pool.client.preprocess(getRoot))))
        closedOf(yield* Effect.flip(Stream.runDrain(pool.stream(getRoot))))
        for (const slot of pool.slots) closedOf(yield* Effect.flip(slot.client.get("/")))
        closedOf(yield* Effect.flip(pool.client.get("http://new.test/")))
        assert.strictEqual((yield* pool.stats).requests, 0)
      })
    )

    it.effect("lets those that run, and those that wait, finish", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { clock, close, pool, seen } = yield* closeable(wire, { size: 1 })
        const running = yield* start(text(pool.client.get("/1")))
        const waiting = yield* start(text(pool.client.get("/2")))
        const closing = yield* start(close)
        closedOf(yield* Effect.flip(pool.client.get("/3")))
        wire.at(0).head()
        yield* turn
        yield* TestClock.adjust("5 seconds")
        assert.isUndefined(closing.pollUnsafe())
        wire.at(0).data("one").end()
        assert.strictEqual(yield* Fiber.join(running), "one")
        yield* turn
        assert.isUndefined(closing.pollUnsafe())
        wire.at(1).reply("two")
        assert.strictEqual(yield* Fiber.join(waiting), "two")
        yield* Fiber.join(closing)
        assert.isTrue(wire.connections.every((connection) => connection.closed))
        assert.strictEqual(clock.sleeping, 0)
        yield* turn
        assert.deepStrictEqual(seen.slice(-3), [
          { _tag: "Closing", active: 2 },
          { _tag: "ConnectionClosed", origin: "http://test.local", slot: 0, reason: "closed" },
          { _tag: "Closed", aborted: 0 }
        ])
      })
    )

    it.effect("cuts those that are not done within drainTimeout", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { clock, close, pool, seen } = yield* closeable(wire, { size: 1 })
        const body = yield* start(Effect.flip(text(pool.client.get("/1"))))
        const waiting = yield* start(Effect.flip(pool.client.get("/2")))
        wire.at(0).head()
        yield* turn
        const closing = yield* start(close)
        yield* TestClock.adjust("9999 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
        const cause = (yield* Fiber.join(body)).cause
        assert.include(String(cause), "PoolClosed")
        assert.strictEqual(tagged(yield* Fiber.join(waiting), "PoolClosed").attempts, 0)
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual(wire.sent.length, 1)
        assert.strictEqual(clock.sleeping, 0)
        yield* turn
        assert.deepStrictEqual(seen.at(-1), { _tag: "Closed", aborted: 2 })
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.active, stats.waiting, stats.connectionsOpen], [0, 0, 0])
      })
    )

    it.effect("with a drainTimeout of 0 cuts at once", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { clock, close, pool } = yield* closeable(wire, { drainTimeout: 0 })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* close
        assert.strictEqual(tagged(yield* Fiber.join(fiber), "PoolClosed").attempts, 1)
        assert.strictEqual(clock.sleeping, 0)
      })
    )

    it.effect("does not wait for a body that nobody reads and that has filled its buffer", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { clock, close, pool } = yield* closeable(wire)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head().data(new Uint8Array(65_537))
        yield* Fiber.join(fiber)
        assert.isTrue(wire.at(0).paused)
        yield* close
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual(clock.sleeping, 0)
      })
    )

    it.effect("waits for an unread body that still arrives, to its end", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head().data("still ")
        const response = yield* Fiber.join(fiber)
        const closing = yield* start(close)
        yield* TestClock.adjust("9 seconds")
        assert.isUndefined(closing.pollUnsafe())
        wire.at(0).data("arrives").end()
        yield* Fiber.join(closing)
        assert.isFalse(wire.at(0).aborted)
        assert.strictEqual(yield* response.text, "still arrives")
      })
    )

    it.effect("waits for an unread body that still arrives, drainTimeout at most", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { clock, close, pool, seen } = yield* closeable(wire)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head().data("x")
        yield* Fiber.join(fiber)
        const closing = yield* start(close)
        yield* TestClock.adjust("9999 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual(clock.sleeping, 0)
        yield* turn
        assert.deepStrictEqual(seen.at(-1), { _tag: "Closed", aborted: 1 })
      })
    )

    it.effect("waits for an unread body until it has filled its buffer", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire, { bodyBufferSize: 1024 })
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head().data(new Uint8Array(1024))
        yield* Fiber.join(fiber)
        const closing = yield* start(close)
        yield* TestClock.adjust("5 seconds")
        assert.isUndefined(closing.pollUnsafe())
        wire.at(0).data("x")
        yield* Fiber.join(closing)
        assert.isTrue(wire.at(0).aborted)
      })
    )

    it.effect("lets a caller do something between the head and the body", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire)
        const reading = yield* start(
          Effect.gen(function* () {
            const response = yield* pool.client.get("/")
            yield* Effect.sleep("3 seconds")
            return yield* response.json
          })
        )
        wire.at(0).head().data("[1")
        yield* turn
        const closing = yield* start(close)
        yield* TestClock.adjust("3 seconds")
        assert.isUndefined(closing.pollUnsafe())
        wire.at(0).data(",2]").end()
        assert.deepStrictEqual(yield* Fiber.join(reading), [1, 2])
        yield* Fiber.join(closing)
        assert.isFalse(wire.at(0).aborted)
      })
    )

    it.effect("waits for a body beyond the buffer again once its reader comes", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire, { size: 2, bodyBufferSize: 1024 })
        const other = yield* start(text(pool.client.get("/other")))
        const fiber = yield* start(pool.client.get("/large"))
        wire.at(1).head().data(new Uint8Array(2000))
        const response = yield* Fiber.join(fiber)
        assert.isTrue(wire.at(1).paused)
        const closing = yield* start(close)
        const reading = yield* start(response.arrayBuffer)
        wire.at(0).reply("other")
        assert.strictEqual(yield* Fiber.join(other), "other")
        yield* TestClock.adjust("5 seconds")
        assert.isUndefined(closing.pollUnsafe())
        wire.at(1).data(new Uint8Array(2000)).end()
        assert.strictEqual((yield* Fiber.join(reading)).byteLength, 4000)
        yield* Fiber.join(closing)
      })
    )

    it.effect("cuts no body that fills its buffer before its caller has been woken", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire, { bodyBufferSize: 1024 })
        const reading = yield* start(text(pool.client.get("/")))
        const closing = yield* start(close)
        wire.at(0).head().data("a".repeat(2000))
        yield* turn
        assert.isUndefined(closing.pollUnsafe())
        wire.at(0).data("b").end()
        assert.strictEqual((yield* Fiber.join(reading)).length, 2001)
        yield* Fiber.join(closing)
      })
    )

    it.effect("does not wait for a body that nobody will read, and that is being drained", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire)
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head(200, { "content-length": "2" }).data("a")
        yield* Fiber.join(fiber)
        yield* Scope.close(scope, Exit.void)
        assert.isFalse(wire.at(0).aborted)
        yield* close
        assert.isTrue(wire.at(0).aborted)
      })
    )

    for (const [how, finish] of [
      ["ended", (sent: Sent) => sent.end()],
      ["broke", (sent: Sent) => sent.lose()]
    ] as const) {
      it.effect(`does not wait for a reader of a paused body that has ${how}`, () =>
        Effect.gen(function* () {
          const wire = writing()
          const { close, pool } = yield* closeable(wire, { bodyBufferSize: 1024 })
          const fiber = yield* start(pool.client.get("/"))
          wire.at(0).head().data(new Uint8Array(2000))
          const response = yield* Fiber.join(fiber)
          assert.isTrue(wire.at(0).paused)
          finish(wire.at(0))
          yield* Effect.exit(Stream.runDrain(response.stream))
          yield* Effect.exit(response.text)
          const closing = yield* start(close)
          assert.deepStrictEqual(closing.pollUnsafe(), Exit.void)
        })
      )
    }

    it.effect("looks at no exchange when another ends, however many there are", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire, { size: 1 })
        const fibers: Array<Fiber.Fiber<string, unknown>> = []
        for (let i = 0; i < 1000; i++) {
          fibers.push(yield* Effect.forkChild(text(pool.client.get("/")), { startImmediately: true }))
        }
        const walks = yield* Effect.acquireRelease(
          Effect.sync(() => vi.spyOn(Host.prototype, "exchanges")),
          (spy) => Effect.sync(() => spy.mockRestore())
        )
        const closing = yield* start(close)
        wire.onSend = (sent) => sent.answer("ok")
        wire.at(0).reply("ok")
        yield* Fiber.joinAll(fibers)
        yield* Fiber.join(closing)
        assert.strictEqual(walks.mock.calls.length, 2, "once for each of its events")
      })
    )

    it.effect("waits for a stream whose reader is between two chunks", () =>
      Effect.gen(function* () {
        const wire = writing()
        const { close, pool } = yield* closeable(wire)
        const reader = yield* start(
          Stream.runCollect(
            Stream.mapEffect(pool.stream(getRoot), (chunk) => Effect.as(Effect.sleep("3 seconds"), chunk))
          )
        )
        wire.at(0).head().data("a")
        yield* turn
        const closing = yield* start(close)
        yield* turn
        assert.isUndefined(closing.pollUnsafe())
        wire.at(0).data("b").end()
        yield* TestClock.adjust("6 seconds")
        assert.strictEqual((yield* Fiber.join(reader)).length, 2)
        yield* Fiber.join(closing)
      })
    )

    it.effect("while a connection is made takes the request back", () =>
      Effect.gen(function* () {
        const wire = new Wire()
        const { clock, close, pool } = yield* closeable(wire)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        const closing = yield* start(close)
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(closing)
        closedOf(yield* Fiber.join(fiber))
        assert.isTrue(wire.at(0).cancelled)
        assert.throws(() => wire.at(0).begin())
        assert.strictEqual(clock.sleeping, 0)
      })
    )

    it.effect("leaves no timer, whatever was under way", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => (sent.path === "/bad" ? sent.refuse() : sent.write()))
        const { clock, close, pool } = yield* closeable(wire, {
          size: 4,
          drainTimeout: "1 seconds",
          attemptTimeout: "50 seconds",
          ejection: { failures: 1 }
        })
        yield* Effect.exit(pool.client.get("/bad"))
        for (let i = 0; i < 6; i++) yield* start(Effect.exit(pool.client.get("/")))
        wire.at(1).head().data("x")
        wire.at(2).head()
        yield* turn
        assert.isAbove(clock.sleeping, 3)
        const closing = yield* start(close)
        yield* TestClock.adjust("1 seconds")
        yield* Fiber.join(closing)
        assert.strictEqual(clock.sleeping, 0)
        // What a broken transport still says then is heard by nobody.
        for (const sent of wire.sent) sent.exchange.onResponseError(null, new Error("late"))
        yield* turn
        assert.strictEqual(clock.sleeping, 0)
      })
    )

    it.effect("ends the stream of events, for those who listen and those who come later", () =>
      Effect.gen(function* () {
        const { close, pool } = yield* closeable(answering())
        const listening = yield* start(Stream.runCollect(pool.events))
        yield* close
        assert.deepStrictEqual(
          (yield* Fiber.join(listening)).map((event) => event._tag),
          ["Closing", "Closed"]
        )
        assert.deepStrictEqual(yield* Stream.runCollect(pool.events), [])
      })
    )

    it.effect("ends it for good, though a connection of a host that was replaced closes later", () =>
      Effect.gen(function* () {
        const wire = answering()
        const { close, pool } = yield* closeable(wire, { maxHosts: 1 })
        yield* pool.client.get("http://a.test/")
        const { connection } = wire.at(0)
        // Its socket takes its time.
        connection.close = Effect.void
        yield* pool.client.get("http://b.test/")
        yield* turn
        yield* close
        connection.disconnect("closed")
        yield* turn
        const late = yield* start(Stream.runCollect(pool.events))
        assert.deepStrictEqual(late.pollUnsafe(), Exit.succeed([]))
      })
    )
  })

  describe("saturation", () => {
    it.effect("is reported at most once a second", () =>
      Effect.gen(function* () {
        const { pool, seen } = yield* closeable(writing(), { size: 1, maxWaiting: 0, drainTimeout: 0 })
        yield* start(pool.client.get("/"))
        const saturate = Effect.exit(pool.client.get("/"))
        const reports = Effect.andThen(
          turn,
          Effect.sync(() => seen.filter((event) => event._tag === "Saturated"))
        )
        for (let i = 0; i < 10; i++) yield* saturate
        assert.deepStrictEqual(yield* reports, [
          { _tag: "Saturated", origin: "http://test.local", reason: "maxWaiting" }
        ])
        yield* TestClock.adjust("999 millis")
        yield* saturate
        assert.strictEqual((yield* reports).length, 1)
        yield* TestClock.adjust("1 millis")
        yield* saturate
        assert.strictEqual((yield* reports).length, 2)
        assert.strictEqual((yield* pool.stats).saturated, 12)
      })
    )
  })
})
