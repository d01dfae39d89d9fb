/** The OpenAPI document, as its readers need it. What it promises of responses, `Contract.test.ts` checks. */
import { assert, describe, it } from "@effect/vitest"
import { Validator } from "@seriousme/openapi-schema-validator"
import { JsonSchema, Schema, SchemaRepresentation } from "effect"
import * as OpenApi from "effect/http-api/OpenApi"
import { Api } from "../../../src/tasks/http/Api.ts"
import * as Document from "../../../src/tasks/http/Document.ts"

const document = OpenApi.fromApi(Api)

const operations = Object.entries(document.paths).flatMap(([path, { delete: remove, get, post }]) =>
  [remove, get, post].flatMap((operation) => (operation === undefined ? [] : [{ operation, path }]))
)

const checkOf = (schema: object) =>
  Schema.is(
    Schema.toType(
      SchemaRepresentation.fromJsonSchemaDocument(
        { ...JsonSchema.fromSchemaOpenApi3_1({ ...schema }), definitions: definitions.definitions },
        { patterns: "apply" }
      )
    )
  )

const definitions = JsonSchema.fromSchemaOpenApi3_1({ $defs: document.components.schemas })

/** All objects of the document. */
const nodes = function* (value: unknown): Generator<Readonly<Record<string, unknown>>> {
  if (typeof value !== "object" || value === null) return
  const node = Object.fromEntries(Object.entries(value))
  yield node
  for (const child of Object.values(node)) yield* nodes(child)
}

describe("Document", () => {
  it("has a title, a version, and a summary of every operation", () => {
    assert.strictEqual(document.openapi, "3.1.0")
    assert.deepInclude(document.info, { title: "Tasks", version: "1.0.0" })
    assert.sameMembers(
      operations.map(({ operation }) => operation.operationId),
      ["tasks.create", "tasks.list", "tasks.status", "tasks.result", "tasks.cancel"]
    )
    for (const { operation } of operations) assert.isNotEmpty(operation.summary)
  })

  it("is an OpenAPI 3.1 document, by the schema of the specification", async () => {
    const { errors, valid } = await new Validator().validate(JSON.parse(JSON.stringify(document)))
    assert.isTrue(valid, JSON.stringify(errors))
  })

  it("refers to nothing that is not there", () => {
    const references = [...nodes(document)].flatMap(({ $ref }) => (typeof $ref === "string" ? [$ref] : []))
    assert.isNotEmpty(references)
    for (const reference of references)
      assert.property(document.components.schemas, reference.replace("#/components/schemas/", ""))
  })

  it("describes every parameter, with an example that it allows", () => {
    for (const { operation, path } of operations) {
      const named = operation.parameters.filter((parameter) => parameter.in === "path").map(({ name }) => `{${name}}`)
      assert.deepStrictEqual(path.match(/\{\w+\}/g) ?? [], named)
      for (const parameter of operation.parameters) {
        assert.isNotEmpty(parameter.description)
        assert("example" in parameter)
        assert.isTrue(checkOf(parameter.schema)(parameter.example), parameter.name)
        assert.isFalse(checkOf(parameter.schema)("no ne"), parameter.name)
      }
    }
  })

  it("has examples of what responses hold, which their schemas allow", () => {
    const withExamples = [...nodes(document.components)].filter(({ examples }) => Array.isArray(examples))
    assert.isAtLeast(withExamples.length, 20)
    for (const { examples, ...schema } of withExamples) {
      assert(Array.isArray(examples))
      for (const example of examples) assert.isTrue(checkOf(schema)(example), JSON.stringify(schema))
    }
  })

  it("has a problem document for every error, and a time to ask again with 503", () => {
    for (const { operation } of operations)
      for (const [status, { content, headers }] of Object.entries(operation.responses)) {
        if (Number(status) < 400) continue
        assert.hasAllKeys(content, ["application/problem+json"])
        if (status === "503") assert.deepInclude(headers?.["retry-after"], { required: true })
      }
  })

  it("tells which texts are numbers", () => {
    const list = document.paths["/task"]?.get
    const limit = list?.parameters.find(({ name }) => name === "limit")
    assert.deepInclude(limit?.schema, { type: "integer", minimum: 1, maximum: 1000, default: 100 })
    assert.deepInclude(list?.responses[503]?.headers?.["retry-after"]?.schema, { type: "integer", minimum: 1 })
  })

  it("has all kinds of problems, also those that any path may answer", () => {
    assert.includeMembers(Object.keys(document.components.schemas), ["UnknownRoute", "MethodNotAllowed"])
  })

  it("leaves alone what is no parameter and no header", () => {
    const spec = { info: { title: "x" }, list: [1, { schema: { type: "string", description: "d" } }, null] }
    assert.deepStrictEqual(Document.improved(spec), spec)
  })

  it("does not speak of security where there is none, and does where there is", () => {
    const spec = { security: [], components: { securitySchemes: {}, schemas: {} } }
    assert.deepStrictEqual(Document.improved(spec), { components: { schemas: {} } })
    const secured = { security: [{ key: [] }], components: { securitySchemes: { key: { type: "apiKey" } } } }
    assert.deepStrictEqual(Document.improved(secured), secured)
  })
})
