import { assert, describe, it } from "@effect/vitest"
import { Data, Effect, Fiber, Stream } from "effect"
import { HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as ClockTimers from "../../../src/model/internal/timers.ts"
import { type Asked, ask, textOf, urlOf } from "../../../src/server/internal/healthRequest.ts"
import { onFunction, start } from "../../fixtures/pools.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"

const monitor = { path: "/health?key=s3cr3t", interval: 10_000, timeout: 4000, rise: 1, fall: 1 }

const url = "http://test.local/health?key=s3cr3t"

/** What comes of an answer with that body. */
const asked = (body: string | ReadableStream<Uint8Array>, options?: Options) =>
  Effect.gen(function* () {
    const pool = yield* onFunction(
      (request) => Effect.sync(() => HttpClientResponse.fromWeb(request, new Response(body))),
      options
    )
    const timers = ClockTimers.make(yield* Effect.context<never>())
    const fiber = yield* start(ask(pool.client, url, monitor, 2000, timers))
    yield* TestClock.adjust("4 seconds")
    return yield* Fiber.join(fiber)
  })

const toldOf = ({ answer, error }: Asked) => [answer, textOf(error)]

const endless = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => {}) })

const broken = Stream.toReadableStream(
  Stream.concat(Stream.make(new Uint8Array(10)), Stream.fail(new Error("the body is broken")))
)

class Nameless extends Data.TaggedError("Nameless")<Record<never, never>> {}

describe("healthRequest", () => {
  it.effect("an answer whose body does not end, or breaks, is none", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(toldOf(yield* asked("fine")), ["good", undefined])
      assert.deepStrictEqual(toldOf(yield* asked(endless)), ["bad", "GET /health was not answered within 4000 ms"])
      const [answer, told = ""] = toldOf(yield* asked(broken))
      assert.strictEqual(answer, "bad")
      assert.notInclude(told, "s3cr3t")
    })
  )

  it.effect("a request that the client refused is none, unless an attempt was sent before", () =>
    Effect.gen(function* () {
      const pool = yield* onFunction(() => Effect.fail("refused"), {
        retry: { maxRetries: 1, initialDelay: 1, jitter: "none" },
        circuitBreaker: { minimumCalls: 1, failureRate: 0.1 }
      })
      const timers = ClockTimers.make(yield* Effect.context<never>())
      const fibers = yield* start(
        Effect.forEach([1, 2, 3, 4], () => ask(pool.client, url, monitor, 2000, timers), { concurrency: 1 })
      )
      yield* TestClock.adjust("4 seconds")
      const answers = yield* Fiber.join(fibers)
      assert.deepStrictEqual(
        answers.map(({ answer }) => answer),
        ["bad", undefined, undefined, undefined],
        "the circuit is open"
      )
    })
  )

  it("addresses as URLs write them", () => {
    const at = (host: string) => urlOf({ host, port: 80 }, "http", "/x")
    assert.deepStrictEqual(["", "::", "0.0.0.0", "fe80::1", "localhost"].map(at), [
      "http://[::1]:80/x",
      "http://[::1]:80/x",
      "http://127.0.0.1:80/x",
      "http://[fe80::1]:80/x",
      "http://localhost:80/x"
    ])
  })

  it("a person is told a message, or at least a name", () => {
    assert.deepStrictEqual([undefined, new Error("why"), new Nameless(), new RangeError(), "text", null].map(textOf), [
      undefined,
      "why",
      "Nameless",
      "RangeError",
      "an error without a message",
      "an error without a message"
    ])
  })

  it("user info and queries are left out of what a person is told", () => {
    const told = textOf(new Error('GET http://me:s3cr3t@a.test:80/x?k=s3cr3t (see "/y?k=s3cr3t"), or not?'))
    assert.strictEqual(told, 'GET http://a.test:80/x (see "/y"), or not?')
  })
})
