/**
 * What is remembered of the calls of a closed circuit: all since it closed, the last n, or those of the last time.
 * Recording is a few writes to numbers; nothing is allocated for it.
 */
import type { Timers } from "../../model/Timers.ts"
import type { Counts } from "../CircuitBreaker.ts"
import type { Resolved } from "./circuitBreakerOptions.ts"

/** Everything since the beginning: for rules that need no window. */
export class Outcomes implements Counts {
  consecutiveFailures = 0
  calls = 0
  failures = 0
  slowCalls = 0

  record(failed: boolean, slow: boolean): void {
    this.consecutiveFailures = failed ? this.consecutiveFailures + 1 : 0
    this.calls++
    if (failed) this.failures++
    if (slow) this.slowCalls++
  }

  /** Forgets what is too old by now. */
  refresh(): void {}
}

const FAILED = 1
const SLOW = 2

/** The last `size` calls. */
export class LastCalls extends Outcomes {
  private readonly ring: Uint8Array
  private next = 0

  constructor(size: number) {
    super()
    this.ring = new Uint8Array(size)
  }

  override record(failed: boolean, slow: boolean): void {
    const { next, ring } = this
    if (this.calls === ring.length) {
      const oldest = ring[next]!
      this.calls--
      if ((oldest & FAILED) !== 0) this.failures--
      if ((oldest & SLOW) !== 0) this.slowCalls--
    }
    super.record(failed, slow)
    ring[next] = (failed ? FAILED : 0) | (slow ? SLOW : 0)
    this.next = next + 1 === ring.length ? 0 : next + 1
  }
}

/** As Hystrix has it (`metrics.rollingStats.numBuckets`). */
const bucketCount = 10

interface Bucket {
  calls: number
  failures: number
  slowCalls: number
}

/**
 * The calls of the last `millis`, in ten buckets: the oldest bucket leaves as a whole, so the window is between nine and
 * ten tenths of its length.
 */
export class LastTime extends Outcomes {
  private readonly buckets: ReadonlyArray<Bucket> = Array.from({ length: bucketCount }, () => ({
    calls: 0,
    failures: 0,
    slowCalls: 0
  }))
  private readonly width: number
  private readonly timers: Timers
  /** The number of the bucket of now, counted from the origin of time. */
  private epoch: number

  constructor(millis: number, timers: Timers) {
    super()
    this.width = millis / bucketCount
    this.timers = timers
    this.epoch = this.current()
  }

  override record(failed: boolean, slow: boolean): void {
    this.refresh()
    super.record(failed, slow)
    const bucket = this.bucketOf(this.epoch)
    bucket.calls++
    if (failed) bucket.failures++
    if (slow) bucket.slowCalls++
  }

  override refresh(): void {
    const epoch = this.current()
    // After a long pause every bucket is emptied once, not once for each turn that was missed.
    const first = Math.max(this.epoch + 1, epoch - bucketCount + 1)
    for (let old = first; old <= epoch; old++) this.forget(this.bucketOf(old))
    this.epoch = epoch
  }

  private current(): number {
    return Math.floor(this.timers.now() / this.width)
  }

  private bucketOf(epoch: number): Bucket {
    return this.buckets[epoch % bucketCount]!
  }

  private forget(bucket: Bucket): void {
    this.calls -= bucket.calls
    this.failures -= bucket.failures
    this.slowCalls -= bucket.slowCalls
    bucket.calls = 0
    bucket.failures = 0
    bucket.slowCalls = 0
  }
}

/** What the options' rules need to be remembered; a window only where there is a rate. */
export const outcomes = (options: Resolved, timers: Timers): Outcomes => {
  if (options.failureRate === undefined && options.slowCallRate === undefined) return new Outcomes()
  return Number.isFinite(options.windowDuration)
    ? new LastTime(options.windowDuration, timers)
    : new LastCalls(options.windowCalls)
}
