import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { vi } from "vitest"
import * as Timers from "../../../src/model/internal/timers.ts"
import { turn } from "../../fixtures/pools.ts"

const make = Effect.map(Effect.context<never>(), Timers.make)

describe("timers", () => {
  describe("on a test clock", () => {
    it.effect("move with it", () =>
      Effect.gen(function* () {
        const timers = yield* make
        const calls: Array<number> = []
        timers.after(100, () => calls.push(timers.now()))
        yield* TestClock.adjust(99)
        assert.deepStrictEqual(calls, [])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(calls, [100])
        assert.strictEqual(timers.now(), 100)
      })
    )

    it.effect("are not called when cancelled, and may be cancelled late", () =>
      Effect.gen(function* () {
        const timers = yield* make
        let calls = 0
        const cancelEarly = timers.after(100, () => calls++)
        const cancelLate = timers.after(50, () => calls++)
        cancelEarly()
        yield* TestClock.adjust(200)
        cancelLate()
        assert.strictEqual(calls, 1)
      })
    )

    it.effect("never call within `after`, also when nothing is to wait for", () =>
      Effect.gen(function* () {
        const timers = yield* make
        let calls = 0
        timers.after(0, () => calls++)
        assert.strictEqual(calls, 0)
        yield* turn
        assert.strictEqual(calls, 1)
      })
    )
  })

  describe("on the real clock", () => {
    it.live("are those of the platform", () =>
      Effect.gen(function* () {
        const timers = yield* make
        const before = performance.now()
        const now = timers.now()
        assert.isAtLeast(now, before)
        assert.isAtMost(now, performance.now())
        const spy = vi.spyOn(globalThis, "setTimeout")
        // Completes only when it is called. How soon is the platform's affair: its timers may be a fraction early.
        yield* Effect.callback<void>((resume) => {
          timers.after(0.5, () => resume(Effect.void))
        })
        assert.strictEqual(spy.mock.calls[0]?.[1], 1)
        spy.mockRestore()
      })
    )

    it.live("do not keep a process alive, and fit into what the platform can count", () =>
      Effect.gen(function* () {
        const timers = yield* make
        const spy = vi.spyOn(globalThis, "setTimeout")
        const cancel = timers.after(1e12, () => {})
        const call = spy.mock.calls[0]
        const timer = spy.mock.results[0]?.value
        spy.mockRestore()
        assert.strictEqual(call?.[1], 2 ** 31 - 1)
        assert.isFalse(timer?.hasRef())
        cancel()
      })
    )
  })
})
