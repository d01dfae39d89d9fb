import { assert, describe, it } from "@effect/vitest"
import * as Allowed from "../../../src/tasks/http/Allowed.ts"

const allowed = Allowed.make([
  { method: "POST", path: "/task" },
  { method: "GET", path: "/task" },
  { method: "DELETE", path: "/task/:id" }
])

describe("Allowed", () => {
  it.each([
    ["/task", ["POST", "GET", "HEAD"]],
    ["/task/?x=1", ["POST", "GET", "HEAD"]],
    ["/task/1", ["DELETE"]],
    [`/task/${"1".repeat(1000)}`, ["DELETE"]],
    ["/task/%", ["DELETE"]],
    ["/task/%ff%2f", ["DELETE"]],
    ["/tasks", []],
    ["/task/1/more", []],
    ["/%", []],
    ["*", []],
    ["", []]
  ])("%s has %j", (url, methods) => {
    assert.deepStrictEqual(allowed(url), methods)
  })
})
