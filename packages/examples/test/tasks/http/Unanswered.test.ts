/** What no handler answers is a problem document too, and a fault is in the log and nowhere else. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect } from "effect"
import type { Task } from "../../../src/tasks/domain/Task.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as Net from "node:net"
import { text } from "node:stream/consumers"
import { memory, nobody, send, serve, service } from "./service.ts"

describe("Unanswered", () => {
  it.live.each(["/", "/tasks", "/task/7/other", "/task/7/status/more", "/docs/more", "//", "/%", "/openapi.yaml"])(
    "nothing at %s",
    (path) =>
      Effect.gen(function* () {
        const { url } = yield* service
        const { json, status, type } = yield* send(url + path)
        assert.strictEqual(status, 404)
        assert.strictEqual(type, "application/problem+json")
        assert.deepStrictEqual(json, {
          type: "urn:tasks:problem:unknown-route",
          title: "There is nothing here",
          status: 404,
          detail: "What there is, is told at /docs",
          instance: path
        })
      })
  )

  const others: ReadonlyArray<readonly [string, string, string]> = [
    ["PUT", "/task", "POST, GET, HEAD"],
    ["DELETE", "/task", "POST, GET, HEAD"],
    ["OPTIONS", "/task", "POST, GET, HEAD"],
    ["PROPFIND", "/task?limit=1", "POST, GET, HEAD"],
    ["GET", `/task/${nobody}`, "DELETE"],
    ["HEAD", `/task/${nobody}`, "DELETE"],
    ["POST", `/task/${nobody}/status`, "GET, HEAD"],
    ["PATCH", `/task/${"x".repeat(500)}/result`, "GET, HEAD"],
    ["POST", "/openapi.json", "GET, HEAD"],
    ["QUERY", "/docs", "GET, HEAD"]
  ]
  it.live.each(others)("%s %s: only %s", ([method, path, allow]) =>
    Effect.gen(function* () {
      const { url } = yield* service
      const { headers, json, status } = yield* send(url + path, { method })
      assert.strictEqual(status, 405)
      assert.strictEqual(headers.get("allow"), allow)
      assert.strictEqual(headers.get("content-type"), "application/problem+json")
      if (method === "HEAD") return
      assert.deepInclude(json, { type: "urn:tasks:problem:method-not-allowed", instance: path.split("?")[0] })
    })
  )

  it.live("a defect is logged with its cause, and its client learns nothing of it", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const store = Context.get(yield* memory, TaskStore)
      const defect = () => Effect.die(new TypeError("select secret from tasks"))
      const url = yield* serve({ ...store, list: defect }, (line) => logged.push(line))
      const { json, status, text: body, type } = yield* send(`${url}/task?limit=3`)
      assert.strictEqual(status, 500)
      assert.strictEqual(type, "application/problem+json")
      assert.deepStrictEqual(json, {
        type: "urn:tasks:problem:internal",
        title: "The service has a fault",
        status: 500,
        detail: "Its log says which; asking again may help, or not",
        instance: "/task"
      })
      assert.notMatch(body, /secret|TypeError/)
      assert.lengthOf(logged, 1)
      assert.match(logged[0] ?? "", /level=ERROR.*GET \/task failed.*TypeError: select secret from tasks/s)
    })
  )

  it.live("an answer that breaks the contract is a fault, not an answer", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const store = Context.get(yield* memory, TaskStore)
      const { task } = yield* store.create()
      const odd: Task = { ...task, state: { _tag: "Running", startedAt: Number.NaN } }
      const url = yield* serve({ ...store, get: () => Effect.succeedSome(odd) }, (line) => logged.push(line))
      const { json, status } = yield* send(`${url}/task/${task.id}/status`)
      assert.strictEqual(status, 500)
      assert.deepInclude(json, { type: "urn:tasks:problem:internal" })
      assert.lengthOf(logged, 1)
    })
  )

  it.live("a client that does not send all of its body is no fault", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const store = Context.get(yield* memory, TaskStore)
      const url = yield* serve(store, (line) => logged.push(line))
      yield* Effect.promise(() => {
        const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
        socket.end("POST /task HTTP/1.1\r\nhost: tasks\r\ncontent-length: 10\r\n\r\nhalf")
        return text(socket)
      })
      assert.strictEqual((yield* send(`${url}/task`)).text, "[]")
      assert.deepStrictEqual(logged, [])
    })
  )

  it.live("what clients do wrong is not in the log", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const store = Context.get(yield* memory, TaskStore)
      const url = yield* serve(store, (line) => logged.push(line))
      for (const path of ["/nothing", "/task?limit=0", "/task/7/status", `/task/${nobody}/result`])
        assert.isAtLeast((yield* send(url + path)).status, 400)
      assert.deepStrictEqual(logged, [])
    })
  )
})
