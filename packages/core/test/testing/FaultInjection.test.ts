import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FileSystem, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Connector from "../../src/client/Connector.ts"
import type { Options } from "../../src/client/PoolConfig.ts"
import * as Pool from "../../src/client/Pool.ts"
import * as PoolError from "../../src/model/PoolError.ts"
import * as FaultInjection from "../../src/testing/FaultInjection.ts"
import * as MockPool from "../../src/testing/MockPool.ts"
import * as Recording from "../../src/testing/Recording.ts"
import { start, tagged, text, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const baseUrl = "http://test.local"

/** A pool with faults before a server that is well. */
const faulty = (
  faults: FaultInjection.Options,
  options: Options = {},
  routes: ReadonlyArray<MockPool.Route> = [MockPool.route("*", "/*", MockPool.text("answer"))]
) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      FaultInjection.layer(faults).pipe(Layer.provideMerge(MockPool.layerConnector(routes.map(MockPool.optional))))
    )
    return yield* Effect.gen(function* () {
      const pool = yield* Pool.make({ baseUrl, drainTimeout: 0, ...options })
      return { pool, faults: yield* FaultInjection.FaultInjection, server: yield* MockPool.Server }
    }).pipe(Effect.provideContext(context))
  })

/** How a request ended, in one word. */
const fate = (pool: Pool.Pool) =>
  Effect.map(Effect.exit(text(pool.client.get("/"))), (exit) =>
    Exit.isSuccess(exit) ? (exit.value === "" ? "status" : exit.value) : "failed"
  )

describe("FaultInjection", () => {
  it.effect("without faults changes nothing", () =>
    Effect.gen(function* () {
      const { faults, pool } = yield* faulty({})
      assert.strictEqual(yield* text(pool.client.get("/")), "answer")
      assert.deepStrictEqual(yield* faults.injected, {
        ...{ latency: 0, refuse: 0, silence: 0, reset: 0, cut: 0, status: 0 },
        requests: 1
      })
    })
  )

  it.effect("refuses connections: nothing is sent", () =>
    Effect.gen(function* () {
      const { faults, pool, server } = yield* faulty({ refuse: 1 })
      const error = tagged(yield* Effect.flip(pool.client.post("/")), "ConnectError")
      assert.deepStrictEqual([error.phase, error.sent, (yield* server.sent).length], ["tcp", false, 0])
      assert.strictEqual((yield* faults.injected).refuse, 1)
    })
  )

  it.effect("resets connections when the answer would begin: the server has the request", () =>
    Effect.gen(function* () {
      const { faults, pool, server } = yield* faulty({ reset: 1 })
      const error = tagged(yield* Effect.flip(pool.client.post("/")), "ConnectError")
      assert.deepStrictEqual([error.phase, error.sent, (yield* server.sent).length], ["response", true, 1])
      assert.strictEqual((yield* faults.injected).reset, 1)
      yield* faults.configure({})
      assert.strictEqual(yield* text(pool.client.get("/")), "answer")
    })
  )

  it.effect("cuts bodies in the middle, and spares responses without one", () =>
    Effect.gen(function* () {
      const { faults, pool } = yield* faulty({ cut: 1 }, {}, [
        MockPool.get("/body", MockPool.stream(Stream.make("first half ", "second half"))),
        MockPool.get("/one", MockPool.text("x")),
        MockPool.get("/none", MockPool.status(204))
      ])
      const response = yield* pool.client.get("/body")
      const seen: Array<string> = []
      const error = yield* Effect.flip(
        Stream.runForEach(Stream.decodeText(response.stream), (piece) => Effect.sync(() => seen.push(piece)))
      )
      assert.strictEqual(PoolError.find(error)?._tag, "ConnectError")
      assert.strictEqual(seen.join(""), "first")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(text(pool.client.get("/one")))))
      assert.strictEqual((yield* pool.client.get("/none")).status, 204)
      assert.strictEqual((yield* faults.injected).cut, 2)
    })
  )

  it.effect("answers with a status in the place of the upstream", () =>
    Effect.gen(function* () {
      const { pool, server } = yield* faulty({ status: { status: 502 } })
      const response = yield* pool.client.get("/")
      assert.deepStrictEqual([response.status, yield* response.text, (yield* server.sent).length], [502, "", 0])
    })
  )

  it.effect("is silent: only a time limit of the pool ends it, and the slot is free again", () =>
    Effect.gen(function* () {
      const { faults, pool, server } = yield* faulty({ silence: 1 }, { size: 1, responseHeaderTimeout: "3 seconds" })
      const fiber = yield* start(Effect.flip(pool.client.get("/")))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(tagged(yield* Fiber.join(fiber), "TimeoutError").phase, "headers")
      assert.lengthOf(yield* server.sent, 1)
      yield* faults.configure({})
      assert.strictEqual(yield* text(pool.client.get("/")), "answer")
    })
  )

  it.effect("delays answers on the TestClock, and the pool's limits apply", () =>
    Effect.gen(function* () {
      const { faults, pool, server } = yield* faulty(
        { latency: { min: "2 seconds", max: "2 seconds" } },
        { size: 1, responseHeaderTimeout: "10 seconds" }
      )
      const fiber = yield* start(text(pool.client.get("/")))
      assert.lengthOf(yield* server.sent, 1)
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(fiber), "answer")
      yield* faults.configure({ latency: { min: "1 minute", max: "1 minute" }, status: {} })
      const late = yield* start(Effect.flip(pool.client.get("/")))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(tagged(yield* Fiber.join(late), "TimeoutError").phase, "headers")
      yield* faults.configure({ latency: { min: "1 minute" } })
      const impatient = yield* start(pool.client.get("/"))
      yield* Fiber.interrupt(impatient)
      yield* faults.configure({})
      assert.strictEqual(yield* text(pool.client.get("/")), "answer")
    })
  )

  it.effect("by rate: each share is near what was asked for", () =>
    Effect.gen(function* () {
      const { faults, pool } = yield* faulty(
        { refuse: 0.1, reset: 0.1, cut: 0.1, status: { rate: 0.2 } },
        { ejection: false }
      )
      for (let i = 0; i < 1000; i++) yield* Effect.ignore(text(pool.client.post("/")))
      const { cut, refuse, requests, reset, status } = yield* faults.injected
      assert.strictEqual(requests, 1000)
      for (const count of [refuse, reset, cut, status / 2]) assert.closeTo(count, 100, 35)
    })
  )

  it.effect("by seed: equal seeds meet equal faults, others do not", () =>
    Effect.gen(function* () {
      const run = (seed: number) =>
        Effect.gen(function* () {
          const { pool } = yield* faulty({ seed, reset: 0.3, status: { rate: 0.3 } }, { ejection: false })
          return (yield* Effect.forEach(Array.from({ length: 50 }), () => fate(pool))).join()
        }).pipe(Effect.scoped)
      assert.strictEqual(yield* run(7), yield* run(7))
      assert.notStrictEqual(yield* run(7), yield* run(8))
    })
  )

  it.effect("counts a reset of a used connection twice where the pool sends again", () =>
    Effect.gen(function* () {
      const { faults, pool } = yield* faulty({}, { size: 1 })
      yield* text(pool.client.get("/"))
      yield* faults.configure({ reset: 1 })
      assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "ConnectError")
      assert.strictEqual((yield* faults.injected).reset, 2)
    })
  )

  it.effect("refuses options that make no sense, all at once", () =>
    Effect.gen(function* () {
      const refused = (options: FaultInjection.Options) =>
        Effect.map(Effect.flip(Effect.provide(FaultInjection.make(options), new Wire().layer)), (error) =>
          error.problems.map(({ path }) => path)
        )
      assert.deepStrictEqual(yield* refused({ seed: -1, refuse: 2 }), ["seed", "refuse"])
      assert.deepStrictEqual(yield* refused({ refuse: 0.5, reset: 0.6, latency: { min: 5, max: 1 } }), [
        "refuse",
        "latency.min"
      ])
      const faults = yield* Effect.provide(FaultInjection.make(), new Wire().layer)
      assert.deepStrictEqual(
        (yield* Effect.flip(faults.configure({ cut: -1 }))).problems.map(({ path }) => path),
        ["cut"]
      )
    })
  )

  it.effect("interruption at any moment gives everything back (property)", () =>
    Effect.gen(function* () {
      const { faults, pool } = yield* faulty({}, { size: 2, ejection: false, attemptTimeout: "80 millis" }, [
        MockPool.get("/*", Effect.delay(MockPool.stream(Stream.make("one ", "two")), "5 millis"))
      ])
      // Lehmer's generator, so that a failure can be repeated.
      let seed = 11
      const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below
      for (let i = 0; i < 300; i++) {
        const fates = ["refuse", "silence", "reset", "cut", "status", "none"] as const
        const chosen = fates[random(6)] ?? "none"
        yield* faults.configure({
          latency: { rate: 0.5, max: "40 millis" },
          ...(chosen === "none" ? {} : chosen === "status" ? { status: {} } : { [chosen]: 1 })
        })
        const fiber = yield* Effect.forkChild(text(pool.client.get("/x")), { startImmediately: true })
        for (let turns = random(4); turns > 0; turns--) yield* Effect.yieldNow
        yield* TestClock.adjust(random(60))
        yield* Fiber.interrupt(fiber)
        assert.strictEqual((yield* pool.stats).active, 0)
      }
      yield* faults.configure({})
      for (const { client } of pool.slots) {
        const fiber = yield* start(text(client.get("/x")))
        yield* TestClock.adjust("5 millis")
        assert.strictEqual(yield* Fiber.join(fiber), "one two")
      }
    })
  )

  describe("between two transports", () => {
    /** A wire whose network a test plays, with faults before it. */
    const wired = (faults: FaultInjection.Options, options: Options = {}, wire = new Wire()) =>
      Effect.gen(function* () {
        const injection = yield* Effect.provide(FaultInjection.make(faults), wire.layer)
        const pool = yield* Effect.provide(
          Pool.make({ baseUrl, drainTimeout: 0, size: 1, ...options }),
          Layer.succeed(Connector.Connector, injection.connector)
        )
        return { wire, pool, injection }
      })

    it.effect("a lost connection is aborted below, so that it is not used again", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({ reset: 1 })
        const fiber = yield* start(Effect.exit(pool.client.post("/")))
        wire.at(0).write().head(200)
        yield* Fiber.join(fiber)
        assert.isTrue(wire.at(0).aborted)
      })
    )

    it.effect("a body that comes while its head is held back pauses the connection, and comes after it, whole", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({ latency: { min: 1000, max: 1000 } })
        const fiber = yield* start(text(pool.client.get("/")))
        wire.at(0).write().head(200).data("a")
        assert.isTrue(wire.at(0).paused)
        yield* TestClock.adjust("1 second")
        assert.isFalse(wire.at(0).paused)
        wire.at(0).data("b").end()
        assert.strictEqual(yield* Fiber.join(fiber), "ab")
      })
    )

    it.effect("an interrupted request is taken back below, at any moment", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({ latency: { min: 1000, max: 1000 } })
        const before = yield* start(pool.client.get("/"))
        yield* Fiber.interrupt(before)
        assert.isTrue(wire.at(0).cancelled)
        const held = yield* start(pool.client.get("/"))
        wire.at(1).write().head(200)
        yield* Fiber.interrupt(held)
        assert.isTrue(wire.at(1).aborted)
        const ended = yield* start(pool.client.get("/"))
        wire.at(2).answer("done")
        yield* Fiber.interrupt(ended)
        assert.isFalse(wire.connections[0]?.connected)
        assert.strictEqual((yield* pool.stats).active, 0)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect(
      "a connection that goes on at once when it may keeps the order; one that the pool has paused stays so",
      () =>
        Effect.gen(function* () {
          const { pool, wire } = yield* wired({ latency: { min: 1000, max: 1000 } }, { bodyBufferSize: 1024 })
          const fiber = yield* start(text(pool.client.get("/")))
          const sent = wire.at(0).write().head(200).data("a")
          sent.resume = () => void sent.data("b").end()
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* Fiber.join(fiber), "ab")
          const large = yield* start(pool.client.get("/"))
          wire.at(1).write().head(200).data(new Uint8Array(2048))
          yield* TestClock.adjust("1 second")
          yield* Fiber.join(large)
          assert.isTrue(wire.at(1).paused)
        })
    )

    it.effect("backpressure reaches the connection below", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({}, { bodyBufferSize: 1024 })
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).write().head(200).data(new Uint8Array(2048))
        const { arrayBuffer } = yield* Fiber.join(fiber)
        assert.isTrue(wire.at(0).paused)
        const reader = yield* start(arrayBuffer)
        assert.isFalse(wire.at(0).paused)
        wire.at(0).end()
        assert.strictEqual((yield* Fiber.join(reader)).byteLength, 2048)
      })
    )

    it.effect("a connection that is to be renewed is renewed below", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({}, { maxRequestsPerConnection: 1 })
        wire.onSend = (sent) => void sent.answer("ok")
        yield* text(pool.client.get("/"))
        yield* text(pool.client.get("/"))
        assert.strictEqual(wire.opened, 2)
      })
    )

    it.effect("a refusal that nobody waits for any more is none", () =>
      Effect.gen(function* () {
        const { injection, pool } = yield* wired({ refuse: 1 })
        const fiber = yield* Effect.forkChild(pool.client.get("/"), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        yield* turn
        assert.strictEqual((yield* pool.stats).active, 0)
        assert.isAtMost((yield* injection.injected).refuse, 1)
      })
    )

    it.effect("failures of the connection below stay what they are", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({ silence: 1 })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        wire.at(0).refuse()
        yield* turn
        const silent = fiber.pollUnsafe()
        assert.isUndefined(silent)
        yield* Fiber.interrupt(fiber)
        const other = yield* wired({}, {}, new Wire())
        const failed = yield* start(Effect.flip(other.pool.client.get("/")))
        other.wire.at(0).refuse()
        assert.strictEqual((yield* Fiber.join(failed))._tag, "ConnectError")
        const odd = yield* start(Effect.flip(other.pool.client.post("/")))
        const sent = other.wire.at(1).write()
        sent.exchange.onResponseError(sent, new Error("odd"))
        assert.strictEqual((yield* Fiber.join(odd))._tag, "ConnectError")
      })
    )

    it.effect("asks the transport below whether its connection has just broken", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* wired({})
        const fiber = yield* start(Effect.exit(text(pool.client.get("/"))))
        wire.connections[0]!.hidden = new Error("reset")
        wire.at(0).answer("half")
        assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      })
    )
  })

  describe("with a recording of a pool with policies", () => {
    it.effect("what was recorded under faults has the attempts, and its replay the same calls", () =>
      Effect.gen(function* () {
        let file = ""
        const disk = FileSystem.layerNoop({
          readFileString: () => Effect.succeed(file),
          writeFileString: (_path, data) =>
            Effect.sync(() => {
              file = data
            })
        })
        const options: Options = {
          baseUrl,
          drainTimeout: 0,
          ejection: false,
          retry: { maxRetries: 9, initialDelay: "1 second", multiplier: 1, jitter: "none", budget: false },
          rateLimit: { limit: 1_000, interval: "1 second" },
          circuitBreaker: { consecutiveFailures: Infinity, failureRate: 1 },
          hedge: false
        }
        const server = MockPool.layerConnector([MockPool.route("*", "/*", MockPool.text("answer"))])
        const rough = FaultInjection.layer({ seed: 11, refuse: 0.3, status: { rate: 0.3, status: 503 } })
        /** The answers of twenty calls, and how many attempts they took. */
        const calls = <E, R>(connector: Layer.Layer<Connector.Connector, E, R>) =>
          Effect.scoped(
            Effect.gen(function* () {
              const context = yield* Layer.build(connector)
              const pool = yield* Effect.provideContext(Pool.make(options), context)
              const answers: Array<string> = []
              for (let i = 0; i < 20; i++) {
                const fiber = yield* start(text(pool.client.get(`/${i}`)))
                yield* TestClock.adjust("10 seconds")
                answers.push(yield* Fiber.join(fiber))
              }
              const { requests, retries } = yield* pool.stats
              return { answers, requests, retries }
            })
          )
        const recorded = yield* calls(
          Recording.record({ file: "x.json" }).pipe(Layer.provide([rough.pipe(Layer.provide(server)), disk]))
        )
        assert.deepStrictEqual([...new Set(recorded.answers)], ["answer"])
        assert.isAbove(recorded.retries, 10)
        const parsed: { readonly exchanges: ReadonlyArray<unknown> } = JSON.parse(file)
        assert.strictEqual(parsed.exchanges.length, recorded.requests)
        assert.deepStrictEqual(yield* calls(Recording.replay({ file: "x.json" }).pipe(Layer.provide(disk))), recorded)
      })
    )

    it.effect("an outage opens the circuit, and its end closes it", () =>
      Effect.gen(function* () {
        const { faults, pool } = yield* faulty(
          { refuse: 1 },
          { ejection: false, circuitBreaker: { consecutiveFailures: 3, openFor: "10 seconds" } }
        )
        const tag = Effect.match(pool.client.get("/"), { onFailure: ({ _tag }) => _tag, onSuccess: () => "fine" })
        assert.deepStrictEqual(yield* Effect.all([tag, tag, tag, tag]), [
          "ConnectError",
          "ConnectError",
          "ConnectError",
          "CircuitOpen"
        ])
        yield* faults.configure({})
        assert.strictEqual(yield* tag, "CircuitOpen")
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* tag, "fine")
        assert.strictEqual(yield* tag, "fine")
      })
    )
  })
})
