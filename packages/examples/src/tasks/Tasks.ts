/**
 * The service: a storage, a worker, the public listener and the one for operators.
 *
 * It stops from the outside in:
 *
 * ```
 * not ready, no more claims ──► listeners drain ──► worker: finish or hand back ──► storage closes ──► log is flushed
 *                               (drain_timeout)      (app.drain_timeout + 4 s)                         (5 s)
 * ```
 *
 * The log is built below all of it, by who runs the service: `main.ts` does.
 */
import { Auth, Handler, ServerMetrics, ServerPool } from "@millrace/core"
import { Admin } from "@millrace/node"
import * as Fibers from "@millrace/node/Admin/Fibers"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Files from "./config/Files.ts"
import * as Routes from "./http/Routes.ts"
import * as QueueMetrics from "./queue/QueueMetrics.ts"
import type { Settings } from "./Settings.ts"
import * as Embedded from "./storage/Embedded.ts"
import * as Memory from "./storage/Memory.ts"
import * as Postgres from "./storage/Postgres.ts"
import { TaskStore } from "./storage/TaskStore.ts"
import * as HttpWork from "./worker/HttpWork.ts"
import * as StubWork from "./worker/StubWork.ts"
import * as Worker from "./worker/Worker.ts"

const postgres = (storage: Settings["storage"]) =>
  Layer.unwrap(
    Effect.map(Files.read({ "storage.ca_file": storage.ca_file }), ({ "storage.ca_file": ca }) =>
      Postgres.layer({
        host: storage.host,
        port: storage.port,
        username: storage.user,
        password: storage.password,
        database: storage.name,
        // `require` is PostgreSQL's word for encrypted by whomever.
        ssl:
          storage.ssl_mode === "verify-full"
            ? ca === undefined
              ? true
              : { ca }
            : storage.ssl_mode === "require" && { rejectUnauthorized: false },
        maxConnections: storage.max_connections,
        migrate: storage.need_migrate,
        connectTimeout: storage.connect_timeout,
        attempts: storage.connection_attempts,
        statementTimeout: storage.statement_timeout
      })
    )
  )

const storageOf = (storage: Settings["storage"]) => {
  switch (storage.type) {
    case "memory":
      return Memory.layer
    case "internal":
      return Embedded.layer({
        directory: storage.directory,
        migrate: storage.need_migrate,
        statementTimeout: storage.statement_timeout
      })
    case "postgres":
      return postgres(storage)
  }
}

const workOf = ({ http, stub, type }: Settings["work"]) =>
  type === "http" && http.url !== undefined
    ? Layer.unwrap(
        Effect.gen(function* () {
          const headers = Object.entries(http.headers).map(([name, value]) => [name, Redacted.value(value)] as const)
          return HttpWork.layer({
            url: http.url ?? "",
            auth: Redacted.value(http.token) === "" ? false : yield* Auth.bearer(http.token),
            headers: Object.fromEntries(headers),
            size: http.connections,
            bulkhead: { maxConcurrent: http.connections, maxWaiting: 100_000 },
            requestTimeout: http.timeout,
            acquireTimeout: http.timeout,
            attemptTimeout: http.attempt_timeout,
            responseHeaderTimeout: http.attempt_timeout,
            retry: { maxRetries: http.max_retries },
            rateLimit: { limit: http.rate_limit, interval: "1 second" },
            patience: http.patience,
            maxResult: http.max_result
          })
        })
      )
    : StubWork.layer({ min: stub.min, max: stub.max, failures: stub.failure_rate })

const workerOf = (app: Settings["app"]) =>
  Worker.layer({
    permits: app.semaphore,
    lease: app.lease,
    poll: app.poll,
    maxDeaths: app.max_deaths,
    drain: app.drain_timeout
  })

const tlsOf = (tls: Settings["server"]["tls"]) =>
  Effect.map(
    Files.read({
      "server.tls.cert_file": tls.cert_file,
      "server.tls.key_file": tls.key_file,
      "server.tls.client_ca_file": tls.client_ca_file
    }),
    (files) => {
      const { "server.tls.cert_file": cert, "server.tls.key_file": key, "server.tls.client_ca_file": ca } = files
      if (cert === undefined || key === undefined) return undefined
      return { cert, key: Redacted.make(key), ca, clientAuth: tls.client_auth }
    }
  )

/** The routes of the operators tell of the pool, so they come after it. */
const starting = Effect.succeed(HttpServerResponse.empty({ status: 503 }))

/** Both listeners; they accept when it is built. */
const serving = ({ admin, server }: Settings) =>
  Layer.effect(
    ServerPool.ServerPool,
    Effect.gen(function* () {
      const store = yield* TaskStore
      const worker = yield* Worker.Worker
      const pool = yield* ServerPool.make({
        name: "tasks",
        servers: [
          {
            name: "api",
            bind: server.bind,
            readTimeout: server.read_timeout,
            readHeaderTimeout: server.read_header_timeout,
            writeTimeout: server.write_timeout,
            idleTimeout: server.idle_timeout,
            drainDelay: server.drain_delay,
            drainTimeout: server.drain_timeout,
            tls: yield* tlsOf(server.tls)
          },
          // Says that the service is not ready for as long as the other still accepts.
          {
            name: "admin",
            bind: admin.bind,
            handler: "admin",
            drainDelay: server.drain_delay,
            drainTimeout: "1 second"
          }
        ],
        handlers: { default: Fibers.named("api: answers")(yield* Handler.fromRouter(Routes.routes)), admin: starting }
      })
      const storage = Effect.match(store.ping, { onSuccess: () => true, onFailure: () => false })
      yield* pool.setHandler(
        yield* Handler.fromRouter(Admin.routes({ ready: { servers: pool.ready, storage }, hosts: admin.hosts })),
        "admin"
      )
      yield* ServerMetrics.register(pool)
      yield* pool.start
      // What is claimed while the listeners drain might have to be handed back.
      yield* Effect.addFinalizer(() => worker.endClaims)
      return pool
    })
  )

/**
 * The running service.
 *
 * ```ts
 * import { UndiciConnector } from "@millrace/node"
 * import * as NodeListener from "@millrace/node/NodeListener"
 * import { Effect, Layer } from "effect"
 * import * as Settings from "../../src/tasks/Settings.ts"
 * import * as Tasks from "../../src/tasks/Tasks.ts"
 *
 * export const program = Effect.gen(function* () {
 *   return Tasks.layer(yield* Settings.read()).pipe(
 *     Layer.provide(Layer.merge(UndiciConnector.layer, NodeListener.layer))
 *   )
 * })
 * ```
 */
export const layer = (settings: Settings) =>
  serving(settings).pipe(
    Layer.provideMerge(workerOf(settings.app)),
    Layer.provide([workOf(settings.work), QueueMetrics.layer]),
    Layer.provideMerge(storageOf(settings.storage))
  )
