import { describe, expect, it } from "@effect/vitest"
import { heapAllowance, heapGrowth, type Sample, troubles } from "../../src/bench/soak/Checks.ts"
import { between, make, weighted } from "../../src/bench/soak/Random.ts"

const mebibyte = 2 ** 20

const sample = (fields: Partial<Sample>): Sample => ({
  seconds: 0,
  heap: 40 * mebibyte,
  sockets: 8,
  connections: 8,
  active: 8,
  waiting: 0,
  callers: 64,
  ...fields
})

const heaps = (of: (i: number) => number): ReadonlyArray<Sample> =>
  Array.from({ length: 60 }, (_, i) => sample({ seconds: i * 10, heap: of(i) * mebibyte }))

describe("Checks", () => {
  it("a heap that goes up and down is flat", () => {
    const samples = heaps((i) => 40 + (i % 5))
    expect(heapGrowth(samples)).toBeLessThan(heapAllowance(samples))
  })

  it("a heap that grows to its level and stays is flat", () => {
    const samples = heaps((i) => Math.min(60, 30 + 2 * i))
    expect(heapGrowth(samples)).toBeLessThan(heapAllowance(samples))
  })

  it("a heap that grows by 1 MiB a minute and more is not", () => {
    const samples = heaps((i) => 40 + i / 5 + (i % 3))
    expect(heapGrowth(samples)).toBeGreaterThan(heapAllowance(samples))
  })

  it("too few samples prove nothing", () => {
    expect(heapGrowth([sample({}), sample({ seconds: 10, heap: 90 * mebibyte })])).toBe(0)
  })

  it("a moment is well when there are as many of everything as there should be", () => {
    const of = { size: 8, callers: 64 }
    expect(troubles(sample({ active: 8, waiting: 56 }), of)).toEqual([])
    expect(troubles(sample({ sockets: 100, callers: 63, active: 9, waiting: 65 }), of)).toHaveLength(4)
  })
})

describe("Random", () => {
  it("repeats itself for the same seed only", () => {
    const draw = (seed: number) => Array.from({ length: 5 }, make(seed))
    expect(draw(1)).toEqual(draw(1))
    expect(draw(1)).not.toEqual(draw(2))
  })

  it("is even, and keeps to weights and bounds", () => {
    const random = make(7)
    const seen = { often: 0, seldom: 0, never: 0 }
    for (let i = 0; i < 10_000; i++) seen[weighted(random, { often: 9, seldom: 1, never: 0 })]++
    expect(seen.never).toBe(0)
    expect(seen.seldom / 10_000).toBeCloseTo(0.1, 1)
    const whole = Array.from({ length: 1000 }, () => between(random, 3, 5))
    expect(new Set(whole)).toEqual(new Set([3, 4, 5]))
  })
})
