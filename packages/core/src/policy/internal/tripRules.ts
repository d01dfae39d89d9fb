/**
 * When a closed circuit trips. A rule looks at what is counted and remembers nothing itself; a new rule is a new
 * function here and a name in `TripReason`.
 */
import type { Counts, TripReason } from "../CircuitBreaker.ts"
import type { Resolved } from "./circuitBreakerOptions.ts"

export interface TripRule {
  readonly reason: TripReason
  /** Asked after every call that counts. */
  readonly trips: (counts: Counts) => boolean
}

const consecutive = (failures: number): TripRule => ({
  reason: "consecutiveFailures",
  trips: (counts) => counts.consecutiveFailures >= failures
})

// A quotient compares exactly with the same quotient written as a decimal; a product does not: 0.07 * 100 > 7.

const failureRate = (rate: number, minimumCalls: number): TripRule => ({
  reason: "failureRate",
  trips: (counts) => counts.calls >= minimumCalls && counts.failures / counts.calls >= rate
})

const slowCallRate = (rate: number, minimumCalls: number): TripRule => ({
  reason: "slowCallRate",
  trips: (counts) => counts.calls >= minimumCalls && counts.slowCalls / counts.calls >= rate
})

/** The rules that the options ask for. The first that trips gives the reason. */
export const tripRules = (options: Resolved): ReadonlyArray<TripRule> => {
  const rules: Array<TripRule> = []
  if (Number.isFinite(options.consecutiveFailures)) rules.push(consecutive(options.consecutiveFailures))
  if (options.failureRate !== undefined) rules.push(failureRate(options.failureRate, options.minimumCalls))
  if (options.slowCallRate !== undefined) rules.push(slowCallRate(options.slowCallRate, options.minimumCalls))
  return rules
}
