import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Option, PubSub, References, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { HttpClientResponse } from "effect/http"
import * as Monitor from "../../src/server/Monitor.ts"
import type { ServerPoolError } from "../../src/server/ServerError.ts"
import * as Supervisor from "../../src/server/Supervisor.ts"
import { FakeListener } from "../fixtures/listener.ts"
import { CountingClock, onFunction, start, turn } from "../fixtures/pools.ts"
import { binds, ended, make as makePool } from "../fixtures/serverPools.ts"

const setup = (count: number, options: Supervisor.Options = {}) =>
  Effect.gen(function* () {
    const listener = new FakeListener()
    const pool = yield* makePool(listener, binds(count))
    const told: Array<ServerPoolError> = []
    const onEscalate = (error: ServerPoolError) => Effect.sync(() => void told.push(error))
    const supervisor = yield* Supervisor.make(pool, { onEscalate, ...options })
    return { listener, pool, supervisor, told }
  })

/** Servers that answer as `status` says of their port, once, with a monitor that asks every second and is quick to judge. */
const watched = (count: number, options: Supervisor.Options = {}) =>
  Effect.gen(function* () {
    const status = new Map<string, number>()
    const listener = new FakeListener()
    const monitor = { path: "/", interval: "1 second", timeout: "1 second", rise: 1, fall: 1 } as const
    const pool = yield* makePool(
      listener,
      binds(count).map((config) => ({ ...config, monitor }))
    )
    const client = yield* onFunction((request, { origin }) =>
      Effect.sync(() => {
        const { port } = new URL(origin)
        const code = status.get(port) ?? 200
        status.delete(port)
        return HttpClientResponse.fromWeb(request, new Response("", { status: code }))
      })
    )
    const watch = yield* Monitor.make(pool, client)
    const supervisor = yield* Supervisor.make(pool, { monitor: watch, ...options })
    return { listener, monitor: watch, pool, status, supervisor }
  })

const pass = (duration: Parameters<typeof TestClock.adjust>[0]) => Effect.andThen(TestClock.adjust(duration), turn)

/** How often each port was opened. */
const opened = (listener: FakeListener, port: number) =>
  listener.acceptors.filter((acceptor) => acceptor.address.port === port).length

const tries = (listener: FakeListener, bind: string) => listener.tried.filter((tried) => tried === bind).length

const [first, second] = ["127.0.0.1:8000", "127.0.0.1:8001"] as const

describe("Supervisor", () => {
  it.effect("one for one: a server that does not answer well is restarted, no other", () =>
    Effect.gen(function* () {
      const { listener, pool, status, supervisor } = yield* watched(3)
      yield* pool.start
      yield* turn
      status.set("8001", 500)
      yield* pass("1 second")
      assert.deepStrictEqual(
        [8000, 8001, 8002].map((port) => opened(listener, port)),
        [1, 2, 1]
      )
      assert.strictEqual(yield* supervisor.restarts, 1)
    })
  )

  it.effect("one that could not start is restarted, and left alone when it is up", () =>
    Effect.gen(function* () {
      const { listener, pool, supervisor, told } = yield* setup(2)
      yield* pool.start
      listener.waiting.add(second)
      listener.failing.add(second)
      const restarting = yield* start(Effect.exit(pool.restartOne(second)))
      // It fails when it is told to proceed; the attempt of the supervisor waits again, and finds the cause gone.
      listener.pause = Effect.sync(() => listener.failing.clear())
      listener.proceed()
      yield* Fiber.join(restarting)
      yield* turn
      assert.deepStrictEqual(listener.ports, [8000, 8001])
      assert.strictEqual(yield* supervisor.restarts, 1)
      assert.isFalse(yield* supervisor.escalated)
      assert.deepStrictEqual(told, [])
      assert.strictEqual(opened(listener, 8000), 1)
    })
  )

  it.effect("gives up after more than 1 restart in 5 s by default, tells, and does nothing more", () =>
    Effect.gen(function* () {
      const { listener, pool, supervisor, told } = yield* setup(2)
      listener.failing.add(second)
      const escalation = yield* start(Effect.flip(supervisor.escalation))
      yield* Effect.exit(pool.start)
      yield* turn
      assert.strictEqual(tries(listener, second), 2, "the start, and one restart")
      const error = yield* Fiber.join(escalation)
      assert.deepStrictEqual(told, [error])
      assert.strictEqual(error.reason, "Restart")
      assert.deepStrictEqual(
        error.servers.map(({ name }) => name),
        ["s1"]
      )
      assert.include(error.message, "more than 1 restarts within 5000 ms")
      assert.include(error.message, "EACCES")
      assert.isTrue(yield* supervisor.escalated)
      yield* pass("1 minute")
      yield* Effect.exit(pool.restartOne(second))
      yield* turn
      assert.strictEqual(tries(listener, second), 3, "only what somebody else asks for")
      assert.deepStrictEqual(listener.ports, [8000], "and what runs goes on")
      assert.strictEqual(told.length, 1)
      assert.strictEqual(yield* supervisor.restarts, 1)
    })
  )

  it.effect("what was restarted longer ago does not count", () =>
    Effect.gen(function* () {
      const { listener, pool, status, supervisor } = yield* watched(2)
      yield* pool.start
      yield* turn
      for (let i = 1; i <= 4; i++) {
        yield* pass("10 seconds")
        status.set("8001", 500)
        yield* pass("1 second")
        assert.strictEqual(yield* supervisor.restarts, i)
      }
      assert.isFalse(yield* supervisor.escalated)
      assert.deepStrictEqual([opened(listener, 8000), opened(listener, 8001)], [1, 5])
    })
  )

  it.effect("restarts of all servers count together, up to maxRestarts within the time", () =>
    Effect.gen(function* () {
      const { listener, pool, status, supervisor } = yield* watched(3, { maxRestarts: 2, within: "30 seconds" })
      yield* pool.start
      yield* turn
      for (const port of ["8000", "8001"]) {
        status.set(port, 500)
        yield* pass("1 second")
        yield* pass("3 seconds")
      }
      assert.deepStrictEqual([yield* supervisor.restarts, yield* supervisor.escalated], [2, false])
      status.set("8002", 500)
      yield* pass("1 second")
      const error = yield* Effect.flip(supervisor.escalation)
      assert.deepStrictEqual(
        error.servers.map(({ name }) => name),
        ["s2"]
      )
      assert.include(error.message, "GET / was answered with 500")
      assert.deepStrictEqual(listener.ports, [8000, 8001, 8002], "it serves on, as it is")
      assert.strictEqual(opened(listener, 8002), 1)
    })
  )

  it.effect("a server that the monitor says is KO is opened anew, and well again", () =>
    Effect.gen(function* () {
      const { listener, monitor, pool, status, supervisor } = yield* watched(1)
      yield* pool.start
      yield* turn
      const [before] = listener.acceptors
      status.set("8000", 500)
      yield* pass("1 second")
      assert.strictEqual(opened(listener, 8000), 2)
      assert.isFalse(before?.open)
      yield* pass("1 minute")
      assert.strictEqual(yield* supervisor.restarts, 1)
      assert.strictEqual(Option.getOrThrow(yield* monitor.reportOf(first)).state, "OK")
    })
  )

  it.effect("what has failed before it begins is restarted, too", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* makePool(listener, binds(1))
      listener.failing.add(first)
      yield* Effect.exit(pool.start)
      listener.failing.clear()
      const supervisor = yield* Supervisor.make(pool)
      yield* turn
      assert.deepStrictEqual(listener.ports, [8000])
      assert.strictEqual(yield* supervisor.restarts, 1)
    })
  )

  it.effect("never restarts a server that was stopped on purpose, is disabled, or has left the pool", () =>
    Effect.gen(function* () {
      const { listener, pool, status, supervisor } = yield* watched(3)
      yield* pool.start
      yield* turn
      const group = yield* pool.filter("name", "s0")
      yield* group.stop
      const gone = Option.getOrThrow(yield* pool.get("127.0.0.1:8002"))
      const scope = yield* Scope.make()
      yield* Scope.provide(pool.take(gone), scope)
      for (const port of ["8000", "8001", "8002"]) status.set(port, 500)
      const monitor = { path: "/", interval: "1 second", timeout: "1 second", rise: 1, fall: 1 } as const
      yield* pool.update({ ...binds(2)[1]!, monitor, disabled: true })
      yield* pass("1 minute")
      assert.deepStrictEqual(listener.ports, [8002], "that which is in nobody's pool")
      assert.strictEqual(yield* supervisor.restarts, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(listener.ports, [])
    })
  )

  it.effect("a server that has been asked to stop, and is not yet, is not restarted", () =>
    Effect.gen(function* () {
      const { listener, pool, status, supervisor } = yield* watched(1)
      yield* pool.start
      yield* turn
      listener.at(8000).request()
      status.set("8000", 500)
      const stopping = yield* start(pool.stop)
      yield* pass("9 seconds")
      assert.isFalse(ended(stopping))
      yield* pass("10 seconds")
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* supervisor.restarts, 0)
      assert.deepStrictEqual(listener.ports, [])
    })
  )

  it.effect("a server that fails while a stop of it waits is not restarted", () =>
    Effect.gen(function* () {
      const { listener, pool, supervisor } = yield* setup(1)
      const server = Option.getOrThrow(yield* pool.get(first))
      listener.waiting.add(first)
      listener.failing.add(first)
      const starting = yield* start(Effect.exit(pool.start))
      const stopping = yield* start(pool.stop)
      assert.deepInclude(yield* server.health, { state: "Starting", wanted: false })
      // It fails, and what asks next finds a server that has failed, before the stop has its turn.
      listener.proceed()
      yield* Fiber.join(starting)
      listener.failing.clear()
      yield* Fiber.join(stopping)
      yield* turn
      assert.strictEqual(yield* supervisor.restarts, 0)
      assert.strictEqual(server.state._tag, "Stopped")
      assert.deepStrictEqual(listener.ports, [])
    })
  )

  it.effect("a stop at whatever moment is not undone by a restart", () =>
    Effect.gen(function* () {
      let restarts = 0
      for (let moment = 0; moment < 120; moment++) {
        const budget = 3 + (moment % 17)
        const setUp = Effect.provideService(watched(1), References.MaxOpsBeforeYield, budget)
        const { listener, pool, status, supervisor } = yield* setUp
        yield* pool.start
        yield* turn
        status.set("8000", 500)
        yield* TestClock.adjust("1 second")
        for (let i = 0; i < moment / 3; i++) yield* Effect.yieldNow
        yield* pool.stop
        yield* turn
        assert.deepStrictEqual(listener.ports, [], `moment ${moment}`)
        restarts += yield* supervisor.restarts
      }
      assert.isAbove(restarts, 0)
      assert.isBelow(restarts, 120, "some stops came first")
    })
  )

  it.effect("one restart of a server at a time; what is said of it meanwhile is looked at afterwards", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* makePool(listener, binds(1))
      const changes = yield* PubSub.unbounded<Monitor.Change>()
      const report = (yield* (yield* Monitor.make(pool, yield* onFunction(() => Effect.never))).report)[0]!
      const server = Option.getOrThrow(yield* pool.get(first))
      let state: Monitor.Verdict = "KO"
      const said = Effect.sync(() => Option.some({ ...report, status: server.state._tag, state, lastError: undefined }))
      const monitor = { changes: Stream.fromPubSub(changes), reportOf: () => said }
      yield* pool.start
      state = "OK"
      const supervisor = yield* Supervisor.make(pool, { monitor, maxRestarts: 5 })
      yield* turn
      assert.strictEqual(yield* supervisor.restarts, 0)
      state = "KO"
      const change = (to: Monitor.Verdict): Monitor.Change => ({ server, from: "OK", to, report })
      const say = PubSub.publish(changes, change("KO"))
      listener.waiting.add(first)
      for (let i = 0; i < 5; i++) yield* say
      yield* turn
      assert.strictEqual(yield* supervisor.restarts, 1)
      listener.proceed()
      yield* turn
      assert.strictEqual(yield* supervisor.restarts, 2, "it was still out of order")
      assert.strictEqual(opened(listener, 8000), 3)
      state = "OK"
      yield* say
      yield* turn
      assert.strictEqual(yield* supervisor.restarts, 2)
      yield* PubSub.publish(changes, change("Warn"))
      yield* turn
      assert.strictEqual(yield* supervisor.restarts, 2)
    })
  )

  it.effect("with no restart allowed it tells at the first failure", () =>
    Effect.gen(function* () {
      const { listener, pool, supervisor } = yield* setup(1, { maxRestarts: 0, onEscalate: undefined })
      listener.failing.add(first)
      yield* Effect.exit(pool.start)
      yield* turn
      assert.isTrue(yield* supervisor.escalated)
      assert.strictEqual(tries(listener, first), 1)
    })
  )

  it.effect("refuses options that mean nothing, all at once", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.asVoid(setup(1, { maxRestarts: -1, within: "Infinity" })))
      assert.deepStrictEqual(
        error.problems.map(({ path }) => path),
        ["maxRestarts", "within"]
      )
    })
  )

  it.effect("when its scope ends it restarts nothing any more", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* makePool(listener, binds(1))
      const scope = yield* Scope.make()
      const supervisor = yield* Scope.provide(Supervisor.make(pool), scope)
      yield* Scope.close(scope, Exit.void)
      listener.failing.add(first)
      yield* Effect.exit(pool.start)
      yield* turn
      assert.strictEqual(tries(listener, first), 1)
      assert.isFalse(yield* supervisor.escalated)
    })
  )

  it.effect("interrupted at whatever moment it leaves nothing; a restart under way runs to its end", () =>
    Effect.gen(function* () {
      for (let budget = 3; budget < 60; budget++) {
        const clock = new CountingClock(yield* Clock.Clock)
        const listener = new FakeListener()
        const pool = yield* makePool(listener, binds(2))
        listener.failing.add(second)
        const run = Effect.gen(function* () {
          const supervisor = yield* Supervisor.make(pool, { maxRestarts: 1000 })
          yield* Effect.exit(pool.start)
          return yield* supervisor.escalation
        }).pipe(
          Effect.scoped,
          Effect.provideService(Clock.Clock, clock),
          Effect.provideService(References.MaxOpsBeforeYield, budget)
        )
        const fiber = yield* Effect.forkChild(run, { startImmediately: true })
        for (let i = 0; i < budget; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        yield* turn
        const { length } = listener.tried
        yield* pass("1 minute")
        assert.deepStrictEqual([clock.sleeping, listener.opening, listener.tried.length], [0, 0, length])
        yield* pool.stop
        assert.deepStrictEqual(listener.ports, [], `budget ${budget}`)
      }
    })
  )
})
