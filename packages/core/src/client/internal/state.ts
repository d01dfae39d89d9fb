/**
 * The pool itself: its hosts, its limits, its closing. One per pool, shared by all its hosts.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Tracer from "effect/Tracer"
import type { Connector, Timers } from "../Connector.ts"
import type { PoolStats } from "../Pool.ts"
import type { PoolConfig, ResolvedHost } from "../PoolConfig.ts"
import * as PoolError from "../../model/PoolError.ts"
import type { PoolEvent } from "../PoolEvent.ts"
import * as Selection from "../Selection.ts"
import * as ClientSpan from "../../observe/ClientSpan.ts"
import type { Gate } from "../../policy/Gate.ts"
import { SharedPolicies } from "../../policy/SharedPolicies.ts"
import type { Announcer } from "./announcer.ts"
import * as BaseUrl from "./baseUrl.ts"
import { Deadlines, type Limit } from "../../model/internal/deadlines.ts"
import { Call, type CallOwner, type Hedging, type Trace, type Try } from "./call.ts"
import { invalid } from "./failures.ts"
import { HostPolicies } from "./hostPolicies.ts"
import { Exchange, type Kind, type Limits, type Resume } from "./exchange.ts"
import { type Counters, Host, type HostOwner, noCounts } from "./host.ts"
import type { HostWatcher } from "./metricsSource.ts"
import { latency, maxObserved, reuse, Traffic } from "./traffic.ts"
import * as wakeups from "./wakeups.ts"
import * as MakeTimers from "../../model/internal/timers.ts"

/** How often a saturated pool says so. */
const saturationInterval = 1000

interface Located {
  readonly host: Host
  readonly path: string
}

export class PoolState implements HostOwner, CallOwner {
  readonly config: PoolConfig
  readonly gates: ReadonlyArray<Gate<PoolError.PoolError>>
  readonly connector: Connector
  readonly services: Context.Context<never>
  readonly timers: Timers
  readonly random: () => number
  readonly epoch: () => number
  readonly base: BaseUrl.Base | undefined
  readonly hosts = new Map<string, Host>()
  /** Settings given by name, before or after the host was first used. */
  readonly hostConfigs: Map<string, ResolvedHost>
  private readonly announcer: Announcer
  readonly turn: wakeups.Wakeups
  closing = false
  /** Who shows what hosts do, if anybody. */
  onHost: HostWatcher | undefined = undefined
  private readonly noPolicies: HostPolicies
  private readonly shared: SharedPolicies | undefined
  /** Attributes of spans, made once for each origin. */
  private readonly spanOrigins = new Map<string, ClientSpan.Origin>()
  private readonly rule: Selection.Rule
  private readonly deadlines: Deadlines<Kind>
  private readonly hedges: Deadlines<Hedging>
  private readonly limits = new WeakMap<ResolvedHost, Limits>()
  private readonly headers = new WeakMap<ResolvedHost, Array<string>>()
  /** What evicted hosts had counted. */
  private readonly evicted: Counters = noCounts()
  private evictedStarted = 0
  private uses = 0
  /** Hosts that have traffic of their own, and what is known of the others. */
  private observed = 0
  private otherTraffic: Traffic | undefined = undefined
  private saturationReportedAt = -Infinity
  private onDrained: (() => void) | undefined = undefined
  /** Exchanges and calls that closing waits for. */
  private attended = 0

  constructor(
    config: PoolConfig,
    connector: Connector,
    services: Context.Context<never>,
    announcer: Announcer,
    gates: ReadonlyArray<Gate<PoolError.PoolError>>
  ) {
    this.config = config
    this.gates = gates
    this.connector = connector
    // What it runs belongs to its requests, not to the span in which it happens to be made.
    const inSpan = Option.isSome(Context.getOption(services, Tracer.ParentSpan))
    this.services = inSpan ? Context.omit(Tracer.ParentSpan)(services) : services
    this.announcer = announcer
    this.timers = MakeTimers.make(services)
    // A test that moves its clock does not let turns pass in between.
    const afterTurn = MakeTimers.areReal(this.timers) ? connector.afterTurn : undefined
    this.turn = new wakeups.Wakeups(afterTurn ?? wakeups.inMicrotask)
    this.deadlines = new Deadlines(this.timers)
    this.hedges = new Deadlines(this.timers)
    const random = Context.get(services, Random.Random)
    this.random = () => random.nextDoubleUnsafe()
    this.base = config.baseUrl === undefined ? undefined : BaseUrl.fromUrl(config.baseUrl)
    this.hostConfigs = new Map(config.hosts)
    this.rule = Selection.rule(config.selection)
    this.noPolicies = new HostPolicies(gates)
    this.shared = Context.get(services, SharedPolicies)
    const clock = Context.get(services, Clock.Clock)
    this.epoch = () => clock.currentTimeMillisUnsafe()
  }

  // ------------------------------------------------------------------ the way of a request

  /**
   * Starts a request. `resume` is called later, unless what comes back is an error: then never.
   */
  begin(
    request: HttpClientRequest,
    services: Context.Context<never>,
    resume: Resume,
    slot: number,
    streaming: boolean,
    trace?: Trace | undefined
  ): Exchange | Call | PoolError.PoolError {
    const target = this.locate(request)
    if (target instanceof Error) return target
    const { host, path } = target
    if (host.policies !== undefined) return this.call(target, request, services, resume, slot, streaming, trace)
    const wanted = this.wantedSlot(request, host, slot, 1)
    if (typeof wanted !== "number") return wanted
    const exchange = new Exchange(
      host,
      request,
      path,
      outgoing(request, host.headers, trace),
      services,
      resume,
      streaming
    )
    host.submit(exchange, wanted, this.timers.now())
    return exchange
  }

  /** Starts a request that can be aborted by a signal, or that has policies. */
  beginCall(
    request: HttpClientRequest,
    services: Context.Context<never>,
    resume: Resume,
    slot: number
  ): Call | PoolError.PoolError {
    const target = this.locate(request)
    if (target instanceof Error) return target
    return this.call(target, request, services, resume, slot, false)
  }

  private call(
    { host, path }: Located,
    request: HttpClientRequest,
    services: Context.Context<never>,
    resume: Resume,
    slot: number,
    streaming: boolean,
    trace?: Trace | undefined
  ): Call {
    const policies = host.policies ?? this.noPolicies
    const call = new Call(this, host, policies, request, path, services, resume, slot, streaming, trace)
    call.start()
    return call
  }

  /** One exchange of a call. */
  attempt(call: Call, attempt: Try): Exchange | PoolError.PoolError {
    const { request } = attempt
    let { path } = call
    if (
      request !== call.request &&
      (request.url !== call.request.url || request.urlParams !== call.request.urlParams)
    ) {
      const target = BaseUrl.resolve(this.base, request)
      if (target.origin !== call.host.origin) return invalid(request, "a policy led it to another origin")
      path = target.path
    }
    const { host } = call
    const wanted = this.wantedSlot(request, host, call.slot, attempt.number)
    if (typeof wanted !== "number") return wanted
    const headers = outgoing(request, host.headers, call.trace)
    const exchange = new Exchange(host, request, path, headers, call.services, attempt.end, call.streaming)
    exchange.attempts = call.exchanges++
    call.limit(exchange)
    host.submit(exchange, wanted, this.timers.now())
    return exchange
  }

  /** Where a request leads, for its span; `undefined` when it cannot be sent. */
  target(request: HttpClientRequest): ClientSpan.Target | undefined {
    const { origin, path } = BaseUrl.resolve(this.base, request)
    if (origin === undefined) return undefined
    let known = this.spanOrigins.get(origin)
    if (known === undefined) {
      if (this.spanOrigins.size >= this.config.maxHosts) this.spanOrigins.clear()
      known = ClientSpan.origin(origin)
      this.spanOrigins.set(origin, known)
    }
    return { origin: known, path }
  }

  locate(request: HttpClientRequest): Located | PoolError.PoolError {
    const target = BaseUrl.resolve(this.base, request)
    if (target.origin === undefined) return invalid(request, target.reason)
    const { origin, path } = target
    if (this.closing) {
      return new PoolError.PoolClosed({
        request: PoolError.requestInfo(request.method, origin + path, request.urlParams),
        attempts: 0
      })
    }
    const host = this.hosts.get(origin) ?? this.addHost(origin)
    if (host !== undefined) return { host, path }
    this.evicted.saturated++
    this.reportSaturation(origin, "maxHosts")
    return new PoolError.PoolSaturated({
      request: PoolError.requestInfo(request.method, origin + path, request.urlParams),
      attempts: 0,
      reason: "maxHosts",
      limit: this.config.maxHosts,
      waiting: this.stats().waiting
    })
  }

  private wantedSlot(
    request: HttpClientRequest,
    host: Host,
    slot: number,
    attempt: number
  ): number | PoolError.PoolError {
    if (slot !== -1 || this.rule._tag === "Any") return slot
    try {
      // The same key again must not mean the same slot again: it may be what failed.
      return (this.rule.slotOf(request, host) + attempt - 1) % this.config.size
    } catch (cause) {
      return invalid(request, "the pool's `byKey` selection threw", cause)
    }
  }

  pick(candidates: Selection.Candidates): number {
    return this.rule._tag === "Any" ? this.rule.pick(candidates) : -1
  }

  // ------------------------------------------------------------------ hosts

  /** `undefined` when there are as many as may be, and all are busy. */
  private addHost(origin: string): Host | undefined {
    if (this.hosts.size >= this.config.maxHosts && !this.evictOne()) return undefined
    const host = new Host(this, origin, this.hostConfigs.get(origin) ?? this.config.host)
    this.hosts.set(origin, host)
    this.onHost?.changed(host)
    this.emit({ _tag: "HostAdded", origin })
    return host
  }

  private evictOne(): boolean {
    let oldest: Host | undefined
    for (const host of this.hosts.values()) {
      if (host.idle && (oldest === undefined || host.lastUsed < oldest.lastUsed)) oldest = host
    }
    if (oldest === undefined) return false
    this.hosts.delete(oldest.origin)
    addUp(this.evicted, oldest.counters)
    this.evictedStarted += oldest.started
    // Its connections are still to be closed.
    oldest.counters = this.evicted
    Effect.runForkWith(this.services)(oldest.close())
    if (oldest.ownTraffic !== undefined) this.observed--
    this.onHost?.evicted(oldest)
    this.emit({ _tag: "HostEvicted", origin: oldest.origin })
    return true
  }

  hedgeLimit(millis: number): Limit<Hedging> | undefined {
    return this.hedges.limit(millis)
  }

  configureHost(origin: string, config: ResolvedHost): void {
    this.hostConfigs.set(origin, config)
    this.hosts.get(origin)?.configure(config)
  }

  /** What a host sends with every request that does not say otherwise. */
  headersOf(config: ResolvedHost): Array<string> {
    const known = this.headers.get(config)
    if (known !== undefined) return known
    const headers = [...config.headers]
    this.headers.set(config, headers)
    const asks = headers.some((header, i) => i % 2 === 0 && header === "accept-encoding")
    if (this.config.decompress && this.connector.decompress !== undefined && !asks) {
      headers.push("accept-encoding", "gzip, deflate, br, zstd")
    }
    return headers
  }

  nextUse(): number {
    return ++this.uses
  }

  trafficOf(host: Host): Traffic {
    if (this.observed >= maxObserved) return (this.otherTraffic ??= new Traffic())
    this.observed++
    return new Traffic(host)
  }

  policiesOf(host: Host, config: ResolvedHost): HostPolicies | undefined {
    const { auth, bulkhead, circuitBreaker, hedge, rateLimit, retry } = config
    const some = auth ?? bulkhead ?? circuitBreaker ?? hedge ?? rateLimit ?? retry
    if (some === undefined) return this.gates.length === 0 ? undefined : this.noPolicies
    const { epoch, random, timers } = this
    const { origin } = host
    const around = {
      ...{ timers, random, epoch, origin },
      emit: (event: PoolEvent) => this.emit(event),
      shared: this.shared,
      key: `${this.config.name} ${origin}`
    }
    return new HostPolicies(this.gates, { config, around }, host.policies)
  }

  limitsOf(config: ResolvedHost): Limits {
    let limits = this.limits.get(config)
    if (limits === undefined) {
      limits = {
        acquire: this.deadlines.limit(this.config.acquireTimeout),
        headers: this.deadlines.limit(config.responseHeaderTimeout),
        bodyIdle: this.deadlines.limit(config.bodyIdleTimeout),
        attempt: this.deadlines.limit(config.attemptTimeout),
        request: this.deadlines.limit(config.requestTimeout)
      }
      this.limits.set(config, limits)
    }
    return limits
  }

  // ------------------------------------------------------------------ events and counters

  emit(event: PoolEvent): void {
    this.announcer.announce(event)
  }

  reportSaturation(origin: string, reason: string): void {
    const now = this.timers.now()
    if (now - this.saturationReportedAt < saturationInterval) return
    this.saturationReportedAt = now
    this.emit({ _tag: "Saturated", origin, reason })
  }

  stats(): Omit<PoolStats, "name" | "size"> {
    const counters = noCounts()
    addUp(counters, this.evicted)
    const now = { active: 0, waiting: 0, ejected: 0, connectionsOpen: 0, connectionsActive: 0, connectionsIdle: 0 }
    const failuresBy: Record<string, number> = {}
    const connectionsClosedBy: Record<string, number> = {}
    const traffic: Array<Traffic> = this.otherTraffic === undefined ? [] : [this.otherTraffic]
    addTo(failuresBy, Object.fromEntries(this.otherTraffic?.failuresBy ?? []))
    addTo(connectionsClosedBy, Object.fromEntries(this.otherTraffic?.closedBy ?? []))
    let started = 0
    for (const host of this.hosts.values()) {
      addUp(counters, host.counters)
      const stats = host.stats()
      addUp(now, stats)
      addTo(failuresBy, stats.failuresBy)
      addTo(connectionsClosedBy, stats.connectionsClosedBy)
      if (host.ownTraffic !== undefined) traffic.push(host.ownTraffic)
      started += host.started
    }
    return {
      ...counters,
      ...now,
      failuresBy,
      connectionsClosedBy,
      // Of the hosts that are known now.
      latency: latency(traffic),
      reuse: reuse(counters.connectionsOpened, started + this.evictedStarted),
      hosts: this.hosts.size
    }
  }

  // ------------------------------------------------------------------ closing

  /** New requests fail; those under way get `drainTimeout`; then sockets are destroyed. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closing = true
    this.emit({ _tag: "Closing", active: this.exchanges().length + this.calls().filter((call) => call.waits).length })
    return Effect.andThen(
      this.drained,
      Effect.suspend(() => this.destroy())
    )
  })

  /** One more exchange or call, or one less, is waited for when the pool closes. */
  attend(change: 1 | -1): void {
    this.attended += change
    if (this.attended === 0) this.onDrained?.()
  }

  /** A body that nobody reads, and that fills its buffer, is not waited for. */
  private readonly drained: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.attended === 0) {
      resume(Effect.void)
      return
    }
    const done = () => {
      this.onDrained = undefined
      cancel()
      resume(Effect.void)
    }
    const cancel = this.timers.after(this.config.drainTimeout, done)
    // At the end of the turn, as it may be called from inside a connection's callback, which must not close that connection,
    // and after the caller of a body that fills its buffer at once has been woken: then it is wanted after all.
    this.onDrained = () =>
      this.turn.add({
        wake: () => {
          if (this.attended === 0 && this.onDrained !== undefined) done()
        }
      })
  })

  private destroy(): Effect.Effect<void> {
    const left = this.exchanges()
    const calls = this.calls()
    const waiting = calls.filter((call) => call.waits).length
    for (const exchange of left) {
      exchange.fail(new PoolError.PoolClosed({ request: exchange.info, attempts: exchange.attempts }))
    }
    for (const call of calls) call.close()
    this.turn.hurry()
    this.deadlines.stop()
    this.hedges.stop()
    const closed = Effect.forEach(this.hosts.values(), (host) => host.close(), {
      concurrency: "unbounded",
      discard: true
    })
    // Callers hear of it before the pool is closed.
    return Effect.yieldNow.pipe(
      Effect.andThen(closed),
      Effect.andThen(Effect.sync(() => this.emit({ _tag: "Closed", aborted: left.length + waiting })))
    )
  }

  private exchanges(): ReadonlyArray<Exchange> {
    return Array.from(this.hosts.values()).flatMap((host) => host.exchanges())
  }

  private calls(): ReadonlyArray<Call> {
    return Array.from(this.hosts.values()).flatMap((host) => host.callsUnderWay())
  }
}

/** Adds every number that `into` has. */
const addUp = <K extends string>(
  into: { [key in K]: number },
  from: { readonly [key in NoInfer<K>]: number }
): void => {
  for (const key in into) into[key] += from[key]
}

const addTo = (into: Record<string, number>, from: { readonly [key: string]: number }): void => {
  for (const [key, count] of Object.entries(from)) into[key] = (into[key] ?? 0) + count
}

/** The request's headers over the host's defaults, flat, as the wire wants them. */
export const outgoing = (
  request: HttpClientRequest,
  defaults: Array<string>,
  trace: Trace | undefined
): Array<string> => {
  const { headers } = request
  // Shared, not copied: a transport does not write to it.
  if (headers === Headers.empty && trace === undefined) return defaults
  const flat: Array<string> = []
  for (const name in headers) flat.push(name, headers[name]!)
  // A part of a compressed body is not a compressed part of the body.
  const partial = "range" in headers
  for (let i = 0; i < defaults.length; i += 2) {
    const name = defaults[i]!
    if (!(name in headers) && !(partial && name === "accept-encoding")) flat.push(name, defaults[i + 1]!)
  }
  // Whoever writes a trace context by hand means that one.
  if (trace !== undefined && !("traceparent" in headers)) flat.push(...trace.headers)
  return flat
}
