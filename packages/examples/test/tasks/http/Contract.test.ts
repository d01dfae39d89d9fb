/** The service keeps what its OpenAPI document promises, whatever it is asked; Prism is the judge. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, JsonSchema, Schema, SchemaRepresentation } from "effect"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Http from "node:http"
import { Api } from "../../../src/tasks/http/Api.ts"
import * as Prism from "./prism.ts"
import { claimed, send, service } from "./service.ts"

const document = OpenApi.fromApi(Api)

const between = (minimum: number, maximum: number) =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** What the document allows. */
const allowedBy = ({ schema }: OpenApi.OpenAPISpecParameter) =>
  Arbitrary.map(
    Arbitrary.schema(
      SchemaRepresentation.fromJsonSchemaDocument(JsonSchema.fromSchemaOpenApi3_1({ ...schema }), { patterns: "apply" })
    ),
    String
  )

/** Mostly not allowed. Prism reads `1e2` as a number, which the service need not do. */
const anyText = Arbitrary.filter(
  Arbitrary.schema(Schema.String.check(Schema.isPattern(/^[!-~]([ -~]{0,30}[!-~])?$/u))),
  (text) => !/^\.+$/.test(text) && (!Number.isFinite(Number(text)) || String(Number(text)) === text)
)

const extremes = ["0", "-1", "1001", "9007199254740993", "null", "[]", "'", '"; drop table tasks --', "a".repeat(300)]

/** Undefined: it is left out. */
const valueOf = (parameter: OpenApi.OpenAPISpecParameter, ids: ReadonlyArray<string>) =>
  Arbitrary.map(
    Arbitrary.all({
      kind: Arbitrary.schema(Schema.Literals(["known", "allowed", "any", "extreme", "absent"])),
      index: between(0, 100_000),
      allowed: allowedBy(parameter),
      any: anyText
    }),
    ({ allowed, any, index, kind }) => {
      if (kind === "known" && parameter.name === "id") return ids[index % ids.length]
      if (kind === "any") return any
      if (kind === "extreme") return extremes[index % extremes.length]
      if (kind === "absent" && !parameter.required) return undefined
      return allowed
    }
  )

interface Request {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

const requestsOf = (
  path: string,
  method: string,
  operation: OpenApi.OpenAPISpecOperation,
  ids: ReadonlyArray<string>
) =>
  Arbitrary.map(
    Arbitrary.all({
      values: Arbitrary.all(operation.parameters.map((parameter) => valueOf(parameter, ids))),
      body: Arbitrary.schema(Schema.UndefinedOr(Schema.String))
    }),
    ({ body, values }): Request => {
      const given = operation.parameters.flatMap(({ in: where, name }, index) => {
        const value = values[index]
        return value === undefined ? [] : [{ name, value, where }]
      })
      const of = (where: string) => given.filter((one) => one.where === where)
      const query = of("query").map(({ name, value }) => `${name}=${encodeURIComponent(value)}`)
      const filled = of("path").reduce(
        (path, { name, value }) => path.replace(`{${name}}`, encodeURIComponent(value)),
        path
      )
      return {
        method: method.toUpperCase(),
        path: query.length === 0 ? filled : `${filled}?${query.join("&")}`,
        headers: Object.fromEntries(of("header").map(({ name, value }) => [name, value])),
        ...(method === "post" && body !== undefined ? { body } : {})
      }
    }
  )

const operations = Object.entries(document.paths).flatMap(([path, { delete: remove, get, post }]) =>
  Object.entries({ delete: remove, get, post }).flatMap(([method, operation]) =>
    operation === undefined ? [] : [{ method, operation, path }]
  )
)

/** Requests to all operations in turn. */
const requests = (ids: ReadonlyArray<string>) =>
  Arbitrary.map(
    Arbitrary.all({
      which: between(0, operations.length - 1),
      each: Arbitrary.all(operations.map(({ method, operation, path }) => requestsOf(path, method, operation, ids)))
    }),
    ({ each, which }) => each[which] ?? { method: "GET", path: "/task", headers: {} }
  )

/** Tasks in every state, several of each. */
const someTasks = Effect.gen(function* () {
  const running = yield* service
  const made = yield* Effect.replicateEffect(running.store.create(), 40)
  for (let i = 0; i < 10; i++) {
    yield* running.onQueue((queue) => Effect.flatMap(claimed(queue), (claim) => queue.complete(claim, `done ${i}`)))
    yield* running.onQueue((queue) => Effect.flatMap(claimed(queue), (claim) => queue.fail(claim, "no luck")))
    yield* running.onQueue(claimed)
  }
  return { ids: made.map(({ task }) => task.id), url: running.url }
})

describe("the contract", () => {
  it.live(
    "no response breaks the document, no request makes a fault, and what the document forbids is refused with 400",
    () =>
      Effect.gen(function* () {
        const { ids, url } = yield* someTasks
        const judge = yield* Prism.proxy(document, url)
        const keeps = ({ path, ...request }: Request) =>
          Effect.flatMap(send(judge + path, request), ({ headers, status, text }) => {
            const says = Prism.verdict(headers)
            // No body is asked for; the service takes one and looks away.
            const forbidden = says.request.filter((message) => !message.startsWith("No supported content types"))
            const complaints = [
              ...says.response,
              ...(status < 500 ? [] : ["a fault"]),
              ...((status === 400) === forbidden.length > 0 ? [] : ["refused, or not, other than the document has it"])
            ]
            return complaints.length === 0 ? Effect.succeed(true) : Effect.fail({ complaints, says, status, text })
          })
        const result = yield* Arbitrary.checkEffect(requests(ids), keeps, { runs: 200, concurrency: 4, maxShrinks: 50 })
        assert.isUndefined(Arbitrary.formatCheckFailure(result))
      }),
    120_000
  )

  it.live(
    "is judged by somebody who notices: a service that breaks the document is told so",
    () =>
      Effect.gen(function* () {
        const broken = Http.createServer((request, response) => {
          const json = { "content-type": "application/json" }
          if (request.url === "/task?limit=1") response.writeHead(200, json).end('[{"id": 7}]')
          else if (request.url === "/task") response.writeHead(418, json).end("{}")
          else response.writeHead(503, { "content-type": "application/problem+json" }).end("{}")
        })
        yield* Effect.acquireRelease(
          Effect.callback<void>((resume) => void broken.listen(0, "127.0.0.1", () => resume(Effect.void))),
          () => Effect.sync(() => broken.close().closeAllConnections())
        )
        const address = broken.address()
        assert(typeof address === "object" && address !== null)
        const judge = yield* Prism.proxy(document, `http://127.0.0.1:${address.port}`)
        for (const path of ["/task?limit=1", "/task", "/task?limit=2"]) {
          const { headers } = yield* send(judge + path)
          assert.isNotEmpty(Prism.verdict(headers).response, path)
        }
      }),
    120_000
  )
})
