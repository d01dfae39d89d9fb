/** Handlers of routers behind a real listener; what can be told without sockets is in core's tests of the same name. */
import { assert, describe, it } from "@effect/vitest"
import { Handler } from "@millrace/core"
import { Deferred, Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { replace, serving, text } from "./fixtures/listener.ts"
import { connect, get } from "./fixtures/rawClient.ts"

describe("Handler", () => {
  it.live("a router answers on a connection, and a failure leaves it usable", () =>
    Effect.gen(function* () {
      const routes = Layer.mergeAll(
        HttpRouter.add("GET", "/hello", HttpServerResponse.text("hello.")),
        HttpRouter.add("GET", "/dies", Effect.die(new Error("secret")))
      )
      const { port } = yield* serving(yield* Handler.fromRouter(routes))
      const client = yield* connect(port)
      client.send(get("/nothing"))
      assert.match(yield* client.take("0\r\n\r\n"), /^HTTP\/1.1 404 /)
      client.send(get("/dies"))
      const died = yield* client.take("0\r\n\r\n")
      assert.match(died, /^HTTP\/1.1 500 /)
      assert.notInclude(died, "secret")
      client.send(get("/hello"))
      assert.match(yield* client.take("hello."), /^HTTP\/1.1 200 /)
    })
  )

  it.live("a route is interrupted when its client leaves", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const waits = Deferred.succeed(begun, undefined).pipe(
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
      )
      const { port } = yield* serving(yield* Handler.fromRouter(HttpRouter.add("GET", "/waits", waits)))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* connect(port)
          client.send(get("/waits"))
          yield* Deferred.await(begun)
        })
      )
      yield* Deferred.await(interrupted)
    })
  )

  it.live("two listeners share one, and replacing it on one leaves the other", () =>
    Effect.gen(function* () {
      let made = 0
      const counted = Layer.effectDiscard(Effect.sync(() => ++made))
      const routes = Layer.merge(counted, HttpRouter.add("GET", "/", HttpServerResponse.text("shared.")))
      const handler = yield* Handler.fromRouter(routes)
      const [one, other] = [yield* serving(handler), yield* serving(handler)]
      yield* replace(one.acceptor, text("new."))
      const [first, second] = [yield* connect(one.port), yield* connect(other.port)]
      first.send(get("/"))
      second.send(get("/"))
      yield* first.take("new.")
      yield* second.take("shared.")
      assert.strictEqual(made, 1)
    })
  )
})
