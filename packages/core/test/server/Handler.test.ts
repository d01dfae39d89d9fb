/** Handlers of routers, asked as a server asks them; between sockets they are in node's tests of the same name. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Schema, Scope, Tracer } from "effect"
import {
  HttpEffect,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerRespondable,
  HttpServerResponse
} from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import * as Handler from "../../src/server/Handler.ts"
import type { Handler as Answer } from "../../src/server/Listener.ts"

class Name extends Context.Service<Name, string>()("test/Name") {}

class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) implements HttpServerRespondable.Respondable {
  [HttpServerRespondable.symbol]() {
    return Effect.succeed(HttpServerResponse.empty({ status: 503 }))
  }
}

/** What Effect's servers answer. */
const ask = (handler: Answer, path: string) =>
  Effect.promise(async () => {
    const answer = await HttpEffect.toWebHandler(handler)(new Request(`http://test${path}`))
    return `${answer.status} ${await answer.text()}`
  })

const text = HttpServerResponse.text

describe("Handler", () => {
  it.effect("a router answers by its routes, with parameters", () =>
    Effect.gen(function* () {
      const routes = Layer.mergeAll(
        HttpRouter.add("GET", "/hello", text("hello")),
        HttpRouter.add(
          "GET",
          "/id/:id",
          Effect.map(HttpRouter.params, (params) => text(String(params["id"])))
        )
      )
      const handler = yield* Handler.fromRouter(routes)
      assert.strictEqual(yield* ask(handler, "/hello"), "200 hello")
      assert.strictEqual(yield* ask(handler, "/id/7"), "200 7")
    })
  )

  it.effect("failures are answered as Effect's servers do", () =>
    Effect.gen(function* () {
      const routes = Layer.mergeAll(
        HttpRouter.add("GET", "/busy", Effect.fail(new Busy())),
        HttpRouter.add("GET", "/fails", Effect.fail("secret")),
        HttpRouter.add("GET", "/dies", Effect.die(new Error("secret")))
      )
      const handler = yield* Handler.fromRouter(routes)
      assert.strictEqual(yield* ask(handler, "/nothing"), "404 ")
      assert.strictEqual(yield* ask(handler, "/busy"), "503 ")
      assert.strictEqual(yield* ask(handler, "/fails"), "500 ")
      assert.strictEqual(yield* ask(handler, "/dies"), "500 ")
    })
  )

  it.effect("an HttpApi becomes one by its builder", () =>
    Effect.gen(function* () {
      const params = { id: Schema.FiniteFromString }
      const items = HttpApiGroup.make("items").add(
        HttpApiEndpoint.get("byId", "/items/:id", { params, success: Schema.Struct({ id: Schema.Finite }) })
      )
      const api = HttpApi.make("api").add(items)
      const group = HttpApiBuilder.group(api, "items", (handlers) =>
        handlers.handle("byId", ({ params }) => Effect.succeed({ id: params.id }))
      )
      const routes = HttpApiBuilder.layer(api).pipe(Layer.provide(group), Layer.provide(HttpServer.layerServices))
      const handler = yield* Handler.fromRouter(routes)
      assert.strictEqual(yield* ask(handler, "/items/7"), '200 {"id":7}')
      assert.match(yield* ask(handler, "/items/x"), /^400 /)
    })
  )

  it.effect("routes see the services of where the handler was made, not those of where it runs", () =>
    Effect.gen(function* () {
      const routes = HttpRouter.add(
        "GET",
        "/",
        Effect.map(Name, (name) => text(name))
      )
      const handler = yield* Handler.fromRouter(routes).pipe(Effect.provideService(Name, "made"))
      assert.strictEqual(yield* ask(handler, "/"), "200 made")
      assert.strictEqual(yield* ask(Effect.provideService(handler, Name, "runs"), "/"), "200 made")
    })
  )

  it.effect("a middleware gives routes what it makes of each request", () =>
    Effect.gen(function* () {
      const tenant = HttpRouter.middleware<{ provides: Tenant }>()(
        Effect.succeed((effect) =>
          Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
            Effect.provideService(effect, Tenant, `of ${url}`)
          )
        )
      )
      const routes = HttpRouter.add(
        "GET",
        "/*",
        Effect.map(Tenant, (tenant) => text(tenant))
      ).pipe(Layer.provide(tenant.layer))
      const handler = yield* Handler.fromRouter(routes)
      assert.strictEqual(yield* ask(handler, "/a"), "200 of /a")
      assert.strictEqual(yield* ask(handler, "/b"), "200 of /b")
    })
  )

  it.effect("a request has its own scope and span, not those in which the handler was made", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const routes = HttpRouter.add(
        "GET",
        "/",
        Effect.gen(function* () {
          const span = yield* Effect.serviceOption(Tracer.ParentSpan)
          yield* Effect.addFinalizer(() => Effect.sync(() => void seen.push("closed")))
          return text(span._tag)
        })
      )
      const scope = yield* Scope.make()
      const handler = yield* Handler.fromRouter(routes).pipe(Scope.provide(scope), Effect.withSpan("making"))
      const answer = yield* handler.pipe(
        Effect.scoped,
        Effect.provideService(
          HttpServerRequest.HttpServerRequest,
          HttpServerRequest.fromWeb(new Request("http://test/"))
        )
      )
      assert.deepStrictEqual(seen, ["closed"])
      assert.deepStrictEqual(answer.body.toJSON(), text("None").body.toJSON())
    })
  )

  it.effect("the layer is built once, and lives as long as the scope", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const resource = Effect.acquireRelease(
        Effect.sync(() => void seen.push("made")),
        () => Effect.sync(() => void seen.push("gone"))
      )
      const routes = Layer.merge(Layer.effectDiscard(resource), HttpRouter.add("GET", "/", text("hello")))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const handler = yield* Handler.fromRouter(routes)
          yield* ask(handler, "/")
          yield* ask(handler, "/")
          assert.deepStrictEqual(seen, ["made"])
        })
      )
      assert.deepStrictEqual(seen, ["made", "gone"])
    })
  )

  it.effect("a layer that fails fails its maker", () =>
    Effect.gen(function* () {
      const routes = Layer.merge(HttpRouter.add("GET", "/", text("hello")), Layer.effectDiscard(Effect.fail("no")))
      const exit = yield* Effect.exit(Handler.fromRouter(routes))
      assert.deepStrictEqual(exit, Exit.fail("no"))
    })
  )
})
