/**
 * A reverse proxy: a handler that forwards to an upstream through a client pool.
 *
 * What it promises:
 *
 * - Bodies stream both ways, as fast as the slower side takes them; nothing is kept but what the pool and the server buffer.
 *   Compressed bodies pass as they are.
 * - What belongs to one connection is not passed on (RFC 9110, 7.6.1), nor what two servers could read differently: a
 *   length beside a transfer coding, paths that climb.
 * - What a client says of `Forwarded`, `X-Forwarded-*` and their like is dropped, unless its address is trusted.
 * - A client that leaves aborts the request at the upstream. An upstream that breaks in the middle of an answer breaks the
 *   client's connection: no answer is cut short and looks complete.
 * - A WebSocket is passed on as bytes, when the upstream has taken its handshake; what is no handshake is refused.
 * - What the pool fails with is a 502, 503 or 504 as problem details (RFC 9457), which tell nothing of what is behind.
 *
 * What it never does: keep or cache answers, decompress, follow redirects, send a body twice, forward `CONNECT`, `TRACE` or
 * other upgrades than WebSockets, or pass on trailers and interim answers.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Headers } from "effect/http/Headers"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as Duration from "effect/Duration"
import type * as Scope from "effect/Scope"
import * as Arr from "effect/Array"
import type { Pool } from "../client/Pool.ts"
import type { Options as PoolOptions } from "../client/PoolConfig.ts"
import { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import type { Problem } from "../model/internal/field.ts"
import * as HttpField from "../model/internal/httpField.ts"
import * as Timers from "../model/internal/timers.ts"
import type { PoolError } from "../model/PoolError.ts"
import { Balancer, Target as BalancerTarget } from "./internal/balance.ts"
import { forward } from "./internal/forward.ts"
import { balanceFields, fields, type Given, type GivenBalance, resolve } from "./internal/proxyOptions.ts"
import type { Handler } from "./Listener.ts"

const TypeId = "~@millrace/core/Proxy/Upstream"

/**
 * What a user may say about a proxy. Everything is optional.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Whole segments that must begin the path, and are taken off it; other paths are answered with 404. As it stands in a
   * request line: not decoded. Default: none.
   */
  readonly stripPrefix?: string | undefined
  /**
   * The path that is asked of the upstream instead, after `stripPrefix` and before the pool's `baseUrl`; without the query,
   * which passes untouched. Paths are as they stand in a request line: not decoded. Default: none.
   */
  readonly rewrite?: ((path: string) => string) | undefined
  /**
   * From the begin of a request to the head of its response; its body's way up is part of it. The pool's own limits hold
   * beside it. Default: none.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * The peers whose `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `X-Client-IP` and `True-Client-IP` are kept, and continued:
   * addresses and networks (`10.0.0.0/8`). From all others they are dropped. Default: false.
   */
  readonly trustForwarded?: false | ReadonlyArray<string> | undefined
  /** How the upstream is told of the client: by `Forwarded` (RFC 7239), `X-Forwarded-*`, or both. Default: both. */
  readonly forwarded?: "forwarded" | "x-forwarded" | "both" | undefined
  /** The name of this proxy in `Via` (RFC 9110, 7.6.3); `false`: no `Via`. Default: millrace. */
  readonly via?: string | false | undefined
  /** Whose `Host` the upstream gets: its own, or the client's. Default: upstream. */
  readonly host?: "upstream" | "preserve" | undefined
  /** The largest body of a request, in bytes; a larger one is answered with 413. Default: none. */
  readonly maxBodySize?: number | undefined
  /**
   * Whether WebSockets are forwarded, where the server of the handler and the pool's connector can hand over a connection:
   * `NodeListener`, `UndiciConnector`, `NodeHttpConnector`. Otherwise they are answered with 501. Default: true.
   */
  readonly webSockets?: boolean | undefined
  /**
   * The longest silence, of both sides, on a WebSocket. Default: 5 minutes, as Envoy's `stream_idle_timeout`.
   */
  readonly webSocketIdleTimeout?: Duration.Input | undefined
  /**
   * Sees the headers as they are about to be sent; what it gives is sent. To refuse, it fails with a response, or with
   * whatever can be one (`Respondable`). Default: none.
   */
  readonly requestHeaders?: HeaderHook | undefined
  /** The same for the headers of an answer; cookies are not among them. Default: none. */
  readonly responseHeaders?: HeaderHook | undefined
  /**
   * Is told what the pool has failed with, at the head or in the middle of a body. Default: logs a warning; a full line, an
   * open circuit and a rate limit only for debugging, as the pool's events and metrics tell of them.
   */
  readonly onError?: ((error: PoolError) => Effect.Effect<void>) | undefined
}

/**
 * Looks at headers, changes them, or refuses. Names are lower-case.
 *
 * @category models
 * @since 0.1.0
 */
export type HeaderHook = (headers: Headers) => Effect.Effect<Headers, unknown, HttpServerRequest | Scope.Scope>

/**
 * One place that requests may go to: a pool with a `baseUrl` of its own, or a place that a pool is to go to.
 *
 * @category models
 * @since 0.1.0
 */
export type Target = Pool | { readonly pool: Pool; readonly baseUrl: string | URL }

/**
 * What a user may say about a balancer.
 *
 * @category models
 * @since 0.1.0
 */
export interface BalanceOptions {
  /**
   * `roundRobin`: one after the other. `leastPending`: the one with the fewest requests under way, of equals the next in
   * turn. Default: roundRobin.
   */
  readonly strategy?: "roundRobin" | "leastPending" | undefined
  /**
   * How long a target that could not be connected to is passed over. Default: 10 s, as nginx's `fail_timeout`.
   */
  readonly failTimeout?: Duration.Input | undefined
}

/**
 * Several targets that stand for one another.
 *
 * @category models
 * @since 0.1.0
 */
export interface Upstream {
  readonly [TypeId]: Balancer
  readonly targets: Effect.Effect<ReadonlyArray<TargetStats>>
}

/**
 * How a target stands. `requests` were given to it, `pending` of them are under way, their bodies included, and of those
 * `webSockets` have become WebSockets; while it is `out` it gets none, unless all are.
 *
 * @category models
 * @since 0.1.0
 */
export interface TargetStats {
  /** `undefined` where the pool's own `baseUrl` is used. */
  readonly baseUrl: string | undefined
  readonly requests: number
  readonly pending: number
  readonly webSockets: number
  readonly out: boolean
}

/**
 * Options that fit a pool that a proxy uses. A pool of one's own for each upstream: `Pool.make({ ...Proxy.poolOptions, baseUrl })`.
 *
 * - `decompress: false`: bodies pass as they are. (They do with any pool: the proxy asks for no coding that its client has
 *   not asked for.)
 * - `requestTimeout: "Infinity"`: a body may last as long as it moves, `bodyIdleTimeout` rules; `responseHeaderTimeout` rules
 *   before it.
 * - `size: 64`: each request under way takes a slot, until the end of its body.
 *
 * @category options
 * @since 0.1.0
 */
export const poolOptions = {
  decompress: false,
  requestTimeout: "Infinity",
  size: 64
} as const satisfies PoolOptions

/**
 * A handler that forwards every request to `upstream`. Fails with everything that is wrong with the options.
 *
 * ```ts
 * import { Pool, Proxy } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * export const handler = Effect.gen(function* () {
 *   const pool = yield* Pool.make({ ...Proxy.poolOptions, baseUrl: "http://127.0.0.1:9000/v2" })
 *   return yield* Proxy.make(pool, { stripPrefix: "/billing", maxBodySize: 10_000_000 })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (upstream: Pool | Upstream, options: Options = {}): Effect.Effect<Handler, ConfigError> =>
  Effect.gen(function* () {
    const given = yield* check<Given>(fields, options)
    const balancer = TypeId in upstream ? upstream[TypeId] : yield* single(upstream)
    return forward(balancer, resolve(given))
  })

/**
 * Several targets as one upstream, each request to one of them.
 *
 * A target is passed over while its circuit is open (of a target with a `baseUrl` this is known before; of a pool alone, by
 * its refusal) and for `failTimeout` after it could not be connected to; when all are, one is asked nevertheless. A request of which
 * nothing was sent goes to one other target, once; what was sent is the pool's to retry.
 *
 * ```ts
 * import { Pool, Proxy } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * const origins = ["http://10.0.0.1:9000", "http://10.0.0.2:9000"]
 *
 * export const handler = Effect.gen(function* () {
 *   const pool = yield* Pool.make({ ...Proxy.poolOptions, circuitBreaker: true })
 *   const targets = origins.map((baseUrl) => ({ pool, baseUrl }))
 *   return yield* Proxy.make(yield* Proxy.balance(targets, { strategy: "leastPending" }))
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const balance = (
  targets: ReadonlyArray<Target>,
  options: BalanceOptions = {}
): Effect.Effect<Upstream, ConfigError> =>
  Effect.gen(function* () {
    const { failTimeout, strategy } = yield* check<GivenBalance>(balanceFields, options)
    const problems: Array<Problem> = []
    const read = targets.map((target, index) => {
      if (!("pool" in target)) return new BalancerTarget(target, undefined)
      const baseUrl = base.read(target.baseUrl, `targets[${index}].baseUrl`, problems)
      if (baseUrl !== undefined && baseUrl.search !== "") {
        problems.push({
          path: `targets[${index}].baseUrl`,
          message: "must not contain a query; use `rewrite` or a hook"
        })
      }
      return new BalancerTarget(target.pool, baseUrl)
    })
    if (!Arr.isReadonlyArrayNonEmpty(read)) problems.push({ path: "targets", message: "must not be empty" })
    if (problems.length > 0 || !Arr.isReadonlyArrayNonEmpty(read)) return yield* new ConfigError({ problems })
    const services = yield* Effect.context<never>()
    const settings = {
      strategy: strategy ?? balanceFields.strategy.default,
      failTimeout: failTimeout ?? balanceFields.failTimeout.default
    }
    return upstreamOf(new Balancer(read, settings, Timers.make(services)))
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const base = HttpField.baseUrl("Where the requests of a target go.")

const single = (pool: Pool): Effect.Effect<Balancer> =>
  Effect.map(
    Effect.context<never>(),
    (services) =>
      new Balancer(
        [new BalancerTarget(pool, undefined)],
        { strategy: "roundRobin", failTimeout: 0 },
        Timers.make(services)
      )
  )

const upstreamOf = (balancer: Balancer): Upstream => ({
  [TypeId]: balancer,
  targets: Effect.forEach(balancer.targets, (target) =>
    Effect.map(balancer.isOut(target), (out) => ({
      baseUrl: target.base?.href,
      requests: target.requests,
      pending: target.pending,
      webSockets: target.webSockets,
      out
    }))
  )
})
