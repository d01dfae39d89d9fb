/**
 * The exact sliding window: it remembers when each of the last `limit` tokens was taken.
 *
 * Promise: no window of `interval`, wherever it begins, holds more than `limit` tokens taken and not given back. (A window
 * holds its first instant and not its last.)
 */
import type { Rule } from "./rateLimitRule.ts"

export class SlidingWindow implements Rule {
  readonly capacity: number
  private readonly interval: number
  /** A ring, in the order of time; it grows with its use up to `limit`. 8 bytes a token. */
  private times = new Float64Array(0)
  private first = 0
  private size = 0

  constructor(limit: number, interval: number) {
    this.capacity = limit
    this.interval = interval
  }

  available(now: number): number {
    this.forget(now)
    return this.capacity - this.size
  }

  when(count: number, now: number): number {
    this.forget(now)
    const tooMany = this.size + Math.min(count, this.capacity) - this.capacity
    return tooMany <= 0 ? now : this.at(tooMany - 1) + this.interval
  }

  take(count: number, now: number): void {
    this.forget(now)
    // Its caller does not wait for the last billionth of a second.
    while (this.size + count > this.capacity) this.drop()
    while (this.size + count > this.times.length) this.grow()
    for (let i = 0; i < count; i++) this.times[this.index(this.size++)] = now
  }

  giveBack(count: number, at: number, now: number): void {
    this.forget(now)
    let end = this.size
    while (end > 0 && this.at(end - 1) > at) end--
    let begin = end
    while (begin > 0 && end - begin < count && this.at(begin - 1) === at) begin--
    // Those that were taken later move down.
    for (; end < this.size; begin++, end++) this.times[this.index(begin)] = this.at(end)
    this.size = begin
  }

  /** The i-th oldest. */
  private at(i: number): number {
    return this.times[this.index(i)]!
  }

  private index(i: number): number {
    const index = this.first + i
    return index < this.times.length ? index : index - this.times.length
  }

  /** Drops what the window that ends now no longer holds. */
  private forget(now: number): void {
    while (this.size > 0 && this.at(0) + this.interval <= now) this.drop()
  }

  private drop(): void {
    this.first = this.index(1)
    this.size--
  }

  private grow(): void {
    const larger = new Float64Array(Math.min(this.capacity, Math.max(16, 2 * this.times.length)))
    for (let i = 0; i < this.size; i++) larger[i] = this.at(i)
    this.times = larger
    this.first = 0
  }
}
