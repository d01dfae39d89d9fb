/**
 * The numbers of a pool of servers as Effect metrics, with OpenTelemetry's names where it has one.
 *
 * Nothing is pushed: a metric reads the counts of its server when somebody takes a snapshot (a Prometheus scrape, an OTLP
 * export). The series of a server appear when it comes into the pool and go when it leaves, those of a method or a status
 * with the first such request; a server that is renamed, or whose port the system chose, has them under its new name.
 * When the scope ends, none is left.
 *
 * What it never does: it adds nothing to a request, and no label that a client can choose freely: no route, no host.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ClientMetrics from "./ClientMetrics.ts"
import type { Histogram } from "./Histogram.ts"
import { type Definition, prometheusName, serverDefinitions as definitions } from "./internal/definitions.ts"
import { type Attributes, type Context, Series } from "./internal/series.ts"

/**
 * The requests of a server, by method and by how they ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Traffic {
  /** Each is the same object for good; there are more and more of them. */
  readonly methods: ReadonlyArray<MethodTraffic>
  /** Calls when there is a method or a status that there was not, until the result is called. */
  readonly watch: (changed: () => void) => () => void
}

/**
 * The requests of one method.
 *
 * @category models
 * @since 0.1.0
 */
export interface MethodTraffic {
  /** `_OTHER` for one that OpenTelemetry does not know. */
  readonly method: string
  /** Requests under way. */
  readonly active: number
  /** Each is the same object for good; there are more and more of them. */
  readonly ends: ReadonlyArray<EndTraffic>
}

/**
 * Requests of one method that were answered with one status.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndTraffic {
  /** `undefined`: the connection had ended before a response began. */
  readonly status: number | undefined
  /** From the head of the request to the end of the response. */
  readonly durations: Histogram
}

/**
 * What the metrics read of one server; a `Server` of a `ServerPool` has it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerSource {
  readonly name: string
  readonly config: {
    readonly bind: { readonly key: string; readonly port: number }
    readonly settings: { readonly tls: unknown }
  }
  readonly address: { readonly port: number } | undefined
  readonly traffic: Traffic
  readonly health: Effect.Effect<{
    readonly state: "Stopped" | "Starting" | "Running" | "Stopping" | "Failed"
    readonly ready: boolean
    readonly uptime: Duration.Duration
    readonly downtime: Duration.Duration
    readonly starts: number
    readonly counts: {
      readonly connections: number
      readonly accepted: number
      readonly requests: number
      readonly failures: number
      readonly refused: number
    }
  }>
}

/**
 * What the metrics read of a pool: a `ServerPool`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source<Server extends ServerSource> {
  readonly name: string
  readonly servers: Effect.Effect<ReadonlyArray<Server>>
  /** Whatever happens to a server. */
  readonly events: Stream.Stream<unknown>
}

/**
 * What the metrics read of a monitor's report. Milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly state: "OK" | "Warn" | "KO"
  readonly monitored: boolean
  readonly latency?: number | undefined
  readonly checks: number
  readonly failures: number
}

/**
 * What the metrics read of a `Monitor`.
 *
 * @category models
 * @since 0.1.0
 */
export interface MonitorSource<Server> {
  readonly reportOf: (server: Server) => Effect.Effect<Option.Option<Report>>
}

/**
 * Registers the metrics of a pool's servers in the current `MetricRegistry` for as long as the scope lasts; with a
 * monitor, what that says of those that it asks.
 *
 * Two servers with one name and one bind, in pools of one name, would hide each other's numbers.
 *
 * ```ts
 * import { Monitor, Pool, ServerMetrics, ServerPool } from "@millrace/core"
 * import { Effect } from "effect"
 * import { PrometheusMetrics } from "effect/observability"
 *
 * export const observed = Effect.gen(function* () {
 *   const pool = yield* ServerPool.ServerPool
 *   yield* ServerMetrics.register(pool, yield* Monitor.make(pool, yield* Pool.make({ observe: false })))
 * })
 *
 * // GET /metrics on any HttpRouter
 * export const metrics = PrometheusMetrics.layerHttp({ metricNameMapper: ServerMetrics.prometheusNames })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const register = <Server extends ServerSource>(
  pool: Source<Server>,
  monitor?: MonitorSource<Server>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const all = new Map<Server, ServerSeries>()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const series of all.values()) series.end()
        all.clear()
      })
    )
    const follow = Effect.map(pool.servers, (servers) => {
      const there = new Set(servers)
      for (const [server, series] of all) {
        if (there.has(server)) continue
        series.end()
        all.delete(server)
      }
      for (const server of there) {
        const series = all.get(server) ?? new ServerSeries(context, pool.name, server, monitored(server, monitor))
        all.set(server, series)
        series.update()
      }
    })
    yield* Effect.forkScoped(
      Stream.runForEach(pool.events, () => follow),
      { startImmediately: true }
    )
    yield* follow
  })

/**
 * Gives metrics the names that Prometheus wants, those of clients too: `millrace.server.requests` becomes
 * `millrace_server_requests_total`. For `PrometheusMetrics.format` and `layerHttp`; names of other metrics stay.
 *
 * @category formatting
 * @since 0.1.0
 */
export const prometheusNames = (name: string): string => prometheus.get(name) ?? ClientMetrics.prometheusNames(name)

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const prometheus: ReadonlyMap<string, string> = new Map(
  Object.values<Definition>(definitions).map((definition) => [definition.name, prometheusName(definition)])
)

type Health = Effect.Success<ServerSource["health"]>

const states = ["Stopped", "Starting", "Running", "Stopping", "Failed"] as const

const verdicts = ["OK", "Warn", "KO"] as const

const monitored = <Server>(
  server: Server,
  monitor: MonitorSource<Server> | undefined
): Effect.Effect<Report | undefined> =>
  monitor === undefined
    ? Effect.succeed(undefined)
    : Effect.map(monitor.reportOf(server), (found) => {
        const report = Option.getOrUndefined(found)
        return report?.monitored === true ? report : undefined
      })

/** All of one server, under one set of attributes at a time. */
class ServerSeries {
  readonly #pool: string
  readonly #server: ServerSource
  readonly #report: Effect.Effect<Report | undefined>
  readonly #none: Series
  #series: Series
  readonly #requests = new Set<MethodTraffic | EndTraffic>()
  readonly #unwatch: () => void
  /** The port that the system chose stays while it does not run. */
  #port: number | undefined
  #labels = ""

  constructor(context: Context, pool: string, server: ServerSource, report: Effect.Effect<Report | undefined>) {
    this.#pool = pool
    this.#server = server
    this.#report = report
    this.#none = new Series(context, {})
    this.#series = this.#none
    this.#unwatch = server.traffic.watch(() => this.#addRequests())
  }

  update(): void {
    const attributes = this.#attributes()
    const report = Effect.runSync(this.#report)
    const labels = JSON.stringify([attributes, report !== undefined])
    if (labels === this.#labels) return
    this.#series.remove()
    this.#requests.clear()
    this.#labels = labels
    this.#series = this.#none.within(attributes)
    this.#addAll()
    this.#addRequests()
    if (report !== undefined) this.#addMonitored()
  }

  end(): void {
    this.#unwatch()
    this.#series.remove()
  }

  #attributes(): Attributes {
    const { address, config, name } = this.#server
    const { key, port } = config.bind
    this.#port = address?.port ?? this.#port
    return {
      "millrace.pool": this.#pool,
      "millrace.server.name": name,
      "millrace.server.bind": port === 0 && this.#port !== undefined ? key.replace(/0$/, String(this.#port)) : key,
      "url.scheme": config.settings.tls === undefined ? "http" : "https"
    }
  }

  #addAll(): void {
    const gauge = (definition: Definition, read: (health: Health) => number, more: Attributes = {}) =>
      this.#series.gauge(definition, more, () => read(this.#health()))
    const counter = (definition: Definition, read: (health: Health) => number) =>
      this.#series.counter(definition, {}, () => read(this.#health()))
    counter(definitions.requests, ({ counts }) => counts.requests)
    counter(definitions.failures, ({ counts }) => counts.failures)
    gauge(definitions.connections, ({ counts }) => counts.connections)
    counter(definitions.accepted, ({ counts }) => counts.accepted)
    counter(definitions.refused, ({ counts }) => counts.refused)
    counter(definitions.starts, ({ starts }) => starts)
    gauge(definitions.uptime, ({ uptime }) => Duration.toSeconds(uptime))
    gauge(definitions.downtime, ({ downtime }) => Duration.toSeconds(downtime))
    gauge(definitions.ready, ({ ready }) => (ready ? 1 : 0))
    for (const one of states) {
      gauge(definitions.state, ({ state }) => (state === one ? 1 : 0), { "millrace.server.state": one.toLowerCase() })
    }
  }

  /** Those that are not there yet. */
  #addRequests(): void {
    const isNew = (traffic: MethodTraffic | EndTraffic): boolean => {
      if (this.#requests.has(traffic)) return false
      this.#requests.add(traffic)
      return true
    }
    for (const traffic of this.#server.traffic.methods) {
      const of = { "http.request.method": traffic.method }
      if (isNew(traffic)) this.#series.gauge(definitions.activeRequests, of, () => traffic.active)
      for (const end of traffic.ends) {
        if (!isNew(end)) continue
        this.#series.histogram(definitions.requestDuration, { ...of, ...endAttributes(end) }, end.durations)
      }
    }
  }

  #addMonitored(): void {
    const read = (of: (report: Report) => number) => () => {
      const report = Effect.runSync(this.#report)
      return report === undefined ? 0 : of(report)
    }
    for (const one of verdicts) {
      const of = { "millrace.server.health": one.toLowerCase() }
      this.#series.gauge(
        definitions.health,
        of,
        read(({ state }) => (state === one ? 1 : 0))
      )
    }
    this.#series.gauge(
      definitions.latency,
      {},
      read(({ latency = 0 }) => latency / 1000)
    )
    this.#series.counter(
      definitions.checks,
      {},
      read(({ checks }) => checks)
    )
    this.#series.counter(
      definitions.checkFailures,
      {},
      read(({ failures }) => failures)
    )
  }

  #health(): Health {
    return Effect.runSync(this.#server.health)
  }
}

/** A 4xx is an answer: for a server only what is 500 or above is an error, as OpenTelemetry has it. */
const endAttributes = ({ status }: EndTraffic): Attributes => {
  if (status === undefined) return { "error.type": "aborted" }
  const code = String(status)
  return { "http.response.status_code": code, ...(status >= 500 ? { "error.type": code } : {}) }
}
