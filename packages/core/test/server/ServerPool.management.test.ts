import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Option, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Server } from "../../src/server/Server.ts"
import type { ServerEvent } from "../../src/server/ServerEvent.ts"
import { badCert, FakeListener, pem } from "../fixtures/listener.ts"
import { start, turn } from "../fixtures/pools.ts"
import { answer, binds, ended, hello, make, recorder } from "../fixtures/serverPools.ts"

const [a, b, c] = [
  { name: "a", bind: "127.0.0.1:1" },
  { name: "b", bind: "127.0.0.1:2" },
  { name: "c", bind: "127.0.0.1:3" }
]

const names = (servers: ReadonlyArray<Server>) => servers.map(({ name }) => name)

const tags = (events: ReadonlyArray<{ readonly _tag: string }>) => events.map(({ _tag }) => _tag)

describe("ServerPool management", () => {
  describe("addConfig", () => {
    it.effect("a started pool starts what is added; another does not", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [])
        const events = yield* recorder(pool)
        const first = yield* pool.addConfig(a)
        assert.strictEqual(first.state._tag, "Stopped")
        yield* pool.start
        assert.deepStrictEqual(listener.ports, [1])
        yield* pool.addConfig(b)
        yield* pool.addConfig({ ...c, disabled: true })
        assert.deepStrictEqual(listener.ports, [1, 2])
        yield* pool.stop
        yield* pool.addConfig({ bind: "127.0.0.1:4" })
        assert.deepStrictEqual(listener.ports, [])
        assert.deepStrictEqual(tags(yield* events).slice(0, 4), ["Added", "Started", "Added", "Started"])
      })
    )

    it.effect("a duplicate bind, in any spelling, is an error unless replace", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ name: "a", bind: ":1" }])
        yield* pool.start
        const error = yield* Effect.flip(pool.addConfig({ name: "again", bind: "*:1" }))
        assert.strictEqual(error._tag, "ServerPoolError")
        assert.include(error.message, "replace")
        const within = yield* Effect.flip(pool.addConfig(a, { replace: true }))
        assert.include(within.message, "overlaps")
        yield* pool.addConfig({ name: "again", bind: "*:1" }, { replace: true })
        assert.deepStrictEqual(names(yield* pool.servers), ["again"])
        assert.strictEqual(listener.acceptors.length, 1)
      })
    )

    it.effect("is not put in where it cannot start, and the pool is as before", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add(a.bind)
        const pool = yield* make(listener, [b])
        yield* pool.start
        const error = yield* Effect.flip(pool.addConfig(a))
        assert.strictEqual(error._tag === "ServerPoolError" && error.reason, "Add")
        assert.deepStrictEqual(names(yield* pool.servers), ["b"])
        assert.isTrue(yield* pool.ready)
      })
    )

    it.effect("interrupted while it starts, it is not put in", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.waiting.add(a.bind)
        const pool = yield* make(listener, [])
        yield* pool.start
        const adding = yield* start(pool.addConfig(a))
        assert.strictEqual(yield* pool.size, 1)
        yield* Fiber.interrupt(adding)
        assert.strictEqual(yield* pool.size, 0)
        assert.strictEqual(listener.opening, 0)
      })
    )

    it.effect("of two at once with one bind exactly one is put in", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [])
        yield* pool.start
        const exits = yield* Effect.all([Effect.exit(pool.addConfig(a)), Effect.exit(pool.addConfig(a))], {
          concurrency: "unbounded"
        })
        assert.strictEqual(exits.filter((exit) => Exit.isSuccess(exit)).length, 1)
        assert.strictEqual(listener.acceptors.length, 1)
      })
    )

    it.effect("any number may have port 0, at once too", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [])
        yield* pool.start
        const add = pool.addConfig({ name: "any", bind: ":0" })
        yield* Effect.all([add, add, add], { concurrency: "unbounded" })
        assert.strictEqual(listener.ports.length, 3)
        yield* pool.addConfig({ name: "any", bind: ":0", maxConnections: 3 }, { replace: true })
        assert.strictEqual(yield* pool.size, 3)
        assert.strictEqual(listener.backends.length, 4)
      })
    )

    it.effect("refuses what is not valid, and says so", () =>
      Effect.gen(function* () {
        const pool = yield* make(new FakeListener(), [])
        const events = yield* recorder(pool)
        const error = yield* Effect.flip(pool.addConfig({ bind: ":1", handler: "none" }))
        assert.strictEqual(error._tag, "ConfigError")
        assert.deepStrictEqual(tags(yield* events), ["ConfigRejected"])
      })
    )

    it.effect("waits for one with its bind that is about to leave", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, drainTimeout: "3 seconds" }])
        yield* pool.start
        listener.at(1).request()
        const removing = yield* start(pool.remove(a.bind))
        const adding = yield* start(pool.addConfig(a))
        assert.isFalse(ended(adding))
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(removing)
        yield* Fiber.join(adding)
        assert.deepStrictEqual(listener.ports, [1])
      })
    )
  })

  describe("remove, take and clear", () => {
    it.effect("remove stops a server with its drain, and takes it out", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, drainTimeout: "3 seconds" }, b])
        const events = yield* recorder(pool)
        yield* pool.start
        listener.at(1).request()
        const removing = yield* start(pool.remove(a.bind))
        assert.isFalse(ended(removing))
        assert.isTrue(yield* pool.ready, "the others are what counts")
        yield* TestClock.adjust("3 seconds")
        const report = Option.getOrThrow(yield* Fiber.join(removing))
        assert.deepStrictEqual(report.cut, { connections: 1, requests: 1 })
        assert.deepStrictEqual(names(yield* pool.servers), ["b"])
        assert.deepStrictEqual(tags(yield* events).slice(-3), ["Stopping", "Stopped", "Removed"])
        assert.isTrue(Option.isNone(yield* pool.remove(a.bind)))
      })
    )

    it.effect("remove takes out also what does not stop in order", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a])
        yield* pool.start
        listener.at(1).broken = true
        const error = yield* Effect.flip(pool.remove(a.bind))
        assert.strictEqual(error.reason, "Stop")
        assert.strictEqual(yield* pool.size, 0)
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("of two that remove a server at once one does", () =>
      Effect.gen(function* () {
        const pool = yield* make(new FakeListener(), [a])
        yield* pool.start
        const both = yield* Effect.all([pool.remove(a.bind), pool.remove(a.bind)], { concurrency: "unbounded" })
        assert.strictEqual(both.filter(Option.isSome).length, 1)
      })
    )

    it.effect("take gets a server and takes it out at once; it runs until its scope ends", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, b])
        yield* pool.start
        const taken = yield* Effect.scoped(
          Effect.gen(function* () {
            const server = Option.getOrThrow(yield* pool.take(a.bind))
            assert.isFalse(yield* pool.has(a.bind))
            assert.isTrue(yield* server.isRunning)
            assert.isTrue(Option.isNone(yield* pool.take(a.bind)))
            yield* pool.stop
            assert.deepStrictEqual(listener.ports, [1], "it is not the pool's any more")
            return server
          })
        )
        assert.strictEqual(taken.state._tag, "Stopped")
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("what was taken is added to another pool as it runs, with the handler of its key there", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const there = answer("there")
        const own = answer("own")
        const from = yield* make(listener, [a, { ...b, handler: "own" }], { handlers: { default: hello, own } })
        const to = yield* make(listener, [], { handlers: there })
        yield* from.start
        const backend = listener.at(1)
        yield* Effect.scoped(
          Effect.gen(function* () {
            for (const bind of [a.bind, b.bind]) yield* to.add(Option.getOrThrow(yield* from.take(bind)))
          })
        )
        assert.strictEqual(listener.at(1), backend, "no connection noticed")
        assert.strictEqual(backend.handler, there)
        assert.strictEqual(listener.at(2).handler, own)
        assert.strictEqual(Option.getOrThrow(yield* to.handler("own")), own)
        yield* from.stop
        assert.deepStrictEqual(listener.ports, [1, 2])
        yield* to.stop
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("what was taken and does not run is started by a pool that is; where it cannot, it stays taken", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const from = yield* make(listener, [a])
        const to = yield* make(listener, [])
        yield* to.start
        const server = Option.getOrThrow(yield* from.take(a.bind))
        listener.failing.add(a.bind)
        assert.strictEqual((yield* Effect.flip(to.add(server))).reason, "Add")
        assert.strictEqual(yield* to.size, 0)
        listener.failing.clear()
        yield* to.add(server)
        assert.deepStrictEqual(listener.ports, [1])
      })
    )

    it.effect("add refuses a server that is in a pool, one that is none of ours, and a bind that is taken", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a])
        const other = yield* make(listener, [a, { name: "all", bind: ":2" }])
        const server = Option.getOrThrow(yield* pool.get(a.bind))
        const second = yield* make(listener, [])
        assert.include((yield* Effect.flip(second.add(server))).message, "take it from there first")
        const copy = { ...server, name: "", bind: "", expose: "", config: server.config, state: server.state }
        const stranger = { ...copy, address: undefined }
        assert.strictEqual((yield* Effect.flip(pool.add(stranger))).reason, "ParamEmpty")
        const taken = Option.getOrThrow(yield* pool.take(server))
        assert.include((yield* Effect.flip(other.add(taken))).message, "replace")
        const third = yield* make(listener, [{ bind: ":1" }])
        assert.include((yield* Effect.flip(third.add(taken))).message, "overlaps")
      })
    )

    it.effect(
      "add with replace: one that runs takes the place of the one there; one that does not gives its options",
      () =>
        Effect.gen(function* () {
          const listener = new FakeListener()
          const from = yield* make(listener, [{ ...a, name: "new", maxConnections: 7 }])
          const to = yield* make(listener, [a])
          yield* to.start
          const stopped = Option.getOrThrow(yield* from.take(a.bind))
          yield* to.add(stopped, { replace: true })
          assert.strictEqual(listener.at(1).settings.maxConnections, 7)
          assert.strictEqual(listener.acceptors.length, 1)
          yield* to.stop
          const running = yield* make(listener, [{ ...a, name: "running" }])
          yield* running.start
          const backend = listener.at(1)
          yield* to.add(Option.getOrThrow(yield* running.take(a.bind)), { replace: true })
          assert.deepStrictEqual(names(yield* to.servers), ["running"])
          assert.strictEqual(listener.at(1), backend)
        })
    )

    it.effect("belongs to the last scope that it was taken in; of takes before nothing stays in theirs", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a])
        yield* pool.start
        const long = yield* Scope.make()
        for (let i = 0; i < 3; i++) {
          const server = Option.getOrThrow(yield* Scope.provide(pool.take(a.bind), long))
          assert.strictEqual(long.state._tag, "Open")
          yield* pool.add(server)
          assert.strictEqual(long.state._tag, "Empty")
        }
        const last = yield* Scope.make()
        yield* Scope.provide(pool.take(a.bind), last)
        yield* Scope.close(long, Exit.void)
        assert.deepStrictEqual(listener.ports, [1], "not that one's any more")
        yield* Scope.close(last, Exit.void)
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("one that only gave its options to another leaves nothing in its scope", () =>
      Effect.gen(function* () {
        const pool = yield* make(new FakeListener(), [a])
        const other = yield* make(new FakeListener(), [a])
        const scope = yield* Scope.make()
        yield* pool.add(Option.getOrThrow(yield* Scope.provide(other.take(a.bind), scope)), { replace: true })
        assert.strictEqual(scope.state._tag, "Empty")
      })
    )

    it.effect("a take that is interrupted has either not begun, or belongs to its scope", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, drainDelay: "1 second" }])
        yield* pool.start
        const restarting = yield* start(pool.restart)
        const scope = yield* Scope.make()
        const taking = yield* start(Scope.provide(pool.take(a.bind), scope))
        yield* Fiber.interrupt(taking)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(restarting)
        assert.isTrue(yield* pool.has(a.bind))
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(yield* pool.isRunning)
        yield* start(pool.stop)
        yield* TestClock.adjust("1 second")
      })
    )

    it.effect("what is taken for a scope that has ended, or ends meanwhile, is stopped with it; nothing hangs", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, { ...b, drainDelay: "1 second" }])
        yield* pool.start
        const over = yield* Scope.make()
        yield* Scope.close(over, Exit.void)
        const server = Option.getOrThrow(yield* Scope.provide(pool.take(a.bind), over))
        assert.strictEqual(server.state._tag, "Stopped")
        const scope = yield* Scope.make()
        const restarting = yield* start(pool.restartOne(b.bind))
        const taking = yield* start(Scope.provide(pool.take(b.bind), scope))
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(restarting)
        assert.strictEqual(Option.getOrThrow(yield* Fiber.join(taking)).state._tag, "Stopped")
        assert.deepStrictEqual(listener.ports, [])
        assert.strictEqual(yield* pool.size, 0)
      })
    )

    it.effect("clear stops all servers and takes them out", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, b, c])
        yield* pool.start
        listener.at(2).broken = true
        const error = yield* Effect.flip(pool.clear)
        assert.deepStrictEqual(
          error.servers.map(({ name }) => name),
          ["b"]
        )
        assert.strictEqual(yield* pool.size, 0)
        assert.deepStrictEqual(listener.ports, [])
        yield* pool.addConfig(a)
        assert.strictEqual((yield* pool.clear).length, 1)
      })
    )
  })

  describe("update", () => {
    it.effect("on the same bind the new server takes over the acceptor, and the old one drains", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, drainTimeout: "3 seconds" }])
        const events = yield* recorder(pool)
        yield* pool.start
        const old = listener.at(1)
        old.request()
        yield* pool.update({ ...a, idleTimeout: "1 second" })
        assert.strictEqual(listener.acceptors.length, 1)
        assert.strictEqual(listener.at(1).settings.idleTimeout, 1000)
        assert.notStrictEqual(listener.at(1), old)
        assert.strictEqual(old.drains, "draining")
        assert.deepStrictEqual(listener.drainTimeouts, [3000], "the old one's time")
        assert.isTrue(yield* pool.ready)
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual((yield* events).slice(-2), [
          { _tag: "Replaced", name: "a", bind: a.bind },
          { _tag: "Drained", name: "a", bind: a.bind, cut: { connections: 1, requests: 1 } }
        ])
      })
    )

    it.effect("a stop waits for what an update has left to drain", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a])
        yield* pool.start
        const old = listener.at(1)
        old.request()
        yield* pool.update({ ...a, keepAlive: false })
        const stopping = yield* start(pool.stop)
        assert.isFalse(ended(stopping))
        old.finish()
        yield* Fiber.join(stopping)
      })
    )

    it.effect("handler and certificate changes touch no connection", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const other = answer("other")
        const pool = yield* make(listener, [{ ...a, tls: pem("1") }], { handlers: { default: hello, other } })
        const events = yield* recorder(pool)
        yield* pool.start
        const backend = listener.at(1)
        yield* pool.update({ ...a, tls: pem("1"), handler: "other" })
        yield* pool.update({ ...a, tls: pem("2"), handler: "other", name: "renamed" })
        assert.strictEqual(listener.at(1), backend)
        assert.strictEqual(listener.backends.length, 1)
        assert.deepStrictEqual(backend.handled, [other])
        assert.deepStrictEqual(
          backend.secured.map(({ cert }) => cert),
          [pem("2").cert]
        )
        const updates = (yield* events).filter((event) => event._tag === "Updated").map(({ fields }) => [...fields])
        assert.deepStrictEqual(updates[0], ["handler"])
        assert.includeMembers(updates[1] ?? [], ["name", "tls.cert", "tls.key"])
        yield* pool.update({ ...a, tls: pem("2"), handler: "other", name: "renamed" })
        assert.strictEqual((yield* events).filter((event) => event._tag === "Updated").length, 2, "nothing differs")
      })
    )

    it.effect("from HTTP to HTTPS is a new server on the same acceptor", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a])
        yield* pool.start
        yield* pool.update({ ...a, tls: pem("1") })
        assert.strictEqual(listener.backends.length, 2)
        assert.isDefined(listener.at(1).settings.tls)
      })
    )

    it.effect("what cannot be used changes nothing", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, tls: pem("1") }])
        yield* pool.start
        const backend = listener.at(1)
        for (const options of [{}, { keepAlive: false }]) {
          const error = yield* Effect.flip(pool.update({ ...a, ...options, tls: { ...pem("2"), cert: badCert } }))
          assert.strictEqual(error._tag === "ServerPoolError" && error.reason, "Validate")
          assert.include(error.message, "TLS of 127.0.0.1:1 cannot be used")
        }
        assert.strictEqual(listener.at(1), backend)
        assert.strictEqual(backend.settings.tls?.cert, pem("1").cert)
        const [server] = yield* pool.servers
        assert.strictEqual(server!.config.settings.tls?.cert, pem("1").cert)
      })
    )

    it.effect("disabled stops it; enabled again starts it in a started pool", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, b])
        yield* pool.start
        yield* pool.update({ ...a, disabled: true })
        assert.deepStrictEqual(listener.ports, [2])
        assert.isTrue(yield* pool.ready)
        yield* pool.update(a)
        assert.deepStrictEqual(listener.ports, [1, 2])
      })
    )

    it.effect("of a server that failed it tries the new options, and keeps the old where they fail too", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add(a.bind)
        const pool = yield* make(listener, [a])
        yield* Effect.flip(pool.start)
        yield* Effect.flip(pool.update({ ...a, name: "new" }))
        assert.deepStrictEqual(names(yield* pool.servers), ["a"])
        listener.failing.clear()
        yield* pool.update({ ...a, name: "new" })
        assert.deepStrictEqual(names(yield* pool.servers), ["new"])
        assert.deepStrictEqual(listener.ports, [1])
      })
    )

    it.effect("of one that is not there, or is about to leave, it fails", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, drainDelay: "1 second" }])
        assert.include((yield* Effect.flip(pool.update(b))).message, 'there is no server "127.0.0.1:2"')
        yield* pool.start
        yield* start(pool.remove(a.bind))
        const updating = yield* start(Effect.flip(pool.update(a)))
        const replacing = yield* start(pool.addConfig(a, { replace: true }))
        yield* TestClock.adjust("1 second")
        assert.include((yield* Fiber.join(updating)).message, "there is no server")
        yield* Fiber.join(replacing)
        assert.deepStrictEqual(listener.ports, [1])
      })
    )
  })

  describe("handlers", () => {
    it.effect("setHandler swaps what answers on all servers with the key, at once, and touches no connection", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const [one, two] = [answer("one"), answer("two")]
        const pool = yield* make(listener, [a, { ...b, handler: "admin" }], {
          handlers: { default: hello, admin: hello }
        })
        yield* pool.start
        yield* pool.setHandler(one, "admin")
        assert.deepStrictEqual([listener.at(1).handler, listener.at(2).handler], [hello, one])
        yield* pool.setHandler(two)
        assert.deepStrictEqual([listener.at(1).handler, listener.at(2).handler], [two, two])
        assert.strictEqual(listener.backends.length, 2)
        assert.strictEqual(Option.getOrThrow(yield* pool.handler()), two)
        assert.isTrue(Option.isNone(yield* pool.handler("none")))
      })
    )

    it.effect("a key that is set may be used by servers that come later", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [])
        yield* pool.start
        yield* pool.setHandler(hello, "late")
        yield* pool.addConfig({ ...a, handler: "late" })
        assert.strictEqual(listener.at(1).handler, hello)
      })
    )

    it.effect("a swap while a server starts, or is replaced, is not lost", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const swapped = answer("swapped")
        const pool = yield* make(listener, [a])
        listener.pause = Effect.sleep("1 second")
        const starting = yield* start(pool.start)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(listener.backends.length, 1, "made with the old handler, and not in use")
        yield* pool.setHandler(swapped)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(starting)
        assert.strictEqual(listener.at(1).handler, swapped)
        const updating = yield* start(pool.update({ ...a, keepAlive: false }))
        yield* pool.setHandler(hello)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(updating)
        assert.strictEqual(listener.at(1).handler, hello)
        listener.pause = Effect.void
      })
    )
  })

  describe("setDefaultTls", () => {
    const inherits = { tls: { inherit: true } }

    it.effect("leaves in force what an update that waits for its turn brings, also where it is put back", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const inherits = { ...a, drainDelay: "1 second", tls: { inherit: true } } as const
        const pool = yield* make(listener, [inherits, { ...b, tls: { inherit: true } }], { tls: pem("1") })
        yield* pool.start
        for (const second of [pem("2"), { ...pem("3"), cert: badCert }]) {
          const restarting = yield* start(pool.restartOne(a.bind))
          const maxConnections = second.cert === badCert ? 7 : 5
          const updating = yield* start(pool.update({ ...inherits, maxConnections }))
          const setting = yield* start(Effect.exit(pool.setDefaultTls(second)))
          yield* TestClock.adjust("1 second")
          yield* Fiber.join(restarting)
          yield* Fiber.join(updating)
          yield* Fiber.join(setting)
          assert.strictEqual(listener.at(1).settings.maxConnections, maxConnections)
          assert.strictEqual(listener.at(1).settings.tls?.cert, pem("2").cert)
        }
        yield* start(pool.stop)
        yield* TestClock.adjust("1 second")
      })
    )

    it.effect("holds for who waits until the one before has left its address, too", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, drainDelay: "1 second" }], { tls: pem("1") })
        yield* pool.start
        const removing = yield* start(pool.remove(a.bind))
        const adding = yield* start(pool.addConfig({ ...a, ...inherits }))
        yield* pool.setDefaultTls(pem("2"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(removing)
        yield* Fiber.join(adding)
        assert.strictEqual(listener.at(1).settings.tls?.cert, pem("2").cert)
      })
    )

    it.effect("holds for a server that an update, which waits for its turn, makes inherit it", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const plain = { ...a, drainDelay: "1 second" } as const
        const pool = yield* make(listener, [plain], { tls: pem("1") })
        yield* pool.start
        const restarting = yield* start(pool.restart)
        const updating = yield* start(pool.update({ ...plain, ...inherits }))
        const setting = yield* start(pool.setDefaultTls(pem("2")))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(restarting)
        yield* Fiber.join(updating)
        yield* Fiber.join(setting)
        assert.strictEqual(listener.at(1).settings.tls?.cert, pem("2").cert)
        yield* start(pool.stop)
        yield* TestClock.adjust("1 second")
      })
    )

    it.effect("starts none that has failed, and changes none that does not inherit it", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, { ...b, ...inherits }], { tls: pem("1") })
        listener.failing.add(a.bind)
        yield* Effect.exit(pool.start)
        const tried = listener.tried.length
        const events = yield* recorder(pool)
        yield* pool.setDefaultTls(pem("2"))
        assert.strictEqual(listener.tried.length, tried)
        assert.deepInclude(yield* events, { _tag: "Reloaded", added: [], changed: [b.bind], removed: [] })
      })
    )

    it.effect("renews the certificates of all servers that inherit them, and touches no connection", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const servers = [{ ...a, ...inherits }, { ...b, tls: pem("own") }, c]
        const pool = yield* make(listener, servers, { tls: pem("1") })
        yield* pool.start
        yield* pool.setDefaultTls(pem("2"))
        assert.deepStrictEqual(
          [1, 2, 3].map((port) => listener.at(port).settings.tls?.cert),
          [pem("2").cert, pem("own").cert, undefined]
        )
        assert.strictEqual(listener.backends.length, 3)
        yield* pool.addConfig({ bind: "127.0.0.1:4", ...inherits })
        assert.strictEqual(listener.at(4).settings.tls?.cert, pem("2").cert)
      })
    )

    it.effect("of certificates that cannot be used no server has any, nor one that comes later", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [{ ...a, ...inherits }], { tls: pem("1") })
        yield* pool.start
        const error = yield* Effect.flip(pool.setDefaultTls({ ...pem("2"), cert: badCert }))
        assert.strictEqual(error._tag, "ServerPoolError")
        const invalid = yield* Effect.flip(pool.setDefaultTls({}))
        assert.strictEqual(invalid._tag, "ConfigError")
        yield* pool.addConfig({ ...b, ...inherits })
        for (const port of [1, 2]) assert.strictEqual(listener.at(port).settings.tls?.cert, pem("1").cert)
      })
    )
  })

  describe("views", () => {
    it.effect("forEach goes over all in order, forEachOf over those of the binds that are there", () =>
      Effect.gen(function* () {
        const pool = yield* make(new FakeListener(), [a, b, c])
        const seen: Array<string> = []
        const see = (server: Server) => Effect.sync(() => void seen.push(server.name))
        yield* pool.forEach(see)
        yield* pool.forEachOf([c.bind, ":9", a.bind], see)
        assert.deepStrictEqual(seen, ["a", "b", "c", "c", "a"])
        const stopped = yield* Effect.flip(
          pool.forEach((server) => (server.name === "b" ? Effect.fail("b") : see(server)))
        )
        assert.strictEqual(stopped, "b")
      })
    )

    it.effect("has, size and get", () =>
      Effect.gen(function* () {
        const pool = yield* make(new FakeListener(), [{ name: "a", bind: ":1" }])
        assert.isTrue(yield* pool.has("*:1"))
        assert.isFalse(yield* pool.has(":2"))
        assert.isFalse(yield* pool.has("nonsense"))
        assert.strictEqual(yield* pool.size, 1)
        assert.isTrue(Option.isNone(yield* pool.get(":2")))
        assert.strictEqual(Option.getOrThrow(yield* pool.get(":1")).name, "a")
      })
    )

    it.effect("filter is a view of the same servers, whose lifecycle operations act on those only", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [
          { ...a, name: "api-1" },
          { ...b, name: "api-2" },
          { ...c, name: "Admin" }
        ])
        const api = yield* pool.filter("name", "", "^api-")
        yield* api.start
        assert.deepStrictEqual(listener.ports, [1, 2])
        assert.isTrue(yield* api.ready)
        yield* pool.start
        yield* api.stop
        assert.deepStrictEqual(listener.ports, [3])
        assert.isFalse(yield* api.isRunning)
        assert.isTrue(yield* pool.ready, "what was stopped by hand is not missed")
        const admin = yield* pool.filter("name", "ADMIN")
        assert.deepStrictEqual(names(yield* admin.servers), ["Admin"])
        assert.strictEqual(yield* (yield* pool.filter("bind", c.bind)).size, 1)
        assert.strictEqual(yield* (yield* api.filter("name", "api-2")).size, 1, "a view of a view")
        yield* pool.addConfig({ name: "api-3", bind: "127.0.0.1:4" })
        assert.strictEqual(yield* api.size, 3, "live")
        yield* api.restart
        assert.deepStrictEqual(listener.ports, [1, 2, 3, 4])
      })
    )

    it.effect("a bad regex is a typed error, and so is a filter without a condition", () =>
      Effect.gen(function* () {
        const pool = yield* make(new FakeListener(), [a])
        const failing = [
          Effect.asVoid(pool.filter("name", undefined, "(")),
          Effect.asVoid(pool.list("name", "bind", "", "(")),
          Effect.asVoid(pool.filter("name"))
        ]
        for (const effect of failing) {
          const error = yield* Effect.flip(effect)
          assert.strictEqual(error.reason, "ParamEmpty")
        }
      })
    )

    it.effect("list gives one field of those that match on another; of all without a condition", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [
          a,
          { ...b, expose: "https://b.test" },
          { name: "any", bind: "127.0.0.1:0" }
        ])
        assert.deepStrictEqual(yield* pool.list("name", "bind", "A"), [a.bind])
        assert.deepStrictEqual(yield* pool.list("bind", "expose", undefined, /:[12]$/g), [
          "http://127.0.0.1:1",
          "https://b.test"
        ])
        yield* pool.start
        assert.deepStrictEqual(yield* pool.list("name", "expose"), [
          "http://127.0.0.1:1",
          "https://b.test",
          "http://127.0.0.1:40000"
        ])
      })
    )
  })

  describe("clone and merge", () => {
    it.effect("clone is independent: the same configurations, not started", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, b])
        yield* pool.start
        const copy = yield* pool.clone
        assert.isFalse(yield* copy.isRunning)
        assert.deepStrictEqual(names(yield* copy.servers), ["a", "b"])
        yield* copy.setHandler(answer("copy"))
        yield* copy.remove(a.bind)
        assert.strictEqual(listener.at(1).handler, hello)
        assert.strictEqual(yield* pool.size, 2)
        const part = yield* Effect.flatMap(pool.filter("name", "a"), (view) => view.clone)
        assert.deepStrictEqual(names(yield* part.servers), ["a"])
      })
    )

    it.effect("merge moves the servers of another pool here, as they run", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a])
        const own = answer("own")
        const other = yield* make(listener, [{ ...b, handler: "own" }, c], { handlers: { own, default: own } })
        yield* pool.start
        yield* other.start
        const backend = listener.at(2)
        yield* pool.merge(other)
        assert.deepStrictEqual(names(yield* pool.servers), ["a", "b", "c"])
        assert.strictEqual(yield* other.size, 0)
        assert.strictEqual(listener.at(2), backend)
        assert.deepStrictEqual([listener.at(2).handler, listener.at(3).handler], [own, hello])
        yield* pool.merge(pool)
        assert.strictEqual(yield* pool.size, 3)
        yield* pool.stop
        assert.deepStrictEqual(listener.ports, [])
      })
    )

    it.effect("merge moves nothing where binds are in both, unless replace", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        const pool = yield* make(listener, [a, b])
        const other = yield* make(listener, [{ ...a, name: "a2" }, { ...b, name: "b2" }, c])
        const error = yield* Effect.flip(pool.merge(other))
        assert.deepStrictEqual(
          error.servers.map(({ name }) => name),
          ["a2", "b2"]
        )
        assert.strictEqual(yield* other.size, 3)
        yield* pool.merge(other, { replace: true })
        assert.deepStrictEqual(names(yield* pool.servers), ["a2", "b2", "c"])
      })
    )

    it.effect("one that cannot be put in stays where it was, and is named in the error; the others move", () =>
      Effect.gen(function* () {
        const listener = new FakeListener()
        listener.failing.add(b.bind)
        const pool = yield* make(listener, [])
        yield* pool.start
        const other = yield* make(listener, [a, b, { name: "any", bind: ":0" }])
        const error = yield* Effect.flip(pool.merge(other))
        assert.deepStrictEqual(
          error.servers.map(({ name }) => name),
          ["b"]
        )
        assert.deepStrictEqual(names(yield* other.servers), ["b"])
        assert.deepStrictEqual(names(yield* pool.servers).toSorted(), ["a", "any"])
      })
    )
  })

  it.effect("who listens slowly misses the oldest events, never the newest", () =>
    Effect.gen(function* () {
      const pool = yield* make(new FakeListener(), binds(1))
      const latch = yield* Latch.make(false)
      const seen: Array<ServerEvent> = []
      const see = (event: ServerEvent) => latch.whenOpen(Effect.sync(() => void seen.push(event)))
      yield* start(Stream.runForEach(pool.events, see))
      for (let round = 0; round < 400; round++) yield* pool.restart
      yield* pool.stop
      yield* latch.open
      yield* turn
      assert.isBelow(seen.length, 1201)
      assert.strictEqual(seen.at(-1)?._tag, "Stopped")
    })
  )
})
