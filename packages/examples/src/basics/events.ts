/** Typed Server-Sent Events from a server that hangs up after three: the stream goes on where it was. */
import { EventStream, Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Schema, Stream } from "effect"
import { HttpClientRequest } from "effect/http"
import * as Http from "node:http"

const Tick = Schema.Struct({ n: Schema.Int })

const server = Http.createServer((request, response) => {
  const last = Number(request.headers["last-event-id"] ?? 0)
  console.log(last === 0 ? "server: from the beginning" : `server: after ${last}`)
  response.writeHead(200, { "content-type": "text/event-stream" })
  response.write("retry: 100\n\n")
  for (let n = last + 1; n <= last + 3; n++) response.write(`id: ${n}\ndata: ${JSON.stringify({ n })}\n\n`)
  response.end()
})

const program = Effect.gen(function* () {
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () => Effect.sync(() => server.close())
  )
  const pool = yield* Pool.make({ baseUrl: `http://127.0.0.1:${port}` })
  yield* EventStream.schema(pool, HttpClientRequest.get("/ticks"), Tick).pipe(
    Stream.take(7),
    Stream.runForEach(({ data, id }) => Console.log(`tick ${data.n}, id ${id}`))
  )
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
