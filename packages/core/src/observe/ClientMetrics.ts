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
import type * as Scope from "effect/Scope"
import type { Histogram } from "./Histogram.ts"
import { type Definition, definitions, prometheusName } from "./internal/definitions.ts"
import { methodName } from "./internal/method.ts"
import { type Attributes, Series } from "./internal/series.ts"
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
        const ofPool = new Series(context, { "millrace.pool": name })
        for (const state of slotStates) {
          ofPool.gauge(definitions.slots, { "millrace.slot.state": state }, () => source.slots()[state])
        }
        const hosts = new Map<HostSource, HostSeries>()
        const changed = (host: HostSource): void => {
          const known = hosts.get(host)
          if (known !== undefined) return known.update()
          const series = new HostSeries(ofPool, host)
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
          ofPool.remove()
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

const slotStates = ["free", "busy", "ejected"] as const

const breakerStates = ["closed", "open", "half_open"] as const

/** The series of one host, registered as they come into being. */
class HostSeries {
  readonly #series: Series
  readonly #host: HostSource
  #fixed = false
  #durations = false
  #breaker = false
  #limiter = false
  readonly #requests = new Set<RequestSeries>()
  readonly #reasons = new Set<string>()

  constructor(ofPool: Series, host: HostSource) {
    this.#series = ofPool.within(hostAttributes(host.origin))
    this.#host = host
  }

  update(): void {
    const host = this.#host
    const series = this.#series
    if (!this.#fixed) this.#addFixed()
    for (const request of host.requests) {
      if (this.#requests.has(request)) continue
      this.#requests.add(request)
      series.histogram(definitions.requestDuration, requestAttributes(request), request.durations)
    }
    if (!this.#durations && host.connectionDurations !== undefined) {
      this.#durations = true
      series.histogram(definitions.connectionDuration, {}, host.connectionDurations)
    }
    for (const reason of host.connectionsClosed.keys()) {
      if (this.#reasons.has(reason)) continue
      this.#reasons.add(reason)
      series.counter(
        definitions.connectionsClosed,
        { "millrace.close.reason": reason },
        () => host.connectionsClosed.get(reason) ?? 0
      )
    }
    if (!this.#breaker && host.breaker !== undefined) {
      this.#breaker = true
      for (const state of breakerStates) {
        const of = { "millrace.breaker.state": state }
        series.gauge(definitions.breakerState, of, () => (host.breaker === state ? 1 : 0))
      }
    }
    if (!this.#limiter && host.limiter !== undefined) {
      this.#limiter = true
      series.gauge(definitions.limiterTokens, {}, () => host.limiter?.tokens ?? 0)
      series.gauge(definitions.limiterWaiting, {}, () => host.limiter?.waiting ?? 0)
    }
  }

  remove(): void {
    this.#series.remove()
  }

  #addFixed(): void {
    this.#fixed = true
    const host = this.#host
    const series = this.#series
    const active = { "http.connection.state": "active" }
    const idle = { "http.connection.state": "idle" }
    series.gauge(definitions.activeRequests, {}, () => host.active)
    series.gauge(definitions.openConnections, active, () => host.connectionsActive)
    series.gauge(definitions.openConnections, idle, () => host.connectionsIdle)
    series.gauge(definitions.waiting, {}, () => host.waiting)
    series.counter(definitions.retries, {}, () => host.retries)
    series.counter(definitions.connectionsOpened, {}, () => host.connectionsOpened)
    series.counter(definitions.ejections, {}, () => host.ejections)
    series.counter(definitions.abandoned, {}, () => host.abandoned)
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
