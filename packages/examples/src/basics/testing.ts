/** A pool on a plain function: no socket, no port, and time stands still until the test moves it. */
import { Connector, Pool } from "@millrace/core"
import { Console, Effect, Fiber, Layer } from "effect"
import { HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"

const connector = Connector.layerFunction((request, { slot }) =>
  request.url.endsWith("/slow")
    ? Effect.never
    : Effect.succeed(HttpClientResponse.fromWeb(request, new Response(`slot ${slot}`)))
)

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: "http://billing.test", size: 2, requestTimeout: "10 seconds" })
  for (let i = 0; i < 4; i++) yield* Console.log(yield* (yield* pool.client.get("/")).text)

  const slow = yield* Effect.forkChild(Effect.flip(pool.client.get("/slow")), { startImmediately: true })
  yield* TestClock.adjust("10 seconds")
  yield* Console.log((yield* Fiber.join(slow)).message)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Layer.mergeAll(connector, TestClock.layer()))))
