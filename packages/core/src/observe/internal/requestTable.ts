/**
 * Durations of requests, apart for each method, status and kind of failure.
 *
 * A host has few of these series; the one that was used last is most often the one that is used next, so it is tried
 * before any search. The list only grows, and is bounded: known methods, statuses of three digits, tags of errors.
 */
import { Histogram } from "../Histogram.ts"

/** One series, as OpenTelemetry has it. */
export interface RequestSeries {
  readonly method: string
  /** Of the response, if there was one. */
  readonly status: number | undefined
  /** The tag of the error that the request ended with; `undefined` when it ended with a response. */
  readonly error: string | undefined
  readonly duration: Histogram
}

/** RFC 9110, PATCH (RFC 5789) and QUERY: what OpenTelemetry calls known. */
const known: ReadonlySet<string> = new Set([
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "CONNECT",
  "OPTIONS",
  "TRACE",
  "PATCH",
  "QUERY"
])

/** The method as metrics and spans name it: whoever sends made-up ones must not fill the memory with series. */
export const methodName = (method: string): string => (known.has(method) ? method : "_OTHER")

export class RequestTable {
  readonly series: Array<RequestSeries> = []
  #last: RequestSeries | undefined = undefined

  /** Counts a request that took so many seconds. Answers whether its series is new. */
  record(method: string, status: number | undefined, error: string | undefined, seconds: number): boolean {
    const last = this.#last
    if (last !== undefined && last.status === status && last.method === method && last.error === error) {
      last.duration.record(seconds)
      return false
    }
    const name = methodName(method)
    const found = this.series.find((one) => one.status === status && one.method === name && one.error === error)
    const series = found ?? { method: name, status, error, duration: new Histogram() }
    if (found === undefined) this.series.push(series)
    this.#last = series
    series.duration.record(seconds)
    return found === undefined
  }
}
