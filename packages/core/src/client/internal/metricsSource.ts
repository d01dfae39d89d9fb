/**
 * What Effect's metrics read of a pool.
 *
 * Only hosts with traffic of their own have series, a hundred at a time: a pool that is sent to a thousand hosts would
 * drown whoever scrapes it, and each series costs more memory than the host. The pool's own statistics know them all.
 */
import type { HostSource, RequestSeries, Source, Watcher } from "../../observe/ClientMetrics.ts"
import type { Histogram } from "../../observe/Histogram.ts"
import type { Host } from "./host.ts"

/** What a source needs of its pool. */
export interface SourceOwner {
  readonly hosts: ReadonlyMap<string, Host>
  readonly config: { readonly size: number }
  onHost: HostWatcher | undefined
}

export interface HostWatcher {
  /** It is new, or has something to show that it had not. */
  readonly changed: (host: Host) => void
  readonly evicted: (host: Host) => void
}

class Reading implements HostSource {
  private readonly host: Host

  constructor(host: Host) {
    this.host = host
  }

  get origin(): string {
    return this.host.origin
  }
  get requests(): ReadonlyArray<RequestSeries> {
    return this.host.ownTraffic?.all ?? []
  }
  get active(): number {
    return this.host.active - this.host.waiting
  }
  get waiting(): number {
    return this.host.waiting
  }
  get retries(): number {
    return this.host.counters.retries
  }
  get connectionsActive(): number {
    return this.open(true)
  }
  get connectionsIdle(): number {
    return this.open(false)
  }
  get connectionsOpened(): number {
    return this.host.counters.connectionsOpened
  }
  get connectionsClosed(): ReadonlyMap<string, number> {
    return this.host.ownTraffic?.closedBy ?? new Map()
  }
  get connectionDurations(): Histogram | undefined {
    return this.host.ownTraffic?.connectionDurations
  }
  get ejections(): number {
    return this.host.counters.ejections
  }
  get abandoned(): number {
    return this.host.counters.abandoned
  }
  get breaker(): HostSource["breaker"] {
    switch (this.host.policies?.circuit?.snapshot().state._tag) {
      case undefined:
        return undefined
      case "Closed":
        return "closed"
      case "HalfOpen":
        return "half_open"
      case "Open":
      case "Isolated":
        return "open"
    }
  }
  get limiter(): HostSource["limiter"] {
    const stats = this.host.policies?.limit?.snapshot()
    return stats === undefined ? undefined : { tokens: stats.available, waiting: stats.waiting }
  }

  private open(active: boolean): number {
    return this.host.existingLanes().filter((lane) => lane.open && (lane.exchange !== undefined) === active).length
  }
}

export const make = (pool: SourceOwner): Source => {
  const readings = new Map<Host, Reading>()
  const reading = (host: Host): Reading | undefined => {
    const known = readings.get(host)
    if (known !== undefined || host.ownTraffic === undefined) return known
    const made = new Reading(host)
    readings.set(host, made)
    return made
  }
  return {
    slots: () => {
      // A slot is busy while it is busy for some host, ejected while some host has ejected it.
      const busy = new Set<number>()
      const ejected = new Set<number>()
      for (const host of pool.hosts.values()) {
        for (const lane of host.existingLanes()) {
          if (lane.exchange !== undefined) busy.add(lane.index)
          else if (lane.ejected) ejected.add(lane.index)
        }
      }
      const resting = [...ejected].filter((slot) => !busy.has(slot)).length
      return { busy: busy.size, ejected: resting, free: pool.config.size - busy.size - resting }
    },
    hosts: () => [...pool.hosts.values()].flatMap((host) => reading(host) ?? []),
    watch: (watcher: Watcher) => {
      pool.onHost = {
        changed: (host) => {
          const read = reading(host)
          if (read !== undefined) watcher.changed(read)
        },
        evicted: (host) => {
          const read = readings.get(host)
          if (read === undefined) return
          readings.delete(host)
          watcher.evicted(read)
        }
      }
      return () => {
        pool.onHost = undefined
      }
    }
  }
}
