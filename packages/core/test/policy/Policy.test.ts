import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import { HttpClient, type HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Auth from "../../src/policy/Auth.ts"
import * as CircuitBreaker from "../../src/policy/CircuitBreaker.ts"
import * as Middleware from "../../src/policy/Middleware.ts"
import * as Policy from "../../src/policy/Policy.ts"
import { start, tagged } from "../fixtures/pools.ts"

/** A client that is no pool: it writes down what it is sent, and answers as told. */
const client = (answer: (request: HttpClientRequest.HttpClientRequest, n: number) => number) => {
  const sent: Array<HttpClientRequest.HttpClientRequest> = []
  const http = HttpClient.make((request) =>
    Effect.sync(() => {
      sent.push(request)
      const response = new Response("", { status: answer(request, sent.length) })
      return HttpClientResponse.fromWeb(request, response)
    })
  )
  return { http, sent }
}

const quick = { initialDelay: "1 second", multiplier: 1, jitter: "none" } as const

describe("standard", () => {
  it.effect("without options it is the client", () =>
    Effect.gen(function* () {
      const { http, sent } = client(() => 503)
      const standard = yield* Policy.standard({
        retry: false,
        circuitBreaker: false,
        rateLimit: false,
        bulkhead: false
      })
      assert.strictEqual((yield* standard(http).get("http://a.test/")).status, 503)
      assert.strictEqual(sent.length, 1)
    })
  )

  it.effect(
    "composes: middleware once, credentials in each attempt, attempts spend tokens and count in the breaker",
    () =>
      Effect.gen(function* () {
        const { http, sent } = client(() => 503)
        const auth = yield* Auth.policy({
          auth: yield* Auth.bearer(Redacted.make("t")),
          origins: ["http://a.test"]
        })
        const standard = yield* Policy.standard({
          middleware: [Middleware.userAgent("me/1")],
          requestTimeout: "1 minute",
          retry: { ...quick, maxRetries: 5 },
          hedge: { delay: "10 seconds" },
          auth,
          rateLimit: { limit: 100, interval: "1 second" },
          circuitBreaker: { consecutiveFailures: 2 },
          bulkhead: { maxConcurrent: 1 },
          attemptTimeout: "5 seconds"
        })
        const fiber = yield* start(Effect.flip(standard(http).get("http://a.test/")))
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "CircuitOpen")
        assert.deepStrictEqual(
          sent.map(({ headers }) => [headers["authorization"], headers["user-agent"]]),
          [
            ["Bearer t", "me/1"],
            ["Bearer t", "me/1"]
          ]
        )
      })
  )

  it.effect("a circuit that is known to be open refuses before the limit's line", () =>
    Effect.gen(function* () {
      const { http } = client(() => 500)
      const standard = yield* Policy.standard({
        rateLimit: { limit: 1, interval: "1 hour" },
        circuitBreaker: { consecutiveFailures: 1 }
      })
      const guarded = standard(http)
      yield* guarded.get("http://a.test/")
      assert.strictEqual((yield* Effect.flip(guarded.get("http://a.test/")))._tag, "CircuitOpen")
    })
  )

  it.effect("each host has its own", () =>
    Effect.gen(function* () {
      const { http } = client(({ url }) => (url.includes("a.test") ? 500 : 200))
      const guarded = (yield* Policy.standard({ circuitBreaker: { consecutiveFailures: 1 } }))(http)
      yield* guarded.get("http://a.test/")
      assert.strictEqual((yield* Effect.flip(guarded.get("http://a.test/")))._tag, "CircuitOpen")
      assert.strictEqual((yield* guarded.get("http://b.test/")).status, 200)
    })
  )

  it.effect("attemptTimeout ends an attempt, requestTimeout the call", () =>
    Effect.gen(function* () {
      let n = 0
      const http = HttpClient.make(() =>
        Effect.suspend(() => {
          n++
          return Effect.never
        })
      )
      const standard = yield* Policy.standard({
        retry: quick,
        attemptTimeout: "1 second",
        requestTimeout: "3500 millis"
      })
      const fiber = yield* start(Effect.flip(standard(http).get("http://a.test/")))
      yield* TestClock.adjust("3500 millis")
      const error = yield* Fiber.join(fiber)
      if (error._tag === "HttpClientError" || error._tag === "ConfigError") return assert.fail(error._tag)
      assert.strictEqual(tagged(error, "TimeoutError").phase, "request")
      assert.strictEqual(n, 2)
    })
  )

  it.effect("auth is outside of limit and circuit: when it fails nothing is spent and nothing trips", () =>
    Effect.gen(function* () {
      let known = false
      const { http, sent } = client(() => 200)
      const token = Effect.suspend(() => (known ? Effect.succeed(Redacted.make("t")) : Effect.fail("no token today")))
      const standard = yield* Policy.standard({
        auth: yield* Auth.policy({ auth: yield* Auth.bearer(token), origins: ["http://a.test"] }),
        rateLimit: { limit: 1, interval: "1 hour", maxWait: 0 },
        circuitBreaker: { consecutiveFailures: 1 },
        bulkhead: { maxConcurrent: 1 }
      })
      const guarded = standard(http)
      for (let i = 0; i < 3; i++) {
        assert.strictEqual((yield* Effect.flip(guarded.get("http://a.test/")))._tag, "AuthError")
      }
      known = true
      assert.strictEqual((yield* guarded.get("http://a.test/")).status, 200)
      assert.strictEqual(sent.length, 1)
    })
  )

  it.effect(
    "the bulkhead is inside the circuit, attemptTimeout inside the bulkhead, requestTimeout outside of all",
    () =>
      Effect.gen(function* () {
        const http = HttpClient.make(() => Effect.never)
        const standard = yield* Policy.standard({
          requestTimeout: "10 seconds",
          circuitBreaker: { consecutiveFailures: 2 },
          bulkhead: { maxConcurrent: 1, maxWaiting: 1 },
          attemptTimeout: "4 seconds"
        })
        const guarded = standard(http)
        const get = Effect.match(guarded.get("http://a.test/"), {
          onFailure: (error) => (error._tag === "TimeoutError" ? error.phase : error._tag),
          onSuccess: () => "answered"
        })
        const [first, second] = [yield* start(get), yield* start(get)]
        assert.strictEqual(yield* get, "PoolSaturated", "which does not trip the circuit")
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(yield* Fiber.join(first), "attempt")
        assert.isUndefined(second.pollUnsafe(), "in the line of the bulkhead no attempt has begun")
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(yield* Fiber.join(second), "attempt")
        assert.strictEqual(yield* get, "CircuitOpen")
      })
  )

  it.effect("the hedge is inside the retry: two attempts at once are one round", () =>
    Effect.gen(function* () {
      const { http, sent } = client((_, n) => (n < 4 ? 503 : 200))
      const slow = HttpClient.transformResponse(
        http,
        Effect.tap(() => Effect.sleep("2 seconds"))
      )
      const standard = yield* Policy.standard({
        retry: { ...quick, maxRetries: 1 },
        hedge: { delay: "1 second", maxRatio: 1 }
      })
      const fiber = yield* start(standard(slow).get("http://a.test/"))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      assert.strictEqual(sent.length, 4)
    })
  )

  it.effect("fails with every invalid option at once", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Policy.standard({
          retry: { maxRetries: -1 },
          rateLimit: { limit: 0, interval: "1 second" },
          bulkhead: { maxConcurrent: 0 },
          attemptTimeout: -1
        })
      )
      assert.deepStrictEqual(error.problems.map(({ path }) => path).toSorted(), [
        "attemptTimeout",
        "bulkhead.maxConcurrent",
        "rateLimit.limit",
        "retry.maxRetries"
      ])
    })
  )
})

describe("perHost", () => {
  it.effect("keeps at most `max`: the one unused for longest goes, and begins anew", () =>
    Effect.gen(function* () {
      let made = 0
      const { http } = client(() => 500)
      const breaker = Effect.tap(CircuitBreaker.make({ consecutiveFailures: 1 }), () => Effect.sync(() => made++))
      const guarded = Policy.perHost(breaker, 2)(http)
      const fate = (host: string) =>
        Effect.match(guarded.get(`http://${host}.test/`), {
          onFailure: (error) => error._tag,
          onSuccess: ({ status }) => status
        })
      assert.deepStrictEqual([yield* fate("a"), yield* fate("b"), yield* fate("a")], [500, 500, "CircuitOpen"])
      assert.strictEqual(yield* fate("c"), 500, "b makes room, not a, which was used since")
      assert.strictEqual(yield* fate("a"), "CircuitOpen")
      assert.strictEqual(yield* fate("b"), 500)
      assert.strictEqual(made, 4)
    })
  )
})
