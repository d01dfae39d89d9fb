/** Counters, the state of each slot, and what happens in the pool as a stream. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Stream } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server, size: 2 })
  yield* pool.events.pipe(
    Stream.runForEach((event) => Console.log("event:", event._tag)),
    Effect.forkScoped({ startImmediately: true })
  )
  yield* Effect.forEach([1, 2, 3], () => Effect.flatMap(pool.client.get("/who"), (response) => response.text))
  for (const slot of pool.slots) yield* Console.log(`slot ${slot.index}`, yield* slot.stats)
  yield* Console.log(yield* pool.stats)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
