/**
 * The numbers of a pool of servers as Effect metrics, with OpenTelemetry's names where it has one.
 *
 * Nothing is pushed, and nothing is done for a request: a metric reads the counts of its server when somebody takes a
 * snapshot (a Prometheus scrape, an OTLP export). The series of a server appear when it comes into the pool and go when it
 * leaves; a server that is renamed, or whose port the system chose, has them under its new name. When the scope ends, none
 * is left.
 *
 * What it never does: there is no `http.server.request.duration`, as a server counts its requests and does not time them;
 * and no attribute of a request (method, route, status).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ClientMetrics from "./ClientMetrics.ts"
import { type Definition, prometheusName, serverDefinitions as definitions } from "./internal/definitions.ts"

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
  readonly health: Effect.Effect<{
    readonly state: "Stopped" | "Starting" | "Running" | "Stopping" | "Failed"
    readonly ready: boolean
    readonly uptime: Duration.Duration
    readonly downtime: Duration.Duration
    readonly starts: number
    readonly counts: {
      readonly connections: number
      readonly active: number
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
    const all = new Map<Server, Series>()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const series of all.values()) series.remove()
        all.clear()
      })
    )
    const follow = Effect.map(pool.servers, (servers) => {
      const there = new Set(servers)
      for (const [server, series] of all) {
        if (there.has(server)) continue
        series.remove()
        all.delete(server)
      }
      for (const server of there) {
        const series = all.get(server) ?? new Series(context, pool.name, server, monitored(server, monitor))
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

interface Attributes {
  readonly [name: string]: string
}

type Context = Parameters<typeof Metric.snapshotUnsafe>[0]

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

const ignore = (): void => {}

/** All of one server, under one set of attributes at a time. */
class Series {
  readonly #context: Context
  readonly #pool: string
  readonly #server: ServerSource
  readonly #report: Effect.Effect<Report | undefined>
  #registrations: Array<Metric.Registration> = []
  /** The port that the system chose stays while it does not run. */
  #port: number | undefined
  #labels = ""

  constructor(context: Context, pool: string, server: ServerSource, report: Effect.Effect<Report | undefined>) {
    this.#context = context
    this.#pool = pool
    this.#server = server
    this.#report = report
  }

  update(): void {
    const attributes = this.#attributes()
    const report = Effect.runSync(this.#report)
    const labels = JSON.stringify([attributes, report !== undefined])
    if (labels === this.#labels) return
    this.remove()
    this.#labels = labels
    this.#addAll(attributes)
    if (report !== undefined) this.#addMonitored(attributes)
  }

  remove(): void {
    for (const registration of this.#registrations) registration.remove()
    this.#registrations = []
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

  #addAll(attributes: Attributes): void {
    const gauge = (definition: Definition, read: (health: Health) => number, more: Attributes = {}) =>
      this.#gauge(definition, { ...attributes, ...more }, () => read(this.#health()))
    const counter = (definition: Definition, read: (health: Health) => number) =>
      this.#counter(definition, attributes, () => read(this.#health()))
    gauge(definitions.activeRequests, ({ counts }) => counts.active)
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

  #addMonitored(attributes: Attributes): void {
    const read = (of: (report: Report) => number) => () => {
      const report = Effect.runSync(this.#report)
      return report === undefined ? 0 : of(report)
    }
    for (const one of verdicts) {
      const of = { ...attributes, "millrace.server.health": one.toLowerCase() }
      this.#gauge(
        definitions.health,
        of,
        read(({ state }) => (state === one ? 1 : 0))
      )
    }
    this.#gauge(
      definitions.latency,
      attributes,
      read(({ latency = 0 }) => latency / 1000)
    )
    this.#counter(
      definitions.checks,
      attributes,
      read(({ checks }) => checks)
    )
    this.#counter(
      definitions.checkFailures,
      attributes,
      read(({ failures }) => failures)
    )
  }

  #health(): Health {
    return Effect.runSync(this.#server.health)
  }

  #gauge(definition: Definition, attributes: Attributes, value: () => number): void {
    this.#add(Metric.gauge(definition.name, optionsOf(definition, attributes)), () => ({ value: value() }))
  }

  #counter(definition: Definition, attributes: Attributes, count: () => number): void {
    const options = { ...optionsOf(definition, attributes), incremental: true }
    this.#add(Metric.counter(definition.name, options), () => ({ count: count(), incremental: true }))
  }

  #add<Input, State>(metric: Metric.Metric<Input, State>, get: () => State): void {
    this.#registrations.push(Metric.registerUnsafe(metric, this.#context, { get, update: ignore, modify: ignore }))
  }
}

/** An Effect metric tells its unit as an attribute, which exporters take out again. */
const optionsOf = ({ description, unit }: Definition, attributes: Attributes) => ({
  description,
  attributes: unit === "1" ? attributes : { ...attributes, unit }
})
