import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Redacted, Schedule, Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import type { PoolError } from "../../../src/model/PoolError.ts"
import type { PoolEvent } from "../../../src/client/PoolEvent.ts"
import * as Auth from "../../../src/policy/Auth.ts"
import { type CircuitFace, type LimitFace, SharedPolicies } from "../../../src/policy/SharedPolicies.ts"
import { onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { type Sent, Wire } from "../../fixtures/wire.ts"

/** Answers one request after the other, each in its way; the last way holds for all that follow. */
const script = (...ways: ReadonlyArray<(sent: Sent) => void>): Wire => {
  let next = 0
  return new Wire((sent) => ways[Math.min(next++, ways.length - 1)]?.(sent))
}

const status =
  (code: number, headers: Record<string, string> = {}) =>
  (sent: Sent) =>
    void sent.answer("", code, headers)
const lose = (sent: Sent) => void sent.write().lose()
const refuse = (sent: Sent) => void sent.refuse()
const silence = (sent: Sent) => void sent.write()

const quick = { initialDelay: "1 second", multiplier: 1, jitter: "none" } as const

describe("call", () => {
  describe("retry", () => {
    it.effect("sends again until an answer is good, each time on the next slot", () =>
      Effect.gen(function* () {
        const wire = script(status(503), refuse, status(200))
        const pool = yield* onWire(wire, { size: 4, retry: quick })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
        assert.deepStrictEqual(wire.slots, [0, 1, 2])
        const stats = yield* pool.stats
        assert.deepInclude(stats, { requests: 3, retries: 2, responses: 2, successes: 1, failures: 1, active: 0 })
      })
    )

    it.effect("waits no fiber hop and no slot: while it backs off, its slot serves others", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void sent.answer("", sent.path === "/bad" ? 503 : 200))
        const pool = yield* onWire(wire, { size: 1, retry: quick })
        yield* start(Effect.exit(pool.client.get("/bad")))
        assert.strictEqual((yield* pool.client.get("/good")).status, 200)
      })
    )

    it.effect("never makes more than maxRetries + 1 attempts, whatever mix of statuses and errors", () =>
      Effect.gen(function* () {
        const wire = script(status(503), refuse, status(500), lose, status(502), refuse)
        const pool = yield* onWire(wire, { retry: { ...quick, maxRetries: 2 } })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 500)
        assert.strictEqual(wire.sent.length, 3)
      })
    )

    it.effect("gives the last response unread when retries run out", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void sent.answer(`answer ${wire.sent.length}`, 503))
        const pool = yield* onWire(wire, { retry: { ...quick, maxRetries: 1 } })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 minute")
        const response = yield* Fiber.join(fiber)
        assert.strictEqual(yield* response.text, "answer 2")
      })
    )

    it.effect("fails with RetryExhausted, which counts all attempts and holds the last failure", () =>
      Effect.gen(function* () {
        const wire = script(refuse)
        const pool = yield* onWire(wire, { retry: { ...quick, maxRetries: 2 } })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("1 minute")
        const error = tagged(yield* Fiber.join(fiber), "RetryExhausted")
        assert.deepInclude(error, { attempts: 3, reason: "maxRetries" })
        assert.strictEqual(tagged(error.last, "ConnectError").attempts, 3)
      })
    )

    it.effect("with failOnStatus, RetryExhausted holds the response, unread", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void sent.answer("why", 503))
        const pool = yield* onWire(wire, { failOnStatus: true, retry: { ...quick, maxRetries: 1 } })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("1 minute")
        const error = tagged(yield* Fiber.join(fiber), "RetryExhausted")
        assert.strictEqual(yield* tagged(error.last, "ResponseError").response.text, "why")
      })
    )

    it.effect("a body of 1 MB that is thrown away does not keep the slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => {
          if (wire.sent.length > 1) return void sent.answer("ok")
          sent.write().head(503, { "content-length": "1000000" }).data(new Uint8Array(70_000))
        })
        const pool = yield* onWire(wire, { size: 1, retry: quick })
        const fiber = yield* start(text(pool.client.get("/")))
        assert.isTrue(wire.at(0).aborted)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(fiber), "ok")
      })
    )

    it.effect("requestTimeout rules over all attempts and the waits between them", () =>
      Effect.gen(function* () {
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, { requestTimeout: "3 seconds", retry: quick })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.deepInclude(tagged(yield* Fiber.join(fiber), "TimeoutError"), { phase: "request", attempts: 2 })
        assert.isTrue(wire.at(1).aborted)
      })
    )

    it.effect("requestTimeout still rules over the body of a retried response", () =>
      Effect.gen(function* () {
        const wire = script(status(503), (sent) => void sent.write().head(200, { "content-length": "10" }).data("half"))
        const pool = yield* onWire(wire, { requestTimeout: "3 seconds", retry: quick })
        const fiber = yield* start(Effect.flip(text(pool.client.get("/"))))
        yield* TestClock.adjust("3 seconds")
        assert.include(String(yield* Fiber.join(fiber)), "requestTimeout of 3000 ms passed")
      })
    )

    it.effect("a wait that would end after the deadline ends the call at once, and says so", () =>
      Effect.gen(function* () {
        const wire = script(refuse)
        const pool = yield* onWire(wire, { requestTimeout: "500 millis", retry: quick })
        const error = tagged(yield* Effect.flip(pool.client.get("/")), "RetryExhausted")
        assert.strictEqual(error.reason, "deadline")
        assert.include(error.message, "requestTimeout")
      })
    )

    it.effect("an interrupted wait leaves nothing: no timer, no slot, no further attempt", () =>
      Effect.gen(function* () {
        const wire = script(status(503))
        const pool = yield* onWire(wire, { retry: quick })
        const fiber = yield* start(pool.client.get("/"))
        yield* Fiber.interrupt(fiber)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(wire.sent.length, 1)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("takes its waits from a Schedule", () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(503), status(200))
        const schedule = Schedule.exponential("4 seconds")
        const pool = yield* onWire(wire, { retry: { schedule } })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("11999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      })
    )

    it.effect("byKey takes another slot for another attempt", () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(200))
        const pool = yield* onWire(wire, { size: 4, selection: { byKey: () => "the same" }, retry: quick })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        const [first, second] = wire.slots
        assert.strictEqual(second, ((first ?? 0) + 1) % 4)
      })
    )

    it.effect("publishes an event for each retry, and calls onRetry", () =>
      Effect.gen(function* () {
        const told: Array<number> = []
        const wire = script(status(503), status(200))
        const pool = yield* onWire(wire, { retry: { ...quick, onRetry: ({ attempt }) => void told.push(attempt) } })
        const events: Array<PoolEvent> = []
        yield* start(Stream.runForEach(pool.events, (event) => Effect.sync(() => events.push(event))))
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        yield* turn
        assert.deepStrictEqual(told, [1])
        assert.deepInclude(events, { _tag: "Retry", origin: "http://test.local", attempt: 1, millis: 1000 })
      })
    )

    it.effect("a defect in onRetry is the caller's defect, and leaves nothing behind", () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(200))
        const pool = yield* onWire(wire, {
          size: 1,
          retry: {
            ...quick,
            while: () => {
              throw new Error("mine")
            }
          }
        })
        const exit = yield* Effect.exit(pool.client.get("/"))
        assert.include(String(exit), "mine")
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )
  })

  describe("the end of the pool", () => {
    it.effect("waits for a call that backs off, and fails it with PoolClosed when drainTimeout is over", () =>
      Effect.gen(function* () {
        const wire = script(status(503))
        const fiber = yield* Effect.scoped(
          Effect.gen(function* () {
            const pool = yield* onWire(wire, { drainTimeout: 0, retry: quick })
            return yield* start(Effect.flip(pool.client.get("/")))
          })
        )
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "PoolClosed")
      })
    )

    it.effect("a call that backs off may still end well within drainTimeout", () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(200))
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(onWire(wire, { drainTimeout: "5 seconds", retry: quick }), scope)
        const fiber = yield* start(pool.client.get("/"))
        const closing = yield* start(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
        yield* Fiber.join(closing)
      })
    )
  })

  describe("the order of the stack", () => {
    const auth = Auth.bearer(Redacted.make("secret"))

    it.effect("attempts, not calls, spend tokens", () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(503), status(200))
        const pool = yield* onWire(wire, { retry: quick, rateLimit: { limit: 5, interval: "1 hour" } })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(fiber)
        const stats = Option.getOrThrow(yield* pool.hostStats("http://test.local"))
        assert.strictEqual(stats.tokens, 2)
      })
    )

    it.effect("attempts, not calls, count in the breaker; an open circuit is not retried", () =>
      Effect.gen(function* () {
        const wire = script(status(500))
        const pool = yield* onWire(wire, { retry: quick, circuitBreaker: { consecutiveFailures: 2 } })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("1 hour")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "CircuitOpen")
        assert.strictEqual(wire.sent.length, 2)
      })
    )

    it.effect("a circuit that is known to be open rejects before the limiter's queue, and spends no token", () =>
      Effect.gen(function* () {
        const wire = script(status(500))
        const pool = yield* onWire(wire, {
          rateLimit: { limit: 2, interval: "1 hour" },
          circuitBreaker: { consecutiveFailures: 2 }
        })
        yield* pool.client.get("/")
        yield* pool.client.get("/")
        // The bucket is empty: whoever asked it would wait for half an hour.
        assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "CircuitOpen")
      })
    )

    it.effect("a half-open probe does not wait for a token: it has one when it asks for permission", () =>
      Effect.gen(function* () {
        const wire = script(status(500), status(200))
        const pool = yield* onWire(wire, {
          rateLimit: { limit: 1, interval: "1 minute" },
          circuitBreaker: { consecutiveFailures: 1, openFor: "1 second" }
        })
        yield* pool.client.get("/")
        yield* TestClock.adjust("1 second")
        const circuit = Effect.map(pool.hostStats("http://test.local"), (stats) => Option.getOrThrow(stats).circuit)
        const probe = yield* start(pool.client.get("/"))
        assert.strictEqual(yield* circuit, "Open", "it waits for a token and holds no permission")
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(probe)
        assert.strictEqual(yield* circuit, "Closed")
      })
    )

    it.effect("an interrupted probe gives its permission back", () =>
      Effect.gen(function* () {
        const wire = script(status(500), silence, status(200))
        const pool = yield* onWire(wire, { circuitBreaker: { consecutiveFailures: 1, openFor: "1 second" } })
        yield* pool.client.get("/")
        yield* TestClock.adjust("1 second")
        const probe = yield* start(pool.client.get("/"))
        assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "CircuitOpen")
        yield* Fiber.interrupt(probe)
        assert.strictEqual((yield* pool.client.get("/")).status, 200)
      })
    )

    it.effect("what no slot could be had for spends no failure in the breaker", () =>
      Effect.gen(function* () {
        const wire = script(silence)
        const pool = yield* onWire(wire, { size: 1, maxWaiting: 0, circuitBreaker: { consecutiveFailures: 1 } })
        yield* start(Effect.exit(pool.client.get("/")))
        assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "PoolSaturated")
        assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "PoolSaturated")
      })
    )

    it.effect("a failing token endpoint neither spends tokens nor trips the breaker", () =>
      Effect.gen(function* () {
        const wire = script(status(200))
        const broken = yield* Auth.bearer(Effect.fail("no token today"))
        const pool = yield* onWire(wire, {
          auth: broken,
          rateLimit: { limit: 1, interval: "1 hour" },
          circuitBreaker: { consecutiveFailures: 1 }
        })
        for (let i = 0; i < 3; i++) assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "AuthError")
        const stats = Option.getOrThrow(yield* pool.hostStats("http://test.local"))
        assert.deepInclude(stats, { tokens: 1, circuit: "Closed", failuresBy: { AuthError: 3 } })
      })
    )

    it.effect("no slot is held while a token is fetched", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void sent.answer("ok"))
        const slow = yield* Auth.bearer(Effect.delay(Effect.succeed(Redacted.make("late")), "1 second"))
        const pool = yield* onWire(wire, { size: 1, auth: slow })
        const fiber = yield* start(pool.client.get("/"))
        assert.strictEqual((yield* pool.stats).active, 0)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.strictEqual(wire.at(0).header("authorization"), "Bearer late")
      })
    )

    it.effect("each attempt carries a valid token", () =>
      Effect.gen(function* () {
        let n = 0
        const wire = script(status(503), status(200))
        const rotating = yield* Auth.bearer(Effect.sync(() => Redacted.make(`token-${++n}`)))
        const pool = yield* onWire(wire, { auth: rotating, retry: quick })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.header("authorization")),
          ["Bearer token-1", "Bearer token-2"]
        )
      })
    )

    it.effect("401: one re-auth and one re-send, without a wait, outside of the retries; never a loop", () =>
      Effect.gen(function* () {
        const wire = script(status(401))
        let dropped = 0
        const pool = yield* onWire(wire, {
          auth: {
            authorize: (request) => HttpClientRequest.setHeader(request, "authorization", `n${dropped}`),
            rejected: () => ++dropped > 0
          }
        })
        assert.strictEqual((yield* pool.client.post("/")).status, 401)
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.header("authorization")),
          ["n0", "n1"]
        )
      })
    )

    it.effect("credentials of the pool go to its base origin only", () =>
      Effect.gen(function* () {
        const wire = script(status(200))
        const pool = yield* onWire(wire, { auth: yield* auth })
        yield* pool.client.get("/")
        yield* pool.client.get("http://elsewhere.test/")
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.header("authorization")),
          ["Bearer secret", undefined]
        )
      })
    )

    it.effect("credentials do not follow a redirect to another origin", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => {
          if (sent.origin === "http://test.local") sent.answer("", 302, { location: "http://elsewhere.test/" })
          else sent.answer("there")
        })
        const pool = yield* onWire(wire, { auth: yield* auth })
        assert.strictEqual(yield* text(HttpClient.followRedirects(pool.client, 2).get("/")), "there")
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.header("authorization")),
          ["Bearer secret", undefined]
        )
      })
    )

    it.effect("auth that belongs to no origin is refused", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(onWire(new Wire(), { baseUrl: undefined, auth: yield* auth }))
        assert.include(error.message, "auth: would go to every host")
      })
    )

    it.effect("the bulkhead bounds attempts before they ask for a slot", () =>
      Effect.gen(function* () {
        const wire = script(silence)
        const pool = yield* onWire(wire, { size: 8, bulkhead: { maxConcurrent: 1 } })
        const first = yield* start(Effect.exit(pool.client.get("/")))
        const error = tagged(yield* Effect.flip(pool.client.get("/")), "PoolSaturated")
        assert.strictEqual(error.reason, "bulkhead")
        yield* Fiber.interrupt(first)
        yield* start(Effect.exit(pool.client.get("/")))
        assert.strictEqual(wire.sent.length, 2)
      })
    )

    it.effect("middleware stands around the call: once, however many attempts there are", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const middleware = (name: string) => ({
          request: (request: HttpClientRequest.HttpClientRequest) =>
            Effect.sync(() => {
              log.push(`${name} request`)
              return HttpClientRequest.setHeader(request, name, "yes")
            }),
          response: <A>(response: A) =>
            Effect.sync(() => {
              log.push(`${name} response`)
              return response
            })
        })
        const wire = script(status(503), status(200))
        const pool = yield* onWire(wire, { retry: quick, middleware: [middleware("a"), middleware("b")] })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(log, ["a request", "b request", "b response", "a response"])
        assert.deepStrictEqual(
          wire.sent.map((sent) => [sent.header("a"), sent.header("b")]),
          [
            ["yes", "yes"],
            ["yes", "yes"]
          ]
        )
      })
    )
  })

  describe("hedge", () => {
    const hedge = { delay: "100 millis", maxRatio: 1 } as const

    it.effect("a second attempt on another slot; the first good answer wins and the other is aborted", () =>
      Effect.gen(function* () {
        const wire = script(silence, status(200))
        const pool = yield* onWire(wire, { size: 4, hedge })
        const fiber = yield* start(pool.client.get("/"))
        assert.strictEqual(wire.sent.length, 1)
        yield* TestClock.adjust("100 millis")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
        assert.deepStrictEqual(wire.slots, [0, 1])
        assert.isTrue(wire.at(0).aborted)
        assert.deepInclude(yield* pool.stats, { hedges: 1, active: 0, retries: 0 })
      })
    )

    it.effect("an answer in time needs none", () =>
      Effect.gen(function* () {
        const wire = script(status(200))
        const pool = yield* onWire(wire, { hedge })
        yield* pool.client.get("/")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("a failure of one waits for the other", () =>
      Effect.gen(function* () {
        const wire = script(silence, refuse)
        const pool = yield* onWire(wire, { hedge })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("100 millis")
        yield* turn
        assert.isUndefined(fiber.pollUnsafe())
        wire.at(0).reply("late")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      })
    )

    it.effect("never for a POST", () =>
      Effect.gen(function* () {
        const wire = script(silence)
        const pool = yield* onWire(wire, { hedge })
        yield* start(Effect.exit(pool.client.post("/")))
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("an interrupted caller takes both with it", () =>
      Effect.gen(function* () {
        const wire = script(silence)
        const pool = yield* onWire(wire, { hedge })
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("100 millis")
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(
          wire.sent.map((sent) => sent.aborted),
          [true, true]
        )
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )
  })

  describe("hosts", () => {
    it.effect("each has its own limiter and its own breaker", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void sent.answer("", sent.origin === "http://a.test" ? 500 : 200))
        const pool = yield* onWire(wire, { circuitBreaker: { consecutiveFailures: 1 } })
        yield* pool.client.get("http://a.test/")
        assert.strictEqual((yield* Effect.flip(pool.client.get("http://a.test/")))._tag, "CircuitOpen")
        assert.strictEqual((yield* pool.client.get("http://b.test/")).status, 200)
      })
    )

    it.effect("a host's own policy replaces the pool's, and false turns it off", () =>
      Effect.gen(function* () {
        const wire = script(status(500))
        const pool = yield* onWire(wire, {
          circuitBreaker: { consecutiveFailures: 1 },
          hosts: {
            "http://off.test": { circuitBreaker: false },
            "http://two.test": { circuitBreaker: { consecutiveFailures: 2 } }
          }
        })
        const outcome = (url: string) =>
          Effect.match(pool.client.get(url), {
            onFailure: (error: PoolError) => error._tag,
            onSuccess: (_) => _.status
          })
        for (const [url, expected] of [
          ["http://off.test/", [500, 500, 500]],
          ["http://two.test/", [500, 500, "CircuitOpen"]],
          ["http://rest.test/", [500, "CircuitOpen", "CircuitOpen"]]
        ] as const) {
          assert.deepStrictEqual([yield* outcome(url), yield* outcome(url), yield* outcome(url)], [...expected])
        }
      })
    )

    it.effect("configureHost changes policies at run time; those it leaves alone keep their state", () =>
      Effect.gen(function* () {
        const wire = script(status(500))
        const pool = yield* onWire(wire, { circuitBreaker: { consecutiveFailures: 1 } })
        yield* pool.client.get("/")
        yield* pool.configureHost("http://test.local", { rateLimit: { limit: 1, interval: "1 second" } })
        assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "CircuitOpen")
        yield* pool.configureHost("http://test.local", { circuitBreaker: false })
        assert.strictEqual((yield* pool.client.get("/")).status, 500)
      })
    )

    it.effect("its limit and its circuit are shared with other processes where the context has shared policies", () =>
      Effect.gen(function* () {
        const keys: Array<string> = []
        const shared = {
          rateLimit: (key: string, _: unknown, local: LimitFace) => {
            keys.push(`limit ${key}`)
            return { ...local, snapshot: () => ({ ...local.snapshot(), available: 42 }) }
          },
          circuitBreaker: (key: string, _: unknown, local: CircuitFace) => {
            keys.push(`circuit ${key}`)
            return local
          }
        }
        const pool = yield* onWire(script(status(200)), {
          name: "api",
          circuitBreaker: true,
          rateLimit: { limit: 1, interval: "1 second" }
        }).pipe(Effect.provideService(SharedPolicies, shared))
        yield* pool.client.get("/")
        assert.deepStrictEqual(keys, ["limit api http://test.local", "circuit api http://test.local"])
        assert.strictEqual(Option.getOrThrow(yield* pool.hostStats("http://test.local")).tokens, 42)
      })
    )

    it.effect("its circuit can be isolated and closed by hand", () =>
      Effect.gen(function* () {
        const wire = script(status(200))
        const pool = yield* onWire(wire, { circuitBreaker: true })
        assert.isTrue(Option.isNone(yield* pool.hostPolicies("http://test.local")))
        yield* pool.client.get("/")
        const { circuitBreaker } = Option.getOrThrow(yield* pool.hostPolicies("http://test.local"))
        yield* circuitBreaker?.isolate ?? Effect.void
        const error = tagged(yield* Effect.flip(pool.client.get("/")), "CircuitOpen")
        assert.include(error.message, "isolated by hand")
        yield* circuitBreaker?.close ?? Effect.void
        assert.strictEqual((yield* pool.client.get("/")).status, 200)
      })
    )

    it.effect("a host whose call backs off is not evicted", () =>
      Effect.gen(function* () {
        const wire = script(status(503), status(200))
        const pool = yield* onWire(wire, { maxHosts: 1, retry: quick })
        const fiber = yield* start(pool.client.get("http://a.test/"))
        assert.strictEqual((yield* Effect.flip(pool.client.get("http://b.test/")))._tag, "PoolSaturated")
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
        assert.strictEqual((yield* pool.client.get("http://b.test/")).status, 200)
      })
    )
  })

  it.effect("a client that was transformed has the same policies", () =>
    Effect.gen(function* () {
      const wire = script(status(503), status(200))
      const pool = yield* onWire(wire, { retry: quick })
      const fiber = yield* start(Effect.scoped(text(HttpClient.withScope(pool.client).get("/"))))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "")
      assert.strictEqual(wire.sent.length, 2)
    })
  )

  it.effect("withScope ends a call that backs off", () =>
    Effect.gen(function* () {
      const wire = script(status(503))
      const pool = yield* onWire(wire, { retry: quick })
      const fiber = yield* start(Effect.scoped(HttpClient.withScope(pool.client).get("/")))
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(wire.sent.length, 1)
    })
  )
})
