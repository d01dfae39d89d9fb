import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { type Backoff, delayOf, type Jitter } from "../../../src/policy/internal/backoff.ts"

const defaults: Backoff = {
  initialDelay: 1_000,
  multiplier: 2,
  maxDelay: 30_000,
  jitter: "none",
  jitterFactor: 0.1
}

/** The first `count` waits, when the dice always show `dice`. */
const delays = (options: Partial<Backoff>, dice: number, count = 6): ReadonlyArray<number> => {
  const out: Array<number> = []
  for (let i = 0; i < count; i++) {
    out.push(delayOf({ ...defaults, ...options }, i, out.at(-1) ?? 0, () => dice))
  }
  return out
}

describe("delayOf", () => {
  it("grows by the multiplier to maxDelay", () => {
    assert.deepStrictEqual(delays({}, 0.3), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000])
    assert.deepStrictEqual(delays({ multiplier: 1 }, 0.3, 3), [1_000, 1_000, 1_000])
  })

  it("proportional: strays by jitterFactor to both sides, and stays below maxDelay", () => {
    const jitter = "proportional"
    assert.deepStrictEqual(delays({ jitter }, 0, 3), [900, 1_800, 3_600])
    assert.deepStrictEqual(delays({ jitter }, 0.5, 3), [1_000, 2_000, 4_000])
    assert.deepStrictEqual(delays({ jitter }, 1, 6), [1_100, 2_200, 4_400, 8_800, 17_600, 30_000])
    assert.deepStrictEqual(delays({ jitter, jitterFactor: 1 }, 0, 3), [0, 0, 0])
  })

  it("full: anything up to the exponential wait", () => {
    const jitter = "full"
    assert.deepStrictEqual(delays({ jitter }, 0, 3), [0, 0, 0])
    assert.deepStrictEqual(delays({ jitter }, 0.5), [500, 1_000, 2_000, 4_000, 8_000, 15_000])
  })

  it("equal: half of the exponential wait, and anything up to the other half", () => {
    const jitter = "equal"
    assert.deepStrictEqual(delays({ jitter }, 0), [500, 1_000, 2_000, 4_000, 8_000, 15_000])
    assert.deepStrictEqual(delays({ jitter }, 0.5, 3), [750, 1_500, 3_000])
  })

  it("decorrelated: anything from initialDelay to three times the wait before", () => {
    const jitter = "decorrelated"
    assert.deepStrictEqual(delays({ jitter }, 0, 3), [1_000, 1_000, 1_000])
    assert.deepStrictEqual(delays({ jitter }, 0.5, 3), [2_000, 3_500, 5_750])
    assert.deepStrictEqual(delays({ jitter }, 1, 5), [3_000, 9_000, 27_000, 30_000, 30_000])
  })

  const jitters: ReadonlyArray<Jitter> = ["none", "proportional", "full", "equal", "decorrelated"]

  it.prop(
    "is a number from 0 to maxDelay, however long it goes on",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 })),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100_000 })),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 })),
      Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 })))
    ],
    ([kind, initialDelay, multiplier, dice]) => {
      const options: Backoff = {
        initialDelay,
        multiplier: 1 + multiplier,
        maxDelay: initialDelay + 30_000,
        jitter: jitters[kind] ?? "none",
        jitterFactor: 1
      }
      let previous = 0
      for (const [retries, die] of dice.entries()) {
        previous = delayOf(options, retries * 100, previous, () => die / 1_000)
        assert.isAtLeast(previous, 0)
        assert.isAtMost(previous, options.maxDelay)
      }
    },
    { arbitrary: { runs: 200 } }
  )
})
