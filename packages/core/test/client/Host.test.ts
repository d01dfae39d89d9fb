import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
import type { HostStats } from "../../src/client/Host.ts"
import { onWire, start, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const none: Omit<HostStats, "origin" | "latency"> = {
  requests: 0,
  responses: 0,
  successes: 0,
  failures: 0,
  failuresBy: {},
  retries: 0,
  hedges: 0,
  active: 0,
  waiting: 0,
  timeouts: 0,
  saturated: 0,
  staleRetries: 0,
  abandoned: 0,
  ejections: 0,
  ejected: 0,
  connectionsFailed: 0,
  connectionsOpened: 0,
  connectionsClosed: 0,
  connectionsClosedBy: {},
  connectionsOpen: 0,
  connectionsActive: 0,
  connectionsIdle: 0,
  reuse: 0,
  tokens: undefined,
  circuit: undefined
}

describe("Host", () => {
  it.effect("counts what happens, and how things stand", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* onWire(wire, {
        size: 2,
        maxWaiting: 1,
        responseHeaderTimeout: "1 seconds",
        requestTimeout: "9 seconds"
      })
      const stats = Effect.map(pool.hostStats("http://test.local"), Option.getOrThrow)

      const first = yield* start(pool.client.get("/"))
      yield* start(Effect.exit(pool.client.get("/")))
      const waiting = yield* start(pool.client.get("/"))
      yield* Effect.exit(pool.client.get("/"))
      assert.deepStrictEqual(yield* stats, {
        ...none,
        origin: "http://test.local",
        requests: 4,
        failures: 1,
        saturated: 1,
        active: 2,
        waiting: 1,
        failuresBy: { PoolSaturated: 1 },
        connectionsOpened: 2,
        connectionsOpen: 2,
        connectionsActive: 2,
        latency: undefined
      })

      yield* Fiber.interrupt(waiting)
      wire.at(0).head()
      yield* Fiber.join(first)
      yield* TestClock.adjust("1 seconds")
      wire.at(0).end()
      yield* turn
      assert.deepStrictEqual(yield* stats, {
        ...none,
        origin: "http://test.local",
        requests: 4,
        responses: 1,
        successes: 1,
        failures: 2,
        failuresBy: { PoolSaturated: 1, TimeoutError: 1 },
        saturated: 1,
        timeouts: 1,
        connectionsOpened: 2,
        connectionsClosed: 1,
        connectionsClosedBy: { aborted: 1 },
        connectionsOpen: 1,
        connectionsIdle: 1,
        latency: { count: 1, mean: 0, p50: 0, p90: 0, p99: 0, max: 0 }
      })
    })
  )

  it.effect("counts a response when its status arrives, whatever becomes of its body", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* onWire(wire, { size: 1 })
      const counts = Effect.map(pool.stats, ({ active, failures, responses }) => [responses, failures, active])
      const fiber = yield* start(Effect.exit(Effect.flatMap(pool.client.get("/"), (response) => response.text)))
      wire.at(0).head(103)
      assert.deepStrictEqual(yield* counts, [0, 0, 1])
      wire.at(0).head()
      assert.deepStrictEqual(yield* counts, [1, 0, 1])
      wire.at(0).data("part").lose()
      assert.deepStrictEqual(yield* counts, [1, 1, 0])
      yield* Fiber.join(fiber)
      const interrupted = yield* start(Effect.flatMap(pool.client.get("/"), (response) => response.text))
      wire.at(1).head(500)
      yield* Fiber.interrupt(interrupted)
      assert.deepStrictEqual(yield* counts, [2, 1, 0])
      const whole = yield* start(pool.client.get("/"))
      wire.at(2).reply()
      yield* Fiber.join(whole)
      assert.deepStrictEqual(yield* counts, [3, 1, 0])
    })
  )

  it.effect("adds up over hosts to what the pool says", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => (sent.origin === "http://a.test" ? sent.answer() : sent.refuse()))
      const pool = yield* onWire(wire, { size: 4, name: "sum", ejection: { failures: 1 } })
      for (const origin of ["http://a.test", "http://b.test", "http://a.test", "http://c.test"]) {
        yield* Effect.exit(pool.client.get(origin))
      }
      const { circuit: _circuit, tokens: _tokens, ...counts } = none
      assert.deepStrictEqual(yield* pool.stats, {
        ...counts,
        name: "sum",
        size: 4,
        hosts: 3,
        requests: 4,
        responses: 2,
        successes: 2,
        failures: 2,
        failuresBy: { ConnectError: 2 },
        ejections: 2,
        ejected: 2,
        connectionsFailed: 2,
        connectionsOpened: 2,
        connectionsOpen: 2,
        connectionsIdle: 2,
        reuse: 0.5,
        latency: { count: 2, mean: 0, p50: 0, p90: 0, p99: 0, max: 0 }
      })
    })
  )
})
