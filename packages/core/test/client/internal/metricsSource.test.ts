import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Metric, Scope, Exit } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import { maxObserved } from "../../../src/client/internal/traffic.ts"
import * as ClientMetrics from "../../../src/observe/ClientMetrics.ts"
import { onWire, start } from "../../fixtures/pools.ts"
import { Wire } from "../../fixtures/wire.ts"

/** A registry of its own, so that nobody else's metrics are in the way. */
const apart = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

const scrape = PrometheusMetrics.format({ metricNameMapper: ClientMetrics.prometheusNames })

/** The values of a metric by what is in its braces. */
const series = (text: string, name: string): ReadonlyArray<string> =>
  text.split("\n").filter((line) => line.startsWith(`${name}{`))

const host = 'server_address="test.local",server_port="80",url_scheme="http"'

describe("metricsSource", () => {
  it.effect("shows what a host does, as it stands when it is asked", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => (sent.path === "/hang" ? sent.write() : sent.answer("", 503)))
      const pool = yield* onWire(wire, {
        name: "api",
        size: 3,
        retry: { maxRetries: 1, initialDelay: "1 second", jitter: "none" },
        rateLimit: { limit: 10, interval: "1 hour" },
        circuitBreaker: { consecutiveFailures: 2 }
      })
      const fiber = yield* start(Effect.exit(pool.client.get("/")))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      const text = yield* scrape
      const value = (name: string, extra = "") =>
        series(text, name)
          .filter((line) => line.includes(host) && line.includes('millrace_pool="api"') && line.includes(extra))
          .map((line) => Number(line.split(" ").at(-1)))
      assert.deepStrictEqual(value("http_client_request_duration_seconds_count", 'status_code="503"'), [2])
      assert.deepStrictEqual(value("millrace_client_retries_total"), [1])
      assert.deepStrictEqual(value("http_client_open_connections", 'state="idle"'), [2])
      assert.deepStrictEqual(value("millrace_client_breaker_state", 'state="open"'), [1])
      assert.deepStrictEqual(value("millrace_client_breaker_state", 'state="closed"'), [0])
      assert.deepStrictEqual(value("millrace_client_limiter_tokens"), [8])
      assert.deepStrictEqual(
        series(text, "millrace_client_slots").map((line) => Number(line.split(" ").at(-1))),
        [3, 0, 0]
      )
    }).pipe(apart)
  )

  it.effect("counts busy and ejected slots", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => (sent.path === "/hang" ? sent.write() : sent.refuse()))
      const pool = yield* onWire(wire, { size: 4, ejection: { failures: 1 } })
      yield* start(Effect.exit(pool.client.get("/hang")))
      yield* Effect.exit(pool.client.get("/"))
      const text = yield* scrape
      const slots = Object.fromEntries(
        series(text, "millrace_client_slots").map((line) => [
          /slot_state="(\w+)"/.exec(line)?.[1],
          Number(line.split(" ").at(-1))
        ])
      )
      assert.deepStrictEqual(slots, { free: 2, busy: 1, ejected: 1 })
    }).pipe(apart)
  )

  it.effect("has series of at most a hundred hosts, and gives room when one is evicted", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.answer("ok"))
      const pool = yield* onWire(wire, { baseUrl: undefined, maxHosts: maxObserved + 1 })
      for (let i = 0; i <= maxObserved; i++) yield* pool.client.get(`http://h${i}.test/`)
      const shown = Effect.map(scrape, (text) => series(text, "http_client_active_requests"))
      assert.strictEqual((yield* shown).length, maxObserved)
      assert.isFalse((yield* shown).some((line) => line.includes(`"h${maxObserved}.test"`)))
      yield* pool.client.get("http://new.test/")
      assert.isFalse(
        (yield* shown).some((line) => line.includes('"h0.test"')),
        "the evicted one is gone"
      )
      assert.isTrue((yield* shown).some((line) => line.includes('"new.test"')))
      assert.strictEqual((yield* shown).length, maxObserved)
    }).pipe(apart)
  )

  it.effect("is gone with the pool", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const pool = yield* Scope.provide(onWire(new Wire((sent) => sent.answer("ok"))), scope)
      yield* pool.client.get("/")
      assert.notStrictEqual(yield* scrape, "")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* scrape).trim(), "")
    }).pipe(apart)
  )

  it.effect("`observe: false` shows nothing, and counts no durations", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(new Wire((sent) => sent.answer("ok")), { observe: false })
      yield* pool.client.get("/")
      assert.strictEqual((yield* scrape).trim(), "")
      assert.isUndefined((yield* pool.stats).latency)
    }).pipe(apart)
  )
})
