/**
 * A bucket of `burst` tokens that gets a new one every `pace` milliseconds.
 *
 * Promise: what is taken and not given back within any time t is at most burst + t / pace.
 *
 * Its whole state is the time when it will be full, as in the generic cell rate algorithm (ITU-T I.371): that time minus
 * now is what is missing, and nothing needs to be filled in between.
 */
import type { Rule } from "./rateLimitRule.ts"

/** Far below one token, far above what sums of fractions are off by. */
const hair = 1e-9

export class TokenBucket implements Rule {
  readonly capacity: number
  private readonly pace: number
  private full = -Infinity
  /**
   * When somebody last took from a bucket that missed less than 1, 2, 4, 8… tokens. Tokens that come back to a bucket
   * which has overflowed since they were taken are those that would have overflowed: to add them would be a burst too big.
   */
  private readonly missed: Float64Array

  constructor(pace: number, burst: number) {
    this.pace = pace
    this.capacity = burst
    this.missed = new Float64Array(classOf(burst) + 1).fill(-Infinity)
  }

  available(now: number): number {
    return Math.floor(this.capacity - this.missing(now) + hair)
  }

  when(count: number, now: number): number {
    return Math.max(this.full, now) + (count - this.capacity) * this.pace
  }

  take(count: number, now: number): void {
    this.missed[classOf(this.missing(now))] = now
    this.full = Math.max(this.full, now) + count * this.pace
  }

  giveBack(count: number, at: number, now: number): void {
    const back = Math.min(count, this.missing(now), this.missedSince(at))
    this.full -= back * this.pace
  }

  /** Tokens, with their fraction, that it is short of. */
  private missing(now: number): number {
    return Math.max(0, this.full - now) / this.pace
  }

  /** How many tokens it has missed at least, ever since. Within one instant it only loses tokens. */
  private missedSince(at: number): number {
    for (let i = 0; i < this.missed.length; i++) {
      if (this.missed[i]! > at) return i === 0 ? 0 : 2 ** (i - 1)
    }
    return Infinity
  }
}

/** 0 for less than 1, 1 for less than 2, 2 for less than 4, and so on. */
const classOf = (missing: number): number => 32 - Math.clz32(missing + hair)
