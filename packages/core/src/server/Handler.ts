/**
 * Makes the handlers of a server pool of what Effect applications have.
 *
 * What it promises:
 *
 * - A layer is built once, when the handler is made, and lives as long as that scope: servers that share the handler share
 *   what it is made of, and replacing it on a server closes nothing.
 * - Routes see the services of where the handler was made; only the request, its scope and its span are the server's.
 * - Failures are answered as by Effect's own servers: an unknown route is a 404, what is `Respondable` says it itself, all
 *   else is an empty 500.
 *
 * It never logs requests: `HttpRouter.middleware(HttpMiddleware.logger, { global: true })` does.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Handler } from "./Listener.ts"

/**
 * What a router needs to be a handler: what its layer needs, and what its routes need that no server gives.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements<R> =
  | Exclude<HttpRouter.Request.Without<R>, HttpRouter.HttpRouter>
  | HttpRouter.Request.Only<"Requires", R>
  | HttpRouter.Request.Only<"GlobalRequires", R>

/**
 * Makes a handler of a layer that adds routes to an `HttpRouter`; with it, of an `HttpApi` by `HttpApiBuilder.layer`. To
 * answer requests under a prefix only, use `HttpRouter.prefixPath` and its like in the layer.
 *
 * **Details**
 *
 * A handler that answers to one route only needs no router: any effect of a response is a `Handler`. An `HttpApi` wants the
 * platform's services, `NodeHttpServer.layerHttpServices` on Node; `HttpServer.layerServices` where no file is served.
 *
 * ```ts
 * import { Handler, ServerPool } from "@millrace/core"
 * import { Effect, Layer } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 *
 * const routes = Layer.mergeAll(
 *   HttpRouter.add("GET", "/hello", HttpServerResponse.text("hello")),
 *   HttpRouter.add("GET", "/health", HttpServerResponse.empty())
 * )
 *
 * export const pool = Effect.gen(function* () {
 *   const handlers = yield* Handler.fromRouter(routes)
 *   return yield* ServerPool.make({ servers: [{ bind: ":8080" }], handlers })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromRouter = <A, E, R>(
  layer: Layer.Layer<A, E, R>
): Effect.Effect<Handler, HttpRouter.Request.Without<E>, Requirements<R> | Scope.Scope> =>
  Effect.gen(function* () {
    const handler = yield* HttpRouter.toHttpEffect(layer)
    const own = surroundings(yield* Effect.context<Requirements<R>>())
    return Effect.updateContext(handler, (request: Context.Context<HttpServerRequest | Scope.Scope>) =>
      Context.merge(request, own)
    )
  })

/** What is the server's to give, request by request. */
const given: ReadonlySet<string> = new Set([HttpServerRequest.key, Scope.Scope.key, Tracer.ParentSpan.key])

const surroundings = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.makeUnsafe<R>(new Map([...context.mapUnsafe].filter(([key]) => !given.has(key))))
