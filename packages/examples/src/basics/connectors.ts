/** The same pool on three HTTP libraries. */
import { Pool } from "@millrace/core"
import { FetchConnector, NodeHttpConnector, UndiciConnector } from "@millrace/node"
import { Console, Effect } from "effect"
import { server } from "./server.ts"

const connectors = {
  undici: UndiciConnector.layer,
  "node:http": NodeHttpConnector.layer,
  fetch: FetchConnector.layer
}

const ask = (origin: string) =>
  Effect.gen(function* () {
    const pool = yield* Pool.make({ baseUrl: origin, size: 2 })
    return yield* (yield* pool.client.get("/who")).json
  })

const program = Effect.gen(function* () {
  const origin = yield* server
  for (const [name, layer] of Object.entries(connectors)) {
    yield* Console.log(name, yield* ask(origin).pipe(Effect.scoped, Effect.provide(layer)))
  }
})

await Effect.runPromise(Effect.scoped(program))
