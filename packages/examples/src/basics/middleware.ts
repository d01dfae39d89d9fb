/** Functions around every request: ready ones, and one of our own that answers for an upstream that is down. */
import { Middleware, Pool, PoolError } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Logger, References } from "effect"
import { HttpClientRequest, HttpClientResponse } from "effect/http"
import { server } from "./server.ts"

const tenant: Middleware.Middleware = {
  name: "tenant",
  request: (request) => Effect.succeed(HttpClientRequest.setHeader(request, "x-tenant", "blue"))
}

const emptyWhenSlow: Middleware.Middleware = {
  name: "emptyWhenSlow",
  error: (error, request) =>
    PoolError.isPoolError(error) && error._tag === "TimeoutError"
      ? Effect.succeed(HttpClientResponse.fromWeb(request, new Response("[]")))
      : Effect.fail(error)
}

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server, responseHeaderTimeout: "50 millis" })
  // Outermost first: what is logged is what the caller gets, without the key that is set further inside.
  const client = Middleware.wrap([
    Middleware.logging(),
    emptyWhenSlow,
    Middleware.userAgent("basics/1.0"),
    Middleware.idempotencyKey(),
    tenant
  ])(pool.client)

  const text = (path: string) => Effect.flatMap(client.get(path), (response) => response.text)
  yield* Console.log(yield* text("/who?token=secret"))
  yield* Console.log(yield* text("/slow"))
  yield* Console.log((yield* client.post("/order")).status)
})

await Effect.runPromise(
  program.pipe(
    Effect.scoped,
    Effect.provide([UndiciConnector.layer, Logger.layer([Logger.consoleLogFmt])]),
    Effect.provideService(References.MinimumLogLevel, "Debug")
  )
)
