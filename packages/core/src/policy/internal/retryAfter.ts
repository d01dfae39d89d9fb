/**
 * `Retry-After`: a number of seconds or a date (RFC 9110, 10.2.3), in any of the three forms of a date that a recipient
 * must know (5.6.7). It never throws, and never answers a time that is negative or not finite.
 *
 * Dates are not left to `Date.parse`: it takes much that is no HTTP date, and reads a date without a zone as local time.
 */

const months = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
const time = "(?<hour>\\d{2}):(?<minute>\\d{2}):(?<second>\\d{2})"

// The name of the day is not compared with the date: a server that gets it wrong still said when.
const forms: ReadonlyArray<RegExp> = [
  // Sun, 06 Nov 1994 08:49:37 GMT
  new RegExp(`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\\d{2}) (?<month>${months}) (?<year>\\d{4}) ${time} GMT$`),
  // Sunday, 06-Nov-94 08:49:37 GMT
  new RegExp(
    `^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\\d{2})-(?<month>${months})-(?<year>\\d{2}) ${time} GMT$`
  ),
  // Sun Nov  6 08:49:37 1994
  new RegExp(`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?<month>${months}) (?<day>\\d{2}| \\d) ${time} (?<year>\\d{4})$`)
]

const deltaSeconds = /^(-?)(\d+)$/

/** Milliseconds from now: 0 for a time that has passed, `undefined` for what is not a time. */
export const parseRetryAfter = (value: string | undefined, nowEpochMillis: number): number | undefined => {
  const text = value?.trim()
  if (text === undefined || text === "") return undefined
  const delta = deltaSeconds.exec(text)
  if (delta !== null) return delta[1] === "-" ? 0 : Math.min(Number(delta[2]) * 1_000, Number.MAX_SAFE_INTEGER)
  for (const form of forms) {
    const groups = form.exec(text)?.groups
    if (groups === undefined) continue
    const date = dateOf(groups, nowEpochMillis)
    return date === undefined ? undefined : Math.max(0, date - nowEpochMillis)
  }
  return undefined
}

interface Parts {
  readonly [name: string]: string | undefined
}

const dateOf = (parts: Parts, nowEpochMillis: number): number | undefined => {
  const year = Number(parts["year"])
  if (parts["year"]?.length !== 2) return inYear(year, parts)
  // RFC 9110, 5.6.7: a date with two digits that seems more than 50 years ahead is the last such year before now.
  const limit = new Date(nowEpochMillis)
  const lastYear = limit.getUTCFullYear() + 50
  limit.setUTCFullYear(lastYear)
  const latest = lastYear - ((lastYear - year) % 100)
  const date = inYear(latest, parts)
  return date !== undefined && date <= limit.getTime() ? date : inYear(latest - 100, parts)
}

/** Milliseconds since 1970, if there is such a time. */
const inYear = (year: number, { day, hour, minute, month = "", second }: Parts): number | undefined => {
  // A second 60 is a leap second.
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return undefined
  const date = new Date(0)
  // Not `Date.UTC`, to which the year 50 is 1950.
  date.setUTCFullYear(year, months.indexOf(month) / 4, Number(day))
  // A day that the month does not have has become one of the next month.
  if (date.getUTCDate() !== Number(day)) return undefined
  return date.setUTCHours(Number(hour), Number(minute), Number(second))
}
