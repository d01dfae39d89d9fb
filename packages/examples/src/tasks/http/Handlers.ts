/** Answers the routes of the API from the task store. */
import * as ByteSize from "effect/ByteSize"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { duration, status, type Task, type TaskId } from "../domain/Task.ts"
import type { StorageError } from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import { Api, Cursor, defaultLimit, type ListedTask } from "./Api.ts"
import * as Problem from "./Problem.ts"

/** Bodies are not looked at; larger ones are refused rather than read to their end. */
const maxBody = ByteSize.fromInputUnsafe("64 KiB")

const createdAt = (task: Task) => DateTime.makeUnsafe(task.createdAt)

const listed = (task: Task): ListedTask => ({
  id: task.id,
  result: task.state._tag === "Completed" ? task.state.result : null,
  status: status(task),
  created_at: createdAt(task),
  duration: duration(task)
})

const encodeCursor = Schema.encodeSync(Cursor)

const nextPage = (last: Task, limit: number) => `</task?limit=${limit}&cursor=${encodeCursor(last.place)}>; rel="next"`

/** What the storage cannot do now it may do later; what it refuses is a fault. */
const reached =
  (request: HttpServerRequest.HttpServerRequest) =>
  <A>(self: Effect.Effect<A, StorageError>) =>
    Effect.catch(self, (error) =>
      error.reason === "refused"
        ? Effect.die(error)
        : // The worker of this process tells once that the storage is away; this would tell it for each request.
          Effect.logDebug(error.message).pipe(
            Effect.andThen(Effect.fail(new Problem.StorageUnavailable({ instance: Problem.instanceOf(request) })))
          )
    )

/** To its end, so that a large one is noticed before anything is done. */
const discardBody = (request: HttpServerRequest.HttpServerRequest) =>
  request.arrayBuffer.pipe(
    Effect.provideService(HttpServerRequest.MaxBodySize, maxBody),
    Effect.catch(({ reason }) => {
      const instance = Problem.instanceOf(request)
      const tooLarge = reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"
      return Effect.fail(
        tooLarge
          ? new Problem.ContentTooLarge({ instance })
          : new Problem.InvalidRequest({ instance, errors: [unreadable] })
      )
    })
  )

const unreadable = { in: "body", name: "", message: "It cannot be read to its end" } as const

export const layer = HttpApiBuilder.group(
  Api,
  "tasks",
  Effect.fnUntraced(function* (handlers) {
    const store = yield* TaskStore

    const find = (id: TaskId, request: HttpServerRequest.HttpServerRequest) =>
      store.get(id).pipe(
        reached(request),
        Effect.flatMap(
          Option.match({
            onNone: () => Effect.fail(new Problem.UnknownTask({ instance: Problem.instanceOf(request) })),
            onSome: Effect.succeed
          })
        )
      )

    return handlers.handleAll({
      create: ({ headers, request }) =>
        discardBody(request).pipe(
          Effect.andThen(reached(request)(store.create(headers["idempotency-key"]))),
          Effect.map(({ task }) =>
            HttpApiSchema.withHeaders({
              body: { id: task.id, created_at: createdAt(task), duration: 0 },
              headers: { location: `/task/${task.id}/status` }
            })
          )
        ),
      list: ({ query: { cursor, limit = defaultLimit }, request }) =>
        Effect.gen(function* () {
          // One more tells whether there is a next page.
          const found = yield* reached(request)(store.list({ before: cursor, limit: limit + 1 }))
          const page = found.slice(0, limit)
          const last = found.length > limit ? page.at(-1) : undefined
          return HttpApiSchema.withHeaders({
            body: page.map(listed),
            headers: last === undefined ? {} : { link: nextPage(last, limit) }
          })
        }),
      status: ({ params: { id }, request }) =>
        Effect.gen(function* () {
          const task = yield* find(id, request)
          return { status: status(task), created_at: createdAt(task), duration: duration(task) }
        }),
      result: ({ params: { id }, request }) =>
        Effect.gen(function* () {
          const { state } = yield* find(id, request)
          if (state._tag === "Completed") return { result: state.result }
          const instance = Problem.instanceOf(request)
          return yield* state._tag === "Failed"
            ? new Problem.TaskFailed({ instance })
            : new Problem.NotCompleted({ instance })
        }),
      cancel: ({ params: { id }, request }) =>
        store.remove(id).pipe(
          reached(request),
          Effect.flatMap((removed) =>
            removed ? Effect.void : Effect.fail(new Problem.UnknownTask({ instance: Problem.instanceOf(request) }))
          )
        )
    })
  })
)
