/** Server-Sent Events: the slot is busy while somebody reads, and free as soon as the reader leaves. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Stream } from "effect"
import { HttpClientRequest } from "effect/http"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server, bodyIdleTimeout: "5 seconds" })
  yield* pool.stream(HttpClientRequest.get("/ticks")).pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => line.startsWith("data:")),
    Stream.take(3),
    Stream.runForEach((line) => Console.log(line))
  )
  yield* Console.log((yield* pool.stats).active, "requests under way")
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
