/** A typed client, made of an `HttpApi`, over a pool: what it decodes is typed, and the pool's policies rule below it. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Console, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiClient, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import * as Http from "node:http"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }, { httpApiStatus: 404 }) {}

const Invoice = Schema.Struct({ id: Schema.Int, total: Schema.Finite })

class Api extends HttpApi.make("billing").add(
  HttpApiGroup.make("invoices").add(
    HttpApiEndpoint.get("byId", "/invoices/:id", {
      params: { id: Schema.FiniteFromString.check(Schema.isInt()) },
      success: Invoice,
      error: NotFound
    })
  )
) {}

const handlers = HttpApiBuilder.group(Api, "invoices", (group) =>
  group.handle("byId", ({ params: { id } }) =>
    id === 42 ? Effect.succeed({ id, total: 9.5 }) : Effect.fail(new NotFound({ id }))
  )
)

const server = HttpRouter.serve(HttpApiBuilder.layer(Api).pipe(Layer.provide(handlers)), {
  disableLogger: true,
  disableListenLog: true
}).pipe(Layer.provideMerge(NodeHttpServer.layer(Http.createServer, { port: 0, host: "127.0.0.1" })))

// Knows Effect's `HttpClient`, and nothing of pools.
const program = Effect.gen(function* () {
  const billing = yield* HttpApiClient.make(Api)
  const invoice = yield* billing.invoices.byId({ params: { id: 42 } })
  yield* Console.log("invoice", invoice.id, "is", invoice.total)
  const missing = yield* billing.invoices
    .byId({ params: { id: 7 } })
    .pipe(Effect.catchTag("NotFound", ({ id }) => Effect.succeed(`there is no invoice ${id}`)))
  yield* Console.log(missing)

  const { connectionsOpened, requests } = yield* (yield* Pool.Pool).stats
  yield* Console.log(`${requests} requests on ${connectionsOpened} connections`)
})

const pool = Layer.unwrap(
  HttpServer.addressFormattedWith((baseUrl) =>
    Effect.succeed(Pool.layerHttpClient({ baseUrl, size: 2, retry: true, circuitBreaker: true }))
  )
).pipe(Layer.provide(UndiciConnector.layer))

await Effect.runPromise(Effect.provide(program, pool.pipe(Layer.provide(server))))
