/** The built-in upstreams: three small services on ports that the system chooses, a server pool of their own. */
import { Handler, ServerPool } from "@millrace/core"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"

let asked = 0

const users = HttpRouter.add(
  "GET",
  "/:id",
  Effect.gen(function* () {
    const { id } = yield* HttpRouter.params
    // Every other request fails once: the pool's retry makes it good.
    if (++asked % 2 === 1) return HttpServerResponse.empty({ status: 503 })
    return yield* HttpServerResponse.json({ id, name: `user ${id}` })
  })
)

const orders = Layer.mergeAll(
  HttpRouter.add("GET", "/", HttpServerResponse.json([{ id: 1, total: 9.5 }])),
  HttpRouter.add("GET", "/broken", HttpServerResponse.empty({ status: 500 }))
)

const assets = HttpRouter.add(
  "GET",
  "/*",
  HttpServerResponse.text("body { color: teal }\n", { contentType: "text/css" })
)

/** Where each of them is; they live as long as the scope. */
export const start = Effect.gen(function* () {
  const handlers = {
    users: yield* Handler.fromRouter(users),
    orders: yield* Handler.fromRouter(orders),
    assets: yield* Handler.fromRouter(assets)
  }
  const servers = Object.keys(handlers).map((name) => ({ name, bind: "127.0.0.1:0", handler: name }))
  const pool = yield* ServerPool.make({ name: "upstreams", servers, handlers })
  yield* pool.start
  return new Map((yield* pool.servers).map(({ expose, name }) => [name, expose]))
})
