/**
 * What the requests to one host came to: how long they took by method and end, how they failed, why connections ended.
 * Made with the first of them, so a host that is only known has none.
 */
import type { Latency } from "../Host.ts"
import type { RequestSeries } from "../../observe/ClientMetrics.ts"
import * as Histogram from "../../observe/Histogram.ts"
import { methodName } from "../../observe/internal/method.ts"

export class Traffic {
  /** By method, then by end. */
  private readonly series = new Map<string, Map<number | string, RequestSeries>>()
  /** The next one nearly always ends as the last one did. */
  private last: RequestSeries | undefined = undefined
  /** By tag. */
  private failures: Map<string, number> | undefined = undefined
  /** Connections by why they ended. */
  private ends: Map<string, number> | undefined = undefined
  private connections: Histogram.Histogram | undefined = undefined
  private readonly host: { readonly changed: () => void }

  /** The host hears of a series or a reason that there was not. */
  constructor(host: { readonly changed: () => void }) {
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
    if (before === undefined) this.host.changed()
  }

  get all(): ReadonlyArray<RequestSeries> {
    return [...this.series.values()].flatMap((ends) => [...ends.values()])
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
    let ends = this.series.get(method)
    if (ends === undefined) {
      ends = new Map()
      this.series.set(method, ends)
    }
    let found = ends.get(end)
    if (found === undefined) {
      found = { method, end, durations: new Histogram.Histogram() }
      ends.set(end, found)
      this.host.changed()
    }
    return found
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
