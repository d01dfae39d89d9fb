/** Every route and status, as the typed client sees it and as the wire has it. */
import { assert, describe, it } from "@effect/vitest"
import { Context, DateTime, Deferred, Effect, Exit, Option } from "effect"
import * as Net from "node:net"
import { TaskId } from "../../../src/tasks/domain/Task.ts"
import { StorageError } from "../../../src/tasks/storage/StorageError.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import { claimed, clientOf, memory, nobody, send, serve, service } from "./service.ts"

const unknown = { id: TaskId.make(nobody) }

const post = { method: "POST" }

describe("POST /task", () => {
  it.live("creates a task that waits, and says where its status is", () =>
    Effect.gen(function* () {
      const { client, clock, url } = yield* service
      yield* clock.adjust("1234 millis")
      const { body, headers } = yield* client.create({ headers: {} })
      assert.strictEqual(headers.location, `/task/${body.id}/status`)
      assert.strictEqual(DateTime.toEpochMillis(body.created_at), 1234)
      const raw = yield* send(`${url}/task`, post)
      assert.strictEqual(raw.status, 202)
      assert.strictEqual(raw.type, "application/json")
      assert.match(raw.text, /^\{"id":"[0-9a-f-]{36}","created_at":"1970-01-01T00:00:01\.234Z","duration":0\}$/)
      assert.strictEqual((yield* send(url + (raw.headers.get("location") ?? ""))).status, 200)
    })
  )

  it.live("gives the same task to all who ask with the same key, also at once", () =>
    Effect.gen(function* () {
      const { client, store } = yield* service
      const create = client.create({ headers: { "idempotency-key": "order-1017" } })
      const answers = yield* Effect.all(
        Array.from({ length: 50 }, () => create),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(answers.map(({ body }) => body.id)).size, 1)
      assert.strictEqual((yield* store.counts).waiting, 1)
    })
  )

  it.live("forgets a key with its task", () =>
    Effect.gen(function* () {
      const { client } = yield* service
      const create = client.create({ headers: { "idempotency-key": "once" } })
      const first = yield* create
      yield* client.cancel({ params: { id: first.body.id } })
      assert.notStrictEqual((yield* create).body.id, first.body.id)
    })
  )

  it.live("takes keys of 1 to 255 visible characters, and creates nothing for others", () =>
    Effect.gen(function* () {
      const { store, url } = yield* service
      const withKey = (key: string) => send(`${url}/task`, { ...post, headers: { "idempotency-key": key } })
      for (const key of ["~", "k".repeat(255)]) assert.strictEqual((yield* withKey(key)).status, 202)
      for (const key of ["", "k".repeat(256), "a b", "\u00e9"]) {
        const { json, status } = yield* withKey(key)
        assert.strictEqual(status, 400)
        assert.deepInclude(json, {
          type: "urn:tasks:problem:invalid-request",
          errors: [{ in: "header", name: "idempotency-key", message: "Expected 1 to 255 visible ASCII characters" }]
        })
      }
      assert.strictEqual((yield* store.counts).waiting, 2)
    })
  )

  it.live("looks at no body, and refuses a large one without creating a task", () =>
    Effect.gen(function* () {
      const { store, url } = yield* service
      const withBody = (body: string) => send(`${url}/task`, { ...post, body })
      assert.strictEqual((yield* withBody("{ no json")).status, 202)
      assert.strictEqual((yield* withBody("x".repeat(65_536))).status, 202)
      const { json, status } = yield* withBody("x".repeat(65_537))
      assert.strictEqual(status, 413)
      assert.deepInclude(json, { type: "urn:tasks:problem:content-too-large", status: 413, instance: "/task" })
      assert.strictEqual((yield* store.counts).waiting, 2)
    })
  )

  it.live("refuses a large body of which nobody said the length", () =>
    Effect.gen(function* () {
      const { store, url } = yield* service
      const chunk = new Uint8Array(16_384)
      const body = new ReadableStream({ pull: (controller) => controller.enqueue(chunk) })
      const endless: RequestInit & { readonly duplex: "half" } = { ...post, body, duplex: "half" }
      const { json, status } = yield* send(`${url}/task`, endless)
      assert.strictEqual(status, 413)
      assert.deepInclude(json, { type: "urn:tasks:problem:content-too-large" })
      assert.strictEqual((yield* store.counts).waiting, 0)
    })
  )
})

describe("GET /task/:id/status", () => {
  it.live("tells how far a task is, with the seconds of its work as they pass", () =>
    Effect.gen(function* () {
      const { client, clock, onQueue, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      const params = { id: body.id }
      const look = Effect.map(client.status({ params }), ({ duration, status }) => [status, duration])
      yield* clock.adjust("1 hour")
      assert.deepStrictEqual(yield* look, ["created, but waiting to start", 0])
      const claim = yield* onQueue(claimed)
      yield* clock.adjust("6999 millis")
      assert.deepStrictEqual(yield* look, ["in process", 6])
      const raw = yield* send(`${url}/task/${body.id}/status`)
      assert.strictEqual(raw.text, '{"status":"in process","created_at":"1970-01-01T00:00:00.000Z","duration":6}')
      yield* clock.adjust("1 millis")
      assert.deepStrictEqual(yield* look, ["in process", 7])
      yield* onQueue((queue) => queue.complete(claim, "done"))
      yield* clock.adjust("1 hour")
      assert.deepStrictEqual(yield* look, ["completed", 7])
    })
  )

  it.live("takes an id in capitals", () =>
    Effect.gen(function* () {
      const { client, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      assert.strictEqual((yield* send(`${url}/task/${body.id.toUpperCase()}/status`)).status, 200)
    })
  )
})

describe("GET /task/:id/result", () => {
  it.live("gives the result of a completed task", () =>
    Effect.gen(function* () {
      const { client, onQueue, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      yield* onQueue((queue) => Effect.flatMap(claimed(queue), (claim) => queue.complete(claim, "io work result = 7")))
      assert.deepStrictEqual(yield* client.result({ params: { id: body.id } }), { result: "io work result = 7" })
      const raw = yield* send(`${url}/task/${body.id}/result`)
      assert.strictEqual(raw.text, '{"result":"io work result = 7"}')
    })
  )

  it.live("says when to ask again while the task waits or runs", () =>
    Effect.gen(function* () {
      const { client, onQueue, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      const notYet = Effect.gen(function* () {
        const error = yield* Effect.flip(client.result({ params: { id: body.id } }))
        assert.strictEqual(error._tag, "NotCompleted")
        const { headers, json, status, type } = yield* send(`${url}/task/${body.id}/result`)
        assert.strictEqual(status, 409)
        assert.strictEqual(type, "application/problem+json")
        assert.strictEqual(headers.get("retry-after"), "5")
        assert.deepInclude(json, { type: "urn:tasks:problem:not-completed", status: 409 })
      })
      yield* notYet
      yield* onQueue(claimed)
      yield* notYet
    })
  )

  it.live("says of a failed task that there will be none, and nothing of the reason", () =>
    Effect.gen(function* () {
      const { client, onQueue, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      yield* onQueue((queue) => Effect.flatMap(claimed(queue), (claim) => queue.fail(claim, "secret reason")))
      const error = yield* Effect.flip(client.result({ params: { id: body.id } }))
      assert.strictEqual(error._tag, "TaskFailed")
      const { headers, json, status, text } = yield* send(`${url}/task/${body.id}/result`)
      assert.strictEqual(status, 409)
      assert.isNull(headers.get("retry-after"))
      assert.deepInclude(json, { type: "urn:tasks:problem:failed", instance: `/task/${body.id}/result` })
      assert.notInclude(text, "secret")
      assert.strictEqual((yield* client.status({ params: { id: body.id } })).status, "failed by io bound")
    })
  )
})

describe("DELETE /task/:id", () => {
  const settle = {
    waiting: () => Effect.void,
    running: (queue: Parameters<typeof claimed>[0]) => Effect.asVoid(claimed(queue)),
    completed: (queue: Parameters<typeof claimed>[0]) =>
      Effect.flatMap(claimed(queue), (claim) => queue.complete(claim, "")),
    failed: (queue: Parameters<typeof claimed>[0]) => Effect.flatMap(claimed(queue), (claim) => queue.fail(claim, ""))
  }

  it.live.each(Object.entries(settle))("removes a task that is %s; again there is none", ([, become]) =>
    Effect.gen(function* () {
      const { client, onQueue, store, url } = yield* service
      const { body } = yield* client.create({ headers: {} })
      yield* onQueue(become)
      const params = { id: body.id }
      const gone = yield* send(`${url}/task/${body.id}`, { method: "DELETE" })
      assert.deepStrictEqual([gone.status, gone.text, gone.headers.get("content-length")], [204, "", null])
      assert.isTrue(Option.isNone(yield* store.get(body.id)))
      const errors = [
        yield* Effect.flip(client.cancel({ params })),
        yield* Effect.flip(client.status({ params })),
        yield* Effect.flip(client.result({ params }))
      ]
      assert.deepStrictEqual(
        errors.map(({ _tag }) => _tag),
        ["UnknownTask", "UnknownTask", "UnknownTask"]
      )
    })
  )
})

describe("GET /task", () => {
  it.live("is an empty array when there is none", () =>
    Effect.gen(function* () {
      const { url } = yield* service
      const { headers, status, text } = yield* send(`${url}/task`)
      assert.deepStrictEqual([status, text, headers.get("link")], [200, "[]", null])
    })
  )

  it.live("is newest first, with the result of those that are completed and null for the others", () =>
    Effect.gen(function* () {
      const { client, clock, onQueue, url } = yield* service
      const ids = yield* Effect.replicateEffect(client.create({ headers: {} }), 3).pipe(
        Effect.map((created) => created.map(({ body }) => body.id))
      )
      const first = yield* onQueue(claimed)
      yield* onQueue(claimed)
      yield* clock.adjust("201 seconds")
      yield* onQueue((queue) => queue.complete(first, "io work result = 7"))
      const at = '"created_at":"1970-01-01T00:00:00.000Z"'
      assert.strictEqual(
        (yield* send(`${url}/task`)).text,
        `[{"id":"${ids[2]}","result":null,"status":"created, but waiting to start",${at},"duration":0},` +
          `{"id":"${ids[1]}","result":null,"status":"in process",${at},"duration":201},` +
          `{"id":"${ids[0]}","result":"io work result = 7","status":"completed",${at},"duration":201}]`
      )
    })
  )

  it.live("gives 100 tasks unless asked for more or fewer, and links to the next page only if there is one", () =>
    Effect.gen(function* () {
      const { client, store, url } = yield* service
      yield* Effect.replicateEffect(store.create(), 101)
      const sizeOf = (query: { readonly limit?: number }) =>
        Effect.map(client.list({ query }), ({ body, headers }) => [body.length, headers.link !== undefined])
      assert.deepStrictEqual(yield* sizeOf({}), [100, true])
      assert.deepStrictEqual(yield* sizeOf({ limit: 101 }), [101, false])
      assert.deepStrictEqual(yield* sizeOf({ limit: 1000 }), [101, false])
      assert.deepStrictEqual(yield* sizeOf({ limit: 1 }), [1, true])
      const { headers } = yield* send(`${url}/task?limit=40`)
      assert.match(headers.get("link") ?? "", /^<\/task\?limit=40&cursor=[0-9a-z]+>; rel="next"$/)
    })
  )

  it.live.each([
    "limit=0",
    "limit=1001",
    "limit=1.5",
    "limit=1e2",
    "limit=",
    "limit=-1",
    "limit=%2B1",
    "limit=1&limit=2",
    "cursor=",
    "cursor=A",
    "cursor=..",
    "cursor=zzzzzzzzzzz"
  ])("refuses ?%s", (query) =>
    Effect.gen(function* () {
      const { url } = yield* service
      const { json, status } = yield* send(`${url}/task?${query}`)
      assert.strictEqual(status, 400)
      assert.deepInclude(json, { type: "urn:tasks:problem:invalid-request" })
    })
  )

  it.live("tells all that is wrong at once", () =>
    Effect.gen(function* () {
      const { url } = yield* service
      const { json } = yield* send(`${url}/task?limit=0&cursor=..&other=1`)
      assert.deepStrictEqual(json, {
        type: "urn:tasks:problem:invalid-request",
        title: "The request is not valid",
        status: 400,
        detail: "Mend what errors names, and ask again",
        instance: "/task",
        errors: [
          { in: "query", name: "limit", message: "Expected an integer from 1 to 1000" },
          { in: "query", name: "cursor", message: "Expected a cursor of a Link header" }
        ]
      })
    })
  )
})

describe("an id", () => {
  const routes = [
    ["DELETE", ""],
    ["GET", "/status"],
    ["GET", "/result"]
  ] as const

  it.live.each(routes)("that is none is refused: %s /task/:id%s", ([method, rest]) =>
    Effect.gen(function* () {
      const { url } = yield* service
      for (const id of ["7", "%20", "%ff", "a%2Fb", `${nobody}0`, "x".repeat(5000), "null", "%00"]) {
        const { json, status } = yield* send(`${url}/task/${id}${rest}`, { method })
        assert.strictEqual(status, 400, id)
        assert.deepInclude(json, { type: "urn:tasks:problem:invalid-id", instance: `/task/${id}${rest}` })
      }
    })
  )

  it.live.each(routes)("that no task has is unknown: %s /task/:id%s", ([method, rest]) =>
    Effect.gen(function* () {
      const { url } = yield* service
      const { json, status, type } = yield* send(`${url}/task/${nobody}${rest}`, { method })
      assert.strictEqual(status, 404)
      assert.strictEqual(type, "application/problem+json")
      assert.deepStrictEqual(json, {
        type: "urn:tasks:problem:unknown-task",
        title: "There is no such task",
        status: 404,
        detail: "It was cancelled, or never created",
        instance: `/task/${nobody}${rest}`
      })
    })
  )
})

describe("a storage", () => {
  const failing = (reason: StorageError["reason"]) =>
    Effect.gen(function* () {
      const fail = (operation: string) => () =>
        Effect.fail(new StorageError({ operation, reason, cause: new Error("select secret from tasks") }))
      const store = Context.get(yield* memory, TaskStore)
      const url = yield* serve({
        ...store,
        create: fail("create"),
        get: fail("get"),
        list: fail("list"),
        remove: fail("remove")
      })
      return { client: (yield* clientOf(url)).tasks, url }
    })

  const requests = (url: string) => [
    send(`${url}/task`, post),
    send(`${url}/task`),
    send(`${url}/task/${nobody}`, { method: "DELETE" }),
    send(`${url}/task/${nobody}/status`),
    send(`${url}/task/${nobody}/result`)
  ]

  it.live("that cannot be reached is told by every route, with a time to ask again", () =>
    Effect.gen(function* () {
      const { client, url } = yield* failing("unavailable")
      for (const { headers, json, status, text } of yield* Effect.all(requests(url))) {
        assert.strictEqual(status, 503)
        assert.strictEqual(headers.get("retry-after"), "2")
        assert.deepInclude(json, { type: "urn:tasks:problem:storage-unavailable" })
        assert.notInclude(text, "select")
      }
      const errors = [
        yield* Effect.flip(client.create({ headers: {} })),
        yield* Effect.flip(client.list({ query: {} })),
        yield* Effect.flip(client.cancel({ params: unknown })),
        yield* Effect.flip(client.status({ params: unknown })),
        yield* Effect.flip(client.result({ params: unknown }))
      ]
      assert.deepStrictEqual(new Set(errors.map(({ _tag }) => _tag)), new Set(["StorageUnavailable"]))
    })
  )

  it.live("that refuses is a fault, of which no client learns more", () =>
    Effect.gen(function* () {
      const { client, url } = yield* failing("refused")
      for (const { json, status, text } of yield* Effect.all(requests(url))) {
        assert.strictEqual(status, 500)
        assert.deepInclude(json, { type: "urn:tasks:problem:internal" })
        assert.notMatch(text, /select|secret|Error|at /)
      }
      assert.strictEqual((yield* Effect.flip(client.list({ query: {} })))._tag, "Internal")
    })
  )
})

describe("a client that leaves", () => {
  it.live("interrupts what is done for it", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const store = Context.get(yield* memory, TaskStore)
      const url = yield* serve({
        ...store,
        list: () =>
          Deferred.succeed(begun, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onExit((exit) => (Exit.hasInterrupts(exit) ? Deferred.succeed(interrupted, undefined) : Effect.void))
          )
      })
      const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
      socket.write("GET /task HTTP/1.1\r\nhost: tasks\r\n\r\n")
      yield* Deferred.await(begun)
      socket.destroy()
      yield* Deferred.await(interrupted)
    })
  )
})
