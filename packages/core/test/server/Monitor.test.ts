import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Option, References, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { HttpClientResponse, type HttpClientRequest } from "effect/http"
import type { ConfigError } from "../../src/model/ConfigError.ts"
import * as Monitor from "../../src/server/Monitor.ts"
import type { Options } from "../../src/server/ServerConfig.ts"
import { FakeListener, pem } from "../fixtures/listener.ts"
import { CountingClock, onFunction, start, turn } from "../fixtures/pools.ts"
import { make as makePool } from "../fixtures/serverPools.ts"

type Answer = number | "silent" | { readonly late: number; readonly status: number }

/** What a server answers, by port; 200 where nothing is said. */
class Servers {
  readonly answers = new Map<string, Answer>()
  readonly asked: Array<string> = []
  underWay = 0

  readonly respond = (request: HttpClientRequest.HttpClientRequest, { origin }: { readonly origin: string }) =>
    Effect.suspend(() => {
      this.asked.push(request.url)
      const answer = this.answers.get(new URL(origin).port) ?? 200
      this.underWay++
      const response = (status: number) => HttpClientResponse.fromWeb(request, new Response("fine", { status }))
      const work =
        answer === "silent"
          ? Effect.never
          : typeof answer === "number"
            ? Effect.succeed(response(answer))
            : Effect.delay(Effect.succeed(response(answer.status)), answer.late)
      return Effect.ensuring(
        work,
        Effect.sync(() => void this.underWay--)
      )
    })

  get count(): number {
    return this.asked.length
  }
}

const monitored = (count: number, more: Partial<Options> = {}): ReadonlyArray<Options> =>
  Array.from({ length: count }, (_, index) => ({
    name: `s${index}`,
    bind: `127.0.0.1:${8000 + index}`,
    monitor: { path: "/health", interval: "10 seconds", timeout: "4 seconds", rise: 2, fall: 3 },
    ...more
  }))

const setup = (configs: ReadonlyArray<Options>, options?: Monitor.Options) =>
  Effect.gen(function* () {
    const listener = new FakeListener()
    const servers = new Servers()
    const pool = yield* makePool(listener, configs)
    const client = yield* onFunction(servers.respond, { size: 16 })
    const monitor = yield* Monitor.make(pool, client, options)
    return { listener, servers, pool, client, monitor }
  })

const states = (monitor: Monitor.Monitor) => Effect.map(monitor.report, (reports) => reports.map(({ state }) => state))

const reportOf = (monitor: Monitor.Monitor, bind = "127.0.0.1:8000") =>
  Effect.map(monitor.reportOf(bind), (report) => Option.getOrThrow(report))

/** Time passes, and whatever it sets off ends. */
const pass = (duration: Parameters<typeof TestClock.adjust>[0]) => Effect.andThen(TestClock.adjust(duration), turn)

const changesOf = (monitor: Monitor.Monitor) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(monitor.changes, ({ from, report, to }) =>
        Effect.sync(() => void seen.push(`${report.name} ${from} ${to}`))
      ),
      { startImmediately: true }
    )
    yield* turn
    return Effect.as(turn, seen)
  })

describe("Monitor", () => {
  it.effect("asks a server as soon as it runs, and then at its interval", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      assert.strictEqual(servers.count, 0)
      yield* pass("1 minute")
      assert.strictEqual(servers.count, 0, "nobody runs")
      yield* pool.start
      yield* turn
      assert.deepStrictEqual(servers.asked, ["http://127.0.0.1:8000/health"])
      yield* pass("9 seconds")
      assert.strictEqual(servers.count, 1)
      yield* pass("1 second")
      assert.strictEqual(servers.count, 2)
      yield* pass("40 seconds")
      assert.strictEqual(servers.count, 6)
      assert.deepStrictEqual(yield* states(monitor), ["OK"])
    })
  )

  it.effect("the interval is from request to request, however long an answer takes", () =>
    Effect.gen(function* () {
      const { pool, servers } = yield* setup(monitored(1))
      servers.answers.set("8000", { late: 3000, status: 200 })
      yield* pool.start
      yield* turn
      yield* pass("10 seconds")
      assert.strictEqual(servers.count, 2)
    })
  )

  it.effect("reports name, state, rise and fall counts, uptime, last error, latency, connections and requests", () =>
    Effect.gen(function* () {
      const { listener, monitor, pool, servers } = yield* setup(monitored(1))
      servers.answers.set("8000", { late: 250, status: 200 })
      yield* pool.start
      yield* pass("12 seconds")
      listener.at(8000).request(3)
      const report = yield* reportOf(monitor)
      assert.deepStrictEqual(report, {
        name: "s0",
        bind: "127.0.0.1:8000",
        expose: "http://127.0.0.1:8000/",
        state: "OK",
        status: "Running",
        wanted: true,
        monitored: true,
        rises: 2,
        falls: 0,
        checks: 2,
        failures: 0,
        latency: 250,
        uptime: 12_000,
        downtime: 0,
        lastError: undefined,
        counts: { connections: 3, active: 3, accepted: 3, requests: 3, failures: 0, refused: 0 }
      })
      yield* pool.stop.pipe(start, Effect.andThen(pass("10 seconds")))
      yield* pass("5 seconds")
      const stopped = yield* reportOf(monitor)
      assert.deepStrictEqual(
        [stopped.state, stopped.status, stopped.wanted, stopped.uptime, stopped.downtime],
        ["KO", "Stopped", false, 0, 15_000]
      )
    })
  )

  it.effect("OK, Warn below fall, KO at fall, and back with rise answers in a row", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      const changes = yield* changesOf(monitor)
      yield* pool.start
      yield* turn
      assert.deepStrictEqual(yield* states(monitor), ["OK"])
      servers.answers.set("8000", 503)
      const seen: Array<string> = []
      for (let i = 0; i < 4; i++) {
        yield* pass("10 seconds")
        const { falls, state } = yield* reportOf(monitor)
        seen.push(`${state} ${falls}`)
      }
      assert.deepStrictEqual(seen, ["Warn 1", "Warn 2", "KO 3", "KO 4"])
      assert.strictEqual((yield* reportOf(monitor)).lastError, "GET /health was answered with 503")
      servers.answers.set("8000", 399)
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["KO"])
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["OK"])
      const { checks, failures, lastError } = yield* reportOf(monitor)
      assert.deepStrictEqual([checks, failures, lastError], [7, 4, "GET /health was answered with 503"])
      assert.deepStrictEqual((yield* changes).slice(-3), ["s0 OK Warn", "s0 Warn KO", "s0 KO OK"])
    })
  )

  it.effect("an answer that takes longer than slow is a warning, and no failure", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      yield* pool.start
      servers.answers.set("8000", { late: 2000, status: 200 })
      yield* pass("40 seconds")
      const { failures, falls, lastError = "", latency, state } = yield* reportOf(monitor)
      assert.deepStrictEqual([state, failures, falls, latency], ["Warn", 0, 0, 2000], "slow is half of the timeout")
      assert.include(lastError, "slow")
      servers.answers.delete("8000")
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["OK"])
    })
  )

  it.effect("what is slow can be said", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1), { slow: "3 seconds" })
      servers.answers.set("8000", { late: 2500, status: 200 })
      yield* pool.start
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["OK"])
      const error: ConfigError = yield* Effect.flip(Effect.asVoid(setup([], { slow: -1 })))
      assert.include(error.message, "slow")
    })
  )

  it.effect("a check that hangs ends at its timeout and does not stop the others", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(3))
      servers.answers.set("8001", "silent")
      yield* pool.start
      yield* turn
      assert.deepStrictEqual(yield* states(monitor), ["OK", "Warn", "OK"])
      yield* pass("4 seconds")
      assert.strictEqual(servers.underWay, 0)
      assert.strictEqual((yield* reportOf(monitor, "127.0.0.1:8001")).falls, 1)
      yield* pass("6 seconds")
      assert.strictEqual(servers.asked.filter((url) => url.includes(":8002")).length, 2)
      yield* pass("30 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["OK", "KO", "OK"])
      const { lastError, latency } = yield* reportOf(monitor, "127.0.0.1:8001")
      assert.strictEqual(lastError, "GET /health was not answered within 4000 ms")
      assert.isUndefined(latency)
    })
  )

  it.effect("what the client did to itself is told, and counts for nothing", () =>
    Effect.gen(function* () {
      const listener = new FakeListener()
      const pool = yield* makePool(listener, monitored(1))
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(onFunction(new Servers().respond), scope)
      const monitor = yield* Monitor.make(pool, client)
      yield* pool.start
      yield* turn
      yield* Scope.close(scope, Exit.void)
      yield* pass("5 minutes")
      const { checks, lastError = "", state } = yield* reportOf(monitor)
      assert.deepStrictEqual([checks, state], [1, "OK"])
      assert.include(lastError, "pool is closed")
    })
  )

  it.effect("a server that does not run is KO, and says why; one that is stopped on purpose is not wanted", () =>
    Effect.gen(function* () {
      const { listener, monitor, pool, servers } = yield* setup(monitored(2))
      listener.failing.add("127.0.0.1:8001")
      yield* Effect.exit(pool.start)
      yield* turn
      const [ok, failed] = yield* monitor.report
      assert(ok !== undefined && failed !== undefined)
      assert.deepStrictEqual([ok.state, failed.state, failed.status, failed.wanted], ["OK", "KO", "Failed", true])
      assert.include(failed.lastError, "EACCES")
      assert.deepStrictEqual(servers.asked, ["http://127.0.0.1:8000/health"])
    })
  )

  it.effect("a server that is about to start or to stop is a warning, and is not asked", () =>
    Effect.gen(function* () {
      const { listener, monitor, pool, servers } = yield* setup(monitored(1, { drainDelay: "30 seconds" }))
      listener.waiting.add("127.0.0.1:8000")
      const starting = yield* start(pool.start)
      assert.deepStrictEqual(yield* states(monitor), ["Warn"])
      listener.proceed()
      yield* Fiber.join(starting)
      yield* turn
      assert.strictEqual(servers.count, 1)
      const stopping = yield* start(pool.stop)
      yield* pass("20 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["Warn"])
      assert.strictEqual(servers.count, 1)
      yield* pass("10 seconds")
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(yield* states(monitor), ["KO"])
    })
  )

  it.effect("a server that was started anew begins anew, and is asked at once", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      const changes = yield* changesOf(monitor)
      servers.answers.set("8000", 500)
      yield* pool.start
      yield* pass("25 seconds")
      assert.deepStrictEqual(yield* states(monitor), ["KO"])
      const before = servers.count
      servers.answers.set("8000", "silent")
      yield* pool.restartOne("127.0.0.1:8000")
      yield* turn
      assert.strictEqual(servers.count, before + 1)
      const { falls, lastError, state } = yield* reportOf(monitor)
      assert.deepStrictEqual([state, falls, lastError], ["Warn", 0, undefined])
      yield* pass("25 seconds")
      assert.deepStrictEqual((yield* changes).slice(-2), ["s0 KO Warn", "s0 Warn KO"])
    })
  )

  it.effect("another configuration is followed at once: another path, another interval, no monitor", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      yield* pool.start
      yield* turn
      const [config] = monitored(1)
      yield* pool.update({ ...config!, monitor: { path: "/live?key=s3cr3t", interval: "1 second" } })
      yield* turn
      assert.deepStrictEqual(servers.asked, ["http://127.0.0.1:8000/health", "http://127.0.0.1:8000/live?key=s3cr3t"])
      servers.answers.set("8000", 500)
      yield* pass("3 seconds")
      assert.strictEqual(servers.count, 5)
      assert.deepStrictEqual(yield* states(monitor), ["KO"])
      assert.notInclude(JSON.stringify(yield* monitor.report), "s3cr3t")
      yield* pool.update({ ...config!, monitor: false })
      yield* pass("1 minute")
      assert.strictEqual(servers.count, 5)
      assert.deepStrictEqual(yield* states(monitor), ["OK"], "nobody asks it")
      assert.deepStrictEqual(yield* monitor.monitorNames, [])
    })
  )

  it.effect("an added server is watched, a removed one vanishes, its request under way with it", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      yield* pool.start
      const [, second] = monitored(2)
      servers.answers.set("8001", "silent")
      yield* pool.addConfig(second!)
      yield* turn
      assert.deepStrictEqual(yield* monitor.monitorNames, ["s0", "s1"])
      assert.strictEqual(servers.underWay, 1)
      yield* pool.remove("127.0.0.1:8001")
      yield* turn
      assert.strictEqual(servers.underWay, 0)
      assert.deepStrictEqual(
        (yield* monitor.report).map(({ name }) => name),
        ["s0"]
      )
      assert.isTrue(Option.isNone(yield* monitor.reportOf("127.0.0.1:8001")))
      const { count } = servers
      yield* pass("10 seconds")
      assert.strictEqual(servers.count, count + 1)
    })
  )

  it.effect("names those that are asked: not the disabled, nor those without a monitor", () =>
    Effect.gen(function* () {
      const [a, b, c] = monitored(3)
      const { monitor, pool } = yield* setup([a!, { ...b!, disabled: true }, { ...c!, monitor: undefined }])
      yield* pool.start
      yield* turn
      assert.deepStrictEqual(yield* monitor.monitorNames, ["s0"])
      assert.deepStrictEqual(
        (yield* monitor.report).map(({ monitored: asked, state, wanted }) => [state, asked, wanted]),
        [
          ["OK", true, true],
          ["KO", true, false],
          ["OK", false, true]
        ]
      )
    })
  )

  it.effect("asks a server on all addresses on the loopback of its family, and where it is told to", () =>
    Effect.gen(function* () {
      const monitor = { path: "/health", interval: "10 seconds" } as const
      const binds = [":8000", "0.0.0.0:8001", "[::1]:8002", "127.0.0.1:0"]
      const configs = binds.map((bind) => ({ bind, monitor }))
      const { pool, servers } = yield* setup([...configs, { bind: "127.0.0.1:8443", tls: pem("a"), monitor: true }])
      yield* pool.start
      yield* turn
      assert.sameMembers(servers.asked, [
        "http://[::1]:8000/health",
        "http://127.0.0.1:8001/health",
        "http://[::1]:8002/health",
        "http://127.0.0.1:40000/health",
        "https://127.0.0.1:8443/"
      ])
      const told = yield* setup(configs.slice(0, 1), { origin: ({ name }) => `http://api.test/${name.slice(1)}/` })
      yield* told.pool.start
      yield* turn
      assert.deepStrictEqual(told.servers.asked, ["http://api.test/8000/health"])
    })
  )

  it.effect("an origin that throws is told, counts for nothing, and ends no checks", () =>
    Effect.gen(function* () {
      let broken = true
      const origin = () => {
        if (broken) throw new Error("no address is known yet")
        return "http://api.test"
      }
      const { monitor, pool, servers } = yield* setup(monitored(1), { origin })
      yield* pool.start
      yield* turn
      assert.deepInclude(yield* reportOf(monitor), { state: "Warn", checks: 0, lastError: "no address is known yet" })
      const error = yield* Effect.flip(monitor.check)
      assert.include(error.message, "no address is known yet")
      broken = false
      yield* pass("10 seconds")
      assert.deepStrictEqual(servers.asked, ["http://api.test/health"])
      assert.deepInclude(yield* reportOf(monitor), { state: "OK", checks: 1 })
    })
  )

  describe("check", () => {
    it.effect("asks all now and at once, and fails with every server that did not answer well", () =>
      Effect.gen(function* () {
        const [a, b, c] = monitored(3)
        const { listener, monitor, pool, servers } = yield* setup([a!, b!, c!, { name: "none", bind: ":1" }])
        yield* pool.start
        yield* turn
        assert.strictEqual((yield* monitor.check).length, 4)
        assert.strictEqual(servers.count, 6)
        servers.answers.set("8000", 500)
        servers.answers.set("8001", "silent")
        const checking = yield* start(Effect.flip(monitor.check))
        yield* pass("4 seconds")
        const error = yield* Fiber.join(checking)
        assert.strictEqual(error.reason, "Monitor")
        assert.deepStrictEqual(
          error.servers.map(({ name }) => name),
          ["s0", "s1"]
        )
        assert.include(error.message, "s0 (127.0.0.1:8000): GET /health was answered with 500")
        assert.strictEqual((yield* reportOf(monitor)).falls, 1, "it counts")
        listener.failing.add("127.0.0.1:8002")
        yield* Effect.exit(pool.restartOne("127.0.0.1:8002"))
        assert.include((yield* Effect.flip(monitor.checkOne("127.0.0.1:8002"))).message, "EACCES")
      })
    )

    it.effect("one, which must be there, run and have a monitor", () =>
      Effect.gen(function* () {
        const [a] = monitored(1)
        const { monitor, pool, servers } = yield* setup([a!, { name: "none", bind: ":1" }])
        assert.include((yield* Effect.flip(monitor.checkOne("127.0.0.1:8000"))).message, "it does not run")
        yield* pool.start
        assert.strictEqual((yield* monitor.checkOne("127.0.0.1:8000")).state, "OK")
        assert.include((yield* Effect.flip(monitor.checkOne(":1"))).message, "`monitor`")
        assert.include((yield* Effect.flip(monitor.checkOne(":2"))).message, 'there is no server ":2"')
        servers.answers.set("8000", { late: 3000, status: 200 })
        const slow = yield* start(monitor.checkOne("127.0.0.1:8000"))
        yield* pass("3 seconds")
        assert.strictEqual((yield* Fiber.join(slow)).state, "Warn", "slow is not a failure")
        const gone = Option.getOrThrow(yield* pool.get("127.0.0.1:8000"))
        yield* pool.remove(gone)
        assert.include((yield* Effect.flip(monitor.checkOne(gone))).message, "there is no server 127.0.0.1:8000")
      })
    )
  })

  it.effect("a request that was sent to a server before it was started anew says nothing of the new one", () =>
    Effect.gen(function* () {
      const { monitor, pool, servers } = yield* setup(monitored(1))
      yield* pool.start
      yield* turn
      servers.answers.set("8000", { late: 1000, status: 500 })
      const old = yield* start(Effect.exit(monitor.checkOne("127.0.0.1:8000")))
      servers.answers.set("8000", 200)
      yield* pool.restartOne("127.0.0.1:8000")
      yield* pass("1 second")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(old)))
      const { failures, state } = yield* reportOf(monitor)
      assert.deepStrictEqual([state, failures], ["OK", 0])
    })
  )

  it.effect("the report as JSON holds no secret and reads back as it was", () =>
    Effect.gen(function* () {
      const expose = "https://api.test/?token=s3cr3t"
      const { monitor, pool } = yield* setup(monitored(1, { expose, tls: pem("s3cr3t") }))
      yield* pool.start
      yield* turn
      const reports = yield* monitor.report
      const text = JSON.stringify(reports)
      assert.notInclude(text, "s3cr3t")
      assert.include(text, '"expose":"https://api.test/"')
      const [report] = reports
      assert.deepStrictEqual(JSON.parse(text), [
        Object.fromEntries(Object.entries(report!).filter(([, value]) => value !== undefined))
      ])
    })
  )

  it.effect("when the scope ends the changes end, and nothing is left, at whatever moment", () =>
    Effect.gen(function* () {
      for (let budget = 3; budget < 40; budget++) {
        const clock = new CountingClock(yield* Clock.Clock)
        const servers = new Servers()
        servers.answers.set("8001", "silent")
        const pool = yield* makePool(new FakeListener(), monitored(2))
        const client = yield* onFunction(servers.respond, { size: 4 })
        const run = Effect.gen(function* () {
          const monitor = yield* Monitor.make(pool, client)
          yield* Effect.forkScoped(Stream.runDrain(monitor.changes))
          yield* pool.start
          return yield* Effect.never
        }).pipe(
          Effect.scoped,
          Effect.provideService(Clock.Clock, clock),
          Effect.provideService(References.MaxOpsBeforeYield, budget)
        )
        const fiber = yield* Effect.forkChild(run, { startImmediately: true })
        for (let i = 0; i < budget; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        yield* turn
        assert.deepStrictEqual([clock.sleeping, servers.underWay], [0, 0], `budget ${budget}`)
        const { count } = servers
        yield* pass("1 minute")
        assert.strictEqual(servers.count, count)
      }
      const scope = yield* Scope.make()
      const { monitor } = yield* Scope.provide(setup(monitored(1)), scope)
      const collecting = yield* start(Stream.runCollect(monitor.changes))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(collecting), [])
      assert.deepStrictEqual(yield* Stream.runCollect(monitor.changes), [])
    })
  )
})
