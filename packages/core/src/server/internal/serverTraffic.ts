/**
 * The requests of one server, over all its backends: how many are under way, and how long they took, by method and status.
 *
 * A request costs two look-ups that nearly always end at the first comparison, and nothing is allocated for it.
 */
import * as Histogram from "../../observe/Histogram.ts"
import { methodName } from "../../observe/internal/method.ts"
import type { EndTraffic, MethodTraffic, Traffic } from "../../observe/ServerMetrics.ts"
import type { LoggedRequest, RequestLog } from "../Listener.ts"

type Changed = () => void

export class ServerTraffic implements RequestLog, Traffic {
  methods: ReadonlyArray<OfMethod> = []
  /** The next request nearly always has the method of the last one. */
  private last: OfMethod | undefined = undefined
  private readonly watchers = new Set<Changed>()

  begin(method: string): LoggedRequest {
    let { last } = this
    if (last === undefined || last.method !== method) {
      last = this.find(methodName(method))
      this.last = last
    }
    last.active++
    return last
  }

  readonly watch = (changed: Changed): (() => void) => {
    // One of its own for each caller, who may give the same function twice.
    const watcher = () => changed()
    this.watchers.add(watcher)
    return () => void this.watchers.delete(watcher)
  }

  private find(method: string): OfMethod {
    const known = this.methods.find((of) => of.method === method)
    if (known !== undefined) return known
    const made = new OfMethod(method, () => this.tell())
    this.methods = [...this.methods, made]
    this.tell()
    return made
  }

  private tell(): void {
    for (const watcher of this.watchers) watcher()
  }
}

class OfMethod implements LoggedRequest, MethodTraffic {
  readonly method: string
  active = 0
  ends: ReadonlyArray<EndTraffic> = []
  private last: EndTraffic | undefined = undefined
  private readonly changed: Changed

  constructor(method: string, changed: Changed) {
    this.method = method
    this.changed = changed
  }

  ended(status: number | undefined, millis: number): void {
    this.active--
    let { last } = this
    if (last === undefined || last.status !== status) {
      last = this.find(status)
      this.last = last
    }
    last.durations.record(millis / 1000)
  }

  left(): void {
    this.active--
  }

  private find(status: number | undefined): EndTraffic {
    const known = this.ends.find((end) => end.status === status)
    if (known !== undefined) return known
    const made = { status, durations: new Histogram.Histogram() }
    this.ends = [...this.ends, made]
    this.changed()
    return made
  }
}
