import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, References } from "effect"
import { HttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import type { TimeoutError } from "../../src/model/PoolError.ts"
import * as Timeout from "../../src/policy/Timeout.ts"
import { onWire, start, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const fails = (millis: number, effect: Effect.Effect<unknown, TimeoutError>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.flip(effect))
    yield* TestClock.adjust(millis - 1)
    assert.isUndefined(fiber.pollUnsafe())
    yield* TestClock.adjust(1)
    return yield* Fiber.join(fiber)
  })

describe("Timeout", () => {
  it.effect("requestTimeout fails with its phase and interrupts the effect", () =>
    Effect.gen(function* () {
      let interrupted = false
      const timeout = yield* Timeout.make({ requestTimeout: "2 seconds" })
      const slow = Effect.onInterrupt(Effect.never, () => Effect.sync(() => (interrupted = true)))
      const error = yield* fails(2000, timeout.guard(slow))
      assert.strictEqual(error._tag, "TimeoutError")
      assert.strictEqual(error.phase, "request")
      assert.strictEqual(error.attempts, 1)
      assert.deepStrictEqual(error.timeout, Duration.seconds(2))
      assert.include(error.message, "requestTimeout of 2000 ms passed. guard effect")
      assert.isTrue(interrupted)
    })
  )

  it.effect("attemptTimeout fails with its own phase", () =>
    Effect.gen(function* () {
      const timeout = yield* Timeout.make({ attemptTimeout: 100 })
      assert.strictEqual((yield* fails(100, timeout.guard(Effect.never))).phase, "attempt")
    })
  )

  it.effect("of both the shorter ends it; of equal ones, the whole", () =>
    Effect.gen(function* () {
      const attempt = yield* Timeout.make({ attemptTimeout: 100, requestTimeout: 200 })
      assert.strictEqual((yield* fails(100, attempt.guard(Effect.never))).phase, "attempt")
      const request = yield* Timeout.make({ attemptTimeout: 300, requestTimeout: 200 })
      assert.strictEqual((yield* fails(200, request.guard(Effect.never))).phase, "request")
      const equal = yield* Timeout.make({ attemptTimeout: 200, requestTimeout: 200 })
      assert.strictEqual((yield* fails(200, equal.guard(Effect.never))).phase, "request")
    })
  )

  it.effect("what ends in time passes, result and failure", () =>
    Effect.gen(function* () {
      const timeout = yield* Timeout.make({ requestTimeout: 100 })
      assert.strictEqual(yield* timeout.guard(Effect.succeed(1)), 1)
      assert.strictEqual(yield* Effect.flip(timeout.guard(Effect.fail("no"))), "no")
    })
  )

  it.effect("without a limit the effect is left as it is", () =>
    Effect.gen(function* () {
      const timeout = yield* Timeout.make()
      assert.strictEqual(timeout.guard(Effect.never), Effect.never)
    })
  )

  it.effect("a request of any client: its error shows the request without secrets", () =>
    Effect.gen(function* () {
      const timeout = yield* Timeout.make({ requestTimeout: 100 })
      const never = HttpClient.makeWith<never, never, never, never>(
        Effect.flatMap(() => Effect.never),
        Effect.succeed
      )
      const error = yield* fails(100, timeout.wrap(never).get("http://u:hunter2@a.test/x?token=hunter2"))
      assert.deepStrictEqual(error.request.method, "GET")
      assert.notInclude(JSON.stringify(error) + error.message, "hunter2")
    })
  )

  it.effect("a request that is too slow gives its slot back", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.write())
      const pool = yield* onWire(wire, { size: 1 })
      const timeout = yield* Timeout.make({ attemptTimeout: 100 })
      const fiber = yield* start(Effect.flip(timeout.wrap(pool.client).get("/x")))
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimeoutError")
      yield* turn
      assert.isTrue(wire.at(0).aborted)
      assert.strictEqual((yield* pool.stats).active, 0)
    })
  )

  it.live("whenever the caller is interrupted, the effect is", () =>
    Effect.gen(function* () {
      const timeout = yield* Timeout.make({ requestTimeout: "1 minute" })
      for (let budget = 3; budget < 14; budget++) {
        for (let moment = 0; moment < 6; moment++) {
          let running = 0
          const busy = Effect.acquireUseRelease(
            Effect.sync(() => running++),
            () => Effect.never,
            () => Effect.sync(() => running--)
          )
          const fiber = yield* timeout
            .guard(busy)
            .pipe(
              Effect.provideService(References.MaxOpsBeforeYield, budget),
              Effect.forkChild({ startImmediately: true })
            )
          for (let i = 0; i < moment; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(fiber)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
          assert.strictEqual(running, 0)
        }
      }
    })
  )

  it.effect("all problems are reported at once", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Timeout.make({ requestTimeout: 0, attemptTimeout: -1 }))
      assert.deepStrictEqual(
        error.problems.map((problem) => problem.path),
        ["requestTimeout", "attemptTimeout"]
      )
    })
  )
})
