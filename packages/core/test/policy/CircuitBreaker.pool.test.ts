import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import type { Options } from "../../src/client/PoolConfig.ts"
import { onFunction, type Request, start } from "../fixtures/pools.ts"

/** A pool whose hosts answer with these statuses, 200 where none is given, and what was sent. */
const pool = (statuses: Record<string, number>, options: Options) => {
  const sent: Array<string> = []
  const respond = (request: Request) => {
    const { host, pathname } = new URL(request.url)
    sent.push(`${host}${pathname}`)
    return pathname === "/never"
      ? Effect.never
      : Effect.succeed(HttpClientResponse.fromWeb(request, new Response(null, { status: statuses[host] ?? 200 })))
  }
  return Effect.map(onFunction(respond, options), (made) => ({ ...made, sent }))
}

const off = { retry: false, rateLimit: false } as const

describe("CircuitBreaker in a pool", () => {
  it.effect("every host has a circuit of its own", () =>
    Effect.gen(function* () {
      const { client } = yield* pool({ "a.local": 503 }, { ...off, circuitBreaker: { consecutiveFailures: 1 } })
      yield* client.get("http://a.local/")
      assert.strictEqual((yield* Effect.flip(client.get("http://a.local/")))._tag, "CircuitOpen")
      assert.strictEqual((yield* client.get("http://b.local/")).status, 200)
    })
  )

  it.effect("attempts count, not calls, and an open circuit is not retried", () =>
    Effect.gen(function* () {
      const { client, sent } = yield* pool(
        { "a.local": 503 },
        {
          retry: { maxRetries: 5, initialDelay: "1 second", jitter: "none" },
          rateLimit: false,
          circuitBreaker: { consecutiveFailures: 3, openFor: "1 hour" }
        }
      )
      const fiber = yield* start(client.get("http://a.local/"))
      yield* TestClock.adjust("10 minutes")
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.deepStrictEqual([error._tag, error.attempts, sent.length], ["CircuitOpen", 3, 3])
    })
  )

  it.effect("an open circuit rejects before the line for tokens", () =>
    Effect.gen(function* () {
      const { client, sent } = yield* pool(
        { "a.local": 503 },
        { retry: false, rateLimit: { limit: 1, interval: "1 hour" }, circuitBreaker: { consecutiveFailures: 1 } }
      )
      yield* client.get("http://a.local/")
      assert.strictEqual((yield* Effect.flip(client.get("http://a.local/")))._tag, "CircuitOpen")
      assert.strictEqual(sent.length, 1)
    })
  )

  it.effect("who waits for a token is no probe: another is admitted meanwhile, and the circuit closes", () =>
    Effect.gen(function* () {
      const statuses: Record<string, number> = { "a.local": 503 }
      const { client } = yield* pool(statuses, {
        retry: false,
        rateLimit: { limit: 1, interval: "1 minute", burst: 1 },
        circuitBreaker: { consecutiveFailures: 1, openFor: "10 seconds" }
      })
      yield* client.get("http://a.local/")
      yield* TestClock.adjust("10 seconds")
      statuses["a.local"] = 200
      const [gone, stays] = [yield* start(client.get("http://a.local/")), yield* start(client.get("http://a.local/"))]
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* Fiber.join(stays)).status, 200)
    })
  )

  it.effect("a pool without a free slot does not trip the circuit", () =>
    Effect.gen(function* () {
      const { client } = yield* pool(
        {},
        {
          ...off,
          size: 1,
          acquireTimeout: "1 second",
          circuitBreaker: { consecutiveFailures: 1 }
        }
      )
      const holder = yield* start(client.get("http://a.local/never"))
      const waiting = yield* start(client.get("http://a.local/"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(waiting)))._tag, "PoolSaturated")
      yield* Fiber.interrupt(holder)
      assert.strictEqual((yield* client.get("http://a.local/")).status, 200)
    })
  )

  it.effect("a probe that is interrupted under way gives its permit back", () =>
    Effect.gen(function* () {
      const statuses: Record<string, number> = { "a.local": 503 }
      const { client } = yield* pool(statuses, {
        ...off,
        circuitBreaker: { consecutiveFailures: 1, openFor: "10 seconds" }
      })
      yield* client.get("http://a.local/")
      yield* TestClock.adjust("10 seconds")
      statuses["a.local"] = 200
      const probe = yield* start(client.get("http://a.local/never"))
      assert.strictEqual((yield* Effect.flip(client.get("http://a.local/")))._tag, "CircuitOpen")
      yield* Fiber.interrupt(probe)
      assert.strictEqual((yield* client.get("http://a.local/")).status, 200)
    })
  )
})

describe("Bulkhead in a pool", () => {
  it.effect("is not starved by aborted waiters, whom it refuses by name beyond its line", () =>
    Effect.gen(function* () {
      const { client, sent } = yield* pool({}, { ...off, bulkhead: { maxConcurrent: 1, maxWaiting: 100 } })
      const holder = yield* start(client.get("http://a.local/never"))
      const aborted = yield* start(
        Effect.all(
          Array.from({ length: 100 }, () => client.get("http://a.local/aborted")),
          { concurrency: "unbounded" }
        )
      )
      const refused = yield* Effect.flip(client.get("http://a.local/"))
      assert.strictEqual(refused._tag === "PoolSaturated" && refused.reason, "bulkhead")
      yield* Fiber.interrupt(aborted)
      const last = yield* start(client.get("http://a.local/last"))
      yield* Fiber.interrupt(holder)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(last)))
      assert.deepStrictEqual(sent, ["a.local/never", "a.local/last"])
    })
  )
})
