/** An address that a server had, and has no more, although nobody has asked for it. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Logger, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { ServerEvent } from "../../src/server/ServerEvent.ts"
import * as Supervisor from "../../src/server/Supervisor.ts"
import { FakeListener } from "../fixtures/listener.ts"
import { start, turn } from "../fixtures/pools.ts"
import { binds, ended, make as makePool, recorder } from "../fixtures/serverPools.ts"

const first = "127.0.0.1:8000"

const quiet = Effect.provide(Logger.layer([]))

const running = (count = 2) =>
  Effect.gen(function* () {
    const listener = new FakeListener()
    const pool = yield* makePool(listener, binds(count))
    yield* pool.start
    const server = Option.getOrThrow(yield* pool.get(first))
    const acceptor = listener.acceptors.find(({ address }) => address.port === 8000)!
    return { acceptor, backend: listener.at(8000), events: yield* recorder(pool), listener, pool, server }
  })

const tagsOf = (events: ReadonlyArray<ServerEvent>) => events.map(({ _tag }) => _tag)

describe("a server whose address is lost", () => {
  it.effect("is Failed with its error, says so in an event and in the log, and no other notices", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
      const { acceptor, events, listener, pool, server } = yield* Effect.provide(running(), Logger.layer([logger]))
      yield* TestClock.adjust("3 seconds")
      const error = acceptor.lose()
      yield* turn
      assert.deepStrictEqual(server.state, { _tag: "Failed", error })
      assert.match(error.message, /^127\.0\.0\.1:8000 does not accept any more: /)
      assert.deepStrictEqual(yield* events, [
        { _tag: "Failed", name: "s0", bind: first, error },
        { _tag: "Drained", name: "s0", bind: first, cut: { connections: 0, requests: 0 } }
      ])
      assert.lengthOf(logged, 1)
      assert.match(logged[0]!, /^Error Server "s0" has failed: 127\.0\.0\.1:8000 does not accept any more/)
      yield* TestClock.adjust("2 seconds")
      const health = yield* server.health
      assert.deepInclude(health, { state: "Failed", ready: false, wanted: true, lastError: error })
      assert.strictEqual(Duration.toSeconds(health.downtime), 2, "since it was lost")
      assert.isFalse(yield* pool.ready)
      assert.isTrue(yield* pool.isRunning, "the other one")
      assert.deepStrictEqual(listener.ports, [8001])
    })
  )

  it.effect("lets its connections end as a stop does; then nothing of it is left", () =>
    Effect.gen(function* () {
      const { acceptor, backend, events, server } = yield* running()
      backend.request(2)
      acceptor.lose()
      yield* turn
      assert.strictEqual(backend.drains, "draining")
      assert.strictEqual((yield* server.counts).active, 2)
      backend.finish()
      assert.deepStrictEqual(tagsOf(yield* events), ["Failed", "Drained"])
      assert.deepInclude(yield* server.counts, { active: 0, requests: 2 })
    }).pipe(quiet)
  )

  it.effect("is restarted by a supervisor at once, while the old connections drain", () =>
    Effect.gen(function* () {
      const { acceptor, backend, events, listener, pool, server } = yield* running()
      const supervisor = yield* Supervisor.make(pool)
      backend.request()
      acceptor.lose()
      yield* turn
      assert.strictEqual(server.state._tag, "Running")
      assert.strictEqual(yield* supervisor.restarts, 1)
      assert.notStrictEqual(listener.at(8000), backend)
      assert.strictEqual(backend.drains, "draining")
      backend.finish()
      assert.deepStrictEqual(tagsOf(yield* events), ["Failed", "Started", "Drained"])
      assert.isTrue(yield* pool.ready)
    }).pipe(quiet)
  )

  it.effect("lost again and again makes a supervisor give up", () =>
    Effect.gen(function* () {
      const { listener, pool } = yield* running(1)
      const supervisor = yield* Supervisor.make(pool)
      for (let i = 0; i < 2; i++) {
        listener.openOnes[0]?.lose()
        yield* turn
      }
      const error = yield* Effect.flip(supervisor.escalation)
      assert.deepStrictEqual([yield* supervisor.restarts, error.servers.map(({ name }) => name)], [1, ["s0"]])
      assert.include(error.message, "does not accept any more")
    }).pipe(quiet)
  )

  it.effect("is started by start; a restart asks for the port that the system chose, which clients know", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* makePool(listener, [{ name: "a", bind: "127.0.0.1:0" }])
      yield* pool.start
      listener.openOnes[0]?.lose()
      yield* turn
      yield* pool.restart
      assert.deepStrictEqual(listener.ports, [40_000])
      listener.openOnes[0]?.lose()
      yield* turn
      listener.failing.add("127.0.0.1:40000")
      yield* pool.restart
      assert.deepStrictEqual(listener.ports, [40_001], "it is taken by now: another")
      listener.openOnes[0]?.lose()
      yield* turn
      yield* pool.start
      assert.lengthOf(listener.ports, 1)
    }).pipe(quiet)
  )

  it.effect("can be stopped, updated and removed as any other that has failed", () =>
    Effect.gen(function* () {
      const { acceptor, backend, listener, pool, server } = yield* running()
      backend.request()
      acceptor.lose()
      yield* turn
      const stopping = yield* start((yield* pool.filter("name", "s0")).stop)
      yield* turn
      assert.isFalse(ended(stopping), "it waits for what drains")
      backend.finish()
      assert.deepStrictEqual(yield* Fiber.join(stopping), [])
      assert.strictEqual(server.state._tag, "Stopped")
      yield* pool.start
      listener.at(8000).acceptor.lose()
      yield* turn
      yield* pool.update({ bind: first, name: "again" })
      assert.strictEqual(server.state._tag, "Running", "an update of one that should run starts it")
      listener.at(8000).acceptor.lose()
      yield* turn
      yield* pool.remove(first)
      assert.deepStrictEqual(listener.ports, [8001])
    }).pipe(quiet)
  )

  it.effect("is not Failed when it was lost as it stopped: then it is stopped", () =>
    Effect.gen(function* () {
      const { acceptor, backend, events, pool, server } = yield* running(1)
      backend.request()
      const stopping = yield* start(pool.stop)
      acceptor.lose()
      yield* turn
      backend.finish()
      yield* Fiber.join(stopping)
      assert.strictEqual(server.state._tag, "Stopped")
      assert.deepStrictEqual(tagsOf(yield* events), ["Stopping", "Stopped"])
    }).pipe(quiet)
  )

  it.effect("of an acceptor that a restart has replaced nobody hears", () =>
    Effect.gen(function* () {
      const { acceptor, events, pool, server } = yield* running(1)
      yield* pool.restart
      acceptor.lose()
      yield* turn
      assert.strictEqual(server.state._tag, "Running")
      assert.notInclude(tagsOf(yield* events), "Failed")
    })
  )

  it.effect("fails also while it belongs to who took it; put into a pool that runs it is started", () =>
    Effect.gen(function* () {
      const { acceptor, listener, pool, server } = yield* running(1)
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.take(first), scope)
      acceptor.lose()
      yield* turn
      assert.strictEqual(server.state._tag, "Failed")
      yield* pool.add(server)
      assert.deepStrictEqual(listener.ports, [8000])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(listener.ports, [8000])
    }).pipe(quiet)
  )

  it.effect("the scope of its pool waits for what drains", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(makePool(listener, binds(1)), scope)
      yield* pool.start
      const backend = listener.at(8000)
      backend.request()
      backend.acceptor.lose()
      yield* turn
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* turn
      assert.isFalse(ended(closing))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual(backend.drains, "drained")
    }).pipe(quiet)
  )
})
