/** How long to wait before a retry: the rule alone, without the loop. */

export type Jitter = "none" | "proportional" | "full" | "equal" | "decorrelated"

export interface Backoff {
  /** Milliseconds, as all here. */
  readonly initialDelay: number
  readonly multiplier: number
  readonly maxDelay: number
  readonly jitter: Jitter
  /** Of `proportional`: 0.1 is ± 10 %. */
  readonly jitterFactor: number
}

/**
 * The wait before retry `retries + 1`; `previous` is the wait before the last one, 0 if there was none. Never above
 * `maxDelay`, never negative.
 *
 * `full`, `equal` and `decorrelated` are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
 */
export const delayOf = (self: Backoff, retries: number, previous: number, random: () => number): number => {
  const { initialDelay, maxDelay } = self
  // Finite, or no delay would become 0 × Infinity.
  const exponential = initialDelay * Math.min(self.multiplier ** retries, Number.MAX_SAFE_INTEGER)
  const capped = Math.min(exponential, maxDelay)
  switch (self.jitter) {
    case "none":
      return capped
    case "proportional":
      return Math.min(exponential * (1 + self.jitterFactor * (2 * random() - 1)), maxDelay)
    case "full":
      return capped * random()
    case "equal":
      return capped / 2 + (capped / 2) * random()
    case "decorrelated": {
      const longest = 3 * Math.max(previous, initialDelay)
      return Math.min(initialDelay + (longest - initialDelay) * random(), maxDelay)
    }
  }
}
