/**
 * The rule of a rate limit, apart from the line of those who wait: when tokens can be had, taken and given back.
 *
 * A rule is never asked about a time before one that it was asked about, so a clock that goes back cannot move it; its
 * caller sees to that. Times and lengths are milliseconds, tokens are whole numbers.
 */
import type { Resolved } from "./rateLimitOptions.ts"
import { SlidingCounter } from "./slidingCounter.ts"
import { SlidingWindow } from "./slidingWindow.ts"
import { TokenBucket } from "./tokenBucket.ts"

export interface Rule {
  /** The most that anybody can take at once. */
  readonly capacity: number
  /** Whole tokens that could be taken now. */
  readonly available: (now: number) => number
  /**
   * When `count` tokens can be had, if nobody else takes any; now or earlier: at once. More than the capacity is asked for
   * a line of which each takes its own as soon as it can: the answer may then be too early, never too late.
   */
  readonly when: (count: number, now: number) => number
  /** Takes what `when` allows. */
  readonly take: (count: number, now: number) => void
  /** Gives back what was taken at the time `at` and not used. Never makes room for more than the rule allows. */
  readonly giveBack: (count: number, at: number, now: number) => void
}

/** Sums of fractions are not exact: a billionth of a second is no reason to wait for. */
export const tolerance = 1e-6

export const ruleOf = (options: Resolved): Rule => {
  const { algorithm, burst, interval, limit } = options
  switch (algorithm) {
    case "tokenBucket":
      return new TokenBucket(interval / limit, burst)
    case "slidingWindow":
      return new SlidingWindow(limit, interval)
    case "slidingCounter":
      return new SlidingCounter(limit, interval)
  }
}
