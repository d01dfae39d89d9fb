/** N sequential requests use N connections, exactly once each; then the first again. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server, size: 4 })
  for (let i = 0; i < 8; i++) {
    const response = yield* pool.client.get("/who")
    yield* Console.log(`request ${i}`, yield* response.json)
  }
  const { connectionsOpened, requests } = yield* pool.stats
  yield* Console.log(`${requests} requests, ${connectionsOpened} connections`)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
