/**
 * A pool of single-connection HTTP clients.
 *
 * A pool holds `size` slots. A slot owns at most one connection per origin and does one request at a time. Requests take
 * the slots in turn, so that behind an L4 balancer, which chooses an instance per *connection*, they reach all instances
 * evenly.
 *
 * What it promises:
 *
 * - N sequential requests to one origin use N connections, exactly once each; a slot that is busy is passed over.
 * - When no slot is free a request waits in one line, first come first served, bounded in length and time.
 * - A slot is given back when its response has been received completely, was discarded, or failed; and at once when the
 *   caller times out or is interrupted.
 * - A request that meets a kept-alive connection which the server has just closed is sent again, once, on a fresh one, if
 *   its method is idempotent or none of it was written.
 * - Whatever fails, fails with a `PoolError`.
 * - When the scope ends, nothing is left: no socket, no timer, no fiber.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Bulkhead } from "../policy/Bulkhead.ts"
import type { CircuitBreaker } from "../policy/CircuitBreaker.ts"
import type { Gate } from "../policy/Gate.ts"
import type { RateLimit } from "../policy/RateLimit.ts"
import { Connector, type Switched } from "./Connector.ts"
import type { HostStats } from "./Host.ts"
import * as Announcer from "./internal/announcer.ts"
import * as Clients from "./internal/clients.ts"
import { invalid } from "./internal/failures.ts"
import * as MetricsSource from "./internal/metricsSource.ts"
import { PoolState } from "./internal/state.ts"
import { upgrader } from "./internal/upgrade.ts"
import * as ClientMetrics from "../observe/ClientMetrics.ts"
import * as PoolConfig from "./PoolConfig.ts"
import { fromHttpClientError, type PoolError } from "../model/PoolError.ts"
import type { PoolEvent } from "./PoolEvent.ts"
import type { Slot } from "./Slot.ts"

/**
 * A running pool.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pool {
  /**
   * All verbs, with typed errors. A status of 400 and above is a response, not an error, unless `failOnStatus` is set.
   *
   * `mapRequest` on it sees absolute URLs; use `mapRequestInput` to change a path relative to `baseUrl`. Combinators that
   * look into errors (`HttpClient.retryTransient`) know only `HttpClientError`: use them on `httpClient`.
   */
  readonly client: HttpClient.HttpClient.With<PoolError>
  /** The same slots as the plain `HttpClient` of Effect: every `PoolError` folded by `PoolError.toHttpClientError`. */
  readonly httpClient: HttpClient.HttpClient
  /**
   * The body of a response that lasts: `requestTimeout` ends at the headers, `bodyIdleTimeout` rules after that. The slot
   * is busy until the stream ends or is left. As a stream has no status, one of 400 and above is a `ResponseError`.
   */
  readonly stream: (request: HttpClientRequest) => Stream.Stream<Uint8Array, PoolError>
  /**
   * Asks for another protocol (RFC 9110, 7.8), as a WebSocket does: `request` is a GET whose headers say which. Either the
   * server switches, or it answers as to any request.
   *
   * The connection is not one of a slot: it is made for this, and lives as long as the scope, or the pool. Credentials, rate
   * limit, circuit breaker and bulkhead see the request like an attempt of any other, until it is answered; middleware,
   * retry and hedge do not, nor do the pool's counters. `FetchConnector` cannot do it: `InvalidRequest`.
   */
  readonly upgrade: (request: HttpClientRequest) => Effect.Effect<Switched | HttpClientResponse, PoolError, Scope.Scope>
  readonly stats: Effect.Effect<PoolStats>
  /** Counters of one origin; none when the pool has not used it, or has evicted it. */
  readonly hostStats: (origin: string | URL) => Effect.Effect<Option.Option<HostStats>>
  /**
   * The policies of one origin, to look at and to operate by hand: `circuitBreaker.isolate`, `rateLimit.pause`. None when
   * the pool has not used it, or has evicted it. Where policies are shared these are the ones of this process.
   */
  readonly hostPolicies: (origin: string | URL) => Effect.Effect<Option.Option<HostPolicies>>
  readonly slots: ReadonlyArray<Slot>
  /** What happens from now on, until the pool is closed; a slow consumer misses the oldest. */
  readonly events: Stream.Stream<PoolEvent>
  /** Changes the settings of one origin; requests that start from now on have them. */
  readonly configureHost: (
    origin: string | URL,
    config: PoolConfig.HostConfig
  ) => Effect.Effect<void, PoolConfig.ConfigError>
}

/**
 * The policies that a host has, of those that have a state.
 *
 * @category models
 * @since 0.1.0
 */
export interface HostPolicies {
  readonly rateLimit: RateLimit | undefined
  readonly circuitBreaker: CircuitBreaker | undefined
  readonly bulkhead: Bulkhead | undefined
}

/**
 * Counters of a pool since it was made, over all hosts, and how things stand now.
 *
 * @see {@link HostStats} for what each means
 * @category models
 * @since 0.1.0
 */
export interface PoolStats extends Omit<HostStats, "origin" | "tokens" | "circuit"> {
  readonly name: string
  readonly size: number
  readonly hosts: number
}

/**
 * The default tag. An application with several pools gives each a tag of its own:
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { Context, Layer } from "effect"
 *
 * export class Billing extends Context.Service<Billing, Pool.Pool>()("app/Billing") {
 *   static readonly layer = Layer.effect(this, Pool.make({ baseUrl: "https://billing.internal", size: 4 }))
 * }
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Pool: Context.Service<Pool, Pool> = Context.Service<Pool, Pool>("@millrace/core/Pool")

/**
 * Makes a pool that lives as long as the scope. No connection is made before the first request.
 *
 * Every attempt passes the `gates`, outermost first, before it asks for a slot: the place of policies.
 *
 * Closing the scope: new requests fail with `PoolClosed`, those that somebody waits for get `drainTimeout` (default
 * 10 s), then all sockets are destroyed.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { UndiciConnector } from "@millrace/node"
 * import { Effect } from "effect"
 *
 * export const program = Effect.gen(function* () {
 *   const pool = yield* Pool.make({ baseUrl: "http://localhost:8080", size: 4, requestTimeout: "10 seconds" })
 *   const response = yield* pool.client.get("/users")
 *   return yield* response.json
 * }).pipe(Effect.scoped, Effect.provide(UndiciConnector.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: PoolConfig.Options = {},
  gates: ReadonlyArray<Gate<PoolError>> = []
): Effect.fn.Return<Pool, PoolConfig.ConfigError, Scope.Scope | Connector> {
  const config = yield* PoolConfig.resolve(options)
  const connector = yield* Connector
  const services = yield* Effect.context<never>()
  const announcer = yield* Announcer.make
  const state = new PoolState(config, connector, services, announcer, gates)
  const upgrade = yield* upgrader(state)
  yield* Effect.addFinalizer(() => state.close)
  if (config.observe.metrics) yield* ClientMetrics.register(MetricsSource.make(state), config.name)
  return {
    client: Clients.make(state, Clients.anySlot),
    httpClient: Clients.makeFolded(state),
    stream: stream(state),
    upgrade,
    stats: Effect.sync(() => ({ name: config.name, size: config.size, ...state.stats() })),
    hostStats: (origin) =>
      Effect.sync(() => Option.map(Option.fromUndefinedOr(findHost(state, origin)), (_) => _.stats())),
    hostPolicies: (origin) =>
      Effect.sync(() =>
        Option.map(Option.fromUndefinedOr(findHost(state, origin)), ({ policies }) => ({
          rateLimit: policies?.rateLimit,
          circuitBreaker: policies?.circuitBreaker,
          bulkhead: policies?.bulkhead
        }))
      ),
    slots: Array.from({ length: config.size }, (_, index) => slot(state, index)),
    events: announcer.stream,
    configureHost: (origin, hostConfig) =>
      Effect.map(PoolConfig.resolveHost(config, String(origin), hostConfig), (resolved) =>
        state.configureHost(originOf(origin), resolved)
      )
  }
})

/**
 * The pool behind the default tag.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: PoolConfig.Options): Layer.Layer<Pool, PoolConfig.ConfigError, Connector> =>
  Layer.effect(Pool, make(options))

/**
 * The pool behind the default tag, with options from `Config`.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { Config } from "effect"
 *
 * export const layer = Pool.layerConfig({
 *   baseUrl: Config.String("BILLING_URL"),
 *   size: Config.Int("BILLING_CONNECTIONS").pipe(Config.withDefault(8))
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<PoolConfig.Options>
): Layer.Layer<Pool, PoolConfig.ConfigError, Connector> =>
  Layer.effect(
    Pool,
    Effect.flatMap(PoolConfig.unwrap(options), (resolved) => make(resolved))
  )

/**
 * The pool behind the default tag, with whatever options the current `ConfigProvider` has: environment variables
 * `HTTP_CLIENT_…`, and the object under `httpClient` of a YAML or JSON file. All invalid ones are reported at once.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 *
 * // BILLING_BASE_URL, BILLING_SIZE, BILLING_DIAL_TIMEOUT…
 * export const layer = Pool.layerFromConfig({ prefix: "BILLING" })
 * ```
 *
 * @see {@link PoolConfig.fromConfig} for the names and their order
 * @category layers
 * @since 0.1.0
 */
export const layerFromConfig = (
  source?: Parameters<typeof PoolConfig.fromConfig>[0]
): Layer.Layer<Pool, PoolConfig.ConfigError, Connector> =>
  Layer.effect(
    Pool,
    Effect.flatMap(PoolConfig.fromConfig(source), (options) => make(options))
  )

/**
 * The pool as the plain `HttpClient.HttpClient`, and behind the default tag: whatever is written for Effect's client
 * (`HttpApiClient`, `RpcClient`, …) runs on it without knowing.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHttpClient = (
  options?: PoolConfig.Options
): Layer.Layer<Pool | HttpClient.HttpClient, PoolConfig.ConfigError, Connector> =>
  Layer.provideMerge(
    Layer.effect(
      HttpClient.HttpClient,
      Effect.map(Pool, (pool) => pool.httpClient)
    ),
    layer(options)
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const originOf = (origin: string | URL): string =>
  URL.canParse(String(origin)) ? new URL(origin).origin : String(origin)

const findHost = (state: PoolState, origin: string | URL) => state.hosts.get(originOf(origin))

const stream = (state: PoolState): Pool["stream"] => {
  const run = Clients.execute(state, Clients.anySlot, true)
  return (request) =>
    Stream.unwrap(
      Effect.map(run(request), (response: HttpClientResponse) =>
        Stream.mapError(response.stream, (error) =>
          Option.getOrElse(fromHttpClientError(error), () => invalid(request, error.message, error))
        )
      )
    )
}

const slot = (state: PoolState, index: number): Slot => ({
  index,
  client: Clients.make(state, index),
  stats: Effect.sync(() => {
    const lanes = Array.from(state.hosts.values()).flatMap((host) =>
      host.existingLanes().filter((lane) => lane.index === index)
    )
    const ejected = lanes.some((lane) => lane.ejected)
    return {
      state: lanes.some((lane) => lane.exchange !== undefined) ? "busy" : ejected ? "ejected" : "free",
      requests: lanes.reduce((sum, lane) => sum + lane.requests, 0),
      connectionsOpen: lanes.filter((lane) => lane.open).length
    }
  })
})
