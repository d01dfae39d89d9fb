/**
 * The numbers of a pool as Effect metrics, with OpenTelemetry's names and attributes.
 *
 * Nothing is pushed: a metric reads the pool's own numbers when somebody takes a snapshot (a Prometheus scrape, an OTLP
 * export). A host, a status or an error that is new adds its series at once; a host that is evicted takes all of its own
 * along; when the scope ends, none is left.
 *
 * What it never does: it adds nothing to a request, and no label that a server or a caller can choose freely, except the
 * host, of which a pool has at most `maxHosts`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type { Histogram } from "./Histogram.ts"
import { type Definition, definitions, prometheusName } from "./internal/definitions.ts"
import { methodName } from "./internal/method.ts"
import { serverOf } from "./internal/server.ts"

/**
 * Requests of one method that ended in the same way.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestSeries {
  readonly method: string
  /** The status of the response, or what `ClientSpan.errorType` calls the error. */
  readonly end: number | string
  /** Until the head of the response, or the error. */
  readonly durations: Histogram
}

/**
 * What the metrics read of one host. The object is the same as long as the pool knows the host, and its members say how
 * things stand when they are read.
 *
 * @category models
 * @since 0.1.0
 */
export interface HostSource {
  readonly origin: string
  /** Each is the same object for good; there are more and more of them. */
  readonly requests: ReadonlyArray<RequestSeries>
  readonly active: number
  readonly waiting: number
  readonly retries: number
  readonly connectionsActive: number
  readonly connectionsIdle: number
  readonly connectionsOpened: number
  /** By reason, of which there must be few. */
  readonly connectionsClosed: ReadonlyMap<string, number>
  /** Of those that are closed; may be made with the first. */
  readonly connectionDurations: Histogram | undefined
  readonly ejections: number
  readonly abandoned: number
  readonly breaker?: "closed" | "open" | "half_open" | undefined
  readonly limiter?: { readonly tokens: number; readonly waiting: number } | undefined
}

/**
 * Who hears of changes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Watcher {
  /** A host is new, or has a request series, a reason or a breaker, limiter or histogram that it had not. */
  readonly changed: (host: HostSource) => void
  readonly evicted: (host: HostSource) => void
}

/**
 * What the metrics read of a pool.
 *
 * @category models
 * @since 0.1.0
 */
export interface Source {
  readonly slots: () => { readonly free: number; readonly busy: number; readonly ejected: number }
  readonly hosts: () => Iterable<HostSource>
  /** Tells the watcher of every change from now on, until the result is called. */
  readonly watch: (watcher: Watcher) => () => void
}

/**
 * Registers the metrics of a pool in the current `MetricRegistry` for as long as the scope lasts. `name` is their
 * attribute `millrace.pool`: two pools with one name and one host would hide each other's numbers.
 *
 * ```ts
 * import { ClientMetrics } from "@millrace/core"
 * import { PrometheusMetrics } from "effect/observability"
 *
 * export const scrape = PrometheusMetrics.format({ metricNameMapper: ClientMetrics.prometheusNames })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const register = (source: Source, name: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.map(Effect.context<never>(), (context) => {
        const registry = new Registry(context, name)
        for (const state of slotStates) {
          registry.gauge(definitions.slots, { "millrace.slot.state": state }, () => source.slots()[state])
        }
        const hosts = new Map<HostSource, HostSeries>()
        const changed = (host: HostSource): void => {
          const known = hosts.get(host)
          if (known !== undefined) return known.update()
          const series = new HostSeries(registry, host)
          hosts.set(host, series)
          series.update()
        }
        const evicted = (host: HostSource): void => {
          hosts.get(host)?.remove()
          hosts.delete(host)
        }
        const unwatch = source.watch({ changed, evicted })
        for (const host of source.hosts()) changed(host)
        return () => {
          unwatch()
          for (const series of hosts.values()) series.remove()
          registry.remove()
        }
      }),
      (remove) => Effect.sync(remove)
    )
  )

/**
 * Gives metrics the names that Prometheus wants: `http.client.request.duration` becomes
 * `http_client_request_duration_seconds`, a counter ends with `_total`. For `PrometheusMetrics.format` and `layerHttp`;
 * names of other metrics stay.
 *
 * @category formatting
 * @since 0.1.0
 */
export const prometheusNames = (name: string): string => prometheus.get(name) ?? name

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const all: ReadonlyArray<Definition> = Object.values(definitions)

const prometheus: ReadonlyMap<string, string> = new Map(
  all.map((definition) => [definition.name, prometheusName(definition)])
)

interface Attributes {
  readonly [name: string]: string
}

type Context = Parameters<typeof Metric.snapshotUnsafe>[0]

const slotStates = ["free", "busy", "ejected"] as const

const breakerStates = ["closed", "open", "half_open"] as const

/** An Effect metric tells its unit as an attribute, which exporters take out again. */
const optionsOf = ({ description, unit }: Definition, attributes: Attributes) => ({
  description,
  attributes: unit === "1" ? attributes : { ...attributes, unit }
})

const ignore = (): void => {}

/** Series that read when they are looked at, and go together. */
class Registry {
  readonly #context: Context
  readonly #pool: string
  #registrations: Array<Metric.Registration> = []

  constructor(context: Context, pool: string) {
    this.#context = context
    this.#pool = pool
  }

  /** An empty one in the same place, whose series go on their own. */
  empty(): Registry {
    return new Registry(this.#context, this.#pool)
  }

  gauge(definition: Definition, attributes: Attributes, value: () => number): void {
    const get = () => ({ value: value() })
    this.#add(Metric.gauge(definition.name, optionsOf(definition, this.#named(attributes))), get)
  }

  counter(definition: Definition, attributes: Attributes, count: () => number): void {
    const get = () => ({ count: count(), incremental: true })
    const options = { ...optionsOf(definition, this.#named(attributes)), incremental: true }
    this.#add(Metric.counter(definition.name, options), get)
  }

  histogram(definition: Definition, attributes: Attributes, histogram: Histogram): void {
    const options = { ...optionsOf(definition, this.#named(attributes)), boundaries: histogram.boundaries }
    this.#add(Metric.histogram(definition.name, options), () => stateOf(histogram))
  }

  remove(): void {
    for (const registration of this.#registrations) registration.remove()
    this.#registrations = []
  }

  #named(attributes: Attributes): Attributes {
    return { "millrace.pool": this.#pool, ...attributes }
  }

  #add<Input, State>(metric: Metric.Metric<Input, State>, get: () => State): void {
    this.#registrations.push(Metric.registerUnsafe(metric, this.#context, { get, update: ignore, modify: ignore }))
  }
}

const stateOf = (histogram: Histogram): Metric.HistogramState => {
  let count = 0
  const buckets = histogram.counts.map((inside, bucket): [number, number] => {
    count += inside
    return [histogram.boundaries[bucket] ?? Infinity, count]
  })
  // What OTLP sends as JSON must be a number.
  const { max, min } = count === 0 ? { min: 0, max: 0 } : histogram
  return { buckets, count, min, max, sum: histogram.sum }
}

/** The series of one host, registered as they come into being. */
class HostSeries {
  readonly #registry: Registry
  readonly #host: HostSource
  readonly #attributes: Attributes
  #fixed = false
  #durations = false
  #breaker = false
  #limiter = false
  readonly #requests = new Set<RequestSeries>()
  readonly #reasons = new Set<string>()

  constructor(registry: Registry, host: HostSource) {
    this.#registry = registry.empty()
    this.#host = host
    this.#attributes = hostAttributes(host.origin)
  }

  update(): void {
    const attributes = this.#attributes
    const host = this.#host
    const registry = this.#registry
    if (!this.#fixed) this.#addFixed()
    for (const series of host.requests) {
      if (this.#requests.has(series)) continue
      this.#requests.add(series)
      const of = { ...attributes, ...requestAttributes(series) }
      registry.histogram(definitions.requestDuration, of, series.durations)
    }
    if (!this.#durations && host.connectionDurations !== undefined) {
      this.#durations = true
      registry.histogram(definitions.connectionDuration, attributes, host.connectionDurations)
    }
    for (const reason of host.connectionsClosed.keys()) {
      if (this.#reasons.has(reason)) continue
      this.#reasons.add(reason)
      registry.counter(
        definitions.connectionsClosed,
        { ...attributes, "millrace.close.reason": reason },
        () => host.connectionsClosed.get(reason) ?? 0
      )
    }
    if (!this.#breaker && host.breaker !== undefined) {
      this.#breaker = true
      for (const state of breakerStates) {
        const of = { ...attributes, "millrace.breaker.state": state }
        registry.gauge(definitions.breakerState, of, () => (host.breaker === state ? 1 : 0))
      }
    }
    if (!this.#limiter && host.limiter !== undefined) {
      this.#limiter = true
      registry.gauge(definitions.limiterTokens, attributes, () => host.limiter?.tokens ?? 0)
      registry.gauge(definitions.limiterWaiting, attributes, () => host.limiter?.waiting ?? 0)
    }
  }

  remove(): void {
    this.#registry.remove()
  }

  #addFixed(): void {
    this.#fixed = true
    const attributes = this.#attributes
    const host = this.#host
    const registry = this.#registry
    const active = { ...attributes, "http.connection.state": "active" }
    const idle = { ...attributes, "http.connection.state": "idle" }
    registry.gauge(definitions.activeRequests, attributes, () => host.active)
    registry.gauge(definitions.openConnections, active, () => host.connectionsActive)
    registry.gauge(definitions.openConnections, idle, () => host.connectionsIdle)
    registry.gauge(definitions.waiting, attributes, () => host.waiting)
    registry.counter(definitions.retries, attributes, () => host.retries)
    registry.counter(definitions.connectionsOpened, attributes, () => host.connectionsOpened)
    registry.counter(definitions.ejections, attributes, () => host.ejections)
    registry.counter(definitions.abandoned, attributes, () => host.abandoned)
  }
}

const requestAttributes = ({ end, method }: RequestSeries): Attributes => ({
  "http.request.method": methodName(method),
  ...(typeof end === "number" ? { "http.response.status_code": String(end) } : {}),
  // A response of 400 and above is what OpenTelemetry calls an error, whether or not the pool does.
  ...(typeof end === "string" || end >= 400 ? { "error.type": String(end) } : {})
})

const hostAttributes = (origin: string): Attributes => {
  const { address, port, scheme } = serverOf(origin)
  return { "server.address": address, "server.port": String(port), "url.scheme": scheme }
}
