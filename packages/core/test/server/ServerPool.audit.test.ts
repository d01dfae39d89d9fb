/** Sentences of the requirements that are no operation's own: see docs/requirements.md. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
import * as Monitor from "../../src/server/Monitor.ts"
import { ConfigError } from "../../src/server/ServerConfig.ts"
import type { ServerPoolError } from "../../src/server/ServerError.ts"
import { badCert, FakeListener, pem } from "../fixtures/listener.ts"
import { onFunction, start } from "../fixtures/pools.ts"
import { answer, binds, ended, hello, make, recorder } from "../fixtures/serverPools.ts"

describe("a pool, as its requirements have it", () => {
  it.effect("start, stop and restart of many take as long as those of one", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, binds(5))
      const seconds = (operation: Effect.Effect<unknown, unknown>) =>
        Effect.gen(function* () {
          const fiber = yield* start(Effect.exit(operation))
          let passed = 0
          for (; !ended(fiber) && passed < 100; passed++) yield* TestClock.adjust("1 second")
          yield* Fiber.join(fiber)
          return passed
        })
      listener.pause = Effect.sleep("1 second")
      assert.strictEqual(yield* seconds(pool.start), 2, "an address opens, and a backend is made")
      assert.strictEqual(yield* seconds(pool.restart), 3)
      assert.strictEqual(yield* seconds(pool.stop), 1)
      listener.pause = Effect.void
      yield* pool.start
      for (const { current } of listener.openOnes) current?.request()
      assert.strictEqual(yield* seconds(pool.stop), 10, "the drainTimeout of one, not the sum")
    })
  )

  it.effect("a pool without servers is a pool: each operation does nothing, and none fails", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [])
      yield* pool.start
      yield* pool.restart
      yield* pool.setHandler(answer("new"))
      yield* pool.setDefaultTls(pem("a"))
      yield* pool.reload([])
      assert.deepStrictEqual(yield* pool.stop, [])
      assert.deepStrictEqual(yield* pool.clear, [])
      assert.deepStrictEqual(yield* pool.list("name", "bind"), [])
      assert.isTrue(Option.isNone(yield* pool.get(":1")))
      assert.isTrue(Option.isNone(yield* pool.remove(":1")))
      assert.strictEqual(yield* pool.size, 0)
      assert.isFalse(yield* pool.isRunning)
      assert.isFalse(yield* pool.ready)
      assert.strictEqual(Duration.toMillis(yield* pool.uptime), 0)
      const monitor = yield* Monitor.make(pool, yield* onFunction(() => Effect.never))
      assert.deepStrictEqual(yield* monitor.monitorNames, [])
      assert.deepStrictEqual(yield* monitor.check, [])
    })
  )

  it.effect("finds servers by name, bind or expose, by exact text or regular expression; nothing fits nothing", () =>
    Effect.gen(function* () {
      const pool = yield* make(new FakeListener(), [
        { name: "api-v1", bind: "127.0.0.1:8080", expose: "https://api.example.com" },
        { name: "api-v2", bind: "0.0.0.0:8081", expose: "https://api.example.com/v2" },
        { name: "admin", bind: "127.0.0.1:9000" }
      ])
      const names = (found: Effect.Effect<{ readonly list: typeof pool.list }, ServerPoolError>) =>
        Effect.flatMap(found, (view) => view.list("name", "name"))
      assert.deepStrictEqual(yield* names(pool.filter("name", "", "^api-.*")), ["api-v1", "api-v2"])
      assert.deepStrictEqual(yield* names(pool.filter("bind", "", "^127\\.0\\.0\\.1:.*")), ["api-v1", "admin"])
      assert.deepStrictEqual(yield* names(pool.filter("expose", "HTTPS://API.EXAMPLE.COM")), ["api-v1"])
      assert.deepStrictEqual(yield* names(pool.filter("name", "ADMIN")), ["admin"])
      assert.deepStrictEqual(yield* names(pool.filter("name", "", "nothing")), [])
      assert.deepStrictEqual(yield* pool.list("name", "name", "", ".*"), ["api-v1", "api-v2", "admin"])
      assert.deepStrictEqual(yield* pool.list("name", "expose", "", "^adm"), ["http://127.0.0.1:9000"])
    })
  )

  it.effect("a pool can be made of some of its servers: the clone of a view", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, binds(3))
      yield* pool.start
      const clone = yield* (yield* pool.filter("name", "", "^s[12]$")).clone
      assert.deepStrictEqual(yield* clone.list("name", "name"), ["s1", "s2"])
      assert.isFalse(yield* clone.isRunning)
      yield* clone.remove("127.0.0.1:8001")
      yield* clone.addConfig({ name: "more", bind: ":9000" })
      assert.deepStrictEqual(yield* pool.list("name", "name"), ["s0", "s1", "s2"])
      assert.deepStrictEqual(listener.ports, [8000, 8001, 8002])
    })
  )

  it.effect("every reason of an error is there, with the servers that it is about", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, [...binds(3).slice(0, 2), { ...binds(3)[2]!, monitor: true, tls: pem("a") }])
      const told = Effect.fnUntraced(function* (operation: Effect.Effect<unknown, ConfigError | ServerPoolError>) {
        const error = yield* Effect.flip(operation)
        if (error._tag === "ConfigError") return assert.fail(error.message)
        return [error.reason, ...error.servers.map(({ name }) => name)].join(" ")
      })
      listener.failing.add("127.0.0.1:8000").add("127.0.0.1:8001")
      assert.strictEqual(yield* told(pool.start), "Start s0 s1")
      assert.strictEqual(yield* told(pool.restart), "Restart s0 s1")
      assert.strictEqual(yield* told(pool.addConfig({ name: "again", bind: "127.0.0.1:8000" })), "Add again")
      const bad = { ...pem("b"), cert: badCert }
      assert.strictEqual(yield* told(pool.update({ ...binds(3)[2]!, tls: bad })), "Validate s2")
      assert.strictEqual(yield* told(pool.filter("name")), "ParamEmpty")
      const monitor = yield* Monitor.make(pool, yield* onFunction(() => Effect.never))
      assert.strictEqual(yield* told(monitor.checkOne("127.0.0.1:8000")), "Monitor s0")
      for (const backend of listener.backends) backend.broken = true
      assert.strictEqual(yield* told(pool.stop), "Stop s2")
    })
  )

  it.effect("a server that has failed, and is disabled then, should not run: the pool is ready without it", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, binds(2))
      listener.failing.add("127.0.0.1:8001")
      yield* Effect.exit(pool.start)
      const server = Option.getOrThrow(yield* pool.get("127.0.0.1:8001"))
      assert.isFalse(yield* pool.ready)
      yield* pool.update({ ...binds(2)[1]!, disabled: true })
      assert.deepInclude(yield* server.health, { state: "Stopped", wanted: false })
      assert.isTrue(yield* pool.ready)
      // What cannot come into force leaves it as it was.
      const enabled = binds(2)[1]!
      assert.strictEqual((yield* Effect.flip(pool.update(enabled)))._tag, "ServerPoolError")
      assert.deepInclude(yield* server.health, { state: "Stopped", wanted: false })
      listener.failing.clear()
      yield* pool.update(enabled)
      assert.deepInclude(yield* server.health, { state: "Running", wanted: true })
    })
  )

  it.effect("reject tells of configurations that were refused elsewhere, and touches nothing", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* make(listener, binds(1), { handlers: hello })
      yield* pool.start
      const events = yield* recorder(pool)
      const error = new ConfigError({ problems: [{ path: "servers.yaml", message: "cannot be read" }] })
      yield* pool.reject(error)
      assert.deepStrictEqual(yield* events, [{ _tag: "ConfigRejected", error }])
      assert.deepStrictEqual(listener.ports, [8000])
    })
  )
})
