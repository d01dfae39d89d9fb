import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Problem from "../../../src/tasks/http/Problem.ts"

const kinds = {
  "invalid-id": Problem.InvalidId,
  "unknown-task": Problem.UnknownTask,
  "not-completed": Problem.NotCompleted,
  failed: Problem.TaskFailed,
  "content-too-large": Problem.ContentTooLarge,
  "storage-unavailable": Problem.StorageUnavailable,
  internal: Problem.Internal,
  "unknown-route": Problem.UnknownRoute,
  "method-not-allowed": Problem.MethodNotAllowed
}

const encode = Schema.encodeUnknownSync(Schema.Union(Object.values(kinds)))

describe("Problem", () => {
  it("is a document of five members in the order of the RFC", () => {
    for (const [name, Kind] of Object.entries(kinds)) {
      const problem = new Kind({ instance: "/task" })
      const document = encode(problem)
      assert.deepStrictEqual(Object.keys(document), ["type", "title", "status", "detail", "instance"])
      assert.strictEqual(document.type, `urn:tasks:problem:${name}`)
      assert.strictEqual(problem.message, problem.detail)
    }
  })

  it.effect("is an error of its own tag", () =>
    Effect.gen(function* () {
      const failing = Effect.fail(new Problem.UnknownTask({ instance: "/task" }))
      assert.strictEqual(yield* Effect.catchTag(failing, "UnknownTask", ({ status }) => Effect.succeed(status)), 404)
    })
  )

  it("is read by its type, however it is worded and whatever else it says", () => {
    const read = Schema.decodeUnknownSync(Schema.Union([Problem.NotCompleted, Problem.TaskFailed]))
    const document = { title: "Oh", status: 409, detail: "no", instance: "/task", more: true }
    assert.strictEqual(read({ ...document, type: "urn:tasks:problem:failed" })._tag, "TaskFailed")
    assert.strictEqual(read({ ...document, type: "urn:tasks:problem:not-completed" })._tag, "NotCompleted")
    assert.throws(() => read({ ...document, type: "urn:tasks:problem:other" }))
  })

  it.each([
    ["/task?limit=1", "/task"],
    ["/task/%ff/status", "/task/%ff/status"],
    ['/"<>', "/%22%3C%3E"],
    ["//", "//"],
    ["*", "/"],
    [":", "/"]
  ])("the instance of %s is %s", (url, instance) => {
    const request = HttpServerRequest.fromWeb(new Request("http://localhost/")).modify({ url })
    assert.strictEqual(Problem.instanceOf(request), instance)
  })
})
