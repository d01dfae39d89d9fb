/**
 * One origin in a pool: its lanes, its waiting line, its limits and its counters. Small until it is used.
 *
 * Slots are busy per host: a host that hangs keeps its own connections and never those of another.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import type { Connector, Decompress, Timers, Transport } from "../Connector.ts"
import type { HostStats } from "../Host.ts"
import type { PoolConfig, ResolvedHost } from "../PoolConfig.ts"
import * as PoolError from "../../model/PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import type { Candidates } from "../Selection.ts"
import type { Call } from "./call.ts"
import type { Exchange, Limits, Owner } from "./exchange.ts"
import type { HostPolicies } from "./hostPolicies.ts"
import { latency, reuse, type Traffic } from "./traffic.ts"
import * as wakeups from "./wakeups.ts"
import { type ConnectFailure, Lane, type LaneOwner } from "./lane.ts"
import { Line } from "../../model/internal/line.ts"

/** What is counted as it happens; the rest of the statistics is read off when asked for. */
export const noCounts = () => ({
  requests: 0,
  responses: 0,
  successes: 0,
  failures: 0,
  timeouts: 0,
  saturated: 0,
  staleRetries: 0,
  abandoned: 0,
  ejections: 0,
  connectionsFailed: 0,
  connectionsOpened: 0,
  connectionsClosed: 0,
  retries: 0,
  hedges: 0
})

export type Counters = ReturnType<typeof noCounts>

/** What a host needs of its pool. */
export interface HostOwner {
  readonly config: PoolConfig
  readonly connector: Connector
  readonly services: Context.Context<never>
  readonly timers: Timers
  readonly random: () => number
  readonly limitsOf: (config: ResolvedHost) => Limits
  readonly headersOf: (config: ResolvedHost) => Array<string>
  /** `undefined` for none. What has not changed is kept as it is. */
  readonly policiesOf: (host: Host, config: ResolvedHost) => HostPolicies | undefined
  /** The free slot that is next; -1 for none. */
  readonly pick: (candidates: Candidates) => number
  readonly attend: (change: 1 | -1) => void
  /** Who will be woken when this turn of the event loop is over. */
  readonly turn: wakeups.Wakeups
  /** A number that is higher each time. */
  readonly nextUse: () => number
  readonly emit: (event: PoolEvent) => void
  readonly trafficOf: (host: Host) => Traffic
  readonly onHost: { readonly changed: (host: Host) => void } | undefined
  readonly reportSaturation: (origin: string, reason: string) => void
}

export class Host implements Candidates, Owner, LaneOwner {
  readonly pool: HostOwner
  readonly origin: string
  readonly cursor: Ref.Ref<number> = Ref.makeUnsafe(0)
  counters: Counters = noCounts()
  limits: Limits
  /** Name, value, name, value…: sent with every request that does not say otherwise. */
  headers: Array<string>
  /** By the count of the pool's requests: a time would be an object of its own. */
  lastUsed = 0
  active = 0
  /** Requests with policies, from their begin to their end: between two attempts they have no exchange. */
  private calls: Line<Call> | undefined = undefined
  /** `undefined` when requests to this host pass none. */
  policies: HostPolicies | undefined
  /** Had with the first response or failure, unless metrics are off; its own, or that of all the others. */
  private traffic: Traffic | undefined = undefined

  private lanes: Array<Lane | undefined> = []
  /** Made when the first one waits. */
  private line: Line<Exchange> | undefined = undefined
  /** Lanes that a request could have now. */
  private free: number
  private ejectedNow = 0
  /** How many wait for a certain slot, in that lane's own line. */
  private fixedWaiting = 0
  /** How many wait, in all lines of this host. */
  private inLine = 0
  private nextTicket = 0
  /** Counts uses of lanes, so that they can tell which was used last. */
  private uses = 0
  private serving = false

  constructor(pool: HostOwner, origin: string, config: ResolvedHost) {
    this.pool = pool
    this.origin = origin
    this.limits = pool.limitsOf(config)
    this.headers = pool.headersOf(config)
    this.policies = pool.policiesOf(this, config)
    this.free = pool.config.size
  }

  get timers(): Timers {
    return this.pool.timers
  }
  get bodyBufferSize(): number {
    return this.pool.config.bodyBufferSize
  }
  get failOnStatus(): boolean {
    return this.pool.config.failOnStatus
  }
  get settings(): PoolConfig {
    return this.pool.config
  }
  get services(): Context.Context<never> {
    return this.pool.services
  }
  get idle(): boolean {
    return this.active === 0 && this.calls?.head === undefined
  }

  configure(config: ResolvedHost): void {
    this.limits = this.pool.limitsOf(config)
    this.headers = this.pool.headersOf(config)
    this.policies = this.pool.policiesOf(this, config)
    this.changed()
  }

  get requestTimeout(): number {
    return this.limits.request?.millis ?? Infinity
  }

  // ------------------------------------------------------------------ candidates

  get size(): number {
    return this.pool.config.size
  }
  get random(): () => number {
    return this.pool.random
  }
  isFree(slot: number): boolean {
    const lane = this.lanes[slot]
    return lane === undefined || lane.free
  }
  usedAt(slot: number): number {
    return this.lanes[slot]?.usedAt ?? 0
  }

  lane(slot: number): Lane {
    let lane = this.lanes[slot]
    if (lane === undefined) {
      lane = new Lane(this, slot)
      // As long as it must be, without holes: one that grows by itself takes room for sixteen more.
      const length = Math.max(this.lanes.length, slot + 1)
      this.lanes = Array.from({ length }, (_, i) => (i === slot ? lane : this.lanes[i]))
    }
    return lane
  }

  existingLanes(): ReadonlyArray<Lane> {
    return this.lanes.filter((lane) => lane !== undefined)
  }

  // ------------------------------------------------------------------ the way of a request

  /** Gives the exchange a slot, or a place in the line. */
  submit(exchange: Exchange, wantedSlot: number, now: number): void {
    this.active++
    this.lastUsed = this.pool.nextUse()
    this.counters.requests++
    exchange.begin(now)
    if (wantedSlot === -1) {
      if (this.free > 0 && this.line?.head === undefined) {
        const slot = this.pool.pick(this)
        if (slot !== -1) {
          this.start(this.lane(slot), exchange, now)
          return
        }
      }
      this.enqueue((this.line ??= new Line()), exchange, now)
      return
    }
    const lane = this.lane(wantedSlot)
    // Even an ejected one: the caller wants this slot and no other.
    if (lane.exchange === undefined && lane.line?.head === undefined) this.start(lane, exchange, now)
    else if (this.enqueue((lane.line ??= new Line()), exchange, now)) this.fixedWaiting++
  }

  began(call: Call): void {
    this.calls ??= new Line()
    this.calls.push(call)
    this.attend(1)
  }

  over(call: Call): void {
    this.calls?.remove(call)
    this.attend(-1)
  }

  private enqueue(line: Line<Exchange>, exchange: Exchange, now: number): boolean {
    if (this.inLine >= this.pool.config.maxWaiting) {
      exchange.fail(this.saturated(exchange, "maxWaiting", this.pool.config.maxWaiting))
      return false
    }
    this.inLine++
    exchange.ticket = this.nextTicket++
    exchange.line = line
    line.push(exchange)
    exchange.queued(now)
    return true
  }

  /** Takes a waiting exchange out of its line. */
  leave(exchange: Exchange): void {
    if (exchange.line === undefined) return
    exchange.line.remove(exchange)
    if (exchange.line !== this.line) this.fixedWaiting--
    exchange.line = undefined
    this.inLine--
  }

  private start(lane: Lane, exchange: Exchange, now: number): void {
    if (!lane.ejected) this.free--
    lane.usedAt = ++this.uses
    lane.start(exchange, now)
  }

  measure(method: string, end: number | string, begunAt: number): void {
    if (this.pool.config.observe.metrics) this.observed().record(method, end, this.pool.timers.now() - begunAt)
  }

  /** A request has failed, with a slot or without. */
  failed(tag: string): void {
    this.counters.failures++
    if (this.pool.config.observe.metrics) this.observed().failed(tag)
  }

  /** There is something for the metrics to show that there was not. */
  changed(): void {
    this.pool.onHost?.changed(this)
  }

  /** What is known of its own requests. */
  get ownTraffic(): Traffic | undefined {
    return this.traffic?.host === this ? this.traffic : undefined
  }

  private observed(): Traffic {
    return (this.traffic ??= this.pool.trafficOf(this))
  }

  /** With others and after them, or at once when it is the only one: nothing is gained by letting a turn pass then. */
  wake(exchange: Exchange): void {
    const { turn } = this.pool
    if (this.active > 1 || turn.some) turn.add(exchange)
    else wakeups.soon(exchange)
  }

  /** An exchange is over. */
  ended(): void {
    this.active--
  }

  /** A lane is free again: it serves the next. */
  released(lane: Lane): void {
    if (!lane.ejected) this.free++
    if (this.inLine > 0) this.serve(lane)
  }

  /**
   * Starts waiting requests while there are slots; `released` is the one that has just become free, if any. A loop, not a
   * recursion: a start may fail, and so end, at once.
   */
  private serve(released: Lane | undefined): void {
    if (this.serving) return
    this.serving = true
    try {
      let hint = released
      while (this.serveOne(hint)) hint = undefined
    } finally {
      this.serving = false
    }
  }

  private serveOne(hint: Lane | undefined): boolean {
    const fixed = this.fixedWaiting === 0 ? undefined : this.oldestFixed()
    const first = this.line?.head
    if (first !== undefined && this.free > 0 && (fixed === undefined || first.ticket < fixed.exchange.ticket)) {
      const slot = hint?.free === true ? hint.index : this.pool.pick(this)
      if (slot !== -1) {
        this.serveWith(this.lane(slot), first)
        return true
      }
    }
    if (fixed === undefined) return false
    this.serveWith(fixed.lane, fixed.exchange)
    return true
  }

  /** Who has waited longest for a certain slot that is free now. */
  private oldestFixed(): { readonly lane: Lane; readonly exchange: Exchange } | undefined {
    let oldest: { readonly lane: Lane; readonly exchange: Exchange } | undefined
    for (const lane of this.lanes) {
      const exchange = lane?.line?.head
      if (lane === undefined || exchange === undefined || lane.exchange !== undefined) continue
      if (oldest === undefined || exchange.ticket < oldest.exchange.ticket) oldest = { lane, exchange }
    }
    return oldest
  }

  private serveWith(lane: Lane, exchange: Exchange): void {
    this.leave(exchange)
    this.start(lane, exchange, this.timers.now())
  }

  // ------------------------------------------------------------------ what happens to lanes

  open(lane: Lane): Transport {
    return this.pool.connector.open({
      slot: lane.index,
      origin: this.origin,
      options: this.pool.config.connection,
      observer: lane,
      timers: this.pool.timers
    })
  }

  connected(lane: Lane, millis: number): void {
    this.counters.connectionsOpened++
    this.emit({ _tag: "ConnectionOpened", origin: this.origin, slot: lane.index, address: lane.address, millis })
  }

  disconnected(lane: Lane, reason: string, millis: number): void {
    this.counters.connectionsClosed++
    if (this.pool.config.observe.metrics) this.observed().disconnected(reason, millis)
    this.emit({ _tag: "ConnectionClosed", origin: this.origin, slot: lane.index, reason })
  }

  connectionFailed(lane: Lane, failure: ConnectFailure): void {
    this.counters.connectionsFailed++
    const { address, millis, phase } = failure
    const reason = failure._tag === "Connect" ? PoolError.codeOf(failure.cause) : "timeout"
    this.emit({ _tag: "ConnectionFailed", origin: this.origin, slot: lane.index, address, millis, phase, reason })
  }

  staleRetry(lane: Lane): void {
    this.counters.staleRetries++
    this.emit({ _tag: "StaleRetry", origin: this.origin, slot: lane.index })
  }

  abandoned(slot: number): void {
    this.counters.abandoned++
    this.emit({ _tag: "BodyAbandoned", origin: this.origin, slot })
  }

  starved(): void {
    this.pool.reportSaturation(this.origin, "requestTimeout")
  }

  attend(change: 1 | -1): void {
    this.pool.attend(change)
  }

  decompress(codings: ReadonlyArray<string>): ReturnType<Decompress> {
    const { config, connector } = this.pool
    return config.decompress ? connector.decompress?.(codings, config.maxDecompressedSize) : undefined
  }

  mayEject(): boolean {
    return (this.ejectedNow + 1) * 2 <= this.size
  }

  /** Called while the lane is busy, so it does not count as free already. */
  ejected(lane: Lane, millis: number, reason: string): void {
    this.ejectedNow++
    this.counters.ejections++
    this.emit({ _tag: "SlotEjected", origin: this.origin, slot: lane.index, millis, reason })
  }

  restored(lane: Lane): void {
    this.ejectedNow--
    if (lane.exchange === undefined) this.free++
    this.emit({ _tag: "SlotRestored", origin: this.origin, slot: lane.index })
    this.serve(lane)
  }

  saturated(exchange: Exchange, reason: PoolError.PoolSaturated["reason"], limit: number): PoolError.PoolError {
    this.counters.saturated++
    this.pool.reportSaturation(this.origin, reason)
    return new PoolError.PoolSaturated({
      request: exchange.info,
      attempts: exchange.attempts,
      reason,
      limit,
      waiting: this.inLine
    })
  }

  emit(event: PoolEvent): void {
    this.pool.emit(event)
  }

  // ------------------------------------------------------------------ reading and closing

  exchanges(): ReadonlyArray<Exchange> {
    const found: Array<Exchange> = []
    const walk = (line: Line<Exchange> | undefined) => {
      for (let e = line?.head; e !== undefined; e = e.next) found.push(e)
    }
    walk(this.line)
    for (const lane of this.existingLanes()) {
      walk(lane.line)
      if (lane.exchange !== undefined) found.push(lane.exchange)
    }
    return found
  }

  callsUnderWay(): ReadonlyArray<Call> {
    const found: Array<Call> = []
    for (let call = this.calls?.head; call !== undefined; call = call.next) found.push(call)
    return found
  }

  get waiting(): number {
    return this.inLine
  }

  /** Requests that had a slot, over the life of its lanes. */
  get started(): number {
    return this.lanes.reduce((sum, lane) => sum + (lane?.requests ?? 0), 0)
  }

  stats(): HostStats {
    const { ownTraffic: traffic, policies, waiting } = this
    const open = this.existingLanes().filter((lane) => lane.open)
    const connectionsActive = open.filter((lane) => lane.exchange !== undefined).length
    return {
      origin: this.origin,
      ...this.counters,
      active: this.active - waiting,
      waiting,
      ejected: this.ejectedNow,
      failuresBy: Object.fromEntries(traffic?.failuresBy ?? []),
      connectionsClosedBy: Object.fromEntries(traffic?.closedBy ?? []),
      connectionsOpen: open.length,
      connectionsActive,
      connectionsIdle: open.length - connectionsActive,
      reuse: reuse(this.counters.connectionsOpened, this.started),
      latency: latency(traffic === undefined ? [] : [traffic]),
      tokens: policies?.limit?.snapshot().available,
      circuit: policies?.circuit?.snapshot().state._tag
    }
  }

  close(): Effect.Effect<void> {
    return Effect.forEach(this.existingLanes(), (lane) => lane.close(), { concurrency: "unbounded", discard: true })
  }
}
