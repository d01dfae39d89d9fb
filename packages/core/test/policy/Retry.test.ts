import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, References, Schema, Stream } from "effect"
import { HttpBody, HttpClient, HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { CountingClock, onWire, start, tagged, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"
import * as PoolError from "../../src/model/PoolError.ts"
import type { Outcome } from "../../src/policy/Policy.ts"
import * as Retry from "../../src/policy/Retry.ts"
import * as RetryBudget from "../../src/policy/RetryBudget.ts"

type Request = HttpClientRequest.HttpClientRequest
type Reply<E> = (request: Request) => Effect.Effect<HttpClientResponse.HttpClientResponse, E>

const at = { request: { method: "GET", url: "http://test.local/" }, attempts: 1 }
const second = Duration.seconds(1)

const status =
  (
    status: number,
    headers: Record<string, string> = {},
    body: string | ReadableStream<Uint8Array> | null = `status ${status}`
  ): Reply<never> =>
  (request) =>
    Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body, { status, headers })))

const failing =
  <E>(error: E): Reply<E> =>
  () =>
    Effect.fail(error)

const connect = (phase: PoolError.ConnectPhase, sent: boolean) => new PoolError.ConnectError({ ...at, phase, sent })
const timeout = (phase: PoolError.TimeoutPhase) => new PoolError.TimeoutError({ ...at, phase, timeout: second })

/** Answers the n-th request by the n-th reply, all further ones by the last; writes down when each came. */
class Upstream<E> {
  readonly requests: Array<Request> = []
  readonly times: Array<number> = []
  readonly client: HttpClient.HttpClient.With<E>

  constructor(...replies: readonly [Reply<E>, ...Array<Reply<E>>]) {
    this.client = HttpClient.makeWith<E, never, E, never>(
      Effect.flatMap((request) =>
        Effect.clockWith((clock) => {
          const reply = replies[Math.min(this.requests.length, replies.length - 1)] ?? replies[0]
          this.requests.push(request)
          this.times.push(clock.currentTimeMillisUnsafe())
          return reply(request)
        })
      ),
      Effect.succeed
    )
  }

  get count(): number {
    return this.requests.length
  }
}

/** Lets time pass until the effect has ended. */
const settled = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Exit.Exit<A, E>, never, R> =>
  Effect.gen(function* () {
    const fiber = yield* start(effect)
    for (let i = 0; i < 300 && fiber.pollUnsafe() === undefined; i++) {
      yield* TestClock.adjust("1 second")
      yield* turn
    }
    return yield* Fiber.await(fiber)
  })

const steady: Retry.Options = { jitter: "none" }

/** Sends a request through a retry around the upstream. */
const send = <E>(upstream: Upstream<E>, options: Retry.Options = {}, request = HttpClientRequest.get("http://x/")) =>
  Effect.flatMap(Retry.make({ ...steady, ...options }), (retry) =>
    settled(retry.wrap(upstream.client).execute(request))
  )

const post = HttpClientRequest.post("http://x/").pipe(HttpClientRequest.bodyText("order"))

/** How often something is sent when every attempt ends so. */
const attempts = (reply: Reply<unknown>, request?: Request, options?: Retry.Options) =>
  Effect.gen(function* () {
    const upstream = new Upstream(reply)
    yield* send(upstream, options, request)
    return upstream.count
  })

describe("wrap", () => {
  it.effect("retries statuses 408, 429, 500, 502, 503 and 504, three times", () =>
    Effect.gen(function* () {
      for (const code of [408, 429, 500, 502, 503, 504]) assert.strictEqual(yield* attempts(status(code)), 4, `${code}`)
    })
  )

  it.effect("does not retry other statuses", () =>
    Effect.gen(function* () {
      for (const code of [200, 204, 301, 400, 401, 403, 404, 409, 413, 425, 501, 505]) {
        assert.strictEqual(yield* attempts(status(code, {}, null)), 1, `${code}`)
      }
    })
  )

  it.effect("retries the statuses that it is told, and no others", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* attempts(status(425), undefined, { statuses: [425] }), 4)
      assert.strictEqual(yield* attempts(status(503), undefined, { statuses: [425] }), 1)
      assert.strictEqual(yield* attempts(status(503), undefined, { statuses: [] }), 1)
    })
  )

  it.effect("gives back the first good response", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503), failing(connect("tcp", false)), status(200))
      const exit = yield* send(upstream)
      assert.strictEqual(Exit.isSuccess(exit) ? yield* exit.value.text : "", "status 200")
      assert.deepStrictEqual(upstream.times, [0, 1_000, 3_000])
    })
  )

  it.effect("waits 1 s, 2 s and 4 s, ± 10 %, by default", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503))
      const retry = yield* Retry.make()
      const fiber = yield* start(retry.wrap(upstream.client).get("http://x/"))
      for (let i = 0; i < 80; i++) {
        yield* TestClock.adjust("100 millis")
        yield* turn
      }
      yield* Fiber.join(fiber)
      const waits = upstream.times.slice(1).map((time, i) => time - (upstream.times[i] ?? 0))
      assert.lengthOf(waits, 3)
      for (const [i, wait] of waits.entries()) {
        const middle = 1_000 * 2 ** i
        assert.isAtLeast(wait, 0.9 * middle)
        // It is looked at ten times a second.
        assert.isAtMost(wait, 1.1 * middle + 100)
      }
    })
  )

  it.effect("gives back the last response unread when retries run out", () =>
    Effect.gen(function* () {
      let number = 0
      const upstream = new Upstream((request) => status(503, {}, `answer ${++number}`)(request))
      const exit = yield* send(upstream, { maxRetries: 2 })
      assert.strictEqual(Exit.isSuccess(exit) ? yield* exit.value.text : "", "answer 3")
    })
  )

  it.effect("fails with RetryExhausted, which holds the last error, when retries run out on a failure", () =>
    Effect.gen(function* () {
      const last = connect("tcp", false)
      const upstream = new Upstream<PoolError.PoolError>(status(503), failing(timeout("headers")), failing(last))
      const error = tagged(yield* Effect.flip(Effect.flatten(send(upstream, { maxRetries: 2 }))), "RetryExhausted")
      assert.strictEqual(error.last, last)
      assert.strictEqual(error.attempts, 3)
      assert.strictEqual(error.reason, "maxRetries")
    })
  )

  it.effect("fails with RetryExhausted that holds the ResponseError, its response unread, with failOnStatus", () =>
    Effect.gen(function* () {
      const refuse: Reply<PoolError.PoolError> = (request) =>
        Effect.flatMap(status(503)(request), (response) =>
          Effect.fail(new PoolError.ResponseError({ ...at, response }))
        )
      const upstream = new Upstream(refuse)
      const error = tagged(yield* Effect.flip(Effect.flatten(send(upstream))), "RetryExhausted")
      assert.strictEqual(error.attempts, 4)
      assert.strictEqual(yield* tagged(error.last, "ResponseError").response.text, "status 503")
    })
  )

  it.effect("gives back the failure itself with `maxRetries: 0`", () =>
    Effect.gen(function* () {
      const last = connect("tcp", false)
      const exit = yield* send(new Upstream(failing(last)), { maxRetries: 0 })
      assert.deepStrictEqual(exit, Exit.fail(last))
    })
  )

  it.effect("gives back a failure that is not retryable itself, after retries too", () =>
    Effect.gen(function* () {
      const last = new PoolError.AuthError({ ...at, reason: "no token" })
      const upstream = new Upstream<PoolError.PoolError>(status(503), failing(last))
      assert.deepStrictEqual(yield* send(upstream), Exit.fail(last))
      assert.strictEqual(upstream.count, 2)
    })
  )

  it.effect("gives back an error that is no PoolError as it is", () =>
    Effect.gen(function* () {
      const request = HttpClientRequest.get("http://x/")
      const last = new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request }) })
      const upstream = new Upstream(failing(last))
      assert.deepStrictEqual(yield* send(upstream), Exit.fail(last))
      assert.strictEqual(upstream.count, 4)
      assert.strictEqual(yield* attempts(failing("no idea")), 1)
    })
  )

  it.effect("retries connect errors and the time limits of an attempt", () =>
    Effect.gen(function* () {
      for (const phase of ["dns", "tcp", "tls", "proxy", "request", "response"] as const) {
        assert.strictEqual(yield* attempts(failing(connect(phase, true))), 4, phase)
      }
      for (const phase of ["dial", "tls", "headers", "attempt"] as const) {
        assert.strictEqual(yield* attempts(failing(timeout(phase))), 4, phase)
      }
    })
  )

  it.effect("never retries requestTimeout and bodyIdleTimeout", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* attempts(failing(timeout("request"))), 1)
      assert.strictEqual(yield* attempts(failing(timeout("bodyIdle"))), 1)
    })
  )

  it.effect("never retries an open circuit, a full pool and a closed one, whatever `while` says", () =>
    Effect.gen(function* () {
      for (const error of [
        new PoolError.CircuitOpen({ ...at, retryAfter: second }),
        new PoolError.PoolSaturated({ ...at, reason: "bulkhead", limit: 1, waiting: 1 }),
        new PoolError.PoolClosed(at),
        new PoolError.RetryExhausted({ ...at, last: connect("tcp", false), reason: "maxRetries" }),
        timeout("request")
      ]) {
        assert.strictEqual(yield* attempts(failing(error)), 1, error._tag)
        assert.strictEqual(yield* attempts(failing(error), undefined, { while: () => true }), 1, error._tag)
      }
    })
  )

  it.effect("does not retry RateLimitExceeded, AuthError, InvalidRequest and DecodeError, unless `while` says so", () =>
    Effect.gen(function* () {
      for (const error of [
        new PoolError.RateLimitExceeded({ ...at, retryAfter: second }),
        new PoolError.AuthError({ ...at, reason: "no" }),
        new PoolError.InvalidRequest({ ...at, reason: "no" }),
        new PoolError.DecodeError({ ...at, reason: "no" })
      ]) {
        assert.strictEqual(yield* attempts(failing(error)), 1, error._tag)
        assert.strictEqual(yield* attempts(failing(error), undefined, { while: () => true }), 4, error._tag)
      }
    })
  )

  it.effect("does not retry a defect", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(() => Effect.die("bug"))
      assert.deepStrictEqual(yield* send(upstream), Exit.die("bug"))
      assert.strictEqual(upstream.count, 1)
    })
  )

  it.effect("sends the same request each time, through what the client does to it", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503))
      const retry = yield* Retry.make(steady)
      const client = HttpClient.mapRequest(upstream.client, HttpClientRequest.setHeader("x-tenant", "a"))
      yield* settled(retry.wrap(client).execute(HttpClientRequest.put("http://x/1")))
      assert.deepStrictEqual(
        upstream.requests.map(({ headers, method, url }) => [method, url, headers["x-tenant"]]),
        Array.from({ length: 4 }, () => ["PUT", "http://x/1", "a"])
      )
    })
  )
})

describe("what must not be sent twice", () => {
  const broken = failing(connect("response", true))

  it.effect("retries GET, HEAD, OPTIONS, TRACE, PUT, DELETE and QUERY", () =>
    Effect.gen(function* () {
      for (const method of ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"] as const) {
        assert.strictEqual(yield* attempts(broken, HttpClientRequest.make(method)("http://x/")), 4, method)
        assert.strictEqual(yield* attempts(status(503), HttpClientRequest.make(method)("http://x/")), 4, method)
      }
    })
  )

  it.effect("does not retry POST and PATCH, nor 429 and 503 on them: something may have been done", () =>
    Effect.gen(function* () {
      for (const request of [post, HttpClientRequest.patch("http://x/")]) {
        for (const reply of [broken, failing(timeout("headers")), status(429), status(503)]) {
          assert.strictEqual(yield* attempts(reply, request), 1, request.method)
        }
      }
    })
  )

  it.effect("retries POST and PATCH with an idempotency key, which must not be empty", () =>
    Effect.gen(function* () {
      for (const request of [post, HttpClientRequest.patch("http://x/")]) {
        const withKey = (key: string) => HttpClientRequest.setHeader(request, "Idempotency-Key", key)
        assert.strictEqual(yield* attempts(status(503), withKey("order-1")), 4, request.method)
        assert.strictEqual(yield* attempts(broken, withKey("order-1")), 4, request.method)
        assert.strictEqual(yield* attempts(broken, withKey("")), 1, request.method)
      }
    })
  )

  it.effect("retries POST when the caller opts in", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* attempts(broken, post, { retryNonIdempotent: true }), 4)
      assert.strictEqual(yield* attempts(status(503), post, { retryNonIdempotent: true }), 4)
    })
  )

  it.effect("retries POST when nothing was sent", () =>
    Effect.gen(function* () {
      for (const error of [connect("tcp", false), connect("dns", false), timeout("dial"), timeout("tls")]) {
        assert.strictEqual(yield* attempts(failing(error), post), 4, error.message)
      }
    })
  )

  it.effect("stops as soon as an attempt may have been sent", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(failing(connect("tcp", false)), broken)
      yield* send(upstream, {}, post)
      assert.strictEqual(upstream.count, 2)
    })
  )

  it.effect("`while` does not make it safe to send again", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* attempts(broken, post, { while: () => true }), 1)
    })
  )

  it.effect("does not replay a stream body, whatever the method, the key and `while` say", () =>
    Effect.gen(function* () {
      const bodies = [
        HttpBody.stream(Stream.make(new Uint8Array(3))),
        HttpBody.raw(new ReadableStream()),
        HttpBody.raw((function* () {})())
      ]
      for (const body of bodies) {
        const request = HttpClientRequest.put("http://x/").pipe(
          HttpClientRequest.setBody(body),
          HttpClientRequest.setHeader("idempotency-key", "1")
        )
        const all = { while: () => true, retryNonIdempotent: true }
        assert.strictEqual(yield* attempts(status(503), request, all), 1)
        assert.strictEqual(yield* attempts(broken, request, all), 1)
        // A transport may have begun to read it.
        assert.strictEqual(yield* attempts(failing(connect("tcp", false)), request, all), 1)
      }
      assert.strictEqual(yield* attempts(status(503), HttpClientRequest.bodyText(HttpClientRequest.put("/"), "x")), 4)
    })
  )
})

describe("while", () => {
  it.effect("replaces what is retryable, for responses and failures, and can veto", () =>
    Effect.gen(function* () {
      const is = (code: number) => (outcome: Outcome) => outcome._tag === "Response" && outcome.response.status === code
      assert.strictEqual(yield* attempts(status(404), undefined, { while: is(404) }), 4)
      assert.strictEqual(yield* attempts(status(503), undefined, { while: is(404) }), 1)
      assert.strictEqual(yield* attempts(failing(connect("tcp", false)), undefined, { while: is(404) }), 1)
      assert.strictEqual(yield* attempts(failing("no idea"), undefined, { while: () => true }), 4)
    })
  )

  it.effect("sees the attempt", () =>
    Effect.gen(function* () {
      const onlyOnce = { while: (_: Outcome, { number }: { readonly number: number }) => number < 2 }
      assert.strictEqual(yield* attempts(status(503), undefined, onlyOnce), 2)
    })
  )

  it.effect("that throws is a defect of the call, and the response is discarded", () =>
    Effect.gen(function* () {
      const bug = new Error("bug")
      const body = new Body(1)
      const upstream = new Upstream(status(503, {}, body.stream))
      const exit = yield* send(upstream, {
        while: () => {
          throw bug
        }
      })
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) === bug)
      assert.isTrue(body.cancelled)
    })
  )
})

describe("onRetry", () => {
  it.effect("is told the attempt, its cause, the delay and the request, before each wait", () =>
    Effect.gen(function* () {
      const told: Array<Retry.RetryInfo> = []
      const error = connect("tcp", false)
      const upstream = new Upstream(failing(error), status(503, { "retry-after": "5" }), status(200))
      const url = "http://user:secret@x/?token=secret"
      yield* send(upstream, { onRetry: (info) => void told.push(info) }, HttpClientRequest.get(url))
      assert.deepStrictEqual(
        told.map(({ attempt, cause, delay }) => [attempt, cause._tag, Duration.toMillis(delay)]),
        [
          [1, "Failure", 1_000],
          [2, "Response", 5_000]
        ]
      )
      assert.strictEqual(told[0]?.request.method, "GET")
      assert.notInclude(told[0]?.request.url ?? "", "secret")
    })
  )

  it.effect("may be an effect, which is waited for", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503), status(200))
      yield* send(upstream, { onRetry: () => Effect.sleep("30 seconds") })
      assert.strictEqual(upstream.count, 2)
      assert.isAtLeast(upstream.times[1] ?? 0, 31_000)
    })
  )

  it.effect("is not told of the last failure: there is no retry after it", () =>
    Effect.gen(function* () {
      let told = 0
      yield* attempts(status(503), undefined, { maxRetries: 2, onRetry: () => void told++ })
      assert.strictEqual(told, 2)
    })
  )

  it.effect("that throws, or dies, is logged, and the call goes on", () =>
    Effect.gen(function* () {
      for (const onRetry of [
        () => {
          throw new Error("bug")
        },
        () => Effect.die(new Error("bug"))
      ]) {
        assert.strictEqual(yield* attempts(status(503), undefined, { onRetry }), 4)
      }
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
  )
})

/** A body of so many chunks of 64 KiB, that knows how much was read of it. */
class Body {
  read = 0
  cancelled = false
  readonly stream: ReadableStream<Uint8Array>

  constructor(chunks: number, end = true) {
    let left = chunks
    this.stream = new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          if (left-- > 0) {
            this.read++
            controller.enqueue(new Uint8Array(64 * 1024))
          } else if (end) controller.close()
          else return new Promise(() => undefined)
          return undefined
        },
        cancel: () => {
          this.cancelled = true
        }
      },
      { highWaterMark: 0 }
    )
  }
}

describe("a response that is discarded", () => {
  it.effect("is read when it is small, so that its connection is kept", () =>
    Effect.gen(function* () {
      const body = new Body(1)
      yield* send(new Upstream(status(503, {}, body.stream), status(200)))
      assert.strictEqual(body.read, 1)
      assert.isFalse(body.cancelled)
    })
  )

  it.effect("of 1 MB is aborted after 64 KiB, or at once if it says its length", () =>
    Effect.gen(function* () {
      const body = new Body(16)
      yield* send(new Upstream(status(503, {}, body.stream), status(200)))
      assert.isAtMost(body.read, 2)
      assert.isTrue(body.cancelled)

      const declared = new Body(16)
      const headers = { "content-length": String(1024 * 1024) }
      yield* send(new Upstream(status(503, headers, declared.stream), status(200)))
      assert.strictEqual(declared.read, 0)
      assert.isTrue(declared.cancelled)
    })
  )

  it.effect("that never ends does not hold the retry for ever", () =>
    Effect.gen(function* () {
      const body = new Body(0, false)
      const upstream = new Upstream(status(503, {}, body.stream), status(200))
      assert.isTrue(Exit.isSuccess(yield* send(upstream)))
      assert.isTrue(body.cancelled)
    })
  )

  it.effect("of 1 MB does not block the connection of a pool with one slot", () =>
    Effect.gen(function* () {
      const wire = new Wire()
      const pool = yield* onWire(wire, { size: 1, bodyBufferSize: 4096 })
      const retry = yield* Retry.make(steady)
      const fiber = yield* start(retry.wrap(pool.client).get("/x"))
      wire.at(0).write().head(503)
      for (let sent = 0; sent < 16 && !wire.at(0).aborted; sent++) {
        wire.at(0).data(new Uint8Array(64 * 1024))
        yield* turn
      }
      assert.isTrue(wire.at(0).aborted)
      yield* TestClock.adjust("1 second")
      yield* turn
      wire.at(1).answer("fine")
      const response = yield* Fiber.join(fiber)
      assert.strictEqual(yield* response.text, "fine")
    })
  )
})

describe("interruption", () => {
  it.effect("during the wait ends the call at once, and leaves no timer", () =>
    Effect.gen(function* () {
      const clock = new CountingClock(yield* Effect.clockWith(Effect.succeed))
      const upstream = new Upstream(status(503))
      const retry = yield* Retry.make(steady)
      const fiber = yield* start(
        Effect.provideService(retry.wrap(upstream.client).get("http://x/"), Clock.Clock, clock)
      )
      assert.strictEqual(clock.sleeping, 1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(clock.sleeping, 0)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(upstream.count, 1)
    })
  )

  it.effect("of an attempt is not retried", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(() => Effect.interrupt)
      const exit = yield* send(upstream)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.strictEqual(upstream.count, 1)
    })
  )

  it.effect("while `onRetry` runs aborts the response", () =>
    Effect.gen(function* () {
      const body = new Body(1)
      const upstream = new Upstream(status(503, {}, body.stream))
      const retry = yield* Retry.make({ ...steady, onRetry: () => Effect.never })
      const fiber = yield* start(retry.wrap(upstream.client).get("http://x/"))
      assert.isFalse(body.cancelled)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(body.cancelled)
    })
  )

  it.effect("while `onRetry` runs has nothing to abort after a failure", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(failing(connect("tcp", false)))
      const retry = yield* Retry.make({ ...steady, onRetry: () => Effect.never })
      const fiber = yield* start(retry.wrap(upstream.client).get("http://x/"))
      yield* Fiber.interrupt(fiber)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.strictEqual(upstream.count, 1)
    })
  )

  it.effect("at any moment gives the response back: every one that it saw, but the caller's, is read or aborted", () =>
    Effect.gen(function* () {
      let between = 0
      for (let moment = 0; moment < 120; moment++) {
        const bodies = new Map<unknown, Body>()
        const seen = new Set<Body | undefined>()
        const retry = yield* Retry.make({
          ...steady,
          initialDelay: 0,
          maxRetries: 10,
          onRetry: () => Effect.yieldNow,
          while: (outcome) => {
            if (outcome._tag === "Response") seen.add(bodies.get(outcome.response))
            return true
          }
        })
        const upstream = new Upstream((request) => {
          const body = new Body(2)
          const answer = Effect.tap(status(503, {}, body.stream)(request), (response) =>
            Effect.sync(() => bodies.set(response, body))
          )
          return Effect.andThen(Effect.yieldNow, answer)
        })
        const call = retry.wrap(upstream.client).get("http://x/")
        const fiber = yield* Effect.forkChild(
          Effect.provideService(call, References.MaxOpsBeforeYield, 3 + (moment % 5)),
          {
            startImmediately: true
          }
        )
        for (let i = 0; i < moment; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        yield* turn
        assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)), "it had not ended")
        between += seen.size
        for (const body of seen) {
          assert.isTrue(body?.cancelled === true || body?.read === 2, `moment ${moment}`)
        }
      }
      assert.isAbove(between, 100)
    })
  )
})

describe("the budget", () => {
  it.effect("when it is spent, gives back the first failure as it is", () =>
    Effect.gen(function* () {
      const error = connect("tcp", false)
      const budget = { ratio: 0, minPerSecond: 0 }
      assert.deepStrictEqual(yield* send(new Upstream(failing(error)), { budget }), Exit.fail(error))
      const exit = yield* send(new Upstream(status(503)), { budget })
      assert.strictEqual(Exit.isSuccess(exit) ? yield* exit.value.text : "", "status 503")
    })
  )

  it.effect("by default lets an outage cost a fifth more requests, and 10 a second", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503))
      const retry = yield* Retry.make({ ...steady, initialDelay: 0 })
      const client = retry.wrap(upstream.client)
      for (let i = 0; i < 1_000; i++) yield* client.get("http://x/")
      assert.strictEqual(upstream.count, 1_000 + 200 + 100)
    })
  )

  it.effect("counts calls, not attempts, as requests", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503))
      const budget = { ratio: 1, minPerSecond: 0 }
      const retry = yield* Retry.make({ ...steady, initialDelay: 0, budget })
      for (let i = 0; i < 10; i++) yield* retry.wrap(upstream.client).get("http://x/")
      assert.strictEqual(upstream.count, 20)
    })
  )

  it.effect("is shared by the policies that are given the same", () =>
    Effect.gen(function* () {
      const budget = yield* RetryBudget.make({ ratio: 0, minPerSecond: 0.5 })
      const upstream = new Upstream(status(503))
      for (const maxRetries of [3, 10]) {
        const retry = yield* Retry.make({ ...steady, initialDelay: 0, budget, maxRetries })
        yield* retry.wrap(upstream.client).get("http://x/")
      }
      // Five retries are in the budget.
      assert.strictEqual(upstream.count, 2 + 5)
    })
  )

  it.effect("of every policy is its own otherwise, and `false` is none", () =>
    Effect.gen(function* () {
      const upstream = new Upstream(status(503))
      const retry = yield* Retry.make({ ...steady, initialDelay: 0, budget: false })
      for (let i = 0; i < 200; i++) yield* retry.wrap(upstream.client).get("http://x/")
      assert.strictEqual(upstream.count, 800)
    })
  )
})

describe("guard", () => {
  it.effect("retries every failure of an effect, and gives back its value", () =>
    Effect.gen(function* () {
      let runs = 0
      const retry = yield* Retry.make(steady)
      const effect = Effect.suspend(() => (++runs < 3 ? Effect.fail("not yet") : Effect.succeed(runs)))
      assert.deepStrictEqual(yield* settled(retry.guard(effect)), Exit.succeed(3))
    })
  )

  it.effect("fails with the effect's own last error, or RetryExhausted of a PoolError", () =>
    Effect.gen(function* () {
      const retry = yield* Retry.make(steady)
      let runs = 0
      const failed = yield* settled(retry.guard(Effect.suspend(() => Effect.fail(`run ${++runs}`))))
      assert.deepStrictEqual(failed, Exit.fail("run 4"))
      const last = connect("tcp", false)
      const error = yield* Effect.flip(Effect.flatten(settled(retry.guard(Effect.fail(last)))))
      assert.strictEqual(tagged(error, "RetryExhausted").last, last)
    })
  )

  it.effect("does not retry what another attempt cannot help", () =>
    Effect.gen(function* () {
      const retry = yield* Retry.make(steady)
      let runs = 0
      const effect = Effect.suspend(() => {
        runs++
        return Effect.fail(new PoolError.CircuitOpen({ ...at, retryAfter: second }))
      })
      yield* settled(retry.guard(effect))
      assert.strictEqual(runs, 1)
    })
  )

  it.effect("names the effect to `onRetry`", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const retry = yield* Retry.make({ ...steady, onRetry: ({ request }) => void told.push(request.url) })
      yield* settled(retry.guard(Effect.fail("no")))
      assert.deepStrictEqual(told, ["effect", "effect", "effect"])
    })
  )
})

describe("laws", () => {
  const replies: ReadonlyArray<Reply<PoolError.PoolError>> = [
    status(503),
    status(429, { "retry-after": "2" }),
    status(500),
    status(404),
    status(200),
    failing(connect("tcp", false)),
    failing(connect("response", true)),
    failing(timeout("headers")),
    failing(timeout("attempt")),
    failing(new PoolError.CircuitOpen({ ...at, retryAfter: second }))
  ]
  // The first three statuses and four of the failures are retryable.
  const retryable = new Set([0, 1, 2, 5, 6, 7, 8])

  it.effect.prop(
    "attempts never exceed maxRetries + 1, whatever mix of statuses and errors; all of them are used",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 })),
      Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: replies.length - 1 }))).check(
        Schema.isMaxLength(12)
      )
    ],
    ([maxRetries, script]) =>
      Effect.gen(function* () {
        const retry = yield* Retry.make({ ...steady, initialDelay: 0, maxRetryAfter: 0, maxRetries, budget: false })
        let sent = 0
        const upstream = new Upstream<PoolError.PoolError>((request) => {
          const kind = script[sent++] ?? 0
          return (replies[kind] ?? status(503))(request)
        })
        const exit = yield* Effect.exit(retry.wrap(upstream.client).get("http://x/"))
        const kinds = [...script, ...Array.from({ length: 10 }, () => 0)]
        const firstFinal = kinds.findIndex((kind) => !retryable.has(kind))
        const expected = Math.min(firstFinal === -1 ? Infinity : firstFinal + 1, maxRetries + 1)
        assert.strictEqual(sent, expected)
        assert.isAtMost(sent, maxRetries + 1)
        if (Exit.isFailure(exit)) {
          const error = Cause.squash(exit.cause)
          if (error instanceof PoolError.RetryExhausted) assert.strictEqual(error.attempts, sent)
        }
      }),
    { arbitrary: { runs: 300 } }
  )
})
