/** What goes where: each service of the file is a proxy to a client pool with policies of its own. */
import { Handler, type Listener, Pool, PoolConfig, Proxy } from "@millrace/core"
import { ConfigProvider, Effect, Layer, Schema } from "effect"
import { Yaml } from "effect/encoding"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { readFile } from "node:fs/promises"
import * as Upstreams from "./Upstreams.ts"

const Service = Schema.Struct({
  host: Schema.optionalKey(Schema.String),
  path: Schema.optionalKey(Schema.String),
  httpClient: Schema.optionalKey(Schema.Unknown)
})

const File = Schema.Struct({ services: Schema.Record(Schema.String, Service) })

export interface Route {
  readonly name: string
  readonly host: string | undefined
  readonly path: string | undefined
  readonly pool: Pool.Pool
  readonly proxy: Listener.Handler
}

/** The services of a file, with their pools. */
export const read = Effect.fnUntraced(function* (file: string) {
  const tree = yield* Effect.tryPromise(async () => Yaml.parse(await readFile(file, "utf8")))
  const { services } = yield* Schema.decodeUnknownEffect(File)(tree)
  const environment = yield* ConfigProvider.ConfigProvider
  const provider = ConfigProvider.orElse(environment, ConfigProvider.fromUnknown(tree))
  const builtIn = yield* Upstreams.start
  return yield* Effect.forEach(Object.entries(services), ([name, { host, path }]) =>
    Effect.gen(function* () {
      const source = { prefix: `${name.toUpperCase()}_HTTP_CLIENT`, path: ["services", name, "httpClient"] }
      const given = yield* PoolConfig.fromConfig(source).pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, provider)
      )
      const baseUrl = given.baseUrl ?? builtIn.get(name)
      const pool = yield* Pool.make({ ...Proxy.poolOptions, proxy: false, ...given, name, baseUrl })
      const proxy = yield* Proxy.make(pool, { stripPrefix: path })
      return { name, host, path, pool, proxy } satisfies Route
    })
  )
})

const hostOf = (request: HttpServerRequest.HttpServerRequest): string =>
  (request.headers["host"] ?? "").replace(/:\d+$/, "").toLowerCase()

/** A service with a host gets all that is asked of it; the others are found by their path. */
export const handler = (routes: ReadonlyArray<Route>) =>
  Effect.gen(function* () {
    const byPath = routes.flatMap(({ host, path, proxy }) =>
      host === undefined && path !== undefined ? [HttpRouter.add("*", `/${path.slice(1)}/*`, proxy)] : []
    )
    const health = HttpRouter.add("GET", "/health", HttpServerResponse.text("fine\n"))
    const router = yield* Handler.fromRouter(Layer.mergeAll(health, ...byPath))
    const byHost = new Map(routes.flatMap(({ host, proxy }) => (host === undefined ? [] : [[host, proxy] as const])))
    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => byHost.get(hostOf(request)) ?? router)
  })
