/** What is written for Effect's `HttpClient` runs on a pool; its combinators work over it. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Layer, Schema } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { server } from "./server.ts"

const Answer = Schema.Struct({ path: Schema.String })

// Knows nothing of pools.
const library = Effect.gen(function* () {
  const client = (yield* HttpClient.HttpClient).pipe(HttpClient.followRedirects(3), HttpClient.filterStatusOk)
  const response = yield* client.get("/old")
  return yield* HttpClientResponse.schemaBodyJson(Answer)(response)
})

const program = Effect.gen(function* () {
  const pool = Pool.layerHttpClient({ baseUrl: yield* server }).pipe(Layer.provide(UndiciConnector.layer))
  yield* Console.log(yield* Effect.provide(library, pool))
})

await Effect.runPromise(Effect.scoped(program))
