import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, References, Schema, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Hedge from "../../src/policy/Hedge.ts"
import { resolve, rules } from "../../src/policy/internal/hedgeOptions.ts"
import { onWire, start, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const get = HttpClientRequest.get("/x")

/** A client that takes `latencies` one after the other, in milliseconds; it counts what it was asked for. */
const client = (...latencies: ReadonlyArray<number>) => {
  const sent = { count: 0, cut: 0 }
  const made = HttpClient.makeWith<never, never, never, never>(
    Effect.flatMap((request) =>
      Effect.suspend(() => {
        const n = sent.count++
        const response = HttpClientResponse.fromWeb(request, new Response(String(n), { status: n === 0 ? 200 : 201 }))
        return Effect.sleep(latencies[n] ?? latencies.at(-1) ?? 0).pipe(
          Effect.as(response),
          Effect.onInterrupt(() => Effect.sync(() => sent.cut++))
        )
      })
    ),
    Effect.succeed
  )
  return { client: made, sent }
}

/** Runs it, while as much time passes. */
const within = <A, E>(millis: number, effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* TestClock.adjust(millis)
    return yield* Fiber.join(fiber)
  })

const ruleOf = (options: Parameters<typeof resolve>[0]) => Hedge.makeUnsafe(resolve(options))

describe("Hedge", () => {
  describe("rule", () => {
    it("waits for a fixed delay, in whole milliseconds", () => {
      assert.strictEqual(ruleOf({ delay: 100 }).delay(get), 100)
      assert.strictEqual(ruleOf({ delay: 0.5 }).delay(get), 1)
    })

    for (const method of ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] as const) {
      it(`hedges ${method}`, () => {
        assert.strictEqual(ruleOf({ delay: 5 }).delay(HttpClientRequest.make(method)("/x")), 5)
      })
    }

    for (const method of ["POST", "PATCH"] as const) {
      it(`does not hedge ${method}: it is not idempotent`, () => {
        const rule = ruleOf({ delay: 5 })
        assert.isUndefined(rule.delay(HttpClientRequest.make(method)("/x")))
        assert.strictEqual(rule.snapshot().requests, 0)
      })
    }

    it("does not hedge a body that cannot be read again", () => {
      const once = HttpClientRequest.bodyStream(HttpClientRequest.put("/x"), Stream.make(new Uint8Array(1)))
      assert.isUndefined(ruleOf({ delay: 5 }).delay(once))
    })

    it("hedges nothing until minSamples latencies are known, then after their percentile", () => {
      const rule = ruleOf({ percentile: 0.9, minSamples: 10 })
      for (let i = 1; i <= 9; i++) rule.observe(i * 5, get)
      assert.isUndefined(rule.delay(get))
      assert.isUndefined(rule.snapshot().delay)
      rule.observe(50, get)
      assert.strictEqual(rule.delay(get), 45)
      assert.deepStrictEqual(rule.snapshot().delay, Duration.millis(45))
    })

    it("uses the fixed delay until then, when there are both", () => {
      const rule = ruleOf({ delay: 7, percentile: 0.5, minSamples: 3 })
      for (const millis of [20, 20]) rule.observe(millis, get)
      assert.strictEqual(rule.delay(get), 7)
      rule.observe(20, get)
      assert.strictEqual(rule.delay(get), 20)
    })

    it("learns no delay below minDelay", () => {
      const rule = ruleOf({ minSamples: 1 })
      rule.observe(1, get)
      assert.strictEqual(rule.delay(get), 10)
    })

    it("learns whole milliseconds, so that equal delays share a timer", () => {
      const rule = ruleOf({ minSamples: 1, percentile: 0.5 })
      rule.observe(20.3, get)
      assert.strictEqual(rule.delay(get), 21)
    })

    it("goes on learning", () => {
      const rule = ruleOf({ minSamples: 1, percentile: 0.5 })
      rule.observe(20, get)
      for (let i = 0; i < 32; i++) rule.observe(60, get)
      assert.strictEqual(rule.delay(get), 60)
    })

    it("a fixed delay learns nothing; nor does what may not be hedged", () => {
      const fixed = ruleOf({ delay: 7 })
      for (let i = 0; i < 200; i++) fixed.observe(60, get)
      assert.strictEqual(fixed.delay(get), 7)
      const learning = ruleOf({ minSamples: 1 })
      learning.observe(60, HttpClientRequest.post("/x"))
      assert.isUndefined(learning.delay(get))
    })

    it("without a request it is a guarded effect that is asked for", () => {
      const rule = ruleOf({ minSamples: 1 })
      rule.observe(60)
      assert.strictEqual(rule.delay(), 60)
    })

    it("does not wait in vain for a second attempt when the budget is spent", () => {
      const rule = ruleOf({ delay: 5, maxRatio: 0.1 })
      assert.strictEqual(rule.delay(get), 5)
      assert.isTrue(rule.fire())
      assert.isFalse(rule.fire())
      assert.isUndefined(rule.delay(get))
      for (let i = 0; i < 8; i++) rule.delay(get)
      assert.isTrue(rule.fire(), "ten requests have earned one")
    })

    it("saves up no more than ten", () => {
      const rule = ruleOf({ delay: 5, maxRatio: 1 })
      for (let i = 0; i < 1000; i++) rule.delay(get)
      let fired = 0
      while (rule.fire()) fired++
      assert.strictEqual(fired, 10)
    })

    // Each number: 0 asks to fire, any other is a request.
    it.prop(
      "never sends more than maxRatio of the requests and one, at whatever times",
      [
        Schema.Number.check(Schema.isBetween({ minimum: 0.0001, maximum: 1 })),
        Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3 }))).check(Schema.isMaxLength(400))
      ],
      ([maxRatio, steps]) => {
        const rule = ruleOf({ delay: 5, maxRatio })
        for (const step of steps) {
          if (step === 0) rule.fire()
          else rule.delay(get)
          const { hedges, requests } = rule.snapshot()
          assert.isAtMost(hedges, maxRatio * requests + 1 + 1e-9)
        }
      },
      { arbitrary: { runs: 300 } }
    )

    it("a server that is slow altogether is not asked twice for everything", () => {
      const rule = ruleOf({ delay: 5 })
      for (let i = 0; i < 1000; i++) if (rule.delay(get) !== undefined) rule.fire()
      assert.strictEqual(rule.snapshot().hedges, 101)
    })

    it("the percentile does not sink, though hedges cut the slow ones", () => {
      // A second attempt always wins at once, and nine in ten take 20 ms, one 400 ms.
      const rule = ruleOf({ percentile: 0.9, minSamples: 20, maxRatio: 1 })
      for (let i = 0; i < 5000; i++) {
        const latency = i % 10 === 0 ? 400 : 20
        const delay = rule.delay(get)
        rule.observe(delay !== undefined && latency > delay && rule.fire() ? delay + 1 : latency, get)
      }
      assert.strictEqual(rule.delay(get), 20)
      assert.isAbove(rule.snapshot().hedges, 400)
    })
  })

  describe("wrap", () => {
    it.effect("a quick answer has no second attempt", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const { client: inner, sent } = client(49)
        const response = yield* within(49, hedge.wrap(inner).get("/x"))
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(response.status, 200)
        assert.deepStrictEqual(sent, { count: 1, cut: 0 })
        assert.deepStrictEqual(hedge.snapshot(), { requests: 1, hedges: 0, wins: 0, delay: Duration.millis(50) })
      })
    )

    it.effect("a slow one has; the first response wins and the loser is interrupted", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const { client: inner, sent } = client(1000, 10)
        const response = yield* within(60, hedge.wrap(inner).get("/x"))
        assert.strictEqual(response.status, 201)
        assert.deepStrictEqual(sent, { count: 2, cut: 1 })
        assert.deepStrictEqual(hedge.snapshot(), { requests: 1, hedges: 1, wins: 1, delay: Duration.millis(50) })
      })
    )

    it.effect("the first attempt may still win", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const { client: inner, sent } = client(55, 10)
        assert.strictEqual((yield* within(55, hedge.wrap(inner).get("/x"))).status, 200)
        assert.deepStrictEqual(sent, { count: 2, cut: 1 })
        assert.strictEqual(hedge.snapshot().wins, 0)
      })
    )

    it.effect("there are never more than two attempts", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50, maxRatio: 1 })
        const { client: inner, sent } = client(10_000)
        yield* within(10_000, hedge.wrap(inner).get("/x"))
        assert.strictEqual(sent.count, 2)
      })
    )

    it.effect("POST is sent once, however slow", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const { client: inner, sent } = client(10_000)
        yield* within(10_000, hedge.wrap(inner).post("/x"))
        assert.strictEqual(sent.count, 1)
      })
    )

    it.effect("learns the delay from what it sees", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ percentile: 0.95, minSamples: 20 })
        const usual = hedge.wrap(client(30).client)
        for (let i = 0; i < 20; i++) yield* within(30, usual.get("/x"))
        assert.deepStrictEqual(hedge.snapshot().delay, Duration.millis(30))
        const { client: inner, sent } = client(1000, 5)
        yield* within(35, hedge.wrap(inner).get("/x"))
        assert.strictEqual(sent.count, 2)
      })
    )

    it.effect("a failure before the delay is not hedged: that is for a retry", () =>
      Effect.gen(function* () {
        let count = 0
        const failing = HttpClient.makeWith<never, never, string, never>(
          Effect.flatMap(() => Effect.suspend(() => (count++, Effect.fail("refused")))),
          Effect.succeed
        )
        const hedge = yield* Hedge.make({ delay: 50 })
        assert.strictEqual(yield* Effect.flip(hedge.wrap(failing).get("/x")), "refused")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(count, 1)
      })
    )

    it.effect("a slow one stays alone when others have spent the budget meanwhile", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const { client: inner, sent } = client(1000)
        const wrapped = hedge.wrap(inner)
        yield* within(1000, Effect.all([wrapped.get("/x"), wrapped.get("/x")], { concurrency: 2 }))
        assert.strictEqual(sent.count, 3)
        assert.strictEqual(hedge.snapshot().hedges, 1)
      })
    )

    // The response is there when the caller is interrupted, and has not reached it.
    it.effect("a response that an interruption overtakes is discarded", () =>
      Effect.gen(function* () {
        let cancelled = false
        const body = new ReadableStream({ cancel: () => void (cancelled = true) })
        const inner = HttpClient.makeWith<never, never, never, never>(
          Effect.map((request) => HttpClientResponse.fromWeb(request, new Response(body))),
          Effect.succeed
        )
        const hedge = yield* Hedge.make({ delay: 50 })
        const fiber = yield* Effect.forkChild(hedge.wrap(inner).get("http://a.test"), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
        assert.isTrue(cancelled)
      })
    )

    it.effect("what transforms the request before it still does", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const seen: Array<string> = []
        const inner = HttpClient.makeWith<never, never, never, never>(
          Effect.flatMap((request) => {
            seen.push(request.url)
            return Effect.succeed(HttpClientResponse.fromWeb(request, new Response("")))
          }),
          Effect.succeed
        ).pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl("http://a.test")))
        yield* hedge.wrap(inner).get("/x")
        assert.deepStrictEqual(seen, ["http://a.test/x"])
      })
    )
  })

  describe("guard", () => {
    it.effect("runs any effect a second time", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        let runs = 0
        const effect = Effect.suspend(() => (runs++ === 0 ? Effect.never : Effect.succeed("second")))
        assert.strictEqual(yield* within(50, hedge.guard(effect)), "second")
      })
    )

    it.effect("a result that an interruption overtakes is nobody's", () =>
      Effect.gen(function* () {
        const hedge = yield* Hedge.make({ delay: 50 })
        const fiber = yield* Effect.forkChild(hedge.guard(Effect.succeed(1)), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      })
    )
  })

  describe("over a pool", () => {
    it.effect("the second attempt is on another slot, and the loser is aborted and gives its slot back", () =>
      Effect.gen(function* () {
        const wire = new Wire()
        const pool = yield* onWire(wire, { size: 2 })
        const hedge = yield* Hedge.make({ delay: 50 })
        const fiber = yield* start(hedge.wrap(pool.client).get("/x"))
        yield* TestClock.adjust(50)
        yield* turn
        assert.deepStrictEqual(wire.slots, [0, 1])
        wire.at(0).write()
        wire.at(1).answer("second")
        const response = yield* Fiber.join(fiber)
        assert.strictEqual(yield* response.text, "second")
        yield* turn
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    // At another operation in each run: before the hedge, beside it, and as responses arrive.
    it.live("whenever the caller is interrupted, no slot is lost", () =>
      Effect.gen(function* () {
        const outcomes = { interrupted: 0, delivered: 0 }
        for (let budget = 4; budget < 14; budget++) {
          for (let moment = 0; moment < 10; moment++) {
            yield* Effect.scoped(
              Effect.gen(function* () {
                const wire = new Wire((sent) =>
                  queueMicrotask(() => sent.aborted || sent.cancelled || sent.answer("ok"))
                )
                const pool = yield* onWire(wire, { size: 2 })
                const hedge = yield* Hedge.make({ delay: 1, maxRatio: 1 })
                const fiber = yield* Effect.flatMap(
                  hedge.wrap(pool.client).get("/x"),
                  (response) => response.text
                ).pipe(
                  Effect.provideService(References.MaxOpsBeforeYield, budget),
                  Effect.forkChild({ startImmediately: true })
                )
                for (let i = 0; i < moment; i++) {
                  yield* i % 2 === 0 ? Effect.yieldNow : Effect.promise(() => Promise.resolve())
                }
                yield* Fiber.interrupt(fiber)
                const exit = yield* Fiber.await(fiber)
                outcomes[Exit.isSuccess(exit) ? "delivered" : "interrupted"]++
                if (Exit.isFailure(exit)) assert.isTrue(Cause.hasInterruptsOnly(exit.cause))
                yield* turn
                assert.strictEqual((yield* pool.stats).active, 0)
              })
            )
          }
        }
        assert.isAbove(outcomes.interrupted, 0)
      })
    )
  })

  describe("options", () => {
    it.effect("all problems are reported at once", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          Hedge.make({ delay: -1, percentile: 1.5, minSamples: 0, maxRatio: 0, minDelay: Infinity })
        )
        assert.sameMembers(
          error.problems.map((problem) => problem.path),
          ["delay", "percentile", "minSamples", "maxRatio", "minDelay"]
        )
      })
    )

    it.effect("what means nothing with a fixed delay is refused", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Hedge.make({ delay: 50, minDelay: 10, minSamples: 5 }))
        assert.deepStrictEqual(
          error.problems.map((problem) => problem.path),
          ["minDelay", "minSamples"]
        )
        assert.deepStrictEqual(rules({ delay: 50, percentile: 0.9, minSamples: 5 }), [])
      })
    )

    it("the defaults are those of the documentation", () => {
      const learned = { delay: undefined, percentile: 0.95, minDelay: 10, minSamples: 100, maxRatio: 0.1 }
      assert.deepStrictEqual(resolve({}), learned)
      assert.deepStrictEqual(resolve({ delay: 50 }), { ...learned, delay: 50, percentile: undefined })
    })
  })
})
