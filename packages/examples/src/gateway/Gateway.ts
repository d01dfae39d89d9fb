/** A gateway: a public listener in front of services, and an admin listener for those who run it. */
import { Handler, Monitor, Pool, ServerMetrics, ServerPool } from "@millrace/core"
import { ConfigFile } from "@millrace/node"
import { Console, Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import type { Certificate } from "./Certificate.ts"
import * as Services from "./Services.ts"

const file = `${import.meta.dirname}/gateway.yaml`

const starting = Effect.succeed(HttpServerResponse.empty({ status: 503 }))

const admin = (pool: ServerPool.ServerPool, monitor: Monitor.Monitor, routes: ReadonlyArray<Services.Route>) =>
  Layer.mergeAll(
    HttpRouter.add(
      "GET",
      "/health",
      Effect.map(pool.ready, (ready) =>
        HttpServerResponse.text(ready ? "ready\n" : "not ready\n", { status: ready ? 200 : 503 })
      )
    ),
    HttpRouter.add(
      "GET",
      "/stats",
      Effect.gen(function* () {
        const servers = yield* monitor.report
        const services = yield* Effect.forEach(routes, ({ pool }) => pool.stats)
        return yield* HttpServerResponse.json({ servers, services })
      })
    ),
    PrometheusMetrics.layerHttp({ metricNameMapper: ServerMetrics.prometheusNames })
  )

/** Runs as long as the scope, and follows the file; the certificate is that of the monitor's own requests. */
export const start = Effect.fnUntraced(function* (certificate: Certificate) {
  const routes = yield* Services.read(file)
  const handlers = { default: yield* Services.handler(routes), admin: starting }
  const { servers, tls } = yield* ConfigFile.read(file, { handlers: Object.keys(handlers) })
  const pool = yield* ServerPool.make({ name: "gateway", servers, tls, handlers })
  const prober = yield* Pool.make({ size: 2, observe: false, proxy: false, tls: { ca: certificate.cert } })
  const monitor = yield* Monitor.make(pool, prober)
  yield* ServerMetrics.register(pool, monitor)
  yield* pool.setHandler(yield* Handler.fromRouter(admin(pool, monitor, routes)), "admin")
  yield* pool.start
  yield* ConfigFile.follow(pool, file)
  yield* Effect.forEach(yield* pool.servers, ({ expose, name }) => Console.log(`${name.padEnd(8)}${expose}`))
  yield* Effect.forEach(routes, ({ host, name, path }) => Console.log(`${name.padEnd(8)}${host ?? path ?? "-"}`))
  return pool
})
