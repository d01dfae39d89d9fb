/**
 * All that the public listener answers: the API, its OpenAPI document and a page to browse it.
 *
 * The page loads nothing from elsewhere.
 */
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSwagger from "effect/http-api/HttpApiSwagger"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import type { TaskStore } from "../storage/TaskStore.ts"
import type { Route } from "./Allowed.ts"
import { Api, Tasks } from "./Api.ts"
import * as Handlers from "./Handlers.ts"
import * as Unanswered from "./Unanswered.ts"

const openApi = "/openapi.json"
const docs = "/docs"

const all: ReadonlyArray<Route> = [
  ...Object.values(Tasks.endpoints),
  { method: "GET", path: openApi },
  { method: "GET", path: docs }
]

/** For `Handler.fromRouter`. */
export const routes: Layer.Layer<never, never, HttpRouter.HttpRouter | TaskStore> = Layer.mergeAll(
  HttpApiBuilder.layer(Api, { openapiPath: openApi }).pipe(
    Layer.provide(Handlers.layer),
    Layer.provide(HttpServer.layerServices)
  ),
  HttpApiSwagger.layer(Api, { path: docs }),
  Unanswered.layer(all)
)
