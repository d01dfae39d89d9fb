/**
 * When a closed circuit trips. A rule looks at what is counted and remembers nothing itself, so all circuits share them; a
 * new rule is a new function here and a name in `TripReason`.
 */
import type { Counts, TripReason } from "../CircuitBreaker.ts"
import type { Resolved } from "./circuitBreakerOptions.ts"

interface TripRule {
  readonly reason: TripReason
  /** Asked after every call that counts. */
  readonly trips: (counts: Counts, options: Resolved) => boolean
}

const consecutiveFailures: TripRule = {
  reason: "consecutiveFailures",
  trips: (counts, options) => counts.consecutiveFailures >= options.consecutiveFailures
}

// A quotient compares exactly with the same quotient written as a decimal; a product does not: 0.07 * 100 > 7.

const failureRate: TripRule = {
  reason: "failureRate",
  trips: ({ calls, failures }, options) =>
    options.failureRate !== undefined && calls >= options.minimumCalls && failures / calls >= options.failureRate
}

const slowCallRate: TripRule = {
  reason: "slowCallRate",
  trips: ({ calls, slowCalls }, options) =>
    options.slowCallRate !== undefined && calls >= options.minimumCalls && slowCalls / calls >= options.slowCallRate
}

/** The first that trips gives the reason. */
export const tripRules: ReadonlyArray<TripRule> = [consecutiveFailures, failureRate, slowCallRate]
