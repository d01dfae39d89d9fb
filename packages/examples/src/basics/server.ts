/** A small server for the examples: says who asked, can be slow, can stream. Lives as long as the scope. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"

const answer: Http.RequestListener = (request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost")
  if (url.pathname === "/slow") {
    // never answers
    return
  }
  if (url.pathname === "/ticks") {
    response.writeHead(200, { "content-type": "text/event-stream" })
    let n = 0
    const timer = setInterval(() => response.write(`data: tick ${++n}\n\n`), 20)
    response.on("close", () => clearInterval(timer))
    return
  }
  if (url.pathname === "/old") {
    response.writeHead(302, { location: "/new" }).end()
    return
  }
  response.writeHead(200, { "content-type": "application/json" })
  response.end(
    JSON.stringify({ path: url.pathname, port: request.socket.remotePort, tenant: request.headers["x-tenant"] })
  )
}

/** Starts it on a port that the system chooses and gives its origin. */
export const server: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    const server = Http.createServer(answer)
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
).pipe(
  Effect.map((server) => {
    const address = server.address()
    return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
  })
)
