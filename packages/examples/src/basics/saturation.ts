/** A pool that is full says so at once, by name; an interrupted caller leaves no hole. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Fiber } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server, size: 1, maxWaiting: 1, acquireTimeout: "200 millis" })
  const running = yield* Effect.forkChild(pool.client.get("/slow"), { startImmediately: true })
  const waiting = yield* Effect.forkChild(pool.client.get("/who"), { startImmediately: true })

  const refused = yield* Effect.flip(pool.client.get("/who"))
  yield* Console.log(refused._tag, "reason" in refused ? refused.reason : "", "-", refused.message)
  const impatient = yield* Effect.flip(Fiber.join(waiting))
  yield* Console.log(impatient._tag, "reason" in impatient ? impatient.reason : "", "-", impatient.message)

  yield* Fiber.interrupt(running)
  const response = yield* pool.client.get("/who")
  yield* Console.log("free again:", response.status, yield* pool.stats)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
