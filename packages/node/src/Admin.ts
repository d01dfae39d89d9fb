/**
 * What an operator asks a process at 3 a.m.: routes for a listener of their own.
 *
 * | Route | Answer |
 * | --- | --- |
 * | `GET /health/live` | 200 as long as the process answers at all |
 * | `GET /health/ready` | 200 or 503, with what is not ready |
 * | `GET /metrics` | all metrics of Effect, for Prometheus |
 * | `GET /debug/fibers` | live fibers, those at the same place together; JSON for who accepts only that |
 * | `POST /debug/profile?seconds=5` | a CPU profile to download |
 * | `POST /debug/heap` | a heap snapshot to download |
 *
 * What it promises:
 *
 * - What costs something happens on POST only, one at a time, for a bounded time, and ends when its client leaves.
 * - A page in somebody's browser reaches nothing but health: what a browser sends from another site is refused, and so is a
 *   `Host` that is neither an address, nor localhost, nor named in `hosts`.
 * - It has no authentication: bind its listener to loopback, or put it behind what has.
 *
 * @since 0.1.0
 */
import * as ServerMetrics from "@millrace/core/observe/ServerMetrics"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { isIP } from "node:net"
import * as CpuProfile from "./Admin/CpuProfile.ts"
import * as Fibers from "./Admin/Fibers.ts"
import * as HeapSnapshot from "./Admin/HeapSnapshot.ts"

/**
 * What the routes are made of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * What must be so for this process to get requests, by name: `{ servers: pool.ready, storage: … }`. All are asked at once.
   * Default: nothing.
   */
  readonly ready?: Readonly<Record<string, Effect.Effect<boolean>>> | undefined
  /** Names by which this listener is reached besides localhost and addresses. Default: none. */
  readonly hosts?: ReadonlyArray<string> | undefined
}

const json = (body: unknown, status = 200) =>
  HttpServerResponse.text(`${JSON.stringify(body)}\n`, { status, contentType: "application/json" })

const text = (body: string, status = 200) => HttpServerResponse.text(`${body}\n`, { status })

const live = HttpRouter.add("GET", "/health/live", Effect.succeed(json({ live: true })))

const ready = (checks: Readonly<Record<string, Effect.Effect<boolean>>>) =>
  HttpRouter.add(
    "GET",
    "/health/ready",
    Effect.map(Effect.all(checks, { concurrency: "unbounded" }), (checks) => {
      const all = Object.values(checks).every((check) => check)
      return json({ ready: all, checks }, all ? 200 : 503)
    })
  )

/** The name in a `Host`, without port and brackets. */
const nameOf = (host: string): string => (/^(?:\[(.*)\]|([^:]*))(?::\d+)?$/.exec(host) ?? []).slice(1).join("")

const refusal = (request: HttpServerRequest.HttpServerRequest, hosts: ReadonlyArray<string>): string | undefined => {
  const { headers } = request
  const site = headers["sec-fetch-site"]
  if (headers["origin"] !== undefined || (site !== undefined && site !== "none" && site !== "same-origin")) {
    return "this came from a page in a browser; use curl"
  }
  const name = nameOf(headers["host"] ?? "").toLowerCase()
  if (name === "localhost" || isIP(name) !== 0 || hosts.includes(name)) return undefined
  return "this name is not known here; use an address or localhost, or name it in the option hosts"
}

const fibers = Effect.gen(function* () {
  const watch = yield* Fibers.Fibers
  if (watch === undefined)
    return text("fibers are not watched: provide Fibers.layer of @millrace/node/Admin/Fibers", 501)
  const found = yield* watch.live
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  return headers["accept"] === "application/json" ? json(found) : text(Fibers.format(found).trimEnd())
})

/** Counters end in `_total`, as Prometheus wants; Effect's exporter leaves names as they are. */
const metrics = Effect.gen(function* () {
  const all = yield* Metric.snapshot
  const counters = new Set(all.filter(({ type }) => type === "Counter").map(({ id }) => id))
  const metricNameMapper = (name: string) => {
    const known = ServerMetrics.prometheusNames(name)
    return known === name && counters.has(name) && !name.endsWith("total") ? `${name}_total` : known
  }
  const body = yield* PrometheusMetrics.format({ metricNameMapper })
  return HttpServerResponse.text(body, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
})

const byPost = Effect.succeed(
  HttpServerResponse.setHeader(text("this costs the process something: ask by POST", 405), "allow", "POST")
)

const attachment = (name: string) => ({ "content-disposition": `attachment; filename="${name}"` })

const longest = 60

const profile = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  const wanted = new URL(request.url, "http://localhost").searchParams.get("seconds") ?? "5"
  const seconds = Number(wanted)
  if (!(seconds > 0 && seconds <= longest)) return text(`seconds: more than 0, at most ${longest}`, 400)
  return yield* Effect.match(CpuProfile.record(`${seconds} seconds`), {
    onSuccess: (body) =>
      HttpServerResponse.text(body, {
        contentType: "application/json",
        headers: attachment(`${process.pid}.cpuprofile`)
      }),
    onFailure: (error) => text(error.message, error.reason === "busy" ? 409 : 500)
  })
})

const heap = Effect.suspend(() =>
  HeapSnapshot.isBusy()
    ? Effect.succeed(text(new HeapSnapshot.SnapshotError({ reason: "busy" }).message, 409))
    : Effect.succeed(
        HttpServerResponse.stream(HeapSnapshot.stream, {
          contentType: "application/json",
          headers: attachment(`${process.pid}.heapsnapshot`)
        })
      )
)

/**
 * The routes, for `Handler.fromRouter`.
 *
 * ```ts
 * import { Handler, ServerPool } from "@millrace/core"
 * import { Admin } from "@millrace/node"
 * import { Effect } from "effect"
 *
 * export const withAdmin = Effect.gen(function* () {
 *   const pool = yield* ServerPool.ServerPool
 *   const admin = yield* Handler.fromRouter(Admin.routes({ ready: { servers: pool.ready } }))
 *   yield* pool.setHandler(admin, "admin")
 *   yield* pool.addConfig({ name: "admin", bind: "127.0.0.1:6060", handler: "admin" })
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const routes = (options: Options = {}): Layer.Layer<never, never, HttpRouter.HttpRouter> => {
  const hosts = (options.hosts ?? []).map((host) => host.toLowerCase())
  const guard = HttpRouter.middleware((handler) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const reason = refusal(request, hosts)
      return reason === undefined ? handler : Effect.succeed(text(`refused: ${reason}`, 403))
    })
  )
  const guarded = Layer.mergeAll(
    HttpRouter.add("GET", "/metrics", metrics),
    HttpRouter.add("GET", "/debug/fibers", fibers),
    HttpRouter.add("POST", "/debug/profile", profile),
    HttpRouter.add("GET", "/debug/profile", byPost),
    HttpRouter.add("POST", "/debug/heap", heap),
    HttpRouter.add("GET", "/debug/heap", byPost)
  )
  return Layer.mergeAll(live, ready(options.ready ?? {}), Layer.provide(guarded, guard.layer))
}
