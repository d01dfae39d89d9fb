/**
 * Requests and retries of a sliding window, in slices of it: constant memory, whatever the traffic.
 *
 * A slice ends as a whole. So that this never allows one retry too many, requests are remembered for 9/10 to 10/10 of
 * the window, and retries for 10/10 to 11/10 of it.
 */
import { hasProperty } from "effect/Predicate"
import type { Timers } from "../../model/Timers.ts"
import type { RetryBudget } from "../RetryBudget.ts"

export const TypeId = "~@millrace/core/RetryBudget"

export const isRetryBudget = (u: unknown): u is RetryBudget => hasProperty(u, TypeId)

export interface Shares {
  readonly ratio: number
  readonly minPerSecond: number
  /** Milliseconds. */
  readonly window: number
}

const slices = 10

/** Those of the window, and the one that has just left it. */
const kept = slices + 1

/** 0.29 × 100 must be 29. */
const rounding = 1e-9

export class WindowBudget {
  private readonly requests = new Float64Array(kept)
  private readonly retries = new Float64Array(kept)
  private readonly shares: Shares
  private readonly timers: Timers
  private readonly width: number
  private current = 0
  private endsAt: number

  constructor(shares: Shares, timers: Timers) {
    this.shares = shares
    this.timers = timers
    this.width = shares.window / slices
    this.endsAt = timers.now() + this.width
  }

  deposit(): void {
    this.turn()
    this.requests[this.current]!++
  }

  withdraw(): boolean {
    if (this.balance() < 1) return false
    this.retries[this.current]!++
    return true
  }

  balance(): number {
    this.turn()
    const { minPerSecond, ratio, window } = this.shares
    const oldest = (this.current + 1) % kept
    let requests = 0
    let retries = 0
    for (let slice = 0; slice < kept; slice++) {
      retries += this.retries[slice]!
      if (slice !== oldest) requests += this.requests[slice]!
    }
    return Math.max(0, Math.floor(ratio * requests + (minPerSecond * window) / 1_000 - retries + rounding))
  }

  /** Begins the slice that it is time for. */
  private turn(): void {
    const now = this.timers.now()
    if (now < this.endsAt) return
    const passed = Math.floor((now - this.endsAt) / this.width) + 1
    for (let i = 0; i < Math.min(passed, kept); i++) {
      this.current = (this.current + 1) % kept
      this.requests[this.current] = 0
      this.retries[this.current] = 0
    }
    this.endsAt += passed * this.width
  }
}
