/** A server that is sometimes slow: after a while the same request is sent once more, and the first response wins. */
import { Hedge, Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect } from "effect"
import * as Http from "node:http"

/** Every tenth request meets a pause of half a second. */
const uneven = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    let requests = 0
    const server = Http.createServer((_, response) => {
      setTimeout(() => response.end("ok"), ++requests % 10 === 0 ? 500 : 5)
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close().closeAllConnections())
)

const program = Effect.gen(function* () {
  const address = (yield* uneven).address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const pool = yield* Pool.make({ baseUrl: `http://127.0.0.1:${port}` })
  const hedge = yield* Hedge.make({ delay: "50 millis", maxRatio: 0.2 })

  const slowestOf20 = (client: typeof pool.client) =>
    Effect.map(
      Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.timed(Effect.flatMap(client.get("/"), (response) => response.text))
      ),
      (all) => `${Math.round(Math.max(...all.map(([time]) => Duration.toMillis(time))))} ms`
    )

  yield* Console.log("the slowest of 20, as they come:", yield* slowestOf20(pool.client))
  yield* Console.log("the slowest of 20, hedged:      ", yield* slowestOf20(hedge.wrap(pool.client)))
  const { hedges, requests, wins } = hedge.snapshot()
  yield* Console.log(`${hedges} of ${requests} requests were sent twice, ${wins} of these were answered sooner for it`)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
