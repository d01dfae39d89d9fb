/** The contract of the service: its routes, what they take, and all that they answer. */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { Status, TaskId } from "../domain/Task.ts"
import * as Document from "./Document.ts"
import * as Problem from "./Problem.ts"

/** Of a page, when nobody says how large. */
export const defaultLimit = 100

// What requests take.

const exampleId = "607b6a8c-ca0e-4d2a-b48b-1f7dd8926e00"

/** Clients may write a UUID in capitals (RFC 9562). */
const Id = Schema.String.check(Schema.isUUID())
  .annotate({ description: "As `POST /task` gave it", examples: [exampleId] })
  .pipe(Schema.decodeTo(TaskId, SchemaTransformation.toLowerCase()))

const Limit = Schema.String.check(
  Schema.isPattern(/^(?:[1-9][0-9]{0,2}|1000)$/u, { expected: "an integer from 1 to 1000" })
)
  .annotate({ description: `The size of a page, 1 to 1000; ${defaultLimit} if not given`, examples: ["20"] })
  .pipe(Schema.decodeTo(Schema.Int, SchemaTransformation.numberFromString))

/** The place of the last task of a page. Ten digits of base 36 stay below 2^53. */
export const Cursor = Schema.String.check(
  Schema.isPattern(/^[0-9a-z]{1,10}$/u, { expected: "a cursor of a Link header" })
)
  .annotate({
    description: "Where the page begins, as the `Link` header of the page before says it",
    examples: ["2n9c"]
  })
  .pipe(
    Schema.decodeTo(
      Schema.Int,
      SchemaTransformation.transform({
        decode: (text: string) => Number.parseInt(text, 36),
        encode: (place: number) => place.toString(36)
      })
    )
  )

const IdempotencyKey = Schema.String.check(
  Schema.isPattern(/^[!-~]{1,255}$/u, { expected: "1 to 255 visible ASCII characters" })
).annotate({
  description: "Chosen by the client: as long as there is a task of this key, no other one is created with it",
  examples: ["4f3b1e0a-order-1017"]
})

// What responses say.

const CreatedAt = Schema.String.annotate({
  format: "date-time",
  description: "RFC 3339, UTC",
  examples: ["2026-06-23T09:21:18.261Z"]
}).pipe(Schema.decodeTo(Schema.DateTimeUtcFromString))

const Duration = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).annotate({
  description: "Whole seconds of work: 0 while the task waits, growing while it runs, what it took after that",
  examples: [6]
})

const TaskStatus = Status.annotate({ description: "How far the task is", examples: ["in process"] })

const Result = Schema.String.annotate({ description: "What the work gave", examples: ["io work result = 7"] })

const Created = Schema.Struct({
  id: TaskId.annotate({ examples: [TaskId.make(exampleId)] }),
  created_at: CreatedAt,
  duration: Duration.annotate({ examples: [0] })
}).annotate({ identifier: "Created", description: "The task, which waits to start" })

const TaskResult = Schema.Struct({ result: Result }).annotate({
  identifier: "TaskResult",
  description: "The result of a completed task"
})

const TaskState = Schema.Struct({ status: TaskStatus, created_at: CreatedAt, duration: Duration }).annotate({
  identifier: "TaskState",
  description: "How far the task is"
})

export const ListedTask = Schema.Struct({
  id: TaskId.annotate({ examples: [TaskId.make(exampleId)] }),
  result: Schema.NullOr(Result).annotate({ description: "`null` unless the task is completed" }),
  status: TaskStatus,
  created_at: CreatedAt,
  duration: Duration
}).annotate({ identifier: "ListedTask", description: "A task in a list" })
export type ListedTask = typeof ListedTask.Type

// What can go wrong.

const Seconds = Schema.String.check(Schema.isPattern(/^[1-9][0-9]*$/u))
  .annotate({ description: "Seconds to wait before asking again" })
  .pipe(Schema.decodeTo(Schema.Int, SchemaTransformation.numberFromString))

/** Both say that there is no result; only one of them may have one later. */
const NoResult = Schema.Union([Problem.NotCompleted, Problem.TaskFailed])
const NoResultWithTime = NoResult.pipe(
  HttpApiSchema.encodeToWithHeaders(
    {
      body: NoResult.annotate({ description: "There is no result yet, or never" }).pipe(
        HttpApiSchema.status(409),
        Problem.asBody
      ),
      headers: { "retry-after": Schema.optionalKey(Seconds) }
    },
    {
      decode: ({ body }) => body,
      // Tasks take minutes; a client that asks every few seconds learns of the end soon enough.
      encode: (body) => ({ body, headers: body._tag === "NotCompleted" ? { "retry-after": 5 } : {} })
    }
  )
)

const Unavailable = Problem.StorageUnavailable.pipe(
  HttpApiSchema.encodeToWithHeaders(
    { body: Problem.StorageUnavailable.pipe(Problem.asBody), headers: { "retry-after": Seconds } },
    // A database is back within seconds, or it takes much longer.
    { decode: ({ body }) => body, encode: (body) => ({ body, headers: { "retry-after": 2 } }) }
  )
)

const faults = [Unavailable, Problem.Internal.pipe(Problem.asBody)] as const
const ofOneTask = [Problem.InvalidId.pipe(Problem.asBody), Problem.UnknownTask.pipe(Problem.asBody), ...faults] as const
const ofParameters = [Problem.InvalidRequest.pipe(Problem.asBody), ...faults] as const

// The routes.

const create = HttpApiEndpoint.post("create", "/task", {
  headers: { "idempotency-key": Schema.optionalKey(IdempotencyKey) },
  success: HttpApiSchema.WithHeaders(Created.pipe(HttpApiSchema.status(202)), {
    location: Schema.String.annotate({
      description: "Where the status of the task is",
      examples: [`/task/${exampleId}/status`]
    })
  }),
  error: [...ofParameters, Problem.ContentTooLarge.pipe(Problem.asBody)]
}).annotateMerge(
  OpenApi.annotations({
    summary: "Create a task",
    description:
      "The task waits until a worker is free. No body is needed. Sent again with the same `Idempotency-Key`, the request gives the task that it gave before."
  })
)

const cancel = HttpApiEndpoint.delete("cancel", "/task/:id", {
  params: { id: Id },
  success: HttpApiSchema.NoContent.annotate({ description: "There is no such task any more" }),
  error: ofOneTask
}).annotateMerge(
  OpenApi.annotations({
    summary: "Cancel a task",
    description: "In any state: one that waits will not start, one that runs is interrupted, one that ended is deleted."
  })
)

const result = HttpApiEndpoint.get("result", "/task/:id/result", {
  params: { id: Id },
  success: TaskResult,
  error: [...ofOneTask, NoResultWithTime]
}).annotateMerge(
  OpenApi.annotations({
    summary: "Read the result of a task",
    description:
      "409 tells that there is none: `urn:tasks:problem:not-completed` with `Retry-After`, or `urn:tasks:problem:failed` without it, as there will never be one."
  })
)

const status = HttpApiEndpoint.get("status", "/task/:id/status", {
  params: { id: Id },
  success: TaskState,
  error: ofOneTask
}).annotateMerge(OpenApi.annotations({ summary: "Read how far a task is" }))

const list = HttpApiEndpoint.get("list", "/task", {
  query: { limit: Schema.optionalKey(Limit), cursor: Schema.optionalKey(Cursor) },
  success: HttpApiSchema.WithHeaders(
    Schema.Array(ListedTask).annotate({ description: "A page of tasks, the newest first" }),
    {
      link: Schema.optionalKey(
        Schema.String.annotate({
          description: "Where the next page is (RFC 8288); missing on the last one",
          examples: ['</task?limit=20&cursor=2n9c>; rel="next"']
        })
      )
    }
  ),
  error: ofParameters
}).annotateMerge(
  OpenApi.annotations({
    summary: "List tasks",
    description: "Newest first. Who follows `Link` sees each task once, and none that is created meanwhile."
  })
)

export const Tasks = HttpApiGroup.make("tasks")
  .add(create, list, status, result, cancel)
  .annotateMerge(
    OpenApi.annotations({ description: "Work that takes minutes: create it, look how far it is, take its result" })
  )

export class Api extends HttpApi.make("tasks")
  .add(Tasks)
  // All that is wrong with a request is told at once.
  .annotate(HttpApi.ParseOptions, { errors: "all" })
  // Any path may answer these.
  .annotate(HttpApi.AdditionalSchemas, [
    Schema.toEncoded(Problem.UnknownRoute),
    Schema.toEncoded(Problem.MethodNotAllowed)
  ])
  .annotateMerge(
    OpenApi.annotations({
      title: "Tasks",
      transform: Document.improved,
      version: "1.0.0",
      description:
        "Runs I/O-bound tasks. Every error is a problem document (RFC 9457), told apart by its `type`: also an unknown path (404 `urn:tasks:problem:unknown-route`) and a method that a path has not (405 `urn:tasks:problem:method-not-allowed`)."
    })
  ) {}
