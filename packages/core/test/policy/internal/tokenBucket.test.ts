import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TokenBucket } from "../../../src/policy/internal/tokenBucket.ts"
import { drive, excess, steps } from "../../fixtures/rateLimitRules.ts"

const taken = (bucket: TokenBucket, count: number, now: number): TokenBucket => {
  bucket.take(count, now)
  return bucket
}

describe("tokenBucket", () => {
  it("is full at first, whenever that is, and gets a token at every pace up to its burst", () => {
    const bucket = new TokenBucket(10, 3)
    assert.strictEqual(bucket.available(500), 3)
    bucket.take(3, 500)
    assert.deepStrictEqual(
      [500, 509, 510, 519, 520, 530, 900].map((now) => bucket.available(now)),
      [0, 0, 1, 1, 2, 3, 3]
    )
  })

  it("says when tokens can be had, also more than it holds, for a line", () => {
    const bucket = taken(new TokenBucket(10, 3), 3, 0)
    assert.deepStrictEqual(
      [1, 2, 3, 4, 10].map((count) => bucket.when(count, 0)),
      [10, 20, 30, 40, 100]
    )
    assert.isAtMost(bucket.when(1, 10), 10)
  })

  it("counts in thirds without losing a token to rounding", () => {
    const bucket = new TokenBucket(100 / 3, 1)
    let now = 0
    for (let i = 0; i < 3_000; i++) {
      bucket.take(1, now)
      now = bucket.when(1, now)
    }
    assert.closeTo(now, 100_000, 1e-6)
  })

  it("takes back what was not used", () => {
    const bucket = taken(new TokenBucket(10, 8), 5, 0)
    bucket.giveBack(5, 0, 0)
    assert.strictEqual(bucket.available(0), 8)
    bucket.take(6, 0)
    bucket.take(2, 5)
    bucket.giveBack(2, 5, 15)
    assert.strictEqual(bucket.available(15), 3)
  })

  it("takes back no token that would have overflowed meanwhile: that would be a burst too big", () => {
    const bucket = taken(new TokenBucket(10, 8), 1, 0)
    bucket.take(1, 10)
    bucket.giveBack(1, 0, 10)
    assert.strictEqual(bucket.available(10), 7)
    const large = taken(new TokenBucket(10, 8), 8, 0)
    large.take(1, 50)
    // It missed three of them when that one was taken.
    large.giveBack(8, 0, 50)
    assert.strictEqual(large.available(50), 4 + 2)
    large.giveBack(1, 50, 200)
    assert.strictEqual(large.available(200), 8)
  })

  it.effect.prop(
    "law: within any time t it never lets more be used than burst + t / pace, whatever is given back when",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 })),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 120 })),
      steps
    ],
    ([burst, pace, numbers]) =>
      Effect.sync(() => {
        const { admissions } = drive(new TokenBucket(pace / 3, burst), numbers, burst)
        assert.isAtMost(
          excess(admissions, (millis) => burst + millis / (pace / 3)),
          1e-6
        )
      }),
    { arbitrary: { runs: 500 } }
  )

  it.effect.prop(
    "law: what is given back at once leaves no trace",
    [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 12 })), steps],
    ([burst, numbers]) =>
      Effect.sync(() => {
        const bucket = new TokenBucket(10, burst)
        const { now } = drive(bucket, numbers, burst)
        const before = bucket.available(now)
        if (before === 0) return
        bucket.take(before, now)
        bucket.giveBack(before, now, now)
        assert.strictEqual(bucket.available(now), before)
      })
  )
})
