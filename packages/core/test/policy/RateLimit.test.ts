import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, References, Schema } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { CircuitOpen, RateLimitExceeded } from "../../src/model/PoolError.ts"
import { type Gate, through } from "../../src/policy/Policy.ts"
import * as RateLimit from "../../src/policy/RateLimit.ts"
import { RateLimitGate } from "../../src/policy/internal/rateLimitGate.ts"
import { resolve } from "../../src/policy/internal/rateLimitOptions.ts"
import { start, turn } from "../fixtures/pools.ts"
import { ManualTimers } from "../fixtures/time.ts"

const base: RateLimit.Options = { limit: 10, interval: "1 second", burst: 1 }

const request = HttpClientRequest.get("http://a.test/x")

const respond = (status = 200, headers: Record<string, string> = {}) =>
  HttpClientResponse.fromWeb(request, new Response(null, { status, headers }))

const client = (answer: () => HttpClientResponse.HttpClientResponse) => HttpClient.make(() => Effect.sync(answer))

/** A gate for attempts, on a clock of its own. */
const gateWith = (options: Parameters<typeof resolve>[0] = {}) => {
  const timers = new ManualTimers()
  const pauses: Array<number> = []
  const gate = new RateLimitGate(resolve({ limit: 10, interval: 1_000, burst: 1, ...options }), {
    timers,
    epoch: () => 1_767_225_600_000,
    onPause: (millis) => void pauses.push(millis)
  })
  return { gate, timers, pauses }
}

const open = new CircuitOpen({ request, attempts: 0, retryAfter: Duration.seconds(1) })
const refusing: Gate<CircuitOpen> = { admit: () => Effect.fail(open), settle: () => {} }

describe("RateLimit", () => {
  it.effect("guards any effect: above the limit it waits, one after the other, in order", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit.make(base)
      const order: Array<number> = []
      const run = (n: number) => limit.guard(Effect.sync(() => order.push(n)))
      const fibers = yield* Effect.forEach([0, 1, 2, 3], (n) => start(run(n)))
      assert.deepStrictEqual(order, [0])
      assert.strictEqual((yield* limit.stats).waiting, 3)
      for (let n = 1; n <= 3; n++) {
        yield* TestClock.adjust(99)
        assert.strictEqual(order.length, n)
        yield* TestClock.adjust(1)
        assert.strictEqual(order.length, n + 1)
      }
      for (const fiber of fibers) yield* Fiber.join(fiber)
      assert.deepStrictEqual(order, [0, 1, 2, 3])
    })
  )

  it.effect("wraps any HttpClient; all its requests share the limit", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit.make({ ...base, maxWait: 0 })
      const limited = limit.wrap(client(() => respond()))
      assert.strictEqual((yield* limited.get("http://a.test/x")).status, 200)
      const error = yield* Effect.flip(limited.get("http://b.test/y?token=secret"))
      assert.instanceOf(error, RateLimitExceeded)
      if (!(error instanceof RateLimitExceeded)) return
      assert.strictEqual(Duration.toMillis(error.retryAfter), 100)
      assert.strictEqual(error.attempts, 0)
      assert.include(error.request.url, "http://b.test/y")
      assert.notInclude(error.message, "secret")
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* limited.get("http://b.test/y")).status, 200)
    })
  )

  it.effect("a cost larger than the burst fails at once and says that no wait helps", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit.make({ ...base, burst: 3, cost: (sent) => Number(sent.url.slice(-1)) })
      const limited = limit.wrap(client(() => respond()))
      const error = yield* Effect.flip(limited.get("http://a.test/4"))
      assert.isTrue(error instanceof RateLimitExceeded && !Duration.isFinite(error.retryAfter))
      const direct = yield* Effect.flip(limit.acquire(4))
      assert.isFalse(Duration.isFinite(direct.retryAfter))
      assert.include(direct.message, "more than the limit ever allows")
      yield* limited.get("http://a.test/3")
      assert.strictEqual(limit.snapshot().available, 0)
    })
  )

  it.effect("a cost that is no number is a defect, and takes nothing; a fraction is rounded up", () =>
    Effect.gen(function* () {
      const costs = [NaN, -1, 0.5, 0]
      const limit = yield* RateLimit.make({ ...base, burst: 3, cost: () => costs.shift() ?? 1 })
      const run = limit.guard(Effect.void)
      for (let i = 0; i < 2; i++) assert.isTrue(Exit.hasDies(yield* Effect.exit(run)))
      assert.strictEqual(limit.snapshot().available, 3)
      yield* run
      yield* run
      assert.strictEqual(limit.snapshot().available, 2)
    })
  )

  describe("acquire", () => {
    it.effect("answers the time that it waited", () =>
      Effect.gen(function* () {
        const limit = yield* RateLimit.make({ ...base, burst: 2 })
        assert.strictEqual(Duration.toMillis(yield* limit.acquire(2)), 0)
        const fiber = yield* start(limit.acquire())
        yield* TestClock.adjust(100)
        assert.strictEqual(Duration.toMillis(yield* Fiber.join(fiber)), 100)
      })
    )

    it.effect("fails with what to wait for, and when a pause makes its wait too long", () =>
      Effect.gen(function* () {
        const limit = yield* RateLimit.make({ ...base, maxWait: 100 })
        yield* limit.acquire()
        const waiting = yield* start(Effect.flip(limit.acquire()))
        assert.strictEqual(Duration.toMillis((yield* Effect.flip(limit.acquire())).retryAfter), 200)
        yield* limit.pause("5 seconds")
        assert.strictEqual(Duration.toMillis((yield* Fiber.join(waiting)).retryAfter), 5_000)
      })
    )

    it.effect("interrupted while it waits gives its place back", () =>
      Effect.gen(function* () {
        const limit = yield* RateLimit.make(base)
        yield* limit.acquire()
        const first = yield* start(limit.acquire())
        const second = yield* start(limit.acquire())
        yield* Fiber.interrupt(first)
        assert.strictEqual(limit.snapshot().waiting, 1)
        yield* TestClock.adjust(100)
        assert.strictEqual(Duration.toMillis(yield* Fiber.join(second)), 100)
      })
    )
  })

  it.effect("pause lets nobody pass until it ends; 0 ends it", () =>
    Effect.gen(function* () {
      const limit = yield* RateLimit.make({ ...base, burst: 5 })
      yield* limit.pause("10 minutes")
      const stats = yield* limit.stats
      assert.deepStrictEqual(stats, { available: 5, waiting: 0, pausedFor: Duration.minutes(10) })
      const fiber = yield* start(limit.acquire())
      assert.strictEqual(limit.snapshot().waiting, 1)
      yield* limit.pause(0)
      yield* turn
      yield* TestClock.adjust(0)
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(fiber)), 0)
    })
  )

  describe("what a server says", () => {
    it.effect("a 429 with Retry-After pauses it", () =>
      Effect.gen(function* () {
        const limit = yield* RateLimit.make({ ...base, burst: 5 })
        yield* limit.wrap(client(() => respond(429, { "retry-after": "3" }))).execute(request)
        assert.strictEqual(Duration.toMillis(limit.snapshot().pausedFor), 3_000)
        const fiber = yield* start(limit.acquire())
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(Duration.toMillis(yield* Fiber.join(fiber)), 3_000)
      })
    )

    it.effect("a date is compared with the clock", () =>
      Effect.gen(function* () {
        const limit = yield* RateLimit.make(base)
        const headers = { "retry-after": "Thu, 01 Jan 1970 00:00:20 GMT" }
        yield* limit.wrap(client(() => respond(503, headers))).execute(request)
        assert.strictEqual(Duration.toMillis(limit.snapshot().pausedFor), 20_000)
      })
    )

    it.effect("ten years are maxPause", () =>
      Effect.gen(function* () {
        const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "315360000" }
        const limit = yield* RateLimit.make(base)
        yield* limit.wrap(client(() => respond(403, headers))).execute(request)
        assert.strictEqual(Duration.toMillis(limit.snapshot().pausedFor), 60_000)
        const short = yield* RateLimit.make({ ...base, maxPause: "2 seconds" })
        yield* short.wrap(client(() => respond(403, headers))).execute(request)
        assert.strictEqual(Duration.toMillis(short.snapshot().pausedFor), 2_000)
      })
    )

    it.effect("does not count when respectHeaders is false, nor when it is nothing", () =>
      Effect.gen(function* () {
        const deaf = yield* RateLimit.make({ ...base, respectHeaders: false })
        yield* deaf.wrap(client(() => respond(429, { "retry-after": "3" }))).execute(request)
        assert.strictEqual(Duration.toMillis(deaf.snapshot().pausedFor), 0)
        const limit = yield* RateLimit.make({ ...base, burst: 5 })
        yield* limit.wrap(client(() => respond(429, { "retry-after": "0" }))).execute(request)
        yield* limit.wrap(client(() => respond(429))).execute(request)
        yield* limit.guard(Effect.void)
        assert.strictEqual(Duration.toMillis(limit.snapshot().pausedFor), 0)
      })
    )

    it.effect("is told, capped, to whoever wants to know", () =>
      Effect.gen(function* () {
        const { gate, pauses } = gateWith({ burst: 3 })
        for (const seconds of ["5", "0", "999"]) {
          gate.dispenser.setPause(0)
          yield* through([gate], request, () => Effect.succeed(respond(429, { "retry-after": seconds })))
        }
        assert.deepStrictEqual(pauses, [5_000, 60_000])
      })
    )
  })

  describe("an attempt", () => {
    it.effect("that was never sent gives its tokens back", () =>
      Effect.gen(function* () {
        for (const cost of [undefined, () => 3]) {
          const { gate } = gateWith({ burst: 3, ...(cost && { cost }) })
          for (let i = 0; i < 10; i++) {
            const gates: ReadonlyArray<Gate<RateLimitExceeded | CircuitOpen>> = [gate, refusing]
            assert.strictEqual(yield* Effect.flip(through(gates, request, () => Effect.succeed(respond()))), open)
          }
          assert.strictEqual(gate.dispenser.available, 3)
          assert.strictEqual(gate.attempts, 0)
        }
      })
    )

    it.effect("that has ended, however, leaves nothing behind", () =>
      Effect.gen(function* () {
        const { gate, timers } = gateWith({ burst: 2, cost: () => 2, maxWait: 300 })
        const send = (answer: Effect.Effect<HttpClientResponse.HttpClientResponse>) =>
          Effect.exit(through([gate], request, () => answer))
        yield* send(Effect.succeed(respond()))
        const waiting = yield* start(send(Effect.never))
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(yield* start(send(Effect.succeed(respond()))))))
        assert.strictEqual(gate.attempts, 1)
        timers.advance(200)
        yield* turn
        assert.strictEqual(gate.attempts, 1)
        yield* Fiber.interrupt(waiting)
        const refused = yield* start(send(Effect.succeed(respond())))
        gate.dispenser.extendPause(10_000)
        assert.isTrue(Exit.hasFails(yield* Fiber.join(refused)))
        assert.strictEqual(gate.attempts, 0)
        assert.strictEqual(timers.size, 0)
      })
    )

    it.effect("that comes back before its time waits on", () =>
      Effect.sync(() => {
        const { gate, timers } = gateWith()
        const attempt = { request, info: request, number: 1, sent: false }
        const other = { ...attempt }
        assert.isUndefined(gate.admit(other))
        assert.isDefined(gate.admit(attempt))
        assert.isDefined(gate.admit(attempt))
        assert.strictEqual(gate.dispenser.waiting, 1)
        timers.advance(100)
        assert.isUndefined(gate.admit(attempt))
        gate.abandon(other)
        assert.strictEqual(gate.dispenser.waiting, 0)
        assert.strictEqual(gate.attempts, 0)
      })
    )
  })

  // One of those who wait is interrupted while the tokens come, at another operation in each run.
  it.live("loses no token, whenever an attempt is interrupted, also when one was already kept for it", () =>
    Effect.gen(function* () {
      let kept = 0
      for (let victim = 0; victim < 3; victim++) {
        for (let budget = 3; budget < 12; budget++) {
          for (let moment = 0; moment < 8; moment++) {
            const { gate, timers } = gateWith()
            const end = yield* Deferred.make<HttpClientResponse.HttpClientResponse>()
            const slow = (wait: Effect.Effect<void, RateLimitExceeded> | undefined) =>
              wait === undefined ? undefined : Effect.andThen(wait, Effect.andThen(Effect.yieldNow, Effect.yieldNow))
            const detour: Gate<RateLimitExceeded> = {
              admit: (attempt) => slow(gate.admit(attempt)),
              settle: (attempt, outcome) => gate.settle(attempt, outcome),
              abandon: (attempt) => gate.abandon(attempt)
            }
            gate.dispenser.take(1)
            const sent: Array<number> = []
            const fibers = yield* Effect.forEach([0, 1, 2], (n) =>
              through([detour], request, () => {
                sent.push(n)
                return Deferred.await(end)
              }).pipe(
                Effect.provideService(References.MaxOpsBeforeYield, budget),
                Effect.forkChild({ startImmediately: true })
              )
            )
            while (gate.attempts < 3) yield* Effect.yieldNow
            timers.advance(100 * (victim + 1))
            for (let i = 0; i < moment; i++) yield* Effect.yieldNow
            const before = gate.attempts
            yield* Fiber.interrupt(fibers[victim]!)
            if (!sent.includes(victim) && before === 3) kept++
            timers.advance(1_000)
            yield* Deferred.succeed(end, respond())
            for (let i = 0; i < 10; i++) yield* Effect.yieldNow
            for (const fiber of fibers) yield* Fiber.await(fiber)
            // Those that were not interrupted went by 300 ms, and one token is there again.
            assert.strictEqual(gate.attempts, 0)
            assert.strictEqual(gate.dispenser.waiting, 0)
            assert.strictEqual(timers.size, 0)
            assert.strictEqual(gate.dispenser.available, 1)
            for (const n of [0, 1, 2]) assert.isTrue(n === victim || sent.includes(n))
          }
        }
      }
      assert.isAbove(kept, 0, "some were interrupted between their grant and their admission")
    })
  )

  it.effect.prop(
    "law: slidingWindow: whatever comes, costs, is interrupted or is not sent, no window holds more than the limit",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9_999 }))).check(Schema.isMaxLength(60))],
    ([numbers]) =>
      Effect.gen(function* () {
        const { gate, timers } = gateWith({
          limit: 5,
          interval: 100,
          algorithm: "slidingWindow",
          cost: (sent) => sent.url.length
        })
        const sent: Array<{ readonly at: number; readonly cost: number }> = []
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (const number of numbers) {
          const what = number % 8
          const cost = 1 + (Math.floor(number / 8) % 3)
          const url = "x".repeat(cost)
          if (what < 5) {
            const gates: ReadonlyArray<Gate<RateLimitExceeded | CircuitOpen>> = what === 4 ? [gate, refusing] : [gate]
            const run = through(gates, HttpClientRequest.get(url), () => {
              sent.push({ at: timers.now(), cost })
              return Effect.succeed(respond())
            })
            fibers.push(yield* Effect.forkChild(Effect.exit(run), { startImmediately: true }))
          } else if (fibers.length > 0) {
            fibers[number % fibers.length]!.interruptUnsafe()
          }
          timers.advance([0, 0, 7, 30][Math.floor(number / 32) % 4]!)
        }
        for (let i = 0; i < 100; i++) {
          timers.advance(50)
          yield* Effect.yieldNow
        }
        for (const fiber of fibers) yield* Fiber.await(fiber)
        for (const { at } of sent) {
          const inWindow = sent.filter((other) => other.at >= at && other.at < at + 100)
          assert.isAtMost(
            inWindow.reduce((sum, { cost }) => sum + cost, 0),
            5
          )
        }
        assert.strictEqual(gate.attempts, 0)
        assert.strictEqual(gate.dispenser.available, 5)
        assert.strictEqual(timers.size, 0)
      }),
    { arbitrary: { runs: 100 } }
  )
})
