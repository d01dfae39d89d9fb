/**
 * What a response says about its server's own limit: how long no request should be sent.
 *
 * - `Retry-After` of a 429 or 503 (RFC 9110, 10.2.3). Where it is given, nothing else counts, as the draft below has it.
 * - `RateLimit: "policy";r=0;t=30` (draft-ietf-httpapi-ratelimit-headers-08 and later) and
 *   `RateLimit: limit=100, remaining=0, reset=30` (-07). Of several policies, the longest that has nothing left.
 * - `RateLimit-Remaining` and `RateLimit-Reset` (up to -06); `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
 *
 * A reset is a number of seconds from now, or since 1970, as GitHub has it: what would be more than thirty years from now
 * is meant as a date. What cannot be understood is ignored.
 */
import { parseRetryAfter } from "./retryAfter.ts"

/** Names in lower case; repeated headers as arrays. */
interface Headers {
  readonly [name: string]: string | ReadonlyArray<string> | undefined
}

const textOf = (header: string | ReadonlyArray<string> | undefined): string | undefined =>
  header === undefined || typeof header === "string" ? header : header.join(", ")

/** In milliseconds; `undefined`: it does not say. `nowEpochMillis` is only called when a date is to be compared. */
export const pauseOf = (status: number, headers: Headers, nowEpochMillis: () => number): number | undefined => {
  const retryAfter = status === 429 || status === 503 ? textOf(headers["retry-after"]) : undefined
  if (retryAfter !== undefined) {
    const pause = parseRetryAfter(retryAfter, nowEpochMillis())
    if (pause !== undefined) return pause
  }
  const limits = textOf(headers["ratelimit"])
  return (
    (limits === undefined ? undefined : pauseOfLimits(limits, nowEpochMillis)) ??
    pauseOfPair(textOf(headers["ratelimit-remaining"]), textOf(headers["ratelimit-reset"]), nowEpochMillis) ??
    pauseOfPair(textOf(headers["x-ratelimit-remaining"]), textOf(headers["x-ratelimit-reset"]), nowEpochMillis)
  )
}

const pauseOfPair = (
  remaining: string | undefined,
  reset: string | undefined,
  nowEpochMillis: () => number
): number | undefined =>
  remaining !== undefined && reset !== undefined && isNothing(remaining) ? untilReset(reset, nowEpochMillis) : undefined

const isNothing = (remaining: string): boolean => /^\s*-?0+(?:\.0+)?\s*$/.test(remaining)

/** A longer field is not from a server that means well. */
const maxLength = 4_096

const pauseOfLimits = (field: string, nowEpochMillis: () => number): number | undefined => {
  if (field.length > maxLength) return undefined
  // What is quoted may hold any separator; it is only a name.
  const plain = field.replaceAll(/"(?:[^"\\]|\\.)*"/g, "")
  const old = /(?:^|,)\s*remaining\s*=([^,;]*)/i.exec(plain)
  if (old !== null) {
    return pauseOfPair(old[1], /(?:^|,)\s*reset\s*=([^,;]*)/i.exec(plain)?.[1], nowEpochMillis)
  }
  let longest: number | undefined
  for (const item of plain.split(",")) {
    const pause = pauseOfPair(parameter(item, "r"), parameter(item, "t"), nowEpochMillis)
    if (pause !== undefined && pause > (longest ?? -1)) longest = pause
  }
  return longest
}

const parameter = (item: string, name: string): string | undefined => {
  for (const part of item.split(";")) {
    const [key, value] = part.split("=", 2)
    if (key?.trim() === name) return value
  }
  return undefined
}

/** In seconds: later than the year 2001 as a date, longer than thirty years as a time. */
const earliestDate = 1e9
/** The same in milliseconds. */
const earliestMillis = 1e12

const untilReset = (reset: string, nowEpochMillis: () => number): number | undefined => {
  const text = reset.trim()
  if (!/^-?\d{1,16}(?:\.\d{1,9})?$/.test(text)) return undefined
  const value = Number(text)
  if (value < earliestDate) return Math.max(0, value * 1_000)
  return Math.max(0, (value < earliestMillis ? value * 1_000 : value) - nowEpochMillis())
}
