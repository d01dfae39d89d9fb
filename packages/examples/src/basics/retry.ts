/** A server that fails at first: what is sent again, after how long, and what must not be sent twice. */
import { Pool, Retry } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect } from "effect"
import * as Http from "node:http"

/** Every third request is answered; the others meet a server that is overloaded. */
const flaky = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    let requests = 0
    const server = Http.createServer((_, response) => {
      const ok = ++requests % 3 === 0
      response.writeHead(ok ? 200 : 503).end(`request ${requests}`)
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close().closeAllConnections())
)

const program = Effect.gen(function* () {
  const address = (yield* flaky).address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const pool = yield* Pool.make({ baseUrl: `http://127.0.0.1:${port}` })
  const retry = yield* Retry.make({
    initialDelay: "50 millis",
    onRetry: ({ attempt, cause, delay }) =>
      Console.log(
        `  attempt ${attempt}: ${cause._tag === "Response" ? cause.response.status : String(cause.error)},`,
        `again in ${Math.round(Duration.toMillis(delay))} ms`
      )
  })
  const client = retry.wrap(pool.client)

  yield* Console.log("GET:", yield* Effect.flatMap(client.get("/"), (response) => response.text))
  yield* Console.log("POST is not sent twice:", (yield* client.post("/order")).status)
  const once = { headers: { "idempotency-key": "order-1" } }
  yield* Console.log("POST with a key:", (yield* client.post("/order", once)).status)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
