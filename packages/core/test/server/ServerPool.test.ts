import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { ListenError } from "../../src/server/Listener.ts"
import * as ServerPool from "../../src/server/ServerPool.ts"
import { FakeListener } from "../fixtures/listener.ts"
import { start, turn } from "../fixtures/pools.ts"
import { binds, ended, hello, make, recorder } from "../fixtures/serverPools.ts"

const serverOf = (pool: ServerPool.ServerGroup, bind: string) =>
  Effect.map(pool.get(bind), (server) => Option.getOrThrow(server))

describe("ServerPool", () => {
  describe("make", () => {
    it.effect("opens nothing before start", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(2))
        assert.deepStrictEqual(listener.tried, [])
        assert.strictEqual(yield* pool.size, 2)
        assert.strictEqual(pool.name, "default")
        assert.isFalse(yield* pool.isRunning)
        assert.isFalse(yield* pool.ready)
      })
    )

    it.effect("refuses a list that is not valid as a whole, all problems at once", () =>
      Effect.gen(function* () {
        const servers = [{ bind: ":80" }, { bind: "*:80", handler: "none" }, { bind: "nonsense" }]
        const error = yield* Effect.flip(make(new FakeListener(), servers))
        const paths = error.problems.map(({ path }) => path)
        assert.includeMembers(paths, ["servers[1].bind", "servers[1].handler", "servers[2].bind"])
      })
    )

    it.effect("the scope stops all servers, with their drain, and nothing is left", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(make(listener, binds(2)), scope)
        const events = yield* recorder(pool)
        yield* pool.start
        listener.at(8000).request()
        const closing = yield* start(Scope.close(scope, Exit.void))
        assert.isFalse(ended(closing), "a request is under way")
        assert.deepStrictEqual(listener.ports, [], "but nobody accepts")
        listener.backends[0]!.finish()
        yield* Fiber.join(closing)
        assert.strictEqual((yield* events).at(-1)?._tag, "Closed")
        assert.deepStrictEqual(yield* Stream.runCollect(pool.events), [], "nothing happens any more")
      })
    )

    it.effect("a pool whose scope has ended starts nothing, and takes nothing in", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(make(listener, binds(1)), scope)
        yield* Scope.close(scope, Exit.void)
        assert.include((yield* Effect.flip(pool.start)).message, "closed")
        assert.include((yield* Effect.flip(pool.restart)).message, "closed")
        assert.include((yield* Effect.flip(pool.addConfig({ bind: ":9" }))).message, "closed")
        assert.deepStrictEqual(yield* pool.stop, [])
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("the scope does not wait for an address that never opens", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.waiting.add("127.0.0.1:8000")
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(make(listener, binds(1)), scope)
        const starting = yield* start(Effect.flip(pool.start))
        assert.strictEqual(listener.opening, 1)
        yield* Scope.close(scope, Exit.void)
        assert.include((yield* Fiber.join(starting)).message, "closed")
        assert.strictEqual(listener.opening, 0)
      })
    )

    it.effect("layer provides the default tag", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const layer = ServerPool.layer({ servers: binds(1), handlers: hello }).pipe(Layer.provide(listener.layer))
        yield* Effect.provide(
          Effect.flatMap(ServerPool.ServerPool, (pool) => pool.start),
          layer
        )
        assert.deepStrictEqual(listener.tried, ["127.0.0.1:8000"])
        assert.deepStrictEqual(listener.ports, [], "the layer's scope has ended")
      })
    )

    it.effect("layerConfig reads every server from Config, and names all that cannot be read", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const layer = ServerPool.layerConfig({
          servers: [{ bind: Config.String("A") }, { bind: Config.String("B") }],
          tls: { cert: Config.String("C") },
          handlers: hello
        }).pipe(Layer.provide(listener.layer))
        const run = (env: Record<string, string>) =>
          Effect.flatMap(ServerPool.ServerPool, (pool) => pool.list("name", "bind")).pipe(
            Effect.provide(Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromUnknown(env))))
          )
        const error = yield* Effect.flip(run({ A: ":1" }))
        assert.strictEqual(error._tag, "ConfigError")
        if (error._tag === "ConfigError") {
          assert.deepStrictEqual(
            error.problems.map(({ path }) => path),
            ["servers[1]", "tls"]
          )
        }
        const without = ServerPool.layerConfig({ servers: [{ bind: Config.String("A") }], handlers: hello })
        const provider = ConfigProvider.layer(ConfigProvider.fromUnknown({ A: ":1" }))
        const listed = yield* Effect.flatMap(ServerPool.ServerPool, (pool) => pool.list("name", "bind")).pipe(
          Effect.provide(without.pipe(Layer.provide(listener.layer), Layer.provide(provider)))
        )
        assert.deepStrictEqual(listed, [":1"])
      })
    )

    it.effect("layerFromConfig has whatever servers the provider has", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const provider = ConfigProvider.fromUnknown({ httpServers: [{ bind: ":1" }, { bind: ":2", handler: "b" }] })
        const layer = ServerPool.layerFromConfig({ handlers: { default: hello, b: hello }, name: "x" })
        const listed = yield* Effect.flatMap(ServerPool.ServerPool, (pool) => pool.list("name", "bind")).pipe(
          Effect.provide(layer.pipe(Layer.provide(listener.layer), Layer.provide(ConfigProvider.layer(provider))))
        )
        assert.deepStrictEqual(listed, [":1", ":2"])
      })
    )
  })

  describe("start", () => {
    it.effect("returns when every listener really accepts", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.waiting.add("127.0.0.1:8001")
        const pool = yield* make(listener, binds(3))
        const starting = yield* start(pool.start)
        assert.deepStrictEqual(listener.ports, [8000, 8002], "concurrently")
        assert.isFalse(ended(starting))
        assert.strictEqual((yield* serverOf(pool, "127.0.0.1:8001")).state._tag, "Starting")
        assert.isFalse(yield* pool.ready)
        listener.proceed()
        yield* Fiber.join(starting)
        assert.deepStrictEqual(listener.ports, [8000, 8001, 8002])
        assert.isTrue(yield* pool.ready)
        assert.isTrue(yield* pool.isRunning)
      })
    )

    it.effect("ten servers of which three cannot bind: seven run, one typed error names the three with causes", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        for (const port of [8002, 8005, 8009]) listener.failing.add(`127.0.0.1:${port}`)
        const pool = yield* make(listener, binds(10))
        const error = yield* Effect.flip(pool.start)
        assert.strictEqual(error._tag, "ServerPoolError")
        assert.strictEqual(error.reason, "Start")
        assert.deepStrictEqual(
          error.servers.map(({ bind, name }) => [name, bind]),
          [
            ["s2", "127.0.0.1:8002"],
            ["s5", "127.0.0.1:8005"],
            ["s9", "127.0.0.1:8009"]
          ]
        )
        for (const { bind, cause } of error.servers) {
          assert.instanceOf(cause, ListenError)
          assert.include(error.message, `Cannot listen on ${bind}: the system says EACCES`)
        }
        assert.deepStrictEqual(listener.ports, [8000, 8001, 8003, 8004, 8006, 8007, 8008])
        assert.isTrue(yield* pool.isRunning)
        assert.isFalse(yield* pool.ready, "three that should run do not")
        assert.strictEqual((yield* serverOf(pool, "127.0.0.1:8002")).state._tag, "Failed")
      })
    )

    it.effect("start again retries only those", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add("127.0.0.1:8001")
        const pool = yield* make(listener, binds(3))
        yield* Effect.flip(pool.start)
        listener.tried.length = 0
        listener.failing.clear()
        yield* pool.start
        assert.deepStrictEqual(listener.tried, ["127.0.0.1:8001"])
        assert.isTrue(yield* pool.ready)
        yield* pool.start
        assert.deepStrictEqual(listener.tried, ["127.0.0.1:8001"], "all of them run")
      })
    )

    it.effect("fails with TLS that cannot be used, and leaves no socket", () =>
      Effect.gen(function* () {
        const { badCert, pem } = yield* Effect.promise(() => import("../fixtures/listener.ts"))
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ bind: ":1", tls: { ...pem("a"), cert: badCert } }])
        const error = yield* Effect.flip(pool.start)
        assert.include(error.message, "TLS of :1 cannot be used")
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("never starts a disabled server", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const [a, b] = binds(2)
        const pool = yield* make(listener, [a!, { ...b!, disabled: true }])
        yield* pool.start
        yield* pool.restart
        yield* pool.restartOne(b!.bind)
        assert.deepStrictEqual(listener.ports, [8000])
        assert.notInclude(listener.tried, b!.bind)
        assert.isTrue(yield* pool.ready, "it is not expected to run")
      })
    )

    it.effect("interrupted, it takes back nothing of another start, nor of a stop", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(1))
        listener.waiting.add("127.0.0.1:8000")
        const first = yield* start(pool.start)
        const second = yield* start(pool.start)
        listener.waiting.clear()
        yield* Fiber.interrupt(first)
        yield* Fiber.join(second)
        const added = yield* pool.addConfig({ bind: "127.0.0.1:9000" })
        assert.strictEqual(added.state._tag, "Running", "the second has started it")

        listener.waiting.add("127.0.0.1:9001")
        const adding = yield* start(pool.addConfig({ bind: "127.0.0.1:9001" }))
        const third = yield* start(pool.start)
        const stopping = yield* start(pool.stop)
        yield* Fiber.interrupt(third)
        yield* Fiber.interrupt(adding)
        yield* Fiber.join(stopping)
        yield* pool.addConfig({ bind: "127.0.0.1:9002" })
        assert.deepStrictEqual(listener.ports, [], "it was stopped after that")
      })
    )

    it.effect("interrupted, it releases its acceptor and the bind is free", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.waiting.add("127.0.0.1:8001")
        const pool = yield* make(listener, binds(2))
        const starting = yield* start(pool.start)
        yield* Fiber.interrupt(starting)
        assert.strictEqual(listener.opening, 0)
        const server = yield* serverOf(pool, "127.0.0.1:8001")
        assert.strictEqual(server.state._tag, "Stopped")
        assert.isFalse((yield* server.health).wanted)
        assert.deepStrictEqual(listener.ports, [8000], "what had started runs")
        listener.waiting.clear()
        yield* pool.start
        assert.deepStrictEqual(listener.ports, [8000, 8001])
      })
    )

    it.effect("port 0 is allocated and reported, and any number of servers may have it", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [
          { name: "a", bind: "127.0.0.1:0" },
          { name: "a", bind: "127.0.0.1:0" },
          { name: "all", bind: ":0" }
        ])
        const server = yield* serverOf(pool, "127.0.0.1:0")
        assert.isUndefined(server.address)
        yield* pool.start
        assert.deepStrictEqual(server.address, { host: "127.0.0.1", port: 40_000 })
        assert.strictEqual(server.expose, "http://127.0.0.1:40000/")
        assert.strictEqual(server.bind, "127.0.0.1:0")
        assert.strictEqual((yield* serverOf(pool, "127.0.0.1:40001")).address?.port, 40_001)
        assert.strictEqual((yield* serverOf(pool, ":40002")).name, "all")
        assert.isFalse(yield* pool.has("127.0.0.1:40002"))
        assert.isFalse(yield* pool.has(":1"))
        assert.isFalse(yield* pool.has("nonsense"))
        assert.deepStrictEqual(listener.ports, [40_000, 40_001, 40_002])
      })
    )
  })

  describe("stop", () => {
    it.effect("readiness off, then drainDelay, then no new connections, then drainTimeout for what is under way", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...binds(1)[0]!, drainDelay: "5 seconds", drainTimeout: "10 seconds" }])
        yield* pool.start
        const server = yield* serverOf(pool, "127.0.0.1:8000")
        const backend = listener.at(8000)
        backend.request(2)
        const stopping = yield* start(pool.stop)
        assert.isFalse(yield* pool.ready)
        assert.isFalse(yield* server.ready)
        assert.strictEqual(server.state._tag, "Stopping")
        assert.deepStrictEqual(listener.ports, [8000], "balancers have time to notice")
        assert.strictEqual(backend.drains, "not yet")
        assert.strictEqual((yield* server.counts).active, 2, "and it still serves")
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(listener.ports, [])
        assert.strictEqual(backend.drains, "draining")
        assert.strictEqual((yield* server.counts).active, 2)
        yield* TestClock.adjust("9 seconds")
        assert.isFalse(ended(stopping))
        backend.finish()
        const reports = yield* Fiber.join(stopping)
        assert.deepStrictEqual(
          reports.map(({ cut }) => cut),
          [{ connections: 0, requests: 0 }]
        )
        assert.strictEqual(server.state._tag, "Stopped")
        assert.strictEqual((yield* server.counts).requests, 2, "counters outlive the backend")
      })
    )

    it.effect("cuts what is left after drainTimeout, and counts it in the result and the event", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...binds(1)[0]!, drainTimeout: "3 seconds" }])
        const events = yield* recorder(pool)
        yield* pool.start
        yield* TestClock.adjust("1 minute")
        listener.at(8000).request(4)
        const stopping = yield* start(pool.stop)
        yield* TestClock.adjust("3 seconds")
        const expected = { name: "s0", bind: "127.0.0.1:8000", uptime: 60_000, cut: { connections: 4, requests: 4 } }
        assert.deepStrictEqual(yield* Fiber.join(stopping), [expected])
        assert.deepStrictEqual((yield* events).at(-1), { _tag: "Stopped", ...expected })
        assert.deepStrictEqual(listener.drainTimeouts, [3000])
      })
    )

    it.effect("interrupted, it still ends", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...binds(1)[0]!, drainDelay: "5 seconds" }])
        yield* pool.start
        const stopping = yield* start(pool.stop)
        yield* Fiber.interrupt(stopping)
        assert.deepStrictEqual(listener.ports, [8000])
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(listener.ports, [])
        assert.strictEqual((yield* serverOf(pool, "127.0.0.1:8000")).state._tag, "Stopped")
      })
    )

    it.effect("is not ready from the moment it is asked, although a start is still under way", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.waiting.add("127.0.0.1:8001")
        const pool = yield* make(listener, binds(2))
        const starting = yield* start(pool.start)
        const server = yield* serverOf(pool, "127.0.0.1:8000")
        const stopping = yield* start(pool.stop)
        assert.isFalse(yield* server.ready)
        listener.proceed()
        yield* Fiber.join(starting)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(listener.ports, [])
        assert.isFalse(yield* pool.isRunning)
      })
    )

    it.effect("twice is harmless, and what never ran has nothing to report", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(2))
        assert.deepStrictEqual(yield* pool.stop, [])
        yield* pool.start
        const both = yield* Effect.all([pool.stop, pool.stop], { concurrency: "unbounded" })
        assert.deepStrictEqual(new Set(both.map((reports) => reports.length)), new Set([0, 2]))
      })
    )

    it.effect("continues past failures and fails with every server's error; nothing is left open", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(3))
        yield* pool.start
        for (const port of [8000, 8001]) listener.at(port).broken = true
        listener.brokenCloses = 1
        const error = yield* Effect.flip(pool.stop)
        assert.strictEqual(error.reason, "Stop")
        assert.deepStrictEqual(
          error.servers.map(({ cause, name }) => [name, cause instanceof Error ? cause.message : cause]),
          [
            ["s0", "the close is broken; the drain is broken"],
            ["s1", "the drain is broken"]
          ]
        )
        assert.deepStrictEqual(listener.ports, [])
        assert.isFalse(yield* pool.isRunning)
        yield* pool.stop
        assert.strictEqual((yield* serverOf(pool, "127.0.0.1:8000")).state._tag, "Stopped")
        assert.include(String((yield* (yield* serverOf(pool, "127.0.0.1:8000")).health).lastError), "broken")
      })
    )

    it.effect("start waits for the stop before it, and runs", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...binds(1)[0]!, drainTimeout: "3 seconds" }])
        yield* pool.start
        listener.at(8000).request()
        yield* start(pool.stop)
        const starting = yield* start(pool.start)
        assert.isFalse(ended(starting))
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(starting)
        assert.deepStrictEqual(listener.ports, [8000])
      })
    )
  })

  describe("restart", () => {
    it.effect("opens every address anew at once, while old connections drain", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(2))
        const events = yield* recorder(pool)
        yield* pool.start
        const old = listener.at(8000)
        old.request()
        yield* pool.restart
        assert.strictEqual(listener.acceptors.length, 4)
        assert.deepStrictEqual(listener.ports, [8000, 8001])
        assert.strictEqual(old.drains, "draining")
        const server = yield* serverOf(pool, "127.0.0.1:8000")
        assert.strictEqual((yield* server.counts).active, 1, "what drains counts")
        old.finish()
        yield* turn
        assert.strictEqual(old.drains, "drained")
        const tags = (yield* events).filter((event) => "name" in event && event.name === "s0").map(({ _tag }) => _tag)
        assert.deepStrictEqual(tags, ["Started", "Stopping", "Started", "Drained"])
        assert.strictEqual((yield* server.health).starts, 2)
      })
    )

    it.effect("starts what did not run, and fails with every server's error", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(3))
        listener.failing.add("127.0.0.1:8001")
        const error = yield* Effect.flip(pool.restart)
        assert.strictEqual(error.reason, "Restart")
        assert.deepStrictEqual(
          error.servers.map(({ name }) => name),
          ["s1"]
        )
        assert.deepStrictEqual(listener.ports, [8000, 8002])
      })
    )

    it.effect("restartOne restarts that one; a server that is not there is an error", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(2))
        yield* pool.start
        yield* pool.restartOne("127.0.0.1:8001")
        assert.deepStrictEqual(listener.tried, ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8001"])
        assert.include((yield* Effect.flip(pool.restartOne(":9"))).message, 'there is no server ":9"')
        const server = yield* serverOf(pool, "127.0.0.1:8000")
        yield* pool.remove(server)
        assert.include((yield* Effect.flip(pool.restartOne(server))).message, "127.0.0.1:8000")
      })
    )

    it.effect("keeps the port that the system chose; when it is taken by now, another", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ bind: "127.0.0.1:0" }])
        yield* pool.start
        yield* pool.restart
        assert.deepStrictEqual(listener.ports, [40_000])
        listener.failing.add("127.0.0.1:40000")
        yield* pool.restart
        assert.deepStrictEqual(listener.ports, [40_001])
      })
    )

    it.effect("interrupted, it still ends running", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...binds(1)[0]!, drainDelay: "5 seconds" }])
        yield* pool.start
        const restarting = yield* start(pool.restart)
        assert.isFalse(yield* pool.ready)
        yield* Fiber.interrupt(restarting)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(listener.acceptors.length, 2)
        assert.deepStrictEqual(listener.ports, [8000])
        assert.isTrue(yield* pool.ready)
        // Nobody moves the clock while the test's scope ends.
        yield* start(pool.stop)
        yield* TestClock.adjust("5 seconds")
      })
    )

    it.effect("an address that does not close in order is a failure; start tries again", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(1))
        yield* pool.start
        listener.brokenCloses = 1
        const error = yield* Effect.flip(pool.restart)
        assert.include(error.message, "the close is broken")
        assert.deepStrictEqual(listener.ports, [])
        yield* pool.start
        assert.deepStrictEqual(listener.ports, [8000])
      })
    )
  })

  describe("state", () => {
    it.effect("isRunning is any, uptime the longest, of the pool and per server", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add("127.0.0.1:8001")
        const pool = yield* make(listener, binds(2))
        const [a, b] = yield* pool.servers
        yield* Effect.flip(pool.start)
        assert.isTrue(yield* pool.isRunning)
        assert.isTrue(yield* a!.isRunning)
        assert.isFalse(yield* b!.isRunning)
        yield* TestClock.adjust("1 minute")
        listener.failing.clear()
        yield* pool.start
        yield* TestClock.adjust("1 second")
        assert.strictEqual(Duration.toMillis(yield* pool.uptime), 61_000)
        assert.strictEqual(Duration.toMillis(yield* a!.uptime), 61_000)
        assert.strictEqual(Duration.toMillis(yield* b!.uptime), 1000)
        yield* pool.stop
        assert.strictEqual(Duration.toMillis(yield* pool.uptime), 0)
        assert.strictEqual(Duration.toMillis(yield* a!.uptime), 0)
      })
    )

    it.effect("health has what a monitor and a supervisor need", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add("127.0.0.1:8000")
        const pool = yield* make(listener, binds(1))
        const server = yield* serverOf(pool, "127.0.0.1:8000")
        yield* Effect.flip(pool.start)
        yield* TestClock.adjust("5 seconds")
        const failed = yield* server.health
        assert.include(failed, { state: "Failed", ready: false, wanted: true, starts: 0 })
        assert.strictEqual(Duration.toMillis(failed.downtime), 5000)
        assert.instanceOf(failed.lastError, ListenError)
        listener.failing.clear()
        yield* pool.start
        yield* TestClock.adjust("2 seconds")
        listener.at(8000).request()
        const running = yield* server.health
        assert.include(running, { state: "Running", ready: true, wanted: true, starts: 1 })
        assert.strictEqual(Duration.toMillis(running.uptime), 2000)
        assert.strictEqual(Duration.toMillis(running.downtime), 0)
        assert.include(running.counts, { requests: 1, active: 1, connections: 1 })
        listener.at(8000).finish()
      })
    )

    it.effect("a drain that breaks beside a running server is known", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, binds(1))
        yield* pool.start
        const events = yield* recorder(pool)
        listener.at(8000).broken = true
        yield* pool.restart
        const server = yield* serverOf(pool, "127.0.0.1:8000")
        assert.strictEqual(server.state._tag, "Running")
        assert.include(
          (yield* events).map(({ _tag }) => _tag),
          "Failed"
        )
        assert.include(String((yield* server.health).lastError), "the drain is broken")
      })
    )
  })
})
