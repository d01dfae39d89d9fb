import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Option, Stream } from "effect"
import { HttpBody, HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import type { Failure } from "../../../src/client/Connector.ts"
import * as Pools from "../../../src/client/Pool.ts"
import type { Pool } from "../../../src/client/Pool.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"
import * as PoolError from "../../../src/model/PoolError.ts"
import type { PoolEvent } from "../../../src/client/PoolEvent.ts"
import { onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { type Sent, Wire } from "../../fixtures/wire.ts"

const KiB = 1024

const request = HttpClientRequest.get("/")

/** A pool of one slot that shows how much of it is in use. */
const single = (wire: Wire, options: Options = {}) => onWire(wire, { size: 1, ...options })

const active = (pool: Pool) => Effect.map(pool.stats, (_) => _.active)

/** Fails unless the next request has a slot at once. */
const slotIsFree = (pool: Pool, wire: Wire) =>
  Effect.gen(function* () {
    wire.onSend = (sent) => sent.answer("free")
    assert.strictEqual(yield* text(pool.client.get("/next")), "free")
    const stats = yield* pool.stats
    assert.strictEqual(stats.active, 0)
    assert.strictEqual(stats.waiting, 0)
  })

const timedOut = (error: PoolError.PoolError, phase: PoolError.TimeoutPhase, millis: number) => {
  const timeout = tagged(error, "TimeoutError")
  assert.strictEqual(timeout.phase, phase)
  assert.strictEqual(Duration.toMillis(timeout.timeout), millis)
  return timeout
}

const waitedOf = (error: PoolError.TimeoutError) =>
  Option.map(Option.fromUndefinedOr(error.waited), (waited) => Math.round(Duration.toMillis(waited)))

const poolErrorOf = (error: Effect.Error<ReturnType<typeof text>>): PoolError.PoolError => {
  if (PoolError.isPoolError(error)) return error
  throw new Error("not a PoolError", { cause: error })
}

/** What reading the body of a response failed with. */
const readFailure = <A>(read: Effect.Effect<A, unknown>): Effect.Effect<PoolError.PoolError, A> =>
  Effect.map(Effect.flip(read), (error) => {
    const cause = error instanceof Error ? error.cause : undefined
    if (PoolError.isPoolError(cause)) return cause
    throw new Error("no PoolError inside", { cause: error })
  })

const observe = (pool: Pool) =>
  Effect.gen(function* () {
    const seen: Array<PoolEvent> = []
    yield* Effect.forkScoped(
      Stream.runForEach(pool.events, (event) => Effect.sync(() => seen.push(event))),
      {
        startImmediately: true
      }
    )
    yield* turn
    return seen
  })

describe("exchange", () => {
  describe("responseHeaderTimeout", () => {
    it.effect("counts from the end of the request, and frees the slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.begin())
        const pool = yield* single(wire, { responseHeaderTimeout: "2 seconds" })
        const fiber = yield* start(Effect.flip(pool.client.get("/slow?token=s3cret")))
        yield* TestClock.adjust("5 seconds")
        assert.isUndefined(fiber.pollUnsafe(), "the upload is still under way")
        wire.at(0).exchange.onRequestSent()
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const error = timedOut(yield* Fiber.join(fiber), "headers", 2000)
        assert.strictEqual(error.attempts, 1)
        assert.strictEqual(error.address, "192.0.2.1:0")
        assert.strictEqual(error.request.method, "GET")
        assert.include(error.message, "responseHeaderTimeout")
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).timeouts, 1)
        yield* slotIsFree(pool, wire)
        assert.strictEqual(wire.opened, 2, "the connection is not used again")
      })
    )

    it.effect("is not ended by an interim response", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, { responseHeaderTimeout: "2 seconds" })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        wire.at(0).head(103, { link: "<a>" })
        yield* TestClock.adjust("2 seconds")
        timedOut(yield* Fiber.join(fiber), "headers", 2000)
      })
    )

    it.effect("ends with the headers", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, { responseHeaderTimeout: "2 seconds" })
        const fiber = yield* start(text(pool.client.get("/")))
        wire.at(0).head()
        yield* TestClock.adjust("30 seconds")
        wire.at(0).data("late").end()
        assert.strictEqual(yield* Fiber.join(fiber), "late")
      })
    )
  })

  describe("bodyIdleTimeout", () => {
    const options: Options = { bodyIdleTimeout: "3 seconds", bodyBufferSize: KiB }

    it.effect("counts between two chunks, and frees the slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(readFailure(text(pool.client.get("/"))))
        wire.at(0).head()
        yield* turn
        for (let i = 0; i < 5; i++) {
          yield* TestClock.adjust("2999 millis")
          wire.at(0).data("x")
        }
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        timedOut(yield* Fiber.join(fiber), "bodyIdle", 3000)
        assert.isTrue(wire.at(0).aborted)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("counts for a body that nobody reads", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head()
        const response = yield* Fiber.join(fiber)
        yield* TestClock.adjust("3 seconds")
        timedOut(yield* readFailure(response.text), "bodyIdle", 3000)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("does not count while a slow reader has the connection paused", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head()
        const response = yield* Fiber.join(fiber)
        wire.at(0).data(new Uint8Array(2 * KiB))
        assert.isTrue(wire.at(0).paused)
        yield* TestClock.adjust("60 seconds")
        const reading = yield* start(readFailure(response.text))
        assert.isFalse(wire.at(0).paused)
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(reading.pollUnsafe(), "and counts anew when it goes on")
        yield* TestClock.adjust("1 millis")
        timedOut(yield* Fiber.join(reading), "bodyIdle", 3000)
      })
    )

    it.effect("does not count for bytes that were on their way when it paused", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head()
        const response = yield* Fiber.join(fiber)
        wire
          .at(0)
          .data(new Uint8Array(2 * KiB))
          .data(new Uint8Array(KiB))
        yield* TestClock.adjust("60 seconds")
        wire.at(0).end()
        assert.strictEqual((yield* response.arrayBuffer).byteLength, 3 * KiB)
      })
    )
  })

  describe("attemptTimeout", () => {
    const options: Options = { attemptTimeout: "4 seconds" }

    it.effect("counts from the slot, not the wait before it", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, { ...options, attemptTimeout: "20 seconds" })
        const first = yield* start(text(pool.client.get("/1")))
        const second = yield* start(Effect.flip(pool.client.get("/2")))
        yield* TestClock.adjust("19 seconds")
        wire.at(0).reply("one")
        assert.strictEqual(yield* Fiber.join(first), "one")
        yield* TestClock.adjust("19 seconds")
        assert.isUndefined(second.pollUnsafe())
        yield* TestClock.adjust("1 seconds")
        timedOut(yield* Fiber.join(second), "attempt", 20_000)
      })
    )

    it.effect("counts while the connection is made, and takes the request back", () =>
      Effect.gen(function* () {
        const wire = new Wire()
        const pool = yield* single(wire, options)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("4 seconds")
        timedOut(yield* Fiber.join(fiber), "attempt", 4000)
        assert.isTrue(wire.at(0).cancelled)
        assert.throws(() => wire.at(0).begin(), "cancelled")
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("counts to the end of the body", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(readFailure(text(pool.client.get("/"))))
        wire.at(0).head().data("x")
        yield* TestClock.adjust("4 seconds")
        timedOut(yield* Fiber.join(fiber), "attempt", 4000)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("of one that ends does not delay that of the next", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, { ...options, size: 2 })
        const first = yield* start(Effect.flip(pool.client.get("/1")))
        yield* TestClock.adjust("1 seconds")
        const second = yield* start(Effect.flip(pool.client.get("/2")))
        yield* start(Effect.flip(pool.client.get("/3")))
        yield* TestClock.adjust("3 seconds")
        timedOut(yield* Fiber.join(first), "attempt", 4000)
        yield* TestClock.adjust("1 seconds")
        timedOut(yield* Fiber.join(second), "attempt", 4000)
      })
    )
  })

  describe("requestTimeout", () => {
    const options: Options = { requestTimeout: "5 seconds" }

    it.effect("counts while it waits for a slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        yield* start(pool.stream(request).pipe(Stream.runDrain))
        wire.at(0).head()
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("5 seconds")
        const error = timedOut(yield* Fiber.join(fiber), "request", 5000)
        assert.strictEqual(error.attempts, 0)
        assert.strictEqual(wire.sent.length, 1)
        assert.strictEqual((yield* pool.stats).waiting, 0)
        assert.strictEqual(yield* active(pool), 1, "the other is still on its way")
      })
    )

    it.effect("that passes before there is a slot says so, in the error and in an event", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const seen = yield* observe(pool)
        yield* start(pool.stream(request).pipe(Stream.runDrain))
        wire.at(0).head()
        const waiting = [
          yield* start(Effect.flip(pool.client.get("/"))),
          yield* start(Effect.flip(pool.client.get("/")))
        ]
        yield* TestClock.adjust("5 seconds")
        for (const fiber of waiting) {
          const error = timedOut(yield* Fiber.join(fiber), "request", 5000)
          assert.deepStrictEqual(waitedOf(error), Option.some(5000))
          assert.include(error.message, "5000 ms of it without a slot")
          assert.include(error.message, "raise `size`")
        }
        yield* turn
        assert.deepStrictEqual(
          seen.filter((event) => event._tag === "Saturated"),
          [{ _tag: "Saturated", origin: "http://test.local", reason: "requestTimeout" }]
        )
        const stats = yield* pool.stats
        assert.deepStrictEqual([stats.timeouts, stats.saturated], [2, 0])
      })
    )

    for (const [waited, advice] of [
      [0, "raise the limit"],
      [2499, "raise the limit"],
      [2500, "raise `size`"]
    ] as const) {
      it.effect(`after ${waited} of 5000 ms without a slot advises: ${advice}`, () =>
        Effect.gen(function* () {
          const wire = new Wire((sent) => sent.write())
          const pool = yield* single(wire, options)
          const seen = yield* observe(pool)
          const first = yield* start(pool.client.get("/1"))
          const second = yield* start(Effect.flip(pool.client.get("/2")))
          if (waited > 0) yield* TestClock.adjust(waited)
          wire.at(0).reply()
          yield* Fiber.join(first)
          yield* TestClock.adjust(5000 - waited)
          const error = timedOut(yield* Fiber.join(second), "request", 5000)
          assert.deepStrictEqual(waitedOf(error), Option.some(waited))
          assert.include(error.message, advice)
          assert.strictEqual(error.attempts, 1)
          yield* turn
          assert.deepStrictEqual(
            seen.filter((event) => event._tag === "Saturated"),
            [],
            "it had a slot"
          )
        })
      )
    }

    it.effect("alone tells of the wait", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, { attemptTimeout: "1 seconds" })
        const first = yield* start(Effect.flip(pool.client.get("/1")))
        const second = yield* start(Effect.flip(pool.client.get("/2")))
        yield* TestClock.adjust("1 seconds")
        yield* TestClock.adjust("1 seconds")
        for (const fiber of [first, second]) {
          const error = timedOut(yield* Fiber.join(fiber), "attempt", 1000)
          assert.isUndefined(error.waited)
          assert.include(error.message, "raise the limit")
        }
      })
    )

    it.effect("counts before the headers", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("5 seconds")
        timedOut(yield* Fiber.join(fiber), "request", 5000)
        assert.isTrue(wire.at(0).aborted)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("counts while the body is read, however lively", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, options)
        const fiber = yield* start(readFailure(text(pool.client.get("/"))))
        wire.at(0).head()
        for (let i = 0; i < 5; i++) {
          wire.at(0).data("x")
          yield* TestClock.adjust("1 seconds")
        }
        timedOut(yield* Fiber.join(fiber), "request", 5000)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("counts while nobody reads the body, paused or not", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire, { ...options, bodyBufferSize: KiB })
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head()
        const response = yield* Fiber.join(fiber)
        wire.at(0).data(new Uint8Array(2 * KiB))
        yield* TestClock.adjust("5 seconds")
        timedOut(yield* readFailure(response.text), "request", 5000)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("does not count when the response is complete", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("done"))
        const pool = yield* single(wire, options)
        const response = yield* pool.client.get("/")
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* response.text, "done")
        assert.strictEqual((yield* pool.stats).timeouts, 0)
      })
    )
  })

  it.effect("no limit is a limit that never passes", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* single(wire, {
        acquireTimeout: "Infinity",
        responseHeaderTimeout: "Infinity",
        bodyIdleTimeout: "Infinity",
        requestTimeout: "Infinity"
      })
      const first = yield* start(text(pool.client.get("/")))
      const second = yield* start(text(pool.client.get("/")))
      yield* TestClock.adjust("365 days")
      wire.at(0).head()
      yield* turn
      yield* TestClock.adjust("365 days")
      wire.at(0).data("patience").end()
      yield* turn
      wire.at(1).reply("pays")
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], ["patience", "pays"])
    })
  )

  describe("what lasts", () => {
    for (const [what, open] of [
      ["pool.stream", (pool: Pool) => Stream.runDrain(pool.stream(request))],
      [
        "an event stream",
        (pool: Pool) => Effect.flatMap(pool.client.get("/"), (response) => Stream.runDrain(response.stream))
      ]
    ] as const) {
      describe(what, () => {
        const head = (sent: Sent) =>
          sent.head(200, what === "pool.stream" ? {} : { "content-type": "Text/Event-Stream; charset=utf-8" })

        it.effect("has a requestTimeout up to its headers", () =>
          Effect.gen(function* () {
            const wire = new Wire((sent) => sent.write())
            const pool = yield* single(wire, { requestTimeout: "5 seconds" })
            const fiber = yield* start(Effect.flip(open(pool)))
            yield* TestClock.adjust("5 seconds")
            const error = yield* Fiber.join(fiber)
            timedOut(poolErrorOf(error), "request", 5000)
            yield* slotIsFree(pool, wire)
          })
        )

        it.effect("has only a bodyIdleTimeout after that", () =>
          Effect.gen(function* () {
            const wire = new Wire((sent) => sent.write())
            const pool = yield* single(wire, { requestTimeout: "5 seconds", bodyIdleTimeout: "3 seconds" })
            const fiber = yield* start(Effect.exit(open(pool)))
            head(wire.at(0))
            yield* turn
            for (let i = 0; i < 10; i++) {
              yield* TestClock.adjust("2 seconds")
              wire.at(0).data("tick")
              yield* turn
            }
            assert.isUndefined(fiber.pollUnsafe())
            yield* TestClock.adjust("3 seconds")
            assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
            assert.strictEqual((yield* pool.stats).timeouts, 1)
            yield* slotIsFree(pool, wire)
          })
        )
      })
    }

    for (const failOnStatus of [true, false]) {
      describe(`pool.stream with failOnStatus: ${failOnStatus}`, () => {
        it.effect("fails with a ResponseError from 400 on, whose response can be read", () =>
          Effect.gen(function* () {
            for (const status of [400, 404, 500, 599]) {
              const wire = new Wire((sent) => sent.answer(`body of ${status}`, status))
              const pool = yield* single(wire, { failOnStatus })
              const error = tagged(yield* Effect.flip(Stream.runCollect(pool.stream(request))), "ResponseError")
              assert.deepStrictEqual([error.response.status, error.attempts], [status, 1])
              assert.strictEqual(yield* error.response.text, `body of ${status}`)
              yield* slotIsFree(pool, wire)
            }
          })
        )

        it.effect("gives the body of anything below", () =>
          Effect.gen(function* () {
            const wire = new Wire((sent) => sent.answer("body", 399))
            const pool = yield* single(wire, { failOnStatus })
            assert.strictEqual((yield* Stream.runCollect(Stream.decodeText(pool.stream(request)))).join(""), "body")
          })
        )

        it.effect("keeps the requestTimeout of an answer that it refuses", () =>
          Effect.gen(function* () {
            const wire = new Wire((sent) => sent.write())
            const pool = yield* single(wire, { failOnStatus, requestTimeout: 100 })
            const reading = yield* start(Effect.flip(Stream.runDrain(pool.stream(request))))
            wire.at(0).head(503)
            assert.strictEqual((yield* Fiber.join(reading))._tag, "ResponseError")
            assert.strictEqual(yield* active(pool), 1)
            yield* TestClock.adjust(100)
            assert.strictEqual(yield* active(pool), 0)
          })
        )
      })
    }

    it.effect("pool.stream gives the body, and keeps the slot until its end", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(Stream.runCollect(Stream.decodeText(pool.stream(request))))
        wire.at(0).head().data("a")
        yield* turn
        wire.at(0).data("b")
        yield* turn
        assert.strictEqual(yield* active(pool), 1)
        wire.at(0).end()
        assert.strictEqual((yield* Fiber.join(fiber)).join("|"), "a|b")
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("pool.stream frees the slot when it is left", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(Stream.runDrain(Stream.take(pool.stream(request), 1)))
        wire.at(0).head().data("a")
        yield* Fiber.join(fiber)
        assert.isTrue(wire.at(0).aborted)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("pool.stream fails with a PoolError in the middle", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(Effect.flip(Stream.runDrain(pool.stream(request))))
        wire.at(0).head().data("a").lose()
        tagged(yield* Fiber.join(fiber), "ConnectError")
      })
    )
  })

  describe("an interrupted caller", () => {
    it.effect("that waits for a slot leaves no hole", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        yield* start(pool.client.get("/1"))
        const waiting = yield* start(pool.client.get("/2"))
        yield* start(pool.client.get("/3"))
        yield* Fiber.interrupt(waiting)
        wire.at(0).reply()
        yield* turn
        assert.deepStrictEqual(wire.paths, ["/1", "/3"])
      })
    )

    it.effect("whose connection is being made takes the request back, and opens nothing", () =>
      Effect.gen(function* () {
        const wire = new Wire()
        const pool = yield* single(wire)
        const fiber = yield* start(pool.client.get("/"))
        yield* Fiber.interrupt(fiber)
        assert.isTrue(wire.at(0).cancelled)
        assert.isFalse(wire.at(0).aborted)
        assert.strictEqual(wire.opened, 0)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("that waits for the headers aborts, and frees the slot at once", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(pool.client.get("/"))
        yield* Fiber.interrupt(fiber)
        assert.isTrue(wire.at(0).aborted)
        yield* slotIsFree(pool, wire)
        assert.strictEqual((yield* pool.stats).failures, 0)
      })
    )

    it.effect("between the response and its wake-up aborts, or gets it, but never loses the slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head()
        fiber.interruptUnsafe()
        yield* turn
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
        assert.isTrue(wire.at(0).aborted)
        yield* slotIsFree(pool, wire)
      })
    )

    it.effect("is not told what comes afterwards, and neither is anybody else", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(pool.client.get("/"))
        yield* Fiber.interrupt(fiber)
        const next = yield* start(text(pool.client.get("/next")))
        wire.at(0).head().data("old").end()
        wire.at(0).exchange.onResponseError(null, new Error("late"))
        yield* turn
        assert.isUndefined(next.pollUnsafe())
        wire.at(1).reply("new")
        assert.strictEqual(yield* Fiber.join(next), "new")
        assert.strictEqual((yield* pool.stats).failures, 0)
      })
    )
  })

  describe("the stale rule", () => {
    /** One request has been answered, so the next is on a kept-alive connection. */
    const warm = (options: Options = {}) =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("first"))
        const pool = yield* single(wire, options)
        yield* pool.client.get("/first")
        wire.onSend = (sent) => sent.write()
        return { wire, pool, events: yield* observe(pool) }
      })

    for (const method of ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] as const) {
      it.effect(`${method} on a reused connection that dies before the first byte is sent again, once`, () =>
        Effect.gen(function* () {
          const { events, pool, wire } = yield* warm()
          const fiber = yield* start(text(pool.client.execute(HttpClientRequest.make(method)("/second"))))
          wire.at(1).lose()
          assert.strictEqual(wire.sent.length, 3)
          assert.strictEqual(wire.at(2).path, "/second")
          assert.strictEqual(wire.opened, 2)
          wire.at(2).reply("again")
          assert.strictEqual(yield* Fiber.join(fiber), "again")
          const stats = yield* pool.stats
          assert.deepStrictEqual([stats.staleRetries, stats.requests, stats.responses, stats.failures], [1, 2, 2, 0])
          yield* turn
          assert.deepStrictEqual(
            events.filter((event) => event._tag === "StaleRetry"),
            [{ _tag: "StaleRetry", origin: "http://test.local", slot: 0 }]
          )
        })
      )
    }

    it.effect("not twice", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* warm()
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        wire.at(1).lose()
        wire.at(2).lose()
        const error = tagged(yield* Fiber.join(fiber), "ConnectError")
        assert.deepStrictEqual([error.phase, error.sent, error.attempts], ["response", true, 1])
        assert.strictEqual(wire.sent.length, 3)
        yield* slotIsFree(pool, wire)
      })
    )

    for (const [when, onSend, sent] of [
      ["had begun to write it may have sent it", (first: Sent) => first.begin(), true],
      ["had written all of it may have sent it", (first: Sent) => first.write(), true],
      ["had written none of it has not sent it", () => {}, false]
    ] as const) {
      it.effect(`the failure to connect again, after a connection that ${when}`, () =>
        Effect.gen(function* () {
          const { pool, wire } = yield* warm()
          wire.onSend = onSend
          const fiber = yield* start(Effect.flip(pool.client.get("/")))
          wire.onSend = () => {}
          wire.at(1).lose()
          wire.at(2).refuse()
          const error = tagged(yield* Fiber.join(fiber), "ConnectError")
          assert.deepStrictEqual([error.phase, error.sent, error.attempts], ["tcp", sent, 1])
          const stats = yield* pool.stats
          assert.deepStrictEqual([stats.staleRetries, stats.connectionsFailed], [1, 1])
          yield* slotIsFree(pool, wire)
        })
      )
    }

    it.effect("not on a fresh connection", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        wire.at(0).lose()
        tagged(yield* Fiber.join(fiber), "ConnectError")
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("not after the first byte of a response", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* warm()
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        wire.at(1).exchange.onResponseStarted()
        wire.at(1).lose()
        tagged(yield* Fiber.join(fiber), "ConnectError")
        assert.strictEqual((yield* pool.stats).staleRetries, 0)
      })
    )

    it.effect("not for POST or PATCH once any of it was written", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* warm()
        wire.onSend = (sent) => sent.begin()
        const fiber = yield* start(Effect.flip(pool.client.post("/")))
        wire.at(1).lose()
        const error = tagged(yield* Fiber.join(fiber), "ConnectError")
        assert.deepStrictEqual([error.phase, error.sent], ["request", true])
        assert.strictEqual(wire.sent.length, 2)
      })
    )

    it.effect("POST when none of it was written", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* warm()
        wire.onSend = () => {}
        const fiber = yield* start(text(pool.client.post("/", { body: HttpBody.text("x") })))
        wire.at(1).lose()
        wire.at(2).answer("sent once")
        assert.strictEqual(yield* Fiber.join(fiber), "sent once")
        assert.strictEqual((yield* pool.stats).staleRetries, 1)
      })
    )

    it.effect("not for a connection that could not be made", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.refuse())
        const pool = yield* single(wire)
        const error = tagged(yield* Effect.flip(pool.client.get("/")), "ConnectError")
        assert.deepStrictEqual([error.phase, error.sent, error.address], ["tcp", false, "192.0.2.1:80"])
        assert.include(error.message, "ECONNREFUSED")
        assert.strictEqual(wire.sent.length, 1)
        assert.strictEqual((yield* pool.stats).staleRetries, 0)
      })
    )

    it.effect("not for a body that is used up by being sent", () =>
      Effect.gen(function* () {
        const oneShot: ReadonlyArray<HttpBody.HttpBody> = [
          HttpBody.stream(Stream.make(Uint8Array.of(1))),
          HttpBody.raw(new ReadableStream()),
          HttpBody.raw((async function* () {})())
        ]
        for (const body of oneShot) {
          const { pool, wire } = yield* warm()
          const fiber = yield* start(Effect.flip(pool.client.put("/", { body })))
          wire.at(1).lose()
          tagged(yield* Fiber.join(fiber), "ConnectError")
          assert.strictEqual(wire.sent.length, 2)
        }
      })
    )

    it.effect("for a body that can be sent again", () =>
      Effect.gen(function* () {
        for (const body of [
          HttpBody.text("x"),
          HttpBody.uint8Array(Uint8Array.of(1)),
          HttpBody.raw("raw"),
          HttpBody.raw({})
        ]) {
          const { pool, wire } = yield* warm()
          const fiber = yield* start(text(pool.client.put("/", { body })))
          wire.at(1).lose()
          assert.strictEqual(wire.at(2).exchange.body, body)
          wire.at(2).reply("again")
          assert.strictEqual(yield* Fiber.join(fiber), "again")
        }
      })
    )

    it.effect("has all the time limits again, but those of the whole", () =>
      Effect.gen(function* () {
        const { pool, wire } = yield* warm({ responseHeaderTimeout: "3 seconds", requestTimeout: "5 seconds" })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("2900 millis")
        wire.at(1).lose()
        yield* TestClock.adjust("2000 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("100 millis")
        timedOut(yield* Fiber.join(fiber), "request", 5000)
      })
    )
  })

  describe("failures of a transport become errors", () => {
    const failWith = (failure: Failure) =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write().fail(failure))
        const pool = yield* single(wire)
        const error = yield* Effect.flip(pool.client.get("/x"))
        return { error, stats: yield* pool.stats }
      })

    it.effect("Connect", () =>
      Effect.gen(function* () {
        const cause = new Error("why")
        const { error, stats } = yield* failWith({ _tag: "Connect", phase: "tls", address: "a:1", millis: 12, cause })
        const connect = tagged(error, "ConnectError")
        assert.deepStrictEqual([connect.phase, connect.address, connect.cause], ["tls", "a:1", cause])
        assert.deepStrictEqual(Option.map(Option.fromUndefinedOr(connect.elapsed), Duration.toMillis), Option.some(12))
        assert.deepStrictEqual([stats.failures, stats.responses, stats.timeouts], [1, 0, 0])
      })
    )

    it.effect("ConnectTimeout", () =>
      Effect.gen(function* () {
        for (const phase of ["dial", "tls"] as const) {
          const { error, stats } = yield* failWith({ _tag: "ConnectTimeout", phase, address: "a:1", millis: 5000 })
          assert.strictEqual(timedOut(error, phase, 5000).address, "a:1")
          assert.deepStrictEqual([stats.failures, stats.timeouts], [1, 1])
        }
      })
    )

    it.effect("Protocol", () =>
      Effect.gen(function* () {
        const { error } = yield* failWith({ _tag: "Protocol", reason: "its head is too large", cause: "why" })
        assert.strictEqual(tagged(error, "DecodeError").reason, "its head is too large")
      })
    )

    it.effect("Rejected", () =>
      Effect.gen(function* () {
        const { error } = yield* failWith({ _tag: "Rejected", reason: "a header is not allowed", cause: "why" })
        assert.strictEqual(tagged(error, "InvalidRequest").reason, "a header is not allowed")
      })
    )

    it.effect("with the credentials left out", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.refuse())
        const pool = yield* single(wire)
        const error = yield* Effect.flip(
          pool.client.get("/x?access_token=s3cret&a=1", { headers: { authorization: "Bearer s3cret" } })
        )
        assert.notInclude(error.request.url + error.message, "s3cret")
        assert.include(error.request.url, "a=1")
      })
    )
  })

  describe("an end that is that of the connection", () => {
    const ended = (headers: Record<string, string>) =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(text(pool.client.get("/")))
        wire.at(0).connection.hidden = new Error("reset")
        wire.at(0).head(200, headers).data("part").end()
        return yield* Effect.exit(Fiber.join(fiber))
      })

    it.effect("is an error when the connection broke: the body may be a part", () =>
      Effect.gen(function* () {
        assert.isTrue(Exit.isFailure(yield* ended({})))
      })
    )

    it.effect("is an end when the body has a length of its own", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* ended({ "content-length": "4" }), Exit.succeed("part"))
        assert.deepStrictEqual(yield* ended({ "transfer-encoding": "chunked" }), Exit.succeed("part"))
      })
    )
  })

  describe("the caller's services", () => {
    class Name extends Context.Service<Name, string>()("test/Name") {}

    const nameOf = (sent: Sent) => Context.getOption(sent.exchange.services, Name)

    const streamed = HttpClientRequest.put("/").pipe(
      HttpClientRequest.setBody(HttpBody.stream(Stream.make(Uint8Array.of(1))))
    )

    for (const [lane, clientOf] of [
      ["fast", (pool: Pool) => pool.client],
      ["transformed", (pool: Pool) => HttpClient.mapRequest(pool.client, (_) => _)],
      ["scoped", (pool: Pool) => HttpClient.withScope(pool.client)]
    ] as const) {
      describe(`on the ${lane} lane`, () => {
        const make = Effect.gen(function* () {
          const wire = new Wire((sent) => sent.begin())
          const { pool, services } = yield* Effect.gen(function* () {
            const made = yield* Pools.make({ baseUrl: "http://test.local", size: 1, drainTimeout: 0 })
            return { pool: made, services: yield* Effect.context<never>() }
          }).pipe(Effect.provide(wire.layer))
          const send = (what: HttpClientRequest.HttpClientRequest) =>
            start(Effect.exit(Effect.provideService(clientOf(pool).execute(what), Name, "caller")))
          return { wire, services, send }
        })

        it.effect("are not held for a request that needs none", () =>
          Effect.gen(function* () {
            const { send, services, wire } = yield* make
            yield* send(request)
            assert.deepStrictEqual(nameOf(wire.at(0)), Option.none())
            assert.strictEqual(wire.at(0).exchange.services, services)
          })
        )

        it.effect("are held for a streamed body until it is sent", () =>
          Effect.gen(function* () {
            const { send, services, wire } = yield* make
            yield* send(streamed)
            assert.deepStrictEqual(nameOf(wire.at(0)), Option.some("caller"))
            wire.at(0).exchange.onRequestSent()
            assert.strictEqual(wire.at(0).exchange.services, services)
          })
        )

        for (const [how, end] of [
          ["fails", (sent: Sent) => Effect.sync(() => sent.lose())],
          ["is answered early", (sent: Sent) => Effect.sync(() => sent.reply("no", 413))],
          ["is interrupted", (_: Sent, fiber: Fiber.Fiber<unknown>) => Fiber.interrupt(fiber)]
        ] as const) {
          it.effect(`are not held beyond a request that ${how} before it is sent`, () =>
            Effect.gen(function* () {
              const { send, services, wire } = yield* make
              const fiber = yield* send(streamed)
              assert.deepStrictEqual(nameOf(wire.at(0)), Option.some("caller"))
              yield* end(wire.at(0), fiber)
              assert.strictEqual(wire.at(0).exchange.services, services)
            })
          )
        }
      })
    }
  })

  describe("interim responses", () => {
    it.effect("are not the answer", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* single(wire)
        const fiber = yield* start(pool.client.get("/"))
        wire.at(0).head(100).head(103, { link: "<a>" })
        yield* turn
        assert.isUndefined(fiber.pollUnsafe())
        wire.at(0).reply("real", 201)
        const response = yield* Fiber.join(fiber)
        assert.deepStrictEqual([response.status, yield* response.text], [201, "real"])
      })
    )
  })

  describe("a response while the request is still written", () => {
    it.effect("is the answer", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.begin())
        const pool = yield* single(wire, { responseHeaderTimeout: "1 seconds", bodyIdleTimeout: "10 seconds" })
        const fiber = yield* start(pool.client.post("/", { body: HttpBody.text("large") }))
        wire.at(0).head(413)
        const response = yield* Fiber.join(fiber)
        wire.at(0).exchange.onRequestSent()
        yield* TestClock.adjust("5 seconds")
        wire.at(0).data("too large").end()
        assert.deepStrictEqual([response.status, yield* response.text], [413, "too large"])
      })
    )
  })

  describe("failOnStatus", () => {
    it.effect("makes an error of 4xx and 5xx, whose response can be read", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer(`body of ${sent.path}`, Number(sent.path.slice(1))))
        const pool = yield* single(wire, { failOnStatus: true })
        for (const status of [400, 404, 500, 599]) {
          const error = tagged(yield* Effect.flip(pool.client.get(`/${status}`)), "ResponseError")
          assert.strictEqual(error.response.status, status)
          assert.strictEqual(yield* error.response.text, `body of /${status}`)
          assert.include(error.message, String(status))
        }
        for (const status of [200, 204, 302, 399]) {
          assert.strictEqual((yield* pool.client.get(`/${status}`)).status, status)
        }
        const { failures, responses } = yield* pool.stats
        assert.deepStrictEqual({ failures, responses }, { failures: 0, responses: 8 })
      })
    )

    it.effect("is off unless asked for", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("", 503))
        const pool = yield* single(wire)
        assert.strictEqual((yield* pool.client.get("/")).status, 503)
      })
    )
  })

  it.effect("a request that is cancelled must not be written", () =>
    Effect.gen(function* () {
      const wire = new Wire()
      const pool = yield* single(wire)
      const fiber = yield* start(pool.client.get("/"))
      yield* Fiber.interrupt(fiber)
      assert.throws(() => wire.at(0).exchange.onRequestStart(wire.at(0)))
    })
  )
})
