/**
 * A service that allows so many requests in any window of a length, all instances together, and answers 429 beyond. It
 * counts for itself, by its own clock, when requests arrive.
 */
import { allIsWell, type Options, type Reply } from "../Cluster.ts"

export interface Quota {
  readonly reply: NonNullable<Options["reply"]>
  readonly seen: () => Seen
}

export interface Seen {
  readonly allowed: number
  readonly refused: number
  /** Requests, refused ones included, in the fullest window. */
  readonly fullest: number
  /** Milliseconds from the first request to the last. */
  readonly elapsed: number
}

/** `now` is a clock in milliseconds. */
export const make = (limit: number, window: number, now: () => number = () => performance.now()): Quota => {
  const recent: Array<number> = []
  const granted: Array<number> = []
  let allowed = 0
  let refused = 0
  let fullest = 0
  let first: number | undefined = undefined
  let last = 0
  /** A window holds its first instant and not its last. */
  const forget = (times: Array<number>, at: number): void => {
    while (times.length > 0 && at - times[0]! >= window) times.shift()
  }
  return {
    reply: (): Reply => {
      const at = now()
      first ??= at
      last = at
      forget(recent, at)
      forget(granted, at)
      fullest = Math.max(fullest, recent.push(at))
      if (granted.length >= limit) {
        refused++
        return { status: 429, headers: { "retry-after": String(Math.ceil(window / 1000)) } }
      }
      granted.push(at)
      allowed++
      return allIsWell
    },
    seen: () => ({ allowed, refused, fullest, elapsed: last - (first ?? last) })
  }
}
