/** One pool for many hosts: each has its own slots, counters and settings, and cannot starve another. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Option } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const [a, b] = [yield* server, yield* server]
  const pool = yield* Pool.make({
    size: 2,
    hosts: { [a]: { headers: { "x-tenant": "acme" }, requestTimeout: "2 seconds" } }
  })
  yield* Console.log(yield* (yield* pool.client.get(`${a}/who`)).json)
  yield* Console.log(yield* (yield* pool.client.get(`${b}/who`)).json)
  yield* pool.configureHost(b, { headers: { "x-tenant": "other" } })
  yield* Console.log(yield* (yield* pool.client.get(`${b}/who`)).json)
  yield* Console.log(Option.map(yield* pool.hostStats(b), (stats) => `${stats.requests} requests to b`))
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
