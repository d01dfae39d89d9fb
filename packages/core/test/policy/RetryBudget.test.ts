import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { ManualTimers } from "../fixtures/time.ts"
import * as RetryBudget from "../../src/policy/RetryBudget.ts"

const shares = { ratio: 0.2, minPerSecond: 10, window: 10_000 }

const withdrawAll = (budget: RetryBudget.RetryBudget): number => {
  let count = 0
  while (budget.withdraw()) count++
  return count
}

const depositMany = (budget: RetryBudget.RetryBudget, count: number): void => {
  for (let i = 0; i < count; i++) budget.deposit()
}

/** A timer that does not come. */
const never = () => () => undefined

describe("RetryBudget", () => {
  it("allows 10 retries a second over 10 seconds without any request", () => {
    assert.strictEqual(withdrawAll(RetryBudget.makeUnsafe(shares, new ManualTimers())), 100)
  })

  it("allows one more for every five requests", () => {
    const budget = RetryBudget.makeUnsafe({ ...shares, minPerSecond: 0 }, new ManualTimers())
    assert.isFalse(budget.withdraw())
    depositMany(budget, 4)
    assert.isFalse(budget.withdraw())
    depositMany(budget, 1)
    assert.isTrue(budget.withdraw())
    assert.isFalse(budget.withdraw())
    depositMany(budget, 995)
    assert.strictEqual(withdrawAll(budget), 199)
  })

  it("loses no retry to rounding", () => {
    const budget = RetryBudget.makeUnsafe({ ...shares, ratio: 0.29, minPerSecond: 0 }, new ManualTimers())
    depositMany(budget, 100)
    assert.strictEqual(withdrawAll(budget), 29)
  })

  it("forgets requests after its window, and retries not before", () => {
    const timers = new ManualTimers()
    const budget = RetryBudget.makeUnsafe({ ...shares, minPerSecond: 1 }, timers)
    depositMany(budget, 50)
    assert.strictEqual(withdrawAll(budget), 20)
    timers.advance(10_000)
    assert.strictEqual(withdrawAll(budget), 0)
    timers.advance(1_000)
    assert.strictEqual(withdrawAll(budget), 10)
    timers.advance(1_000_000)
    assert.strictEqual(withdrawAll(budget), 10)
  })

  it("lets no request pay for a retry that comes a window later", () => {
    const timers = new ManualTimers()
    const budget = RetryBudget.makeUnsafe({ ...shares, minPerSecond: 0 }, timers)
    timers.advance(999)
    depositMany(budget, 100)
    timers.advance(8_001)
    assert.isTrue(budget.withdraw())
    timers.advance(1_999)
    assert.isFalse(budget.withdraw())
  })

  it("allows nothing at all with neither share nor reserve", () => {
    const budget = RetryBudget.makeUnsafe({ ...shares, ratio: 0, minPerSecond: 0 }, new ManualTimers())
    depositMany(budget, 100)
    assert.isFalse(budget.withdraw())
  })

  it("does not mind a clock that goes back", () => {
    let now = 0
    const budget = RetryBudget.makeUnsafe({ ...shares, minPerSecond: 1 }, { now: () => now, after: never, wait: never })
    now = 5_000
    assert.strictEqual(withdrawAll(budget), 10)
    now = -5_000
    assert.strictEqual(withdrawAll(budget), 0)
    now = 16_000
    assert.strictEqual(withdrawAll(budget), 10)
  })

  it.effect("is made on the clock of the caller, with the defaults of Finagle, and says its balance", () =>
    Effect.gen(function* () {
      const budget = yield* RetryBudget.make()
      assert.strictEqual(yield* budget.balance, 100)
      depositMany(budget, 100)
      assert.strictEqual(yield* budget.balance, 120)
      assert.strictEqual(withdrawAll(budget), 120)
      assert.strictEqual(yield* budget.balance, 0)
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual(yield* budget.balance, 100)
    })
  )

  it.effect("refuses all wrong options at once", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(RetryBudget.make({ ratio: -0.1, minPerSecond: -1, window: "Infinity" }))
      assert.deepStrictEqual(
        error.problems.map(({ path }) => path),
        ["ratio", "minPerSecond", "window"]
      )
    })
  )

  // What each number does: time passes by it when it is below 400, then come requests, then as many retries as it can.
  it.prop(
    "law: in the window that ends with a retry are no more retries than ratio × requests + minPerSecond × window",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 })),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 })),
      Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 }))).check(Schema.isMaxLength(300))
    ],
    ([tenths, minPerSecond, steps]) => {
      const timers = new ManualTimers()
      const window = 1_000
      const ratio = tenths / 10
      const budget = RetryBudget.makeUnsafe({ ratio, minPerSecond, window }, timers)
      const requests: Array<number> = []
      const retries: Array<number> = []
      for (const step of steps) {
        if (step < 400) timers.advance(step)
        else if (step < 700) {
          for (let i = 0; i < step % 20; i++) {
            budget.deposit()
            requests.push(timers.now())
          }
        } else {
          for (let i = 0; i < step % 30 && budget.withdraw(); i++) {
            const now = timers.now()
            retries.push(now)
            const inWindow = (at: number): boolean => at > now - window
            const allowed = ratio * requests.filter(inWindow).length + (minPerSecond * window) / 1_000
            assert.isAtMost(retries.filter(inWindow).length, allowed + 1e-6)
          }
        }
      }
    },
    { arbitrary: { runs: 300 } }
  )

  it("is not so careful that it forbids what steady traffic may have", () => {
    const timers = new ManualTimers()
    const budget = RetryBudget.makeUnsafe({ ...shares, minPerSecond: 0 }, timers)
    let retries = 0
    for (let i = 0; i < 100_000; i++) {
      timers.advance(10)
      budget.deposit()
      if (budget.withdraw()) retries++
    }
    // A tenth less at the most: what the slices round.
    assert.isAtLeast(retries / 100_000, 0.2 * 0.9 * 0.9)
    assert.isAtMost(retries / 100_000, 0.2)
  })
})
