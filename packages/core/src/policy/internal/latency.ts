/**
 * The latencies of the last requests, and their percentiles, in constant memory.
 *
 * A log-linear histogram, as HdrHistogram has it: whole milliseconds up to 63, above that 32 buckets for each power of
 * two. A percentile is the upper edge of its bucket: never less than the exact one (by nearest rank), and at most 1/32
 * of it and one millisecond more. So it takes few different values, and deadlines of equal length share a timer. What
 * is longer than `maxLatency` counts as that.
 *
 * The window is exact: a ring holds the bucket of each of the last `windowSize` latencies, the oldest leaves as the next
 * one comes. Both together are about 3 KB.
 */

/** How many latencies are remembered. */
export const windowSize = 1024

const subBucketBits = 5
const subBuckets = 1 << subBucketBits
const maxBits = 20

/** The longest latency that is told apart, in milliseconds: a little over 17 minutes. */
export const maxLatency = 2 ** maxBits - 1

/** The bucket of a whole number of milliseconds: its leading bits, and how many follow. */
const bucketOf = (millis: number): number => {
  const shift = Math.max(31 - Math.clz32(millis) - subBucketBits, 0)
  return shift * subBuckets + (millis >> shift)
}

/** The largest number of milliseconds in a bucket. */
const upperEdge = (bucket: number): number => {
  const shift = Math.max((bucket >> subBucketBits) - 1, 0)
  return ((bucket - shift * subBuckets + 1) << shift) - 1
}

export class Latencies {
  /** How many are in the window. */
  size = 0
  private next = 0
  private readonly ring = new Uint16Array(windowSize)
  private readonly counts = new Uint16Array(bucketOf(maxLatency) + 1)

  /** Adds one, of at least 0 ms; fractions count as the next whole millisecond. */
  add(millis: number): void {
    const { counts, next, ring } = this
    const bucket = bucketOf(Math.min(Math.ceil(millis), maxLatency))
    if (this.size === windowSize) counts[ring[next]!]!--
    else this.size++
    counts[bucket]!++
    ring[next] = bucket
    this.next = (next + 1) % windowSize
  }

  /** The whole milliseconds that this share of the latencies (above 0, at most 1) did not exceed; 0 when there are none. */
  percentile(share: number): number {
    const { counts } = this
    // From the slow end: the percentiles that are asked for are high.
    let above = this.size - Math.ceil(share * this.size)
    for (let bucket = counts.length - 1; bucket >= 0; bucket--) {
      above -= counts[bucket]!
      if (above < 0) return upperEdge(bucket)
    }
    return 0
  }
}
