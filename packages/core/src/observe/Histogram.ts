/**
 * How often a duration fell between fixed boundaries: the memory of a few numbers, whatever is recorded.
 *
 * What it promises: `record` allocates nothing and costs some nanoseconds; a histogram in which nothing was recorded is
 * one small object, so that there can be one for every host. What it never does: forget, or know a value exactly.
 *
 * @since 0.1.0
 */

/**
 * Seconds, as OpenTelemetry has them for `http.client.request.duration`.
 *
 * @category constants
 * @since 0.1.0
 */
export const requestBoundaries: ReadonlyArray<number> = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10
]

/**
 * Seconds, as OpenTelemetry has them for `http.client.connection.duration`.
 *
 * @category constants
 * @since 0.1.0
 */
export const connectionBoundaries: ReadonlyArray<number> = [
  0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300
]

/**
 * A histogram of durations in seconds.
 *
 * ```ts
 * import { Histogram } from "@millrace/core"
 *
 * const latency = new Histogram.Histogram()
 * latency.record(0.03)
 * export const p99 = latency.quantile(0.99)
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export class Histogram {
  /** Upper bounds, which belong to their bucket; ascending. The last bucket has none. */
  readonly boundaries: ReadonlyArray<number>
  /** Sum, min, max, then the buckets: a number in an array of doubles takes a third of what one in a field does. */
  #cells: Array<number> | undefined = undefined

  /** Default boundaries: those of requests. */
  constructor(boundaries: ReadonlyArray<number> = requestBoundaries) {
    this.boundaries = boundaries
  }

  /** Counts a duration. A negative one counts as 0; what is not finite is left out, as it would spoil the sum for ever. */
  record(seconds: number): void {
    if (!(seconds < Infinity)) return
    const value = seconds > 0 ? seconds : 0
    const { boundaries } = this
    const cells = (this.#cells ??= emptyCells(boundaries.length + 1))
    let bucket = 0
    // Most are short, so they are found sooner in turn than by halves.
    while (bucket < boundaries.length && value > (boundaries[bucket] ?? 0)) bucket++
    cells[FIRST + bucket] = (cells[FIRST + bucket] ?? 0) + 1
    cells[SUM] = (cells[SUM] ?? 0) + value
    if (value < (cells[MIN] ?? 0)) cells[MIN] = value
    if (value > (cells[MAX] ?? 0)) cells[MAX] = value
  }

  /** Counts all that another one has counted, which has the same boundaries. */
  add(other: Histogram): void {
    const added = other.#cells
    if (added === undefined) return
    const cells = (this.#cells ??= emptyCells(this.boundaries.length + 1))
    for (let i = 0; i < cells.length; i++) {
      const [mine, others] = [cells[i] ?? 0, added[i] ?? 0]
      cells[i] = i === MIN ? Math.min(mine, others) : i === MAX ? Math.max(mine, others) : mine + others
    }
  }

  /** How many were recorded. */
  get count(): number {
    return this.counts.reduce((sum, count) => sum + count, 0)
  }

  /** How many fell into each bucket; one more than there are boundaries. */
  get counts(): ReadonlyArray<number> {
    return this.#cells?.slice(FIRST) ?? Array.from({ length: this.boundaries.length + 1 }, () => 0)
  }

  /** Seconds, all together. */
  get sum(): number {
    return this.#cells?.[SUM] ?? 0
  }

  /** The shortest, in seconds; `NaN` when nothing was recorded. */
  get min(): number {
    return this.#cells?.[MIN] ?? Number.NaN
  }

  /** The longest, in seconds; `NaN` when nothing was recorded. */
  get max(): number {
    return this.#cells?.[MAX] ?? Number.NaN
  }

  /**
   * The duration in seconds that a share `p` (0 to 1) of the recorded ones do not exceed; `NaN` when nothing was recorded
   * or `p` is no share.
   *
   * It is interpolated evenly within its bucket, so it is wrong by at most the bucket's width, cut to what lies between
   * the shortest and the longest: a p99 that falls between 2.5 s and 5 s may be wrong by 2.5 s. 0 and 1 are exact.
   */
  quantile(p: number): number {
    const { count, max, min } = this
    if (!(p >= 0 && p <= 1) || count === 0) return Number.NaN
    if (p === 0) return min
    const rank = p * count
    let below = 0
    for (const [bucket, inside] of this.counts.entries()) {
      if (inside > 0 && below + inside >= rank) {
        const low = Math.max(min, this.boundaries[bucket - 1] ?? 0)
        const high = Math.min(max, this.boundaries[bucket] ?? max)
        return low + ((rank - below) / inside) * (high - low)
      }
      below += inside
    }
    return max
  }
}

/** The infinities make it an array of doubles, whose numbers need no objects of their own; a copy has no spare room. */
const emptyCells = (buckets: number): Array<number> => {
  const cells = [0, Infinity, -Infinity]
  for (let i = 0; i < buckets; i++) cells.push(0)
  return cells.slice()
}

const SUM = 0
const MIN = 1
const MAX = 2
const FIRST = 3
