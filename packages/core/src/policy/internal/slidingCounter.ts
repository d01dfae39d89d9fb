/**
 * The sliding window as two counters: one for the current interval of a fixed grid and one for that before it, which
 * counts by the part of it that a window ending now would still hold. Constant memory, whatever the limit.
 *
 * Promise: what is taken and not given back within any time t up to `interval` is at most limit × (1 + t / interval). So
 * there is no double burst where two intervals meet; but a whole interval may hold up to twice the limit, when the one
 * before it was busy only at its end. Where no window may hold more than the limit, use the exact one.
 *
 * Why: with P taken in the interval before and c in the current one, when a part f of it has passed, the rule says
 * c + P × (1 - f) ≤ limit at each admission, so P + c ≤ limit + P × f ≤ limit × (1 + f); and a window that holds some of P
 * and ends at f is longer than f.
 *
 * The same formula is in use at Cloudflare's edge ("How we built rate limiting capable of scaling to millions of
 * domains", 2017) and in Kong.
 */
import type { Rule } from "./rateLimitRule.ts"

/** Far below one token, far above what sums of fractions are off by. */
const hair = 1e-9

export class SlidingCounter implements Rule {
  readonly capacity: number
  private readonly interval: number
  private start = -Infinity
  private previous = 0
  private current = 0

  constructor(limit: number, interval: number) {
    this.capacity = limit
    this.interval = interval
  }

  available(now: number): number {
    this.roll(now)
    const weight = 1 - (now - this.start) / this.interval
    return Math.max(0, Math.floor(this.capacity - this.current - this.previous * weight + hair))
  }

  when(count: number, now: number): number {
    this.roll(now)
    const room = this.capacity - Math.min(count, this.capacity)
    // Not in this interval: then when enough of its own count has slid out in the next one.
    return this.current <= room
      ? this.fits(this.start, this.previous, room - this.current)
      : this.fits(this.start + this.interval, this.current, room)
  }

  take(count: number, now: number): void {
    this.roll(now)
    this.current += count
  }

  giveBack(count: number, at: number, now: number): void {
    this.roll(now)
    if (at >= this.start) this.current -= count
    else if (at >= this.start - this.interval) this.previous -= count
  }

  /** When the weighted `before` is down to `room`, in the interval from `start` on. */
  private fits(start: number, before: number, room: number): number {
    return before <= room ? start : start + this.interval * (1 - room / before)
  }

  private roll(now: number): void {
    const passed = Math.floor((now - this.start) / this.interval)
    if (passed === 0) return
    this.previous = passed === 1 ? this.current : 0
    this.current = 0
    // The grid begins with the first token, and anew after a time without any.
    this.start = passed === 1 ? this.start + this.interval : now
  }
}
