/** What the design says of policies, through the options of a pool: each sentence where a user meets it. */
import { assert, describe, it, vi } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Redacted, Schedule, Schema, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import { getEventListeners } from "node:events"
import type { Pool } from "../../src/client/Pool.ts"
import type { HostConfig, Options } from "../../src/client/PoolConfig.ts"
import type { PoolEvent } from "../../src/client/PoolEvent.ts"
import type { PoolError } from "../../src/model/PoolError.ts"
import * as Middleware from "../../src/policy/Middleware.ts"
import { onWire, start, tagged, turn } from "../fixtures/pools.ts"
import { type Sent, Wire } from "../fixtures/wire.ts"

const origin = "http://test.local"

/** Answers one request after the other, each in its way; the last way holds for all that follow. */
const script = (...ways: ReadonlyArray<(sent: Sent) => void>): Wire => {
  let next = 0
  return new Wire((sent) => ways[Math.min(next++, ways.length - 1)]?.(sent))
}

const status =
  (code: number, headers: Record<string, string> = {}) =>
  (sent: Sent) =>
    void sent.answer("", code, headers)
const refuse = (sent: Sent) => void sent.refuse()
const silence = (sent: Sent) => void sent.write()

const quick = { initialDelay: "1 second", multiplier: 1, jitter: "none" } as const

const statsOf = (pool: Pool) => Effect.map(pool.hostStats(origin), Option.getOrThrow)

/** Writes down what happens in a pool. */
const eventsOf = Effect.fnUntraced(function* (pool: Pool) {
  const events: Array<PoolEvent> = []
  yield* start(Stream.runForEach(pool.events, (event) => Effect.sync(() => events.push(event))))
  return events
})

/** How a request ended, in one word. */
const fate = (pool: Pool, url = "/"): Effect.Effect<string | number> =>
  Effect.match(pool.client.get(url), { onFailure: (error: PoolError) => error._tag, onSuccess: (_) => _.status })

/** A request after which all that it causes without time has happened. */
const soon = <A, E>(effect: Effect.Effect<A, E>) => Effect.flatMap(start(effect), Fiber.join)

describe("retry, in a pool", () => {
  const at = (millis: number) => new Date(millis).toUTCString()
  const forms: ReadonlyArray<readonly [what: string, value: string, wait: number]> = [
    ["seconds, longer than the backoff", "5", 5_000],
    ["seconds, longer than maxDelay", "50", 50_000],
    ["0", "0", 1_000],
    ["negative", "-3", 1_000],
    ["an HTTP-date ahead", at(7_000), 7_000],
    ["an HTTP-date in the past", at(-7_000), 1_000],
    ["garbage", "soon", 1_000],
    ["ten years ahead, in seconds", "315360000", 60_000],
    ["ten years ahead, as an HTTP-date", at(315_360_000_000), 60_000]
  ]
  for (const code of [429, 503]) {
    it.effect.each([...forms])(`Retry-After of a ${code}: %s`, ([, value, wait]) =>
      Effect.gen(function* () {
        const wire = script(status(code, { "retry-after": value }), status(200))
        const pool = yield* onWire(wire, { retry: quick })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust(wait - 1)
        assert.strictEqual(wire.sent.length, 1)
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      })
    )
  }

  it.effect("a Retry-After that would pass requestTimeout ends the call at once, and says so", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => void sent.answer("later", 503, { "retry-after": "30" }))
      const options = { requestTimeout: "10 seconds", retry: quick } as const
      const response = yield* soon((yield* onWire(wire, options)).client.get("/"))
      assert.deepStrictEqual([response.status, yield* response.text], [503, "later"])
      const strict = yield* onWire(wire, { ...options, failOnStatus: true })
      const error = tagged(yield* soon(Effect.flip(strict.client.get("/"))), "RetryExhausted")
      assert.strictEqual(error.reason, "deadline")
      assert.include(error.message, "requestTimeout")
      assert.strictEqual(wire.sent.length, 2)
    })
  )

  it.effect("a POST that may have been sent is not sent again; one that was not is", () =>
    Effect.gen(function* () {
      const answered = script(status(503))
      assert.strictEqual((yield* soon((yield* onWire(answered, { retry: quick })).client.post("/"))).status, 503)
      assert.strictEqual(answered.sent.length, 1)
      const refused = script(refuse, status(200))
      const fiber = yield* start((yield* onWire(refused, { retry: quick })).client.post("/"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
    })
  )

  it.effect("a POST is sent again with one idempotency key for all its attempts, which middleware may give", () =>
    Effect.gen(function* () {
      const wire = script(status(503), status(503), status(200))
      const pool = yield* onWire(wire, { retry: quick, middleware: [Middleware.idempotencyKey()] })
      const fiber = yield* start(pool.client.post("/"))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      const keys = wire.sent.map((sent) => sent.header("idempotency-key"))
      assert.match(String(keys[0]), /^[0-9a-f-]{36}$/)
      assert.deepStrictEqual(keys, [keys[0], keys[0], keys[0]])
    })
  )

  it.effect("a POST is sent again when the caller opts in, body and all", () =>
    Effect.gen(function* () {
      const wire = script(status(503), status(200))
      const pool = yield* onWire(wire, { retry: { ...quick, retryNonIdempotent: true } })
      const request = HttpClientRequest.post("/").pipe(HttpClientRequest.bodyText("order"))
      const fiber = yield* start(pool.client.execute(request))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      assert.deepStrictEqual(
        wire.sent.map(({ exchange }) => exchange.body),
        [request.body, request.body]
      )
    })
  )

  it.effect("a stream body is not replayed: whatever the method, the key, and what it met", () =>
    Effect.gen(function* () {
      for (const way of [status(503), refuse]) {
        for (const options of [quick, { ...quick, retryNonIdempotent: true, while: () => true }]) {
          const wire = script(way)
          const pool = yield* onWire(wire, { retry: options })
          const request = HttpClientRequest.put("/").pipe(
            HttpClientRequest.setHeader("idempotency-key", "k"),
            HttpClientRequest.bodyStream(Stream.make(new Uint8Array(1)))
          )
          yield* start(Effect.exit(pool.client.execute(request)))
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(wire.sent.length, 1)
        }
      }
    })
  )

  it.effect("onRetry is told the attempt, its cause and the delay, by which a schedule or a server may rule", () =>
    Effect.gen(function* () {
      const told: Array<readonly [number, string, number]> = []
      const wire = script(status(503, { "retry-after": "4" }), refuse, status(200))
      const pool = yield* onWire(wire, {
        retry: {
          ...quick,
          onRetry: ({ attempt, cause, delay }) => {
            const what = cause._tag === "Response" ? String(cause.response.status) : cause._tag
            told.push([attempt, what, Duration.toMillis(delay)])
          }
        }
      })
      const fiber = yield* start(pool.client.get("/"))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(told, [
        [1, "503", 4_000],
        [2, "Failure", 1_000]
      ])
    })
  )

  /** What one attempt may meet, and whether it is worth another. */
  const meets = {
    good: [status(200), false],
    missing: [status(404), false],
    busy: [status(429), true],
    down: [status(503), true],
    refused: [refuse, true],
    lost: [(sent: Sent) => void sent.write().lose(), true],
    silent: [silence, true]
  } as const
  const kinds = Schema.Literals(["good", "missing", "busy", "down", "refused", "lost", "silent"])

  it.effect.prop(
    "law: attempts are as many as are needed, and never more than maxRetries + 1, whatever mix occurs",
    { met: Schema.Array(kinds), maxRetries: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 })) },
    ({ maxRetries, met }) =>
      Effect.gen(function* () {
        const all = [...met, "good" as const]
        const wire = new Wire((sent) => meets[all[Math.min(wire.sent.length, all.length) - 1] ?? "good"][0](sent))
        const pool = yield* onWire(wire, {
          ejection: false,
          attemptTimeout: "1 second",
          requestTimeout: "1 hour",
          retry: { ...quick, maxRetries, retryNonIdempotent: true, budget: false }
        })
        const fiber = yield* start(Effect.exit(pool.client.post("/")))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(fiber)
        const needed = all.findIndex((kind) => !meets[kind][1]) + 1
        assert.strictEqual(wire.sent.length, Math.min(needed, maxRetries + 1))
        assert.deepInclude(yield* pool.stats, { requests: wire.sent.length, active: 0, waiting: 0 })
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 100 } }
  )

  it.effect("the budget of a host: when it is spent the first failure is returned at once, of no other host", () =>
    Effect.gen(function* () {
      const wire = script(status(503))
      const budget = { ratio: 0, minPerSecond: 0.2, window: "10 seconds" } as const
      const pool = yield* onWire(wire, { retry: { ...quick, initialDelay: 1, maxRetries: 5, budget } })
      const one = yield* start(pool.client.get("/"))
      yield* TestClock.adjust(10)
      assert.strictEqual((yield* Fiber.join(one)).status, 503)
      assert.strictEqual(wire.sent.length, 3)
      yield* soon(pool.client.get("/"))
      assert.strictEqual(wire.sent.length, 4)
      const other = yield* start(pool.client.get("http://other.test/"))
      yield* TestClock.adjust(10)
      yield* Fiber.join(other)
      assert.strictEqual(wire.sent.length, 7)
    })
  )

  it.effect("by default retries are a fifth of the requests and ten a second, over ten seconds", () =>
    Effect.gen(function* () {
      const wire = script(status(503))
      const pool = yield* onWire(wire, { size: 16, retry: { maxRetries: 1, initialDelay: 1, jitter: "none" } })
      for (let i = 0; i < 100; i++) yield* Effect.forkChild(pool.client.get("/"), { startImmediately: true })
      yield* TestClock.adjust(10)
      yield* turn
      assert.strictEqual((yield* pool.stats).retries, 100, "the reserve: ten a second over ten seconds")
      for (let i = 0; i < 100; i++) yield* Effect.forkChild(pool.client.get("/"), { startImmediately: true })
      yield* TestClock.adjust(10)
      yield* turn
      assert.strictEqual((yield* pool.stats).retries, 140, "a fifth of the two hundred")
    })
  )

  it.effect("RateLimitExceeded, PoolSaturated and CircuitOpen end a call at once", () =>
    Effect.gen(function* () {
      const limited = yield* onWire(script(status(200)), {
        retry: quick,
        rateLimit: { limit: 1, interval: "1 hour", maxWait: 0 }
      })
      yield* limited.client.get("/")
      assert.strictEqual(yield* soon(fate(limited)), "RateLimitExceeded")
      const full = yield* onWire(script(silence), { retry: quick, size: 1, maxWaiting: 0 })
      yield* start(Effect.exit(full.client.get("/")))
      assert.strictEqual(yield* soon(fate(full)), "PoolSaturated")
      const wire = script(status(404))
      const open = yield* onWire(wire, { retry: { ...quick, while: () => true }, circuitBreaker: true })
      yield* start(open.client.get("/missing"))
      const policies = Option.getOrThrow(yield* open.hostPolicies(origin))
      yield* policies.circuitBreaker?.isolate ?? Effect.void
      assert.strictEqual(yield* soon(fate(open)), "CircuitOpen")
    })
  )
})

describe("rate limit, in a pool", () => {
  const slow = { limit: 100, interval: "1 second" } as const

  const pauses: ReadonlyArray<readonly [what: string, code: number, headers: Record<string, string>]> = [
    ["429 with Retry-After", 429, { "retry-after": "30" }],
    ["429 with Retry-After as a date", 429, { "retry-after": new Date(30_000).toUTCString() }],
    ["RateLimit", 200, { ratelimit: '"default";r=0;t=30' }],
    ["RateLimit-*", 200, { "ratelimit-remaining": "0", "ratelimit-reset": "30" }],
    ["X-RateLimit-*", 200, { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30" }]
  ]
  for (const failOnStatus of [false, true]) {
    it.effect.each([...pauses])(`%s pauses the bucket (failOnStatus: ${failOnStatus})`, ([, code, headers]) =>
      Effect.gen(function* () {
        const wire = script(status(code, headers), status(200))
        const pool = yield* onWire(wire, { rateLimit: slow, failOnStatus })
        const events = yield* eventsOf(pool)
        yield* Effect.exit(pool.client.get("/"))
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust(29_999)
        assert.strictEqual(wire.sent.length, 1)
        assert.deepInclude(events, { _tag: "Paused", origin, millis: 30_000 })
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      })
    )
  }

  it.effect("a pause holds for retries, too, and for this host only", () =>
    Effect.gen(function* () {
      const wire = script(status(429, { "retry-after": "30" }), status(200))
      const pool = yield* onWire(wire, { rateLimit: slow, retry: { ...quick, maxRetryAfter: "1 second" } })
      const fiber = yield* start(pool.client.get("/"))
      assert.strictEqual((yield* soon(pool.client.get("http://other.test/"))).status, 200)
      yield* TestClock.adjust(29_999)
      assert.strictEqual(wire.sent.length, 2)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
    })
  )

  it.effect("`respectHeaders: false` does not hear a server", () =>
    Effect.gen(function* () {
      const wire = script(status(429, { "retry-after": "30" }), status(200))
      const pool = yield* onWire(wire, { rateLimit: { ...slow, respectHeaders: false } })
      yield* pool.client.get("/")
      assert.strictEqual((yield* soon(pool.client.get("/"))).status, 200)
    })
  )

  it.effect("maxWait and maxQueue refuse at once, and say when it would be", () =>
    Effect.gen(function* () {
      const limit = { limit: 1, interval: "10 seconds" } as const
      for (const [options, retryAfter] of [
        [{ ...limit, maxWait: "9 seconds" }, 10_000],
        [{ ...limit, maxQueue: 0 }, 10_000]
      ] as const) {
        const pool = yield* onWire(script(status(200)), { rateLimit: options })
        yield* pool.client.get("/")
        const error = tagged(yield* soon(Effect.flip(pool.client.get("/"))), "RateLimitExceeded")
        assert.strictEqual(Duration.toMillis(error.retryAfter), retryAfter)
      }
    })
  )

  it.effect("a cost by request; one above the burst is an error, not an eternal wait", () =>
    Effect.gen(function* () {
      const wire = script(status(200))
      const pool = yield* onWire(wire, {
        rateLimit: { limit: 10, interval: "1 hour", cost: (request) => Number(request.headers["x-cost"]) }
      })
      const get = (cost: number) => pool.client.get("/", { headers: { "x-cost": String(cost) } })
      yield* get(4)
      assert.strictEqual((yield* statsOf(pool)).tokens, 6)
      assert.strictEqual((yield* soon(Effect.flip(get(11))))._tag, "RateLimitExceeded")
    })
  )

  it.effect("waiters go one by one, in their order; an interrupted one gives its place back", () =>
    Effect.gen(function* () {
      const wire = script(status(200))
      const pool = yield* onWire(wire, { rateLimit: { limit: 1, interval: "1 second" } })
      yield* pool.client.get("/")
      yield* start(pool.client.get("/a"))
      const gone = yield* start(pool.client.get("/gone"))
      yield* start(pool.client.get("/b"))
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(wire.paths, ["/", "/a"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(wire.paths, ["/", "/a", "/b"])
    })
  )

  it.effect("an attempt that never had a slot gives its token back", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(script(silence), {
        size: 1,
        maxWaiting: 1,
        rateLimit: { limit: 10, interval: "1 hour" }
      })
      yield* start(Effect.exit(pool.client.get("/")))
      const waiting = yield* start(pool.client.get("/"))
      assert.strictEqual(yield* soon(fate(pool)), "PoolSaturated")
      yield* Fiber.interrupt(waiting)
      assert.strictEqual((yield* statsOf(pool)).tokens, 9)
    })
  )

  it.effect("an attempt that a later policy keeps back gives its token back: refused, or interrupted there", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(script(silence), {
        rateLimit: { limit: 10, interval: "1 hour" },
        bulkhead: { maxConcurrent: 1, maxWaiting: 1 }
      })
      yield* start(Effect.exit(pool.client.get("/")))
      const waiting = yield* start(Effect.exit(pool.client.get("/")))
      assert.strictEqual(yield* soon(fate(pool)), "PoolSaturated")
      assert.strictEqual((yield* statsOf(pool)).tokens, 8)
      yield* Fiber.interrupt(waiting)
      assert.strictEqual((yield* statsOf(pool)).tokens, 9)
    })
  )

  it.effect.each(["tokenBucket", "slidingWindow", "slidingCounter"] as const)(
    "%s: attempts beyond it wait",
    (algorithm) =>
      Effect.gen(function* () {
        const wire = script(status(200))
        const pool = yield* onWire(wire, { rateLimit: { limit: 3, interval: "1 minute", algorithm } })
        for (let i = 0; i < 4; i++) yield* start(pool.client.get("/"))
        assert.strictEqual(wire.sent.length, 3)
        yield* TestClock.adjust("2 minutes")
        assert.strictEqual(wire.sent.length, 4)
      })
  )
})

describe("circuit breaker, in a pool", () => {
  it.effect("its changes are events", () =>
    Effect.gen(function* () {
      const wire = script(status(500), status(200))
      const pool = yield* onWire(wire, { circuitBreaker: { consecutiveFailures: 1, openFor: "1 second" } })
      const events = yield* eventsOf(pool)
      yield* pool.client.get("/")
      yield* TestClock.adjust("1 second")
      yield* soon(pool.client.get("/"))
      assert.deepStrictEqual(
        events.filter(({ _tag }) => _tag === "Circuit"),
        [
          { _tag: "Circuit", origin, from: "Closed", to: "Open" },
          { _tag: "Circuit", origin, from: "Open", to: "HalfOpen" },
          { _tag: "Circuit", origin, from: "HalfOpen", to: "Closed" }
        ]
      )
    })
  )

  it.effect("slow calls trip it, by the time to the head of the response", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => (sent.path === "/slow" ? sent.write() : sent.answer()))
      const pool = yield* onWire(wire, {
        circuitBreaker: { slowCallRate: 0.5, slowCallDuration: "1 second", minimumCalls: 2, windowCalls: 2 }
      })
      yield* pool.client.get("/")
      const fiber = yield* start(pool.client.get("/slow"))
      yield* TestClock.adjust("1 second")
      wire.at(1).reply()
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      assert.strictEqual(yield* fate(pool), "CircuitOpen")
    })
  )

  it.effect("a failure rate trips it, over a window by count or by time, from a minimum of calls on", () =>
    Effect.gen(function* () {
      for (const window of [{ windowCalls: 4 }, { windowDuration: "1 minute" }]) {
        const wire = new Wire((sent) => void sent.answer("", wire.sent.length % 2 === 0 ? 500 : 200))
        const pool = yield* onWire(wire, {
          circuitBreaker: { ...window, consecutiveFailures: Infinity, failureRate: 0.5, minimumCalls: 4 }
        } as Options)
        const fates = []
        for (let i = 0; i < 5; i++) fates.push(yield* fate(pool))
        assert.deepStrictEqual(fates, [200, 500, 200, 500, "CircuitOpen"])
      }
    })
  )

  it.effect("openFor may grow by a Schedule, and begins anew after it has closed", () =>
    Effect.gen(function* () {
      let code = 500
      const wire = new Wire((sent) => void sent.answer("", code))
      const pool = yield* onWire(wire, {
        circuitBreaker: { consecutiveFailures: 1, openFor: Schedule.exponential("1 second") }
      })
      const openFor = Effect.gen(function* () {
        const error = tagged(yield* Effect.flip(pool.client.get("/")), "CircuitOpen")
        return Duration.toMillis(error.retryAfter)
      })
      for (const seconds of [1, 2, 4]) {
        assert.strictEqual(yield* fate(pool), 500)
        assert.strictEqual(yield* openFor, seconds * 1000)
        yield* TestClock.adjust(seconds * 1000)
      }
      code = 200
      assert.strictEqual(yield* fate(pool), 200)
      code = 500
      assert.strictEqual(yield* fate(pool), 500)
      assert.strictEqual(yield* openFor, 1000)
    })
  )

  it.effect("half-open admits halfOpenMax probes, closes after as many successes, and opens on one failure", () =>
    Effect.gen(function* () {
      const wire = script(status(500), silence)
      const pool = yield* onWire(wire, {
        circuitBreaker: { consecutiveFailures: 1, openFor: "1 second", halfOpenMax: 2 }
      })
      yield* pool.client.get("/")
      yield* TestClock.adjust("1 second")
      for (let i = 0; i < 2; i++) yield* start(Effect.exit(pool.client.get("/")))
      assert.strictEqual(yield* fate(pool), "CircuitOpen")
      wire.at(1).reply()
      yield* turn
      assert.strictEqual((yield* statsOf(pool)).circuit, "HalfOpen")
      wire.at(2).reply("", 500)
      yield* turn
      assert.strictEqual((yield* statsOf(pool)).circuit, "Open")
    })
  )

  const ways: ReadonlyArray<readonly [what: string, trips: boolean, way: (sent: Sent) => void]> = [
    ["408", true, status(408)],
    ["500", true, status(500)],
    ["599", true, status(599)],
    ["a connection that cannot be made", true, refuse],
    ["a connection that breaks", true, (sent) => void sent.write().lose()],
    ["a timeout of the attempt", true, silence],
    ["404", false, status(404)],
    ["429", false, status(429)],
    ["302", false, status(302)]
  ]
  for (const failOnStatus of [false, true]) {
    it.effect.each([...ways])(`what counts (failOnStatus: ${failOnStatus}): %s`, ([, trips, way]) =>
      Effect.gen(function* () {
        const pool = yield* onWire(script(way), {
          failOnStatus,
          ejection: false,
          attemptTimeout: "1 second",
          circuitBreaker: { consecutiveFailures: 2 }
        })
        for (let i = 0; i < 2; i++) {
          yield* start(Effect.exit(pool.client.post("/")))
          yield* TestClock.adjust("1 second")
        }
        assert.strictEqual((yield* statsOf(pool)).circuit, trips ? "Open" : "Closed")
      })
    )
  }

  it.effect("429 neither fails nor succeeds; a 404 succeeds", () =>
    Effect.gen(function* () {
      for (const [code, state] of [
        [429, "Open"],
        [404, "Closed"]
      ] as const) {
        const pool = yield* onWire(script(status(500), status(code), status(500)), {
          circuitBreaker: { consecutiveFailures: 2 }
        })
        for (let i = 0; i < 3; i++) yield* pool.client.get("/")
        assert.strictEqual((yield* statsOf(pool)).circuit, state)
      }
    })
  )

  it.effect("a predicate replaces what counts", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(script(status(404)), {
        circuitBreaker: {
          consecutiveFailures: 1,
          isFailure: (outcome) => outcome._tag === "Response" && outcome.response.status === 404
        }
      })
      yield* pool.client.get("/")
      assert.strictEqual(yield* fate(pool), "CircuitOpen")
    })
  )

  it.effect("what never had a slot trips nothing: requestTimeout and acquireTimeout in the pool's line", () =>
    Effect.gen(function* () {
      for (const [options, tag] of [
        [{ requestTimeout: "1 second" }, "TimeoutError"],
        [{ acquireTimeout: "1 second" }, "PoolSaturated"]
      ] as const) {
        const wire = new Wire((sent) => void sent.write().head(200).data("on and on"))
        const pool = yield* onWire(wire, { size: 1, circuitBreaker: { consecutiveFailures: 1 }, ...options })
        yield* start(Stream.runDrain(pool.stream(HttpClientRequest.get("/"))))
        const waiting = yield* start(fate(pool))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(waiting), tag)
        assert.strictEqual((yield* statsOf(pool)).circuit, "Closed")
      }
    })
  )

  it.effect("a retry whose time is up while it waits for a slot says nothing about the server", () =>
    Effect.gen(function* () {
      const wire = script(status(429), silence)
      const pool = yield* onWire(wire, {
        size: 1,
        requestTimeout: "5 seconds",
        retry: { initialDelay: "1 second", jitter: "none" },
        circuitBreaker: { consecutiveFailures: 1 }
      })
      const retried = yield* start(fate(pool))
      yield* TestClock.adjust("500 millis")
      yield* start(Effect.exit(pool.client.get("/hang")))
      yield* TestClock.adjust("4500 millis")
      assert.strictEqual(yield* Fiber.join(retried), "TimeoutError")
      assert.strictEqual((yield* statsOf(pool)).circuit, "Closed")
      assert.strictEqual(wire.sent.length, 2, "the retry never had the slot")
    })
  )

  it.effect("no hedge is sent while the first attempt has no slot yet", () =>
    Effect.gen(function* () {
      const wire = script(silence)
      const pool = yield* onWire(wire, { size: 1, hedge: { delay: "100 millis", maxRatio: 1 } })
      yield* start(Effect.exit(pool.client.post("/hold")))
      yield* start(Effect.exit(pool.client.get("/waits")))
      yield* TestClock.adjust("1 second")
      const { hedges, waiting } = yield* pool.stats
      assert.deepStrictEqual([hedges, waiting], [0, 1])
    })
  )

  it.effect("a probe that finds no slot, or is interrupted while it waits for one, leaves it able to close", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => {
        if (sent.path === "/hang") sent.write()
        else sent.answer("", sent.path === "/bad" ? 500 : 200)
      })
      const pool = yield* onWire(wire, {
        size: 1,
        acquireTimeout: "1 second",
        circuitBreaker: { consecutiveFailures: 1, openFor: "1 second" }
      })
      const slow = yield* start(Effect.exit(pool.client.get("/hang")))
      const bad = yield* start(pool.client.get("/bad"))
      const { circuitBreaker } = Option.getOrThrow(yield* pool.hostPolicies(origin))
      assert(circuitBreaker !== undefined)
      yield* Fiber.interrupt(slow)
      yield* Fiber.join(bad)
      yield* TestClock.adjust("1 second")
      const holder = yield* start(Effect.exit(pool.slots[0]?.client.get("/hang") ?? Effect.void))
      assert.strictEqual((yield* circuitBreaker.state)._tag, "HalfOpen")
      yield* Fiber.interrupt(holder)
      assert.strictEqual(yield* fate(pool), 200)
      assert.strictEqual((yield* circuitBreaker.state)._tag, "Closed")
    })
  )
})

describe("hedge, in a pool", () => {
  it.effect(
    "by a learned percentile: after as long as the slowest of most, on another slot; the loser is aborted",
    () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void sent.write())
        const pool = yield* onWire(wire, { size: 2, hedge: { percentile: 0.9, minSamples: 10, maxRatio: 1 } })
        const events = yield* eventsOf(pool)
        for (let i = 0; i < 10; i++) {
          const fiber = yield* start(pool.client.get("/"))
          yield* TestClock.adjust(20)
          wire.at(-1).reply()
          yield* Fiber.join(fiber)
        }
        assert.strictEqual(wire.sent.length, 10, "nothing is hedged before minSamples are known")
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust(19)
        assert.strictEqual(wire.sent.length, 11)
        yield* TestClock.adjust(3)
        assert.strictEqual(wire.sent.length, 12)
        wire.at(-1).reply()
        yield* Fiber.join(fiber)
        assert.notStrictEqual(wire.at(10).slot, wire.at(11).slot)
        assert.isTrue(wire.at(10).aborted)
        assert.strictEqual(events.filter(({ _tag }) => _tag === "Hedged").length, 1)
      })
  )

  it.effect("both attempts spend tokens and carry credentials", () =>
    Effect.gen(function* () {
      const wire = script(silence, status(200))
      const pool = yield* onWire(wire, {
        hedge: { delay: "1 second", maxRatio: 1 },
        rateLimit: { limit: 10, interval: "1 hour" },
        auth: (request) => HttpClientRequest.setHeader(request, "authorization", "mine")
      })
      const fiber = yield* start(pool.client.get("/"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.strictEqual(Math.floor((yield* statsOf(pool)).tokens ?? 0), 8)
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("authorization")),
        ["mine", "mine"]
      )
    })
  )
})

describe("timeouts, in a pool", () => {
  it.effect(
    "attemptTimeout starts when the slot is had: not in the line of the limit, nor of the bulkhead, nor of the pool",
    () =>
      Effect.gen(function* () {
        const wire = script(silence)
        const pool = yield* onWire(wire, {
          size: 1,
          attemptTimeout: "1 second",
          rateLimit: { limit: 2, interval: "20 seconds", burst: 2 },
          bulkhead: { maxConcurrent: 2, maxWaiting: 5 }
        })
        const first = yield* start(Effect.flip(pool.client.get("/")))
        const second = yield* start(Effect.flip(pool.client.get("/")))
        const third = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(tagged(yield* Fiber.join(first), "TimeoutError").phase, "attempt")
        assert.isUndefined(second.pollUnsafe(), "it had to wait for the slot")
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(second)
        yield* TestClock.adjust("8 seconds")
        assert.isUndefined(third.pollUnsafe(), "it had to wait for a token")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(tagged(yield* Fiber.join(third), "TimeoutError").phase, "attempt")
      })
  )

  it.effect("an attempt that has timed out is retried, the whole request is not", () =>
    Effect.gen(function* () {
      const wire = script(silence, status(200))
      const pool = yield* onWire(wire, { attemptTimeout: "1 second", retry: quick })
      const fiber = yield* start(pool.client.get("/"))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      const hanging = yield* onWire(script(silence), { requestTimeout: "1 second", retry: quick })
      const ended = yield* start(Effect.flip(hanging.client.get("/")))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(tagged(yield* Fiber.join(ended), "TimeoutError").phase, "request")
    })
  )
})

describe("configureHost, in a running pool", () => {
  /** What a pool does after a policy was given to its host, though it was made without any. */
  const given = (config: HostConfig, wire: Wire, options: Options = {}) =>
    Effect.gen(function* () {
      const pool = yield* onWire(wire, options)
      yield* pool.client.head("/before")
      yield* pool.configureHost(origin, config)
      return pool
    })

  it.effect("retry, and retry off", () =>
    Effect.gen(function* () {
      const wire = script(status(200), status(503), status(200), status(503))
      const pool = yield* given({ retry: quick }, wire)
      const fiber = yield* start(pool.client.get("/"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      yield* pool.configureHost(origin, { retry: false })
      assert.strictEqual(yield* soon(fate(pool)), 503)
    })
  )

  it.effect("hedge, and hedge off", () =>
    Effect.gen(function* () {
      const wire = script(status(200), silence, status(200), silence)
      const pool = yield* given({ hedge: { delay: "1 second", maxRatio: 1 } }, wire)
      const fiber = yield* start(pool.client.get("/"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      yield* pool.configureHost(origin, { hedge: false })
      yield* start(Effect.exit(pool.client.get("/")))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(wire.sent.length, 4)
    })
  )

  it.effect("auth, and auth off", () =>
    Effect.gen(function* () {
      const wire = script(status(200))
      const pool = yield* given(
        { auth: (request) => HttpClientRequest.setHeader(request, "authorization", "new") },
        wire,
        { auth: (request) => HttpClientRequest.setHeader(request, "authorization", "old") }
      )
      yield* pool.client.get("/")
      yield* pool.configureHost(origin, { auth: false })
      yield* pool.client.get("/")
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("authorization")),
        ["old", "new", undefined]
      )
    })
  )

  it.effect("rate limit, and rate limit off", () =>
    Effect.gen(function* () {
      const pool = yield* given({ rateLimit: { limit: 1, interval: "1 hour", maxWait: 0 } }, script(status(200)))
      assert.deepStrictEqual([yield* fate(pool), yield* fate(pool)], [200, "RateLimitExceeded"])
      yield* pool.configureHost(origin, { rateLimit: false })
      assert.strictEqual(yield* fate(pool), 200)
    })
  )

  it.effect("circuit breaker, and circuit breaker off", () =>
    Effect.gen(function* () {
      const pool = yield* given({ circuitBreaker: { consecutiveFailures: 1 } }, script(status(200), status(500)))
      assert.deepStrictEqual([yield* fate(pool), yield* fate(pool)], [500, "CircuitOpen"])
      yield* pool.configureHost(origin, { circuitBreaker: false })
      assert.strictEqual(yield* fate(pool), 500)
    })
  )

  it.effect("bulkhead, and bulkhead off", () =>
    Effect.gen(function* () {
      const pool = yield* given({ bulkhead: { maxConcurrent: 1 } }, script(status(200), silence, status(200)))
      yield* start(Effect.exit(pool.client.get("/")))
      assert.strictEqual(yield* fate(pool), "PoolSaturated")
      yield* pool.configureHost(origin, { bulkhead: false })
      assert.strictEqual(yield* fate(pool), 200)
    })
  )

  it.effect("headers and timeouts", () =>
    Effect.gen(function* () {
      const wire = script(status(200), silence)
      const pool = yield* given({ headers: { "x-team": "blue" }, attemptTimeout: "1 second" }, wire)
      const fiber = yield* start(Effect.flip(pool.client.get("/")))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimeoutError")
      assert.strictEqual(wire.at(1).header("x-team"), "blue")
    })
  )
})

describe("a host that was evicted", () => {
  it.effect("takes its limit and its circuit along: what is kept does not grow with the hosts", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(script(status(500)), {
        baseUrl: undefined,
        maxHosts: 2,
        circuitBreaker: { consecutiveFailures: 1 },
        rateLimit: { limit: 5, interval: "1 hour" }
      })
      for (let i = 0; i < 50; i++) yield* pool.client.get(`http://h${i}.test/`)
      assert.strictEqual((yield* pool.stats).hosts, 2)
      assert.isTrue(Option.isNone(yield* pool.hostPolicies("http://h0.test")))
      assert.strictEqual(yield* fate(pool, "http://h49.test/"), "CircuitOpen")
      assert.strictEqual(yield* fate(pool, "http://h0.test/"), 500, "it begins anew")
    })
  )
})

describe("auth, in a pool", () => {
  it.effect("no redirect carries an API key of any kind to another origin, nor the pool's headers", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => {
        if (sent.origin === origin) sent.answer("", 302, { location: "http://elsewhere.test/" })
        else sent.answer("there")
      })
      const pool = yield* onWire(wire, {
        headers: { cookie: "s=1" },
        auth: (request) =>
          HttpClientRequest.setUrlParam(HttpClientRequest.setHeader(request, "x-key", "k1"), "key", "k2")
      })
      yield* HttpClient.followRedirects(pool.client, 2).get("/")
      assert.strictEqual(wire.at(0).header("x-key"), "k1")
      assert.strictEqual(wire.at(0).path, "/?key=k2")
      const { exchange, path } = wire.at(1)
      assert.strictEqual(path, "/")
      assert.notInclude(exchange.headers.join(), "k1")
      assert.notInclude(exchange.headers.join(), "s=1")
    })
  )

  it.effect("a bearer as an effect: one that fails is an AuthError that is not retried", () =>
    Effect.gen(function* () {
      let asked = 0
      const pool = yield* onWire(script(status(200)), {
        retry: quick,
        auth: () => Effect.sync(() => ++asked).pipe(Effect.andThen(Effect.fail(Redacted.value(secret))))
      })
      const error = tagged(yield* soon(Effect.flip(pool.client.get("/"))), "AuthError")
      assert.strictEqual(asked, 1)
      assert.notInclude(error.message, "s3cr3t")
    })
  )
})

const secret = Redacted.make("s3cr3t")

describe("bulkhead, in a pool", () => {
  it.effect("at most n in flight and m waiting, first come first served; interrupted waiters leave no hole", () =>
    Effect.gen(function* () {
      const wire = script(silence)
      const pool = yield* onWire(wire, { size: 8, bulkhead: { maxConcurrent: 2, maxWaiting: 3 } })
      const running = yield* start(Effect.exit(pool.client.get("/1")))
      yield* start(Effect.exit(pool.client.get("/2")))
      yield* start(Effect.exit(pool.client.get("/3")))
      const gone = yield* start(Effect.exit(pool.client.get("/gone")))
      yield* start(Effect.exit(pool.client.get("/4")))
      const error = tagged(yield* Effect.flip(pool.client.get("/5")), "PoolSaturated")
      assert.deepInclude(error, { reason: "bulkhead", limit: 2, waiting: 3 })
      yield* Fiber.interrupt(gone)
      yield* start(Effect.exit(pool.client.get("/6")))
      assert.deepStrictEqual(wire.paths, ["/1", "/2"])
      wire.at(0).reply()
      yield* Fiber.interrupt(running)
      wire.at(1).reply()
      yield* turn
      assert.deepStrictEqual(wire.paths, ["/1", "/2", "/3", "/4"])
    })
  )

  it.effect("no listener on an AbortSignal outlives its request, however it ends", ({ signal: ofTest }) =>
    Effect.gen(function* () {
      const add = yield* Effect.acquireRelease(
        Effect.sync(() => vi.spyOn(AbortSignal.prototype, "addEventListener")),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      const wire = new Wire((sent) => {
        if (sent.path === "/hang") sent.write()
        else if (sent.path === "/refuse") sent.refuse()
        else if (sent.path === "/cut") sent.write().head(200, { "content-length": "9" }).data("x").lose()
        else sent.answer("ok", 200)
      })
      const pool = yield* onWire(wire, {
        size: 1,
        ejection: false,
        retry: { ...quick, maxRetries: 1 },
        bulkhead: { maxConcurrent: 1, maxWaiting: 1 }
      })
      for (const client of [HttpClient.withScope(pool.client), HttpClient.followRedirects(pool.client, 1)]) {
        for (const path of ["/ok", "/refuse", "/cut", "/ok"]) {
          const fiber = yield* start(Effect.scoped(Effect.exit(Effect.flatMap(client.get(path), (_) => _.text))))
          yield* TestClock.adjust("2 seconds")
          yield* Fiber.join(fiber)
        }
        const running = yield* start(Effect.scoped(client.get("/hang")))
        const waiting = yield* start(Effect.scoped(client.get("/ok")))
        yield* Effect.scoped(Effect.exit(client.get("/ok")))
        yield* Fiber.interrupt(waiting)
        yield* Fiber.interrupt(running)
      }
      const signals = add.mock.contexts.flatMap((signal: unknown) =>
        signal instanceof AbortSignal && signal !== ofTest ? [signal] : []
      )
      assert.isAbove(signals.length, 3)
      assert.deepStrictEqual(
        signals.map((signal) => getEventListeners(signal, "abort").length),
        signals.map(() => 0)
      )
    })
  )
})
