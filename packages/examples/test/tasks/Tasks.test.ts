/** The composition, in this process; as a process of its own it is in `EndToEnd.test.ts`. */
import { assert, describe, it } from "@effect/vitest"
import { Handler, ServerPool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as NodeListener from "@millrace/node/NodeListener"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { selfSigned } from "../../src/gateway/Certificate.ts"
import * as Arguments from "../../src/tasks/Arguments.ts"
import * as Settings from "../../src/tasks/Settings.ts"
import * as Tasks from "../../src/tasks/Tasks.ts"
import { field, until } from "./service.ts"

const platform = Layer.merge(UndiciConnector.layer, NodeListener.layer)

const addresses = Effect.fnUntraced(function* (environment: Record<string, string>) {
  const ports = { TASKS_SERVER_BIND: "127.0.0.1:0", TASKS_ADMIN_BIND: "127.0.0.1:0", TASKS_STORAGE_TYPE: "memory" }
  const settings = yield* Settings.read({ environment: { ...ports, ...environment } })
  const pool = yield* Layer.build(Tasks.layer(settings).pipe(Layer.provide(platform)))
  return yield* Effect.flatMap(Effect.provide(ServerPool.ServerPool, pool), (pool) => pool.list("name", "expose"))
})

const ask = (url: URL, init: RequestInit = {}) =>
  Effect.promise(async () => {
    const response = await fetch(url, init)
    const body: unknown = JSON.parse(await response.text())
    return { status: response.status, body }
  })

/** `fetch` lets nobody choose the `Host`. */
const statusAs = (host: string, url: URL) =>
  Effect.callback<number | undefined>((resume) => {
    const request = Http.get(url, { agent: false, headers: { host } }, (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode))
    })
    return Effect.sync(() => request.destroy())
  })

describe("Tasks", () => {
  it.live("serves the API and the routes of operators, and stops with its scope", () =>
    Effect.gen(function* () {
      const [api = "", admin = ""] = yield* Effect.scoped(
        Effect.gen(function* () {
          const [api = "", admin = ""] = yield* addresses({
            TASKS_APP_DRAIN_TIMEOUT: "0s",
            TASKS_ADMIN_HOSTS: '["tasks.internal"]'
          })
          assert.strictEqual((yield* ask(new URL("/task", api), { method: "POST" })).status, 202)
          const ready = yield* ask(new URL("/health/ready", admin))
          assert.deepStrictEqual(ready.body, { ready: true, checks: { servers: true, storage: true } })
          const metrics = new URL("/metrics", admin)
          assert.strictEqual(yield* statusAs("tasks.internal", metrics), 200)
          assert.strictEqual(yield* statusAs("evil.example", metrics), 403)
          return [api, admin]
        })
      )
      for (const url of [api, admin]) {
        const answered = Effect.promise(() =>
          fetch(url).then(
            () => true,
            () => false
          )
        )
        assert.isFalse(yield* answered)
      }
    })
  )

  it.live("http work goes through a pool, with the token and the headers that are configured", () =>
    Effect.gen(function* () {
      const seen: Array<Record<string, string | undefined>> = []
      const handler = yield* Handler.fromRouter(
        HttpRouter.add(
          "POST",
          "/work",
          Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => {
            seen.push({ ...headers })
            return HttpServerResponse.text("done there")
          })
        )
      )
      const works = yield* ServerPool.make({ servers: [{ bind: "127.0.0.1:0" }], handlers: handler }).pipe(
        Effect.provide(platform)
      )
      yield* works.start
      const [url = ""] = yield* works.list("name", "expose")
      const [api = ""] = yield* addresses({
        TASKS_WORK_TYPE: "http",
        TASKS_WORK_HTTP_URL: new URL("/work", url).href,
        TASKS_WORK_HTTP_TOKEN: "t0ken"
      })
      const { body } = yield* ask(new URL("/task", api), { method: "POST" })
      const id = String(field(body, "id"))
      const result = yield* until(ask(new URL(`/task/${id}/result`, api)), ({ status }) => status === 200)
      assert.deepStrictEqual(result.body, { result: "done there" })
      assert.strictEqual(seen[0]?.["authorization"], "Bearer t0ken")
      assert.strictEqual(seen[0]?.["idempotency-key"], id)
    })
  )

  it.live("speaks HTTPS with a certificate from files; all files that cannot be read are told", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "tasks-tls-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const { cert, key } = selfSigned("localhost")
      const files = { TASKS_SERVER_TLS_CERT_FILE: join(folder, "c"), TASKS_SERVER_TLS_KEY_FILE: join(folder, "k") }
      const missing = yield* Effect.flip(addresses(files))
      assert.match(missing.message, /server\.tls\.cert_file.*ENOENT[^]*server\.tls\.key_file.*ENOENT/)
      writeFileSync(files.TASKS_SERVER_TLS_CERT_FILE, cert)
      writeFileSync(files.TASKS_SERVER_TLS_KEY_FILE, key)
      const [api = ""] = yield* addresses(files)
      assert.match(api, /^https:/)
    })
  )
})

describe("Arguments", () => {
  it("knows a file and help, and says what it does not know", () => {
    assert.deepStrictEqual(Arguments.parse([]), { _tag: "Serve", file: undefined })
    assert.deepStrictEqual(Arguments.parse(["--config", "a.yaml"]), { _tag: "Serve", file: "a.yaml" })
    assert.deepStrictEqual(Arguments.parse(["-h"]), { _tag: "Help" })
    for (const wrong of [["--config"], ["--port", "1"], ["file"]]) {
      assert.strictEqual(Arguments.parse(wrong)._tag, "Wrong", wrong.join(" "))
    }
  })
})
