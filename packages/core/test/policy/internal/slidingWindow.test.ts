import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SlidingWindow } from "../../../src/policy/internal/slidingWindow.ts"
import { drive, excess, steps } from "../../fixtures/rateLimitRules.ts"

const limits = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))

describe("slidingWindow", () => {
  it("allows the limit at once, and each token again when its own interval has passed", () => {
    const window = new SlidingWindow(3, 100)
    window.take(1, 0)
    window.take(2, 40)
    assert.deepStrictEqual(
      [40, 99, 100, 139, 140].map((now) => window.available(now)),
      [0, 0, 1, 1, 3]
    )
  })

  it("says when tokens can be had; more than the limit is as the limit", () => {
    const window = new SlidingWindow(3, 100)
    window.take(1, 0)
    window.take(1, 40)
    assert.deepStrictEqual(
      [1, 2, 3, 9].map((count) => window.when(count, 40)),
      [40, 100, 140, 140]
    )
  })

  it("allows no double burst where two fixed windows would meet", () => {
    const window = new SlidingWindow(10, 1_000)
    window.take(10, 999)
    assert.strictEqual(window.available(1_001), 0)
    assert.strictEqual(window.when(1, 1_001), 1_999)
  })

  it("takes back what was not used, and only that", () => {
    const window = new SlidingWindow(4, 100)
    window.take(1, 0)
    window.take(2, 10)
    window.take(1, 20)
    window.giveBack(2, 10, 30)
    assert.strictEqual(window.available(30), 2)
    // The first and the last of them are still there.
    assert.strictEqual(window.when(4, 30), 120)
    assert.strictEqual(window.available(100), 3)
  })

  it("takes back nothing that has left the window: it has become free by itself", () => {
    const window = new SlidingWindow(2, 100)
    window.take(1, 0)
    window.take(2, 150)
    window.giveBack(1, 0, 160)
    assert.strictEqual(window.available(160), 0)
  })

  it("takes what its caller is a billionth of a second early for: never more than it can remember", () => {
    const window = new SlidingWindow(2, 100)
    window.take(2, 0)
    window.take(2, 100 - 1e-7)
    assert.strictEqual(window.available(150), 0)
    assert.strictEqual(window.available(200), 2)
  })

  it("remembers as much as it needs, in a ring that grows up to the limit", () => {
    const window = new SlidingWindow(100, 1_000)
    for (let now = 0; now < 10_000; now += 10) {
      assert.isAtMost(window.when(1, now), now)
      window.take(1, now)
    }
    assert.strictEqual(window.available(9_990), 0)
    assert.strictEqual(window.available(10_500), 51)
  })

  it.effect.prop(
    "law: no window of the interval ever holds more than the limit, whatever is given back when",
    [limits, steps],
    ([limit, numbers]) =>
      Effect.sync(() => {
        const { admissions } = drive(new SlidingWindow(limit, 100), numbers, limit)
        assert.isAtMost(
          excess(admissions, (millis) => (millis < 100 ? limit : Infinity)),
          0
        )
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "law: what is given back leaves no trace, as if it had never been taken",
    [limits, steps],
    ([limit, numbers]) =>
      Effect.sync(() => {
        const window = new SlidingWindow(limit, 500)
        const { admissions, now: end } = drive(window, numbers, limit)
        const twin = new SlidingWindow(limit, 500)
        for (const { at, count, used } of admissions) if (used) twin.take(count, at)
        for (let now = end; now < end + 600; now += 50) {
          assert.strictEqual(window.available(now), twin.available(now))
        }
      }),
    { arbitrary: { runs: 200 } }
  )
})
