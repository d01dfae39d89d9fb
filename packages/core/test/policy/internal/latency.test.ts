import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Latencies, maxLatency, windowSize } from "../../../src/policy/internal/latency.ts"

const filled = (millis: ReadonlyArray<number>): Latencies => {
  const latencies = new Latencies()
  for (const one of millis) latencies.add(one)
  return latencies
}

/** By nearest rank, as the histogram has it. */
const exact = (millis: ReadonlyArray<number>, share: number): number =>
  millis.toSorted((a, b) => a - b)[Math.ceil(share * millis.length) - 1] ?? 0

describe("latency", () => {
  it("knows nothing at first", () => {
    assert.strictEqual(new Latencies().size, 0)
    assert.strictEqual(new Latencies().percentile(0.95), 0)
  })

  it("is exact up to 63 ms", () => {
    for (let millis = 0; millis < 64; millis++) assert.strictEqual(filled([millis]).percentile(0.95), millis)
  })

  it("takes a fraction for the next whole millisecond", () => {
    assert.strictEqual(filled([0.2]).percentile(0.5), 1)
    assert.strictEqual(filled([7.0001]).percentile(0.5), 8)
  })

  it("counts what is too long as the longest", () => {
    assert.strictEqual(filled([10 * maxLatency]).percentile(0.5), maxLatency)
    assert.strictEqual(filled([Infinity]).percentile(0.5), maxLatency)
  })

  it("one latency is at most 1/32 too long, and never too short, up to the longest", () => {
    for (let millis = 1; millis <= maxLatency; millis += 1 + (millis >> 9)) {
      const found = filled([millis]).percentile(0.5)
      assert.isAtLeast(found, millis)
      assert.isAtMost(found, millis * (1 + 1 / 32))
    }
  })

  it.prop(
    "a percentile is at most 1/32 and 1 ms above the exact one of the last 1024, never below, and whole",
    [
      Schema.Array(Schema.Number.check(Schema.isBetween({ minimum: 0, maximum: 100_000 }))).check(
        Schema.isMinLength(1),
        Schema.isMaxLength(300)
      ),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10 })),
      Schema.Number.check(Schema.isBetween({ minimum: 0.01, maximum: 1 }))
    ],
    ([some, times, share]) => {
      // More than the window holds: the same values again, grown a little.
      const all = Array.from({ length: times }, (_, time) => some.map((millis) => millis * (1 + time / 7))).flat()
      const last = all.slice(-windowSize)
      const latencies = filled(all)
      assert.strictEqual(latencies.size, last.length)
      const found = latencies.percentile(share)
      const truth = exact(last, share)
      assert.isTrue(Number.isInteger(found))
      assert.isAtLeast(found, truth)
      assert.isAtMost(found, truth * (1 + 1 / 32) + 1 + 1 / 32)
    },
    { arbitrary: { runs: 200 } }
  )

  it("forgets what is older than the last 1024", () => {
    const latencies = filled(Array.from({ length: windowSize }, () => 5_000))
    for (let i = 0; i < windowSize; i++) latencies.add(3)
    assert.strictEqual(latencies.percentile(1), 3)
    assert.strictEqual(latencies.size, windowSize)
  })

  it("takes few different values: timers are shared", () => {
    const values = new Set<number>()
    for (let millis = 0; millis <= 60_000; millis++) values.add(filled([millis]).percentile(1))
    assert.isBelow(values.size, 400)
  })
})
