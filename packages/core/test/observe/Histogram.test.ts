import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { connectionBoundaries, Histogram, requestBoundaries } from "../../src/observe/Histogram.ts"

const of = (values: ReadonlyArray<number>, boundaries?: ReadonlyArray<number>) => {
  const histogram = new Histogram(boundaries)
  for (const value of values) histogram.record(value)
  return histogram
}

const seconds = Arbitrary.schema(
  Schema.NonEmptyArray(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 20 })))
)
const share = Arbitrary.schema(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })))

/** The width of the bucket that a value is in, cut to what was recorded. */
const widthAt = (histogram: Histogram, value: number) => {
  const bucket = histogram.boundaries.findIndex((boundary) => value <= boundary)
  const high = bucket === -1 ? histogram.max : (histogram.boundaries[bucket] ?? 0)
  const low = bucket === -1 ? 10 : (histogram.boundaries[bucket - 1] ?? 0)
  return Math.max(0, high - low)
}

describe("Histogram", () => {
  it("has the boundaries of OpenTelemetry for requests by default", () => {
    assert.deepStrictEqual(
      new Histogram().boundaries,
      [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    )
    assert.deepStrictEqual(connectionBoundaries, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300])
  })

  it("says that nothing was recorded", () => {
    const histogram = new Histogram()
    assert.strictEqual(histogram.count, 0)
    assert.strictEqual(histogram.sum, 0)
    assert.isNaN(histogram.min)
    assert.isNaN(histogram.max)
    assert.isNaN(histogram.quantile(0.5))
    assert.deepStrictEqual(
      histogram.counts,
      Array.from({ length: 15 }, () => 0)
    )
  })

  it("a boundary belongs to the bucket below it", () => {
    assert.deepStrictEqual(of([0, 1, 1.5, 2, 2.1], [1, 2]).counts, [2, 2, 1])
  })

  it("counts, sums, and knows the shortest and the longest", () => {
    const histogram = of([0.2, 0.004, 30])
    assert.strictEqual(histogram.count, 3)
    assert.closeTo(histogram.sum, 30.204, 1e-9)
    assert.strictEqual(histogram.min, 0.004)
    assert.strictEqual(histogram.max, 30)
  })

  it("takes a negative duration for 0, and leaves out what is not finite", () => {
    const histogram = of([-1, Number.NaN, Infinity, -Infinity])
    assert.strictEqual(histogram.count, 2)
    assert.strictEqual(histogram.sum, 0)
    assert.strictEqual(histogram.max, 0)
  })

  it("quantiles are interpolated evenly within their bucket", () => {
    const histogram = of([1, 1.25, 1.75, 2], [1, 2])
    assert.strictEqual(histogram.quantile(0), 1)
    assert.strictEqual(histogram.quantile(0.25), 1)
    assert.closeTo(histogram.quantile(0.5), 1 + 1 / 3, 1e-9)
    assert.strictEqual(histogram.quantile(1), 2)
  })

  it("a quantile of no share is not a number", () => {
    for (const p of [-0.1, 1.1, Number.NaN]) assert.isNaN(of([1]).quantile(p))
  })

  it("beyond the last boundary it lies between that and the longest", () => {
    const histogram = of([20, 30])
    assert.isTrue(histogram.quantile(0.5) > 10 && histogram.quantile(0.5) <= 30)
    assert.strictEqual(histogram.quantile(1), 30)
  })

  it.prop(
    "a quantile is wrong by the width of a bucket at most, never outside what was recorded, and never falls as p grows",
    [seconds, share, share],
    ([values, p, q]) => {
      const histogram = of(values)
      const sorted = values.toSorted((a, b) => a - b)
      const exact = sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN
      const found = histogram.quantile(p)
      assert.isAtMost(Math.abs(found - exact), widthAt(histogram, exact) + 1e-9)
      assert.isTrue(found >= histogram.min && found <= histogram.max)
      assert.isTrue(histogram.quantile(Math.min(p, q)) <= histogram.quantile(Math.max(p, q)))
    },
    { arbitrary: { runs: 300, seed: 11 } }
  )

  it.prop(
    "one that has added others is as if it had recorded all",
    [seconds, seconds],
    ([some, more]) => {
      const all = of([])
      all.add(of([]))
      assert.strictEqual(all.count, 0)
      for (const part of [some, more]) all.add(of(part))
      const expected = of([...some, ...more])
      assert.deepStrictEqual(all.counts, expected.counts)
      assert.closeTo(all.sum, expected.sum, 1e-9)
      assert.deepStrictEqual([all.min, all.max], [expected.min, expected.max])
    },
    { arbitrary: { runs: 100, seed: 5 } }
  )

  it.prop("every value is in exactly one bucket", [seconds], ([values]) => {
    const histogram = of(values)
    assert.strictEqual(histogram.count, values.length)
    requestBoundaries.forEach((boundary, bucket) => {
      const low = requestBoundaries[bucket - 1] ?? -1
      assert.strictEqual(histogram.counts[bucket], values.filter((value) => value > low && value <= boundary).length)
    })
  })
})
