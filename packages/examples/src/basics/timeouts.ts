/** Each limit fails with a `TimeoutError` whose `phase` names it, and frees the slot. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({
    baseUrl: yield* server,
    dialTimeout: "1 second",
    responseHeaderTimeout: "100 millis",
    requestTimeout: "5 seconds"
  })
  const message = yield* pool.client.get("/slow").pipe(
    Effect.map((response) => `status ${response.status}`),
    Effect.catchTag("TimeoutError", (error) => Effect.succeed(`${error.phase}: ${error.message}`))
  )
  yield* Console.log(message)
  // A caller's own timeout interrupts the request, which frees the slot at once as well.
  yield* Console.log(yield* Effect.timeoutOption(pool.client.get("/slow"), "50 millis"))
  yield* Console.log((yield* pool.stats).active, "requests under way")
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
