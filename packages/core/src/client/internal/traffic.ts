/**
 * What the requests to one host came to: how long they took by method and end, how they failed, why connections ended.
 * Made with the first of them, so a host that is only known has none; and only for so many hosts at a time, as it is
 * larger than all else that is known of a host.
 */
import type { Latency } from "../Host.ts"
import type { RequestSeries } from "../../observe/ClientMetrics.ts"
import * as Histogram from "../../observe/Histogram.ts"
import { methodName } from "../../observe/internal/method.ts"

/** Hosts with traffic of their own, at a time. A pool that is sent to thousands counts the rest together. */
export const maxObserved = 100

interface Changing {
  readonly changed: () => void
}

const none: ReadonlyArray<RequestSeries> = []

export class Traffic {
  /** One or two, nearly always: a map would be larger than all that is in it. */
  private series: ReadonlyArray<RequestSeries> = none
  /** The next one nearly always ends as the last one did. */
  private last: RequestSeries | undefined = undefined
  /** By tag. */
  private failures: Map<string, number> | undefined = undefined
  /** Connections by why they ended. */
  private ends: Map<string, number> | undefined = undefined
  private connections: Histogram.Histogram | undefined = undefined
  /** Whose it is; `undefined`: of all hosts that have none of their own. */
  readonly host: Changing | undefined

  /** The host hears of a series or a reason that there was not. */
  constructor(host?: Changing) {
    this.host = host
  }

  record(method: string, end: number | string, millis: number): void {
    let { last } = this
    if (last === undefined || last.end !== end || last.method !== method) {
      last = this.find(method, end)
      this.last = last
    }
    last.durations.record(millis / 1000)
  }

  failed(tag: string): void {
    const failures = (this.failures ??= new Map())
    failures.set(tag, (failures.get(tag) ?? 0) + 1)
  }

  disconnected(why: string, millis: number): void {
    const reason = isCode(why) ? why : "other"
    const ends = (this.ends ??= new Map())
    const before = ends.get(reason)
    ends.set(reason, (before ?? 0) + 1)
    this.connections ??= new Histogram.Histogram(Histogram.connectionBoundaries)
    this.connections.record(millis / 1000)
    if (before === undefined) this.host?.changed()
  }

  get all(): ReadonlyArray<RequestSeries> {
    return this.series
  }
  get failuresBy(): ReadonlyMap<string, number> {
    return this.failures ?? new Map()
  }
  get closedBy(): ReadonlyMap<string, number> {
    return this.ends ?? new Map()
  }
  get connectionDurations(): Histogram.Histogram | undefined {
    return this.connections
  }

  private find(sent: string, end: number | string): RequestSeries {
    const method = methodName(sent)
    const known = this.series.find((series) => series.end === end && series.method === method)
    if (known !== undefined) return known
    const made = { method, end, durations: new Histogram.Histogram() }
    this.series = [...this.series, made]
    this.host?.changed()
    return made
  }
}

/** An error without a code tells its message, and of these there is no end. */
const isCode = (reason: string): boolean => /^\w{1,40}$/.test(reason)

/** The share of requests that did not need a new connection. */
export const reuse = (opened: number, started: number): number =>
  started === 0 ? 0 : Math.max(0, 1 - opened / started)

/** Milliseconds to the heads of all responses; `undefined` when there was none. */
export const latency = (traffic: ReadonlyArray<Traffic>): Latency | undefined => {
  const all = new Histogram.Histogram()
  for (const { durations, end } of traffic.flatMap((each) => each.all)) {
    if (typeof end === "number") all.add(durations)
  }
  const { count, max, sum } = all
  if (count === 0) return undefined
  const at = (p: number): number => all.quantile(p) * 1000
  return { count, mean: (sum / count) * 1000, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: max * 1000 }
}
