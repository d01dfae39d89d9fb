import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SlidingCounter } from "../../../src/policy/internal/slidingCounter.ts"
import { drive, excess, steps } from "../../fixtures/rateLimitRules.ts"

const limits = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))

describe("slidingCounter", () => {
  it("allows the limit at once; then what has slid out of the window, by the weight of the interval before", () => {
    const counter = new SlidingCounter(10, 1_000)
    counter.take(10, 5_000)
    assert.deepStrictEqual(
      [5_000, 5_999, 6_000, 6_099, 6_100, 6_550, 6_999, 7_000].map((now) => counter.available(now)),
      [0, 0, 0, 0, 1, 5, 9, 10]
    )
  })

  it("says when tokens can be had: in this interval, or in the next one", () => {
    const counter = new SlidingCounter(10, 1_000)
    counter.take(10, 0)
    assert.deepStrictEqual(
      [0, 1, 5, 10, 99].map((count) => counter.when(count, 0)),
      [0, 1_100, 1_500, 2_000, 2_000]
    )
    counter.take(4, 1_500)
    assert.strictEqual(counter.when(2, 1_500), 1_600)
    assert.strictEqual(counter.when(7, 1_500), 2_000 + 250)
  })

  it("allows no double burst where two of its intervals meet", () => {
    const counter = new SlidingCounter(10, 1_000)
    counter.take(1, 0)
    counter.take(9, 999)
    assert.strictEqual(counter.available(1_000), 0)
    assert.strictEqual(counter.when(1, 1_000), 1_100)
  })

  it("is not exact: a window across two intervals may hold nearly twice the limit, when the first was busy at its end", () => {
    const counter = new SlidingCounter(10, 1_000)
    counter.take(1, 0)
    counter.take(9, 999)
    counter.take(9, 1_900)
    assert.strictEqual(counter.available(1_900), 0)
  })

  it("takes back what was not used, as long as it counts", () => {
    const counter = new SlidingCounter(10, 1_000)
    counter.take(4, 0)
    counter.take(6, 500)
    counter.giveBack(6, 500, 600)
    assert.strictEqual(counter.available(600), 6)
    counter.giveBack(4, 0, 1_000)
    assert.strictEqual(counter.available(1_000), 10)
    counter.take(10, 1_000)
    counter.giveBack(6, 500, 2_500)
    counter.giveBack(4, 0, 2_500)
    assert.strictEqual(counter.available(2_500), 5)
  })

  it.effect.prop(
    "law: within any time t up to the interval it lets no more be used than limit × (1 + t / interval)",
    [limits, steps],
    ([limit, numbers]) =>
      Effect.sync(() => {
        const { admissions } = drive(new SlidingCounter(limit, 100), numbers, limit)
        assert.isAtMost(
          excess(admissions, (millis) => (millis <= 100 ? limit * (1 + millis / 100) : Infinity)),
          1e-6
        )
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "law: no more is used in one interval of its grid than the limit, and what is given back leaves no trace",
    [limits, steps],
    ([limit, numbers]) =>
      Effect.sync(() => {
        const counter = new SlidingCounter(limit, 3_000_000)
        const { admissions } = drive(counter, numbers, limit)
        const used = admissions.reduce((sum, { count, used }) => sum + (used ? count : 0), 0)
        const now = 2_999_999 + (admissions[0]?.at ?? 0)
        assert.strictEqual(counter.available(now), limit - used)
      }),
    { arbitrary: { runs: 200 } }
  )
})
