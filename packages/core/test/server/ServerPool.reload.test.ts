import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { badCert, FakeListener, pem } from "../fixtures/listener.ts"
import { start, turn } from "../fixtures/pools.ts"
import { answer, ended, hello, make, recorder } from "../fixtures/serverPools.ts"

const [a, b, c] = [
  { name: "a", bind: "127.0.0.1:1" },
  { name: "b", bind: "127.0.0.1:2" },
  { name: "c", bind: "127.0.0.1:3" }
]

describe("ServerPool.reload", () => {
  it.effect("validates first: of a list that is not valid nothing is touched, and the event says why", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [a])
      yield* pool.start
      const events = yield* recorder(pool)
      const error = yield* Effect.flip(pool.reload([{ ...a, name: "new" }, b, { bind: ":2" }, { bind: "x" }]))
      assert.strictEqual(error._tag, "ConfigError")
      assert.deepStrictEqual(
        (yield* events).map((event) => [event._tag, "error" in event && event.error]),
        [["ConfigRejected", error]]
      )
      assert.deepStrictEqual(yield* pool.list("name", "name"), ["a"])
      assert.deepStrictEqual(listener.tried, [a.bind])
    })
  )

  it.effect("touches only what changed", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const other = answer("other")
      const d = { name: "d", bind: "127.0.0.1:4", tls: pem("1") }
      const pool = yield* make(listener, [a, b, c, d], { handlers: { default: hello, other } })
      yield* pool.start
      const events = yield* recorder(pool)
      const before = [1, 2, 3, 4].map((port) => listener.at(port))
      const added = { name: "e", bind: "127.0.0.1:5" }
      yield* pool.reload([added, { ...d, tls: pem("2") }, { ...b, handler: "other" }, a])
      assert.deepStrictEqual(listener.ports, [1, 2, 4, 5])
      assert.deepStrictEqual(
        [1, 2, 4].map((port) => listener.at(port)),
        [before[0], before[1], before[3]]
      )
      assert.strictEqual(listener.at(1).handled.length + listener.at(1).secured.length, 0)
      assert.deepStrictEqual(listener.at(2).handled, [other])
      assert.strictEqual(listener.at(4).secured.length, 1)
      assert.strictEqual(before[2]!.drains, "drained")
      const reloaded = (yield* events).find(({ _tag }) => _tag === "Reloaded")
      assert.deepStrictEqual(reloaded, {
        _tag: "Reloaded",
        added: ["127.0.0.1:5"],
        changed: ["127.0.0.1:2", "127.0.0.1:4"],
        removed: ["127.0.0.1:3"]
      })
    })
  )

  it.effect("the same list again touches nothing", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const servers = [a, { ...b, tls: pem("1") }, { name: "any", bind: ":0" }, { name: "any", bind: ":0" }]
      const pool = yield* make(listener, servers)
      yield* pool.start
      const events = yield* recorder(pool)
      yield* pool.reload(servers)
      assert.deepStrictEqual(yield* events, [{ _tag: "Reloaded", added: [], changed: [], removed: [] }])
      assert.strictEqual(listener.backends.length, 4)
      yield* pool.reload(servers.slice(0, 3))
      assert.strictEqual(yield* pool.size, 3)
    })
  )

  it.effect("a pool that is not started starts nothing by it", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [a, b])
      yield* pool.reload([{ ...a, name: "new" }, c])
      assert.deepStrictEqual(yield* pool.list("name", "name"), ["new", "c"])
      assert.deepStrictEqual(listener.tried, [])
    })
  )

  it.effect("what leaves drains meanwhile: it does not wait, a stop of the pool does", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [a, { ...b, drainTimeout: "3 seconds" }])
      yield* pool.start
      const old = listener.at(2)
      old.request()
      yield* pool.reload([a])
      assert.deepStrictEqual(listener.ports, [1])
      assert.strictEqual(old.drains, "draining")
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(old.drains, "drained")
    })
  )

  it.effect("an address that a new server needs is free before", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [a, b])
      yield* pool.start
      yield* pool.reload([{ name: "everywhere", bind: ":1" }, b])
      assert.deepStrictEqual(listener.tried, [a.bind, b.bind, ":1"])
      assert.deepStrictEqual(listener.ports, [1, 2])
      assert.strictEqual(listener.collisions, 0)
    })
  )

  describe("where some of it cannot come into force all is put back", () => {
    it.effect("new servers leave, changed ones have their old options, those that had left are there again", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const servers = [a, b, { ...c, tls: pem("1") }, { name: "d", bind: "127.0.0.1:4" }]
        const pool = yield* make(listener, servers)
        yield* pool.start
        const events = yield* recorder(pool)
        const old = listener.at(2)
        old.request()
        listener.failing.add("127.0.0.1:6")
        const error = yield* Effect.flip(
          pool.reload([
            { name: "a", bind: ":1" },
            { ...b, keepAlive: false },
            { ...c, tls: pem("2") },
            { name: "new", bind: "127.0.0.1:5" },
            { name: "bad", bind: "127.0.0.1:6" }
          ])
        )
        assert.strictEqual(error._tag === "ServerPoolError" && error.reason, "Validate")
        assert.include(error.message, "bad (127.0.0.1:6): Cannot")
        assert.deepStrictEqual(listener.ports, [1, 2, 3, 4])
        assert.isTrue(yield* pool.ready)
        assert.sameMembers(
          [...(yield* pool.list("name", "bind"))],
          servers.map(({ bind }) => bind)
        )
        assert.isTrue(listener.at(2).settings.keepAlive)
        assert.strictEqual(listener.at(3).settings.tls?.cert, pem("1").cert)
        assert.strictEqual(old.drains, "draining", "connections that drain go on to drain")
        assert.deepStrictEqual(
          (yield* events).filter(({ _tag }) => _tag === "RolledBack"),
          [{ _tag: "RolledBack", error }]
        )
        old.finish()
      })
    )

    it.effect("a change that fails keeps new servers out", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, tls: pem("1") }, b])
        yield* pool.start
        yield* Effect.flip(pool.reload([{ ...a, tls: { ...pem("2"), cert: badCert } }, { ...b, name: "B" }, c]))
        assert.deepStrictEqual(yield* pool.list("name", "name"), ["a", "b"])
        assert.notInclude(listener.tried, c.bind)
      })
    )

    it.effect("a server that had left and did not run is not started by it", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add(":1")
        const pool = yield* make(listener, [a, b])
        yield* pool.start
        yield* Effect.flatMap(pool.filter("name", "a"), (view) => view.stop)
        yield* Effect.flip(pool.reload([{ name: "a", bind: ":1" }, b]))
        assert.deepStrictEqual(listener.ports, [2])
        assert.isTrue(yield* pool.has(a.bind))
      })
    )

    it.effect("a server that was started alone runs again", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, { ...b, tls: pem("1") }])
        yield* Effect.flatMap(pool.filter("name", "a"), (view) => view.start)
        yield* Effect.flatMap(pool.filter("name", "b"), (view) => view.start)
        yield* Effect.flip(
          pool.reload([
            { name: "a", bind: ":1" },
            { ...b, tls: { ...pem("2"), cert: badCert } }
          ])
        )
        assert.deepStrictEqual(listener.ports, [1, 2])
      })
    )

    it.effect("what cannot be put back is named, too", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add(":1")
        const pool = yield* make(listener, [a, b])
        yield* pool.start
        listener.failing.add(a.bind)
        const error = yield* Effect.flip(pool.reload([{ name: "a", bind: ":1" }, b]))
        assert.strictEqual(error._tag === "ServerPoolError" && error.reason, "Restart")
        assert.include(error.message, "could not be put back")
        assert.deepStrictEqual(listener.ports, [2])
        listener.failing.clear()
        yield* pool.start
        assert.deepStrictEqual(listener.ports, [1, 2], "a start tries it again")
      })
    )
  })

  it.effect("an old server that does not close in order has left all the same, and is named", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [a, b])
      yield* pool.start
      listener.brokenCloses = 1
      const error = yield* Effect.flip(pool.reload([a]))
      assert.strictEqual(error._tag === "ServerPoolError" && error.reason, "Stop")
      assert.deepStrictEqual(yield* pool.list("name", "name"), ["a"])
      assert.deepStrictEqual(listener.ports, [1])
    })
  )

  it.effect("one at a time, and each to its end, also where its caller is interrupted", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      listener.waiting.add(b.bind)
      const pool = yield* make(listener, [a])
      yield* pool.start
      const first = yield* start(pool.reload([a, b]))
      const second = yield* start(pool.reload([a, c]))
      yield* Fiber.interrupt(first)
      assert.isFalse(ended(second))
      listener.proceed()
      yield* Fiber.join(second)
      yield* turn
      assert.deepStrictEqual(listener.ports, [1, 3])
    })
  )

  it.effect("another default TLS comes into force with the list, or with it does not", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const inherits = { tls: { inherit: true } }
      const pool = yield* make(listener, [a])
      yield* pool.start
      const list = [a, { ...b, ...inherits }]
      const refused = yield* Effect.flip(pool.reload(list, { tls: { ...pem("1"), cert: badCert } }))
      assert.strictEqual(refused._tag, "ServerPoolError")
      const still = yield* Effect.flip(pool.reload(list))
      assert.strictEqual(still._tag, "ConfigError")
      yield* pool.reload(list, { tls: pem("1") })
      assert.strictEqual(listener.at(2).settings.tls?.cert, pem("1").cert)
      yield* Effect.flip(pool.reload([a, { bind: "x" }], { tls: pem("2") }))
      yield* pool.reload([...list, { ...c, ...inherits }])
      assert.strictEqual(listener.at(3).settings.tls?.cert, pem("1").cert)
      yield* pool.reload(list, { tls: pem("2") })
      assert.strictEqual(listener.at(2).settings.tls?.cert, pem("2").cert)
    })
  )

  it.effect("a server that is added meanwhile stays", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      listener.waiting.add(b.bind)
      const pool = yield* make(listener, [a], { tls: pem("1") })
      yield* pool.start
      const reloading = yield* start(pool.reload([a, b]))
      yield* pool.addConfig(c)
      listener.proceed()
      yield* Fiber.join(reloading)
      assert.deepStrictEqual(listener.ports, [1, 2, 3])
      yield* pool.setDefaultTls(pem("2"))
      assert.strictEqual(yield* pool.size, 3)
    })
  )
})
