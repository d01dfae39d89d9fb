/** The document, its page, HEAD, and the command lines of the README. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as OpenApi from "effect/http-api/OpenApi"
import { execFile, spawnSync } from "node:child_process"
import * as Net from "node:net"
import { text } from "node:stream/consumers"
import { Api } from "../../../src/tasks/http/Api.ts"
import { send, service } from "./service.ts"

/** What a shell prints for it. */
const curl = (...args: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const child = execFile("curl", ["-sS", "--max-time", "20", ...args], (error, stdout, stderr) => {
      resume(error === null ? Effect.succeed(stdout) : Effect.die(new Error(stderr, { cause: error })))
    })
    return Effect.sync(() => child.kill())
  })

/** All that comes until the other end closes. */
const raw = (url: string, request: string) =>
  Effect.promise(() => {
    const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
    socket.write(request)
    return text(socket)
  })

describe("GET /openapi.json", () => {
  it.live("is the document of the API", () =>
    Effect.gen(function* () {
      const { url } = yield* service
      const { json, status, type } = yield* send(`${url}/openapi.json`)
      assert.deepStrictEqual([status, type], [200, "application/json"])
      assert.deepStrictEqual(json, JSON.parse(JSON.stringify(OpenApi.fromApi(Api))))
    })
  )
})

describe("GET /docs", () => {
  it.live("is a page that loads nothing from elsewhere", () =>
    Effect.gen(function* () {
      const { url } = yield* service
      const page = yield* send(`${url}/docs`)
      assert.strictEqual(page.status, 200)
      assert.match(page.type ?? "", /^text\/html/)
      assert.include(page.text, "Create a task")
      // The head and the end of the page, without the script that is within it.
      const markup = page.text.replaceAll(/<(script|style)\b[^>]*>.*?<\/\1>/gs, (tag) => tag.slice(0, tag.indexOf(">")))
      assert.notMatch(markup, /https?:|src=|href=/)
      assert.notMatch(page.text, /@import|url\(["']?https?:/)
    })
  )
})

describe("HEAD", () => {
  it.live("answers as GET does, without a body", () =>
    Effect.gen(function* () {
      const { client, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      yield* client.create({ headers: {} })
      const paths = [
        "/task?limit=1",
        `/task/${body.id}/status`,
        `/task/${body.id}/result`,
        "/openapi.json",
        "/docs",
        "/x"
      ]
      for (const path of paths) {
        const [get, head] = yield* Effect.all([send(url + path), send(url + path, { method: "HEAD" })])
        assert.strictEqual(head.status, get.status, path)
        assert.strictEqual(head.text, "")
        for (const name of ["content-type", "content-length", "link", "retry-after"])
          assert.strictEqual(head.headers.get(name), get.headers.get(name), `${path} ${name}`)
      }
      const answer = yield* raw(url, "HEAD /task HTTP/1.1\r\nhost: tasks\r\nconnection: close\r\n\r\n")
      assert.match(answer, /^HTTP\/1.1 200 .*\r\n\r\n$/s)
    })
  )
})

const without = spawnSync("curl", ["--version"]).status !== 0

describe("curl", () => {
  it.live.skipIf(without)("works as the README says", () =>
    Effect.gen(function* () {
      const { url } = yield* service
      const created: unknown = JSON.parse(yield* curl("-X", "POST", `${url}/task`))
      assert.hasAllKeys(created, ["id", "created_at", "duration"])
      const keyed = curl("-X", "POST", "-H", "Idempotency-Key: order-1017", `${url}/task`)
      assert.strictEqual(yield* keyed, yield* keyed)
      const headers = yield* curl("-i", "-X", "POST", `${url}/task`)
      const status = /location: (\S+)/.exec(headers)?.[1] ?? ""
      const task = url + status.slice(0, -"/status".length)
      assert.match(yield* curl(url + status), /^\{"status":"created, but waiting to start",/)
      assert.match(
        yield* curl("-i", `${task}/result`),
        /409 Conflict.*retry-after: 5.*urn:tasks:problem:not-completed/s
      )
      assert.match(yield* curl("-i", "-X", "DELETE", task), /204 No Content/)
      assert.match(yield* curl("-i", "-X", "DELETE", task), /404 Not Found.*urn:tasks:problem:unknown-task/s)
      assert.match(yield* curl("-i", `${url}/task?limit=1`), /link: <\/task\?limit=1&cursor=\w+>; rel="next"/)
      assert.match(yield* curl("-I", `${url}/docs`), /200 OK/)
    })
  )
})
