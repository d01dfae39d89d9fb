/**
 * Answers what no handler has answered, with problem documents: requests that cannot be decoded, paths and methods that
 * nobody has, and faults. A fault goes to the log with its cause; its client learns only that there was one.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { HttpApiSchemaError } from "effect/http-api/HttpApiError"
import * as HttpRouter from "effect/http/HttpRouter"
import { isHttpServerError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Allowed from "./Allowed.ts"
import * as Problem from "./Problem.ts"

const Answer = Schema.Union([
  Problem.InvalidId,
  Problem.InvalidRequest,
  Problem.UnknownRoute,
  Problem.MethodNotAllowed,
  Problem.Internal
])
type Answer = typeof Answer.Type

const encode = Schema.encodeSync(Answer)

const respond = (problem: Answer) =>
  HttpServerResponse.jsonUnsafe(encode(problem), {
    status: problem.status,
    contentType: ProblemDetails.contentType
  })

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

const mistakesOf = (error: HttpApiSchemaError): ReadonlyArray<typeof Problem.Mistake.Type> =>
  issuesOf(error.cause.issue).issues.map(({ message, path }) => ({
    in: error.kind === "Headers" ? "header" : "query",
    name: typeof path?.[0] === "string" ? path[0] : "",
    message
  }))

/** Undefined: it is a fault. */
const undecoded = (error: unknown, instance: string): Answer | undefined => {
  if (!HttpApiSchemaError.is(error)) return undefined
  switch (error.kind) {
    case "Params":
      return new Problem.InvalidId({ instance })
    case "Headers":
    case "Query":
      return new Problem.InvalidRequest({ instance, errors: mistakesOf(error) })
    default:
      return undefined
  }
}

const answer = (
  cause: Cause.Cause<unknown>,
  request: HttpServerRequest.HttpServerRequest,
  allowed: (url: string) => ReadonlyArray<string>
) => {
  const instance = Problem.instanceOf(request)
  const error = Cause.squash(cause)
  if (isHttpServerError(error) && error.reason._tag === "RouteNotFound") {
    const methods = allowed(request.url)
    if (methods.length === 0) return Effect.succeed(respond(new Problem.UnknownRoute({ instance })))
    // The path has this method, yet the router did not take it: the id is too long, or cannot be decoded.
    if (methods.includes(request.method)) return Effect.succeed(respond(new Problem.InvalidId({ instance })))
    const refused = respond(new Problem.MethodNotAllowed({ instance }))
    return Effect.succeed(HttpServerResponse.setHeader(refused, "allow", methods.join(", ")))
  }
  const problem = undecoded(error, instance)
  if (problem !== undefined) return Effect.succeed(respond(problem))
  return Effect.logError(`${request.method} ${instance} failed`, cause).pipe(
    Effect.as(respond(new Problem.Internal({ instance })))
  )
}

/** For a whole router, whose routes these are. */
export const layer = (routes: Iterable<Allowed.Route>): Layer.Layer<never, never, HttpRouter.HttpRouter> => {
  const allowed = Allowed.make(routes)
  return HttpRouter.middleware(
    (handler) =>
      Effect.catchCause(handler, (cause) =>
        // Its client has left, or the server is cutting it off: there is nobody to answer.
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause)
          : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => answer(cause, request, allowed))
      ),
    { global: true }
  )
}
