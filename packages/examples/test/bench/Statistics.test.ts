import { describe, expect, it } from "@effect/vitest"
import { differences, median, quantile, ratios, slope, summary } from "../../src/bench/Statistics.ts"

describe("Statistics", () => {
  it("median is the middle value, or the mean of the two middle ones", () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 3, 2])).toBe(2.5)
    expect(median([])).toBeNaN()
  })

  it("quantile is a value that occurs", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i)
    expect(quantile(hundred, 0.99)).toBe(99)
    expect(quantile(hundred, 1)).toBe(100)
    expect(quantile(hundred, 0)).toBe(1)
    expect(quantile([], 0.5)).toBeNaN()
  })

  it("leaves its arguments as they are", () => {
    const values = [3, 1, 2]
    median(values)
    quantile(values, 0.5)
    expect(values).toEqual([3, 1, 2])
  })

  it("summary gives median, least and greatest", () => {
    expect(summary([5, 1, 9])).toEqual({ median: 5, min: 1, max: 9 })
  })

  it("ratios compare within a round, so a slow round does not count", () => {
    // In the second round the machine was ten times slower, for both.
    expect(ratios([200, 20, 200], [100, 10, 100])).toEqual({ median: 2, min: 2, max: 2 })
  })

  it("differences compare within a round, too", () => {
    expect(differences([3, 30, 3], [1, 28, 1])).toEqual({ median: 2, min: 2, max: 2 })
  })

  it("slope is that of the best line", () => {
    expect(
      slope([
        [0, 1],
        [1, 3],
        [2, 5]
      ])
    ).toBeCloseTo(2)
    expect(
      slope([
        [0, 1],
        [1, 0],
        [2, 1]
      ])
    ).toBeCloseTo(0)
    expect(slope([[1, 1]])).toBe(0)
  })
})
