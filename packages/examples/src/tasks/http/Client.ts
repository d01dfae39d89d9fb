/**
 * The client that follows from the API: over any `HttpClient`, for instance that of a pool.
 *
 * ```
 * const pool = Pool.layerHttpClient({ baseUrl: "http://localhost:8080", retry: true })
 * const { tasks } = yield* Client.Client                          // with Client.layer, provided with the pool
 * const { body } = yield* tasks.create({ headers: { "idempotency-key": "order-1017" } })
 * const { duration, status } = yield* tasks.status({ params: { id: body.id } })
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Api, Cursor } from "./Api.ts"

export class Client extends Context.Service<Client, HttpApiClient.ForApi<typeof Api>>()("tasks/Client") {}

export const layer: Layer.Layer<Client, never, HttpClient.HttpClient> = Layer.effect(Client, HttpApiClient.make(Api))

const decodeCursor = Schema.decodeEffect(Cursor)

/** Where a `Link` header leads to. */
const nextOf = (link: string | undefined) => {
  const target = /<([^>]*)>; rel="next"/.exec(link ?? "")?.[1]
  const cursor = target === undefined ? null : (URL.parse(target, "http://tasks")?.searchParams.get("cursor") ?? null)
  return cursor === null ? Effect.succeedNone : Effect.asSome(decodeCursor(cursor))
}

/** All tasks, the newest first, a page (default 100) at a time and when asked for. */
export const all = (limit = 100) =>
  Stream.unwrap(
    Effect.map(Client, ({ tasks }) =>
      Stream.paginate(Option.none<number>(), (cursor) =>
        Effect.gen(function* () {
          const query = Option.isSome(cursor) ? { limit, cursor: cursor.value } : { limit }
          const { body, headers } = yield* tasks.list({ query })
          return [body, Option.map(yield* nextOf(headers.link), Option.some)] as const
        })
      )
    )
  )
