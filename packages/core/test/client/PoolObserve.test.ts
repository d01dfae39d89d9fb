/** What a pool with policies makes known of itself, and what it keeps to itself. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Metric, Option, Redacted, References, Stream, Tracer } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import * as EventStream from "../../src/client/EventStream.ts"
import type { Pool } from "../../src/client/Pool.ts"
import type { ConfigError } from "../../src/client/PoolConfig.ts"
import type { PoolError } from "../../src/model/PoolError.ts"
import * as ClientMetrics from "../../src/observe/ClientMetrics.ts"
import * as Auth from "../../src/policy/Auth.ts"
import * as Middleware from "../../src/policy/Middleware.ts"
import { onWire, start, turn } from "../fixtures/pools.ts"
import { type Sent, Wire } from "../fixtures/wire.ts"

const origin = "http://test.local"

const script = (...ways: ReadonlyArray<(sent: Sent) => void>): Wire => {
  let next = 0
  return new Wire((sent) => ways[Math.min(next++, ways.length - 1)]?.(sent))
}

const status =
  (code: number, headers: Record<string, string> = {}) =>
  (sent: Sent) =>
    void sent.answer("", code, headers)
const refuse = (sent: Sent) => void sent.refuse()

const quick = { initialDelay: "1 second", multiplier: 1, jitter: "none" } as const

/** A tracer that keeps what it made. */
class Recorder implements Tracer.Tracer {
  readonly spans: Array<Tracer.NativeSpan> = []
  readonly layer = Layer.succeed(Tracer.Tracer, this)
  span(options: ConstructorParameters<typeof Tracer.NativeSpan>[0]): Tracer.Span {
    const span = new Tracer.NativeSpan(options)
    this.spans.push(span)
    return span
  }
}

/** A registry of its own, so that nobody else's metrics are in the way. */
const apart = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

const scrape = PrometheusMetrics.format({ metricNameMapper: ClientMetrics.prometheusNames })

type Get = (pool: Pool) => Effect.Effect<unknown, PoolError>

const lanes: ReadonlyArray<readonly [name: string, get: Get]> = [
  ["the client itself", (pool) => pool.client.get("/users?token=s3cr3t&page=2")],
  [
    "a client that was transformed",
    (pool) => HttpClient.followRedirects(pool.client, 1).get("/users?token=s3cr3t&page=2")
  ],
  ["Effect's client", (pool) => Effect.orDie(pool.httpClient.get("/users?token=s3cr3t&page=2"))],
  ["a stream", (pool) => Stream.runDrain(pool.stream(HttpClientRequest.get("/users?token=s3cr3t&page=2")))]
]

describe("spans of a pool", () => {
  for (const [lane, get] of lanes) {
    it.effect(`auto: a child of the caller's span, sent on as traceparent (${lane})`, () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(200))
        const pool = yield* onWire(wire, { retry: quick })
        const recorder = new Recorder()
        const fiber = yield* start(
          get(pool).pipe(Effect.withSpan("caller"), Effect.provideService(Tracer.Tracer, recorder))
        )
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        const [caller, ...own] = recorder.spans
        const [span] = own
        assert.strictEqual(own.length, 1, "one for the call, whatever attempts it had")
        assert(caller !== undefined && span !== undefined)
        assert.strictEqual(span.kind, "client")
        assert.strictEqual(Option.getOrThrow(span.parent).spanId, caller.spanId)
        assert.strictEqual(span.attributes.get("http.response.status_code"), 200)
        const traceparent = `00-${caller.traceId}-${span.spanId}-01`
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.header("traceparent")),
          [traceparent, traceparent]
        )
      })
    )

    it.effect(`auto: none where nobody can see it (${lane})`, () =>
      Effect.gen(function* () {
        const wire = script(status(200))
        yield* get(yield* onWire(wire))
        assert.isUndefined(wire.at(0).header("traceparent"))
      })
    )

    it.effect(`observe: false has neither spans nor metrics, also with a tracer and inside a span (${lane})`, () =>
      Effect.gen(function* () {
        for (const observe of [false, { spans: false, metrics: false }] as const) {
          const wire = script(status(503), refuse, status(200))
          const pool = yield* onWire(wire, { observe, retry: quick, rateLimit: { limit: 9, interval: "1 second" } })
          const recorder = new Recorder()
          const fiber = yield* start(
            get(pool).pipe(Effect.withSpan("caller"), Effect.provideService(Tracer.Tracer, recorder))
          )
          yield* TestClock.adjust("2 seconds")
          yield* Fiber.join(fiber)
          assert.deepStrictEqual(
            recorder.spans.map(({ name }) => name),
            ["caller"]
          )
          for (const sent of wire.sent) {
            assert.isUndefined(sent.header("traceparent"))
            assert.isUndefined(sent.header("b3"))
          }
          assert.strictEqual((yield* scrape).trim(), "")
          const stats = Option.getOrThrow(yield* pool.hostStats(origin))
          assert.deepInclude(stats, { requests: 3, retries: 1 + 1, latency: undefined, failuresBy: {} })
        }
      }).pipe(apart)
    )
  }

  it.effect("a retried call says how often it was sent again, a failed one what it met", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(script(status(503), refuse, status(200), refuse), {
        retry: { ...quick, maxRetries: 2 }
      })
      const recorder = new Recorder()
      const traced = (effect: Effect.Effect<unknown, PoolError>) =>
        Effect.gen(function* () {
          const fiber = yield* start(Effect.exit(effect.pipe(Effect.provideService(Tracer.Tracer, recorder))))
          yield* TestClock.adjust("2 seconds")
          yield* Fiber.join(fiber)
        })
      yield* traced(pool.client.get("/"))
      yield* traced(pool.client.get("/"))
      const [good, bad] = recorder.spans
      assert.strictEqual(good?.attributes.get("http.request.resend_count"), 2)
      assert.isUndefined(good?.attributes.get("error.type"))
      assert.strictEqual(bad?.attributes.get("http.request.resend_count"), 2)
      assert.strictEqual(bad?.attributes.get("error.type"), "ConnectError")
    })
  )

  it.effect("no span shows a secret", () =>
    Effect.gen(function* () {
      for (const [, get] of lanes) {
        const pool = yield* onWire(script(status(200, { "set-cookie": "s3cr3t" })), {
          headers: { cookie: "s3cr3t", "x-api-key": "s3cr3t" },
          auth: yield* Auth.bearer(Redacted.make("s3cr3t"))
        })
        const recorder = new Recorder()
        yield* get(pool).pipe(Effect.withSpan("caller"), Effect.provideService(Tracer.Tracer, recorder))
        assert.strictEqual(recorder.spans.length, 2)
        assert.include(String(recorder.spans[1]?.attributes.get("url.full")), "page=2")
        for (const span of recorder.spans) assert.notInclude(inspect([...span.attributes]), "s3cr3t")
      }
    })
  )
})

describe("errors of a pool", () => {
  const credentials: ReadonlyArray<readonly [name: string, auth: Effect.Effect<Auth.Auth, ConfigError>]> = [
    ["bearer", Auth.bearer(Redacted.make("s3cr3t"))],
    ["basic", Auth.basic({ username: "s3cr3t", password: Redacted.make("s3cr3t") })],
    ["an API key in the query", Auth.apiKey({ name: "k", value: Redacted.make("s3cr3t"), in: "query" })],
    ["an API key in a header", Auth.apiKey({ name: "x-corp", value: Redacted.make("s3cr3t"), in: "header" })]
  ]
  it.effect.each([...credentials])("show no credentials, however they are printed: %s", ([, auth]) =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => {
        if (sent.path.startsWith("/cut")) sent.write().head(200, { "content-length": "9" }).data("x").lose()
        else if (sent.path.startsWith("/refuse")) sent.refuse()
        else if (sent.path.startsWith("/hang")) sent.write()
        else sent.answer("no JSON", sent.path.startsWith("/bad") ? 500 : 200)
      })
      const pool = yield* onWire(wire, {
        auth: yield* auth,
        headers: { cookie: "s3cr3t" },
        failOnStatus: true,
        attemptTimeout: "1 second",
        circuitBreaker: { consecutiveFailures: 50 }
      })
      const timedOut = yield* start(Effect.flip(pool.client.get("/hang?token=s3cr3t")))
      yield* TestClock.adjust("1 second")
      const fine = yield* pool.client.get("/")
      const shown: ReadonlyArray<unknown> = [
        fine,
        yield* Fiber.join(timedOut),
        yield* Effect.flip(pool.client.get("/refuse?token=s3cr3t")),
        yield* Effect.flip(pool.client.get("/bad?token=s3cr3t")),
        yield* Effect.flip(pool.httpClient.get("/bad?token=s3cr3t")),
        yield* Effect.flip(Effect.flatMap(pool.client.get("/cut?token=s3cr3t"), (_) => _.text)),
        yield* Effect.flip(fine.json),
        pool
      ]
      for (const value of shown) {
        for (const text of [inspect(value, { depth: 20 }), JSON.stringify(value), String(value)]) {
          assert.notInclude(text, "s3cr3t")
          assert.notInclude(text, btoa("s3cr3t:s3cr3t"))
        }
      }
    })
  )
})

describe("logging, in a pool", () => {
  const logged = () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      lines.push(inspect([logLevel, message, fiber.getRef(References.CurrentLogAnnotations)], { depth: 9 }))
    })
    return { lines, layer: Logger.layer([logger]) }
  }

  it.effect("never shows a secret: of the caller, of the pool, of auth, of the response, of a failure", () =>
    Effect.gen(function* () {
      const { layer, lines } = logged()
      const wire = script(status(200, { "set-cookie": "s3cr3t" }), refuse)
      const pool = yield* onWire(wire, {
        retry: { ...quick, maxRetries: 1 },
        headers: { cookie: "s3cr3t" },
        middleware: [Middleware.logging({ headers: true })],
        auth: yield* Auth.apiKey({ name: "key", value: Redacted.make("s3cr3t"), in: "query" })
      })
      const headers = {
        authorization: "Bearer s3cr3t",
        "proxy-authorization": "s3cr3t",
        "x-api-key": "s3cr3t",
        "x-shown": "shown"
      }
      const get = Effect.exit(pool.client.get("/users?token=s3cr3t&page=2", { headers }))
      const fiber = yield* start(
        Effect.andThen(get, get).pipe(Effect.provide(layer), Effect.provideService(References.MinimumLogLevel, "All"))
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.strictEqual(lines.length, 2)
      assert.include(lines[0], "Debug")
      assert.include(lines[0], "page=2")
      assert.include(lines[0], "shown")
      assert.include(lines[1], "Error")
      assert.include(lines[1], "RetryExhausted")
      assert.notInclude(lines.join("\n"), "s3cr3t")
    })
  )
})

describe("metrics of a pool, as Prometheus reads them", () => {
  it.effect("every line, of a pool with all policies and two hosts", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => {
        if (sent.path === "/hang") sent.write()
        else if (sent.path === "/refuse") sent.refuse()
        else if (sent.path === "/lose") sent.write().lose()
        else sent.answer("", Number(sent.path.slice(1)))
      })
      const pool = yield* onWire(wire, {
        name: 'a "b" \\',
        size: 3,
        retry: { ...quick, maxRetries: 1 },
        hedge: { delay: "1 second" },
        rateLimit: { limit: 100, interval: "1 second" },
        circuitBreaker: { consecutiveFailures: 3, openFor: "1 hour" },
        bulkhead: { maxConcurrent: 5 },
        auth: (request) => request
      })
      const all = [
        "/200",
        "/404",
        "/503",
        "http://[::1]:8080/200",
        "http://[::1]:8080/refuse",
        "http://[::1]:8080/lose",
        "http://[::1]:8080/200"
      ]
      for (const url of all) {
        const fiber = yield* start(Effect.exit(pool.client.get(url)))
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(fiber)
      }
      yield* start(Effect.exit(pool.client.get("/hang")))
      const text = yield* scrape
      const types = new Map<string, string>()
      const helps = new Set<string>()
      const seen = new Set<string>()
      const values = new Map<string, number>()
      for (const line of text.trimEnd().split("\n")) {
        const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line)
        if (comment !== null) {
          const [, what, name = "", rest = ""] = comment
          if (what === "HELP") helps.add(name)
          else {
            assert.isFalse(types.has(name), line)
            types.set(name, rest)
          }
          continue
        }
        const sample = /^([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\}) (\S+)$/.exec(line)
        assert(sample !== null, line)
        const [, name = "", labels = "", value] = sample
        assert.isFalse(seen.has(name + labels), `twice: ${line}`)
        seen.add(name + labels)
        assert.isFalse(Number.isNaN(Number(value)), line)
        values.set(name + labels, Number(value))
        assert.include(labels, 'millrace_pool="a \\"b\\" \\\\"')
        const family = [name, name.replace(/_(bucket|sum|count)$/, "")].find((one) => types.has(one))
        assert(family !== undefined, line)
        assert.isTrue(helps.has(family), line)
        const type = types.get(family)
        assert.strictEqual(type === "counter", name.endsWith("_total"), line)
        assert.strictEqual(type === "histogram", name !== family, line)
      }
      // A histogram is cumulative, and its last bucket is its count.
      const buckets = new Map<string, number>()
      for (const [key, value] of values) {
        if (!key.includes("_bucket{")) continue
        const series = key.replace(/,?le="[^"]*"/, "")
        assert.isAtLeast(value, buckets.get(series) ?? 0, key)
        buckets.set(series, value)
      }
      assert.isNotEmpty([...buckets])
      for (const [series, last] of buckets) assert.strictEqual(values.get(series.replace("_bucket{", "_count{")), last)
      for (const name of [
        "http_client_request_duration_seconds",
        "http_client_active_requests",
        "http_client_open_connections",
        "http_client_connection_duration_seconds",
        "millrace_client_slots",
        "millrace_client_waiting",
        "millrace_client_retries_total",
        "millrace_client_connections_opened_total",
        "millrace_client_connections_closed_total",
        "millrace_client_ejections_total",
        "millrace_client_bodies_abandoned_total",
        "millrace_client_breaker_state",
        "millrace_client_limiter_tokens",
        "millrace_client_limiter_waiting"
      ]) {
        assert.isTrue(types.has(name), name)
      }
      const value = (name: string, ...labels: ReadonlyArray<string>) =>
        [...values]
          .filter(([key]) => key.startsWith(`${name}{`) && labels.every((label) => key.includes(label)))
          .map(([, found]) => found)
      const here = 'server_address="test.local"'
      const there = 'server_address="::1",server_port="8080",url_scheme="http"'
      assert.deepStrictEqual(value("http_client_request_duration_seconds_count", here, 'status_code="200"'), [1])
      assert.deepStrictEqual(value("http_client_request_duration_seconds_count", here, 'error_type="404"'), [1])
      assert.deepStrictEqual(value("http_client_request_duration_seconds_count", here, 'error_type="503"'), [2])
      assert.deepStrictEqual(
        value("http_client_request_duration_seconds_count", there, 'error_type="ConnectError"'),
        [3]
      )
      assert.deepStrictEqual(value("http_client_active_requests", here), [1])
      assert.deepStrictEqual(value("millrace_client_retries_total", here), [1])
      assert.deepStrictEqual(value("millrace_client_breaker_state", there, 'breaker_state="open"'), [1])
      assert.deepStrictEqual(value("millrace_client_breaker_state", there, 'breaker_state="closed"'), [0])
      assert.deepStrictEqual(value("millrace_client_breaker_state", there, 'breaker_state="half_open"'), [0])
    }).pipe(apart)
  )
})

describe("hostStats", () => {
  it.effect("each field, of a host whose policies had something to do", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => {
        if (sent.path === "/hang" || sent.path === "/slow") sent.write()
        else if (sent.path === "/refuse") sent.refuse()
        else sent.answer("", Number(sent.path.slice(1)))
      })
      const pool = yield* onWire(wire, {
        size: 2,
        maxWaiting: 0,
        ejection: { failures: 1, base: "1 minute" },
        responseHeaderTimeout: "10 seconds",
        retry: { ...quick, maxRetries: 1 },
        hedge: { delay: "1 second", maxRatio: 1 },
        rateLimit: { limit: 100, interval: "1 day" },
        circuitBreaker: { consecutiveFailures: 4 }
      })
      const stats = Effect.map(pool.hostStats(origin), Option.getOrThrow)
      const get = Effect.fnUntraced(function* (path: string, seconds: number) {
        const fiber = yield* start(Effect.exit(pool.client.get(path)))
        yield* TestClock.adjust(seconds * 1000)
        yield* Fiber.join(fiber)
      })
      yield* get("/200", 0)
      yield* get("/404", 0)
      yield* get("/503", 1)
      assert.deepInclude(yield* stats, { requests: 4, responses: 4, successes: 1, failures: 0, retries: 1, tokens: 96 })
      const slow = yield* start(pool.client.get("/slow"))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* stats, { hedges: 1, active: 2, connectionsActive: 2, connectionsIdle: 0 })
      assert.strictEqual(yield* Effect.map(Effect.flip(pool.client.get("/200")), ({ _tag }) => _tag), "PoolSaturated")
      wire.at(-1).reply()
      yield* Fiber.join(slow)
      assert.deepInclude(yield* stats, { saturated: 1, active: 0, connectionsClosed: 1 })
      yield* pool.configureHost(origin, { retry: false, hedge: false })
      yield* get("/hang", 10)
      yield* get("/refuse", 0)
      const last = yield* stats
      assert.deepInclude(last, {
        requests: 9,
        responses: 5,
        successes: 2,
        failures: 3,
        failuresBy: { PoolSaturated: 1, TimeoutError: 1, ConnectError: 1 },
        timeouts: 1,
        ejections: 1,
        ejected: 1,
        connectionsFailed: 1,
        connectionsOpened: 3,
        connectionsClosed: 3,
        connectionsOpen: 0,
        circuit: "Closed"
      })
      assert.strictEqual(last.latency?.count, 5)
    })
  )
})

describe("Server-Sent Events, in a pool with policies", () => {
  const sse = { "content-type": "text/event-stream" }
  const whole = (text: string) => (sent: Sent) => void sent.write().head(200, sse).data(text).end()

  it.effect("the pool's retry makes the first connection and those that follow, each with the last id", () =>
    Effect.gen(function* () {
      const wire = script(
        status(503),
        whole("id: 1\ndata: a\n\n"),
        status(503),
        whole("id: 2\ndata: b\n\n"),
        (sent) => void sent.write().head(204, {}).end()
      )
      const pool = yield* onWire(wire, {
        size: 1,
        retry: { ...quick, maxRetries: 1 },
        circuitBreaker: true,
        rateLimit: { limit: 100, interval: "1 second" }
      })
      const seen: Array<string> = []
      const fiber = yield* start(
        EventStream.make(pool, HttpClientRequest.get("/events"), { reconnectDelay: "1 second" }).pipe(
          Stream.runForEach(({ data }) => Effect.sync(() => seen.push(data)))
        )
      )
      for (let i = 0; i < 10; i++) yield* Effect.andThen(TestClock.adjust("1 second"), turn)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen, ["a", "b"])
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("last-event-id")),
        [undefined, undefined, "1", "1", "2"]
      )
      assert.deepInclude(yield* pool.stats, { active: 0, retries: 2 })
    })
  )

  it.effect("an open circuit is waited for; a stream is a success for it, though it lasts", () =>
    Effect.gen(function* () {
      const wire = script(
        whole("data: a\n\n"),
        status(503),
        (sent) => void sent.write().head(200, sse).data("data: b\n\n")
      )
      const pool = yield* onWire(wire, { size: 2, circuitBreaker: { consecutiveFailures: 1, openFor: "20 seconds" } })
      const seen: Array<string> = []
      const fiber = yield* start(
        EventStream.make(pool, HttpClientRequest.get("/events"), { reconnectDelay: "1 second" }).pipe(
          Stream.runForEach(({ data }) => Effect.sync(() => seen.push(data)))
        )
      )
      for (let i = 0; i < 10; i++) yield* Effect.andThen(TestClock.adjust("1 second"), turn)
      assert.strictEqual(wire.sent.length, 2)
      const circuit = Effect.map(pool.hostStats(origin), (stats) => Option.getOrThrow(stats).circuit)
      assert.strictEqual(yield* circuit, "Open")
      for (let i = 0; i < 30; i++) yield* Effect.andThen(TestClock.adjust("1 second"), turn)
      assert.deepStrictEqual(seen, ["a", "b"])
      assert.strictEqual(yield* circuit, "Closed")
      yield* Fiber.interrupt(fiber)
    })
  )
})
