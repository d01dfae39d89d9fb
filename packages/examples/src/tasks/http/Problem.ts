/**
 * What is said when a request cannot be granted: problem documents (RFC 9457), one class for each kind.
 *
 * - `type` is what programs look at; it never changes its meaning.
 * - `detail` is for people. It says what to do, and nothing of the inside: no stack, no SQL, no reason of a failed task.
 * - `instance` is the path that was asked for.
 */
import * as Effect from "effect/Effect"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Schema from "effect/Schema"

interface Kind<Type extends string, Status extends number> {
  readonly type: `urn:tasks:problem:${Type}`
  readonly status: Status
  readonly title: string
  /** What is said unless there is more to say. */
  readonly detail: string
  /** For example. */
  readonly instance: string
}

const Problem =
  <Self>() =>
  <
    const Tag extends string,
    const Type extends string,
    const Status extends number,
    const Fields extends Schema.Struct.Fields
  >(
    tag: Tag,
    fields: Fields,
    { detail, instance, status, title, type }: Kind<Type, Status>
  ) => {
    // Strings for those who read them: they may be worded better one day.
    const worded = (text: string) =>
      Schema.String.annotate({ examples: [text] }).pipe(Schema.withConstructorDefault(Effect.succeed(text)))
    const document = Schema.Struct({
      type: Schema.tag(type),
      title: worded(title),
      status: Schema.tag(status),
      detail: worded(detail),
      instance: Schema.String.annotate({ examples: [instance] }),
      ...fields
    }).annotate({ identifier: tag, description: title })
    const Base = Schema.Error<Self, { readonly _tag: Tag }>(`tasks/${tag}`)(document, {
      description: title,
      httpApiStatus: status
    })
    // Not of the document: for `catchTag` and for logs. (A string is how Effect's types complain when `Self` is missing.)
    if (typeof Base !== "string") {
      Object.defineProperties(Base.prototype, {
        _tag: { value: tag },
        message: {
          get: function (this: { readonly detail: string }) {
            return this.detail
          }
        }
      })
    }
    return Base
  }

const someTask = "/task/607b6a8c-ca0e-4d2a-b48b-1f7dd8926e00"

export class InvalidId extends Problem<InvalidId>()(
  "InvalidId",
  {},
  {
    type: "urn:tasks:problem:invalid-id",
    status: 400,
    title: "The id of the task is not valid",
    detail: "An id is a UUID, as it was given when the task was created",
    instance: "/task/7/status"
  }
) {}

/** One thing that is wrong with a request. */
export const Mistake = Schema.Struct({
  in: Schema.Literals(["query", "header", "body"]),
  name: Schema.String.annotate({ examples: ["limit"] }),
  message: Schema.String.annotate({ examples: ["Expected an integer from 1 to 1000"] })
})

export class InvalidRequest extends Problem<InvalidRequest>()(
  "InvalidRequest",
  { errors: Schema.Array(Mistake).annotate({ description: "All that is wrong" }) },
  {
    type: "urn:tasks:problem:invalid-request",
    status: 400,
    title: "The request is not valid",
    detail: "Mend what errors names, and ask again",
    instance: "/task"
  }
) {}

export class UnknownTask extends Problem<UnknownTask>()(
  "UnknownTask",
  {},
  {
    type: "urn:tasks:problem:unknown-task",
    status: 404,
    title: "There is no such task",
    detail: "It was cancelled, or never created",
    instance: `${someTask}/status`
  }
) {}

export class NotCompleted extends Problem<NotCompleted>()(
  "NotCompleted",
  {},
  {
    type: "urn:tasks:problem:not-completed",
    status: 409,
    title: "The task is not completed",
    detail: "It waits, or is in process: ask again after the time that Retry-After says",
    instance: `${someTask}/result`
  }
) {}

export class TaskFailed extends Problem<TaskFailed>()(
  "TaskFailed",
  {},
  {
    type: "urn:tasks:problem:failed",
    status: 409,
    title: "The task has failed",
    detail: "There will never be a result: create another task",
    instance: `${someTask}/result`
  }
) {}

export class ContentTooLarge extends Problem<ContentTooLarge>()(
  "ContentTooLarge",
  {},
  {
    type: "urn:tasks:problem:content-too-large",
    status: 413,
    title: "The body is too large",
    detail: "A task needs no body: send none",
    instance: "/task"
  }
) {}

export class StorageUnavailable extends Problem<StorageUnavailable>()(
  "StorageUnavailable",
  {},
  {
    type: "urn:tasks:problem:storage-unavailable",
    status: 503,
    title: "The storage of the tasks cannot be reached",
    detail: "It may be back soon: ask again after the time that Retry-After says",
    instance: "/task"
  }
) {}

export class Internal extends Problem<Internal>()(
  "Internal",
  {},
  {
    type: "urn:tasks:problem:internal",
    status: 500,
    title: "The service has a fault",
    detail: "Its log says which; asking again may help, or not",
    instance: "/task"
  }
) {}

export class UnknownRoute extends Problem<UnknownRoute>()(
  "UnknownRoute",
  {},
  {
    type: "urn:tasks:problem:unknown-route",
    status: 404,
    title: "There is nothing here",
    detail: "What there is, is told at /docs",
    instance: "/tasks"
  }
) {}

export class MethodNotAllowed extends Problem<MethodNotAllowed>()(
  "MethodNotAllowed",
  {},
  {
    type: "urn:tasks:problem:method-not-allowed",
    status: 405,
    title: "This method is not for this path",
    detail: "Allow says which ones are",
    instance: "/task"
  }
) {}

/** As the body of a response. */
export const asBody = HttpApiSchema.asJson({ contentType: ProblemDetails.contentType })

/** The path that was asked for, as a URL may have it. */
export const instanceOf = (request: HttpServerRequest): string =>
  URL.parse(`http://tasks${request.url}`)?.pathname ?? "/"
