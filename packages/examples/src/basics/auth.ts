/** OAuth2 client credentials: one token request for a hundred callers, and one more when the token is revoked. */
import { Auth, Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Effect, Redacted, type Scope } from "effect"
import * as Http from "node:http"

/** A token endpoint and an API in one: only the newest token is good, and `/revoke` makes it a bad one. */
const service: Effect.Effect<{ readonly origin: string; readonly issued: () => number }, never, Scope.Scope> =
  Effect.suspend(() => {
    let issued = 0
    let good = ""
    const server = Http.createServer((request, response) => {
      if (request.url === "/token") {
        good = `token-${++issued}`
        response.setHeader("content-type", "application/json")
        response.end(JSON.stringify({ access_token: good, token_type: "Bearer", expires_in: 3600 }))
        return
      }
      if (request.url === "/revoke") good = ""
      response.statusCode = request.headers.authorization === `Bearer ${good}` || request.url === "/revoke" ? 200 : 401
      response.end()
    })
    return Effect.acquireRelease(
      Effect.callback<{ readonly origin: string; readonly issued: () => number }>((resume) => {
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          const port = typeof address === "object" ? address?.port : undefined
          resume(Effect.succeed({ origin: `http://127.0.0.1:${port}`, issued: () => issued }))
        })
      }),
      () => Effect.sync(() => server.close().closeAllConnections())
    )
  })

const program = Effect.gen(function* () {
  const { issued, origin } = yield* service
  const login = yield* Pool.make({ size: 1 })
  const auth = yield* Auth.oauth2With(login.client, {
    tokenUrl: `${origin}/token`,
    clientId: "example",
    clientSecret: Redacted.make("s3cret")
  })
  const pool = yield* Pool.make({ baseUrl: origin, auth })

  const hundred = Effect.all(
    Array.from({ length: 100 }, () => Effect.map(pool.client.get("/"), (response) => response.status)),
    { concurrency: "unbounded" }
  )
  yield* Console.log("statuses:", new Set(yield* hundred), "token requests:", issued())
  yield* pool.client.get("/revoke")
  yield* Console.log("after a revocation:", new Set(yield* hundred), "token requests:", issued())

  const failure = yield* Effect.flip(Auth.basic({ username: "ada", password: Redacted.make("") }))
  yield* Console.log(failure.message)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
