/** The little statistics that the benchmark and the soak need. */

const ascending = (values: ReadonlyArray<number>): Array<number> => [...values].sort((a, b) => a - b)

/** The smallest value that at least the share `q` of the values does not exceed; `NaN` of nothing. */
export const quantile = (values: ReadonlyArray<number>, q: number): number => {
  const sorted = ascending(values)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN
}

/** The middle value, or the mean of the two middle ones; `NaN` of nothing. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = ascending(values)
  const half = sorted.length / 2
  return sorted.length % 2 === 1 ? sorted[Math.floor(half)]! : ((sorted[half - 1] ?? NaN) + (sorted[half] ?? NaN)) / 2
}

export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
}

export const summary = (values: ReadonlyArray<number>): Summary => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values)
})

/**
 * Compares two series round by round. What disturbs the machine for a second disturbs both sides of a round, so the
 * median of the rounds' ratios is steadier than the ratio of two medians.
 */
export const ratios = (values: ReadonlyArray<number>, reference: ReadonlyArray<number>): Summary =>
  summary(values.map((value, round) => value / (reference[round] ?? Number.NaN)))

/** As `ratios`, for what adds up. */
export const differences = (values: ReadonlyArray<number>, reference: ReadonlyArray<number>): Summary =>
  summary(values.map((value, round) => value - (reference[round] ?? Number.NaN)))

/** The slope of the line that fits the points best (least squares): how much `y` grows for one `x`. */
export const slope = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length
  let above = 0
  let below = 0
  for (const [x, y] of points) {
    above += (x - meanX) * (y - meanY)
    below += (x - meanX) ** 2
  }
  return below === 0 ? 0 : above / below
}
