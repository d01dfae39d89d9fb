/** The service as its clients and operators meet it: processes, sockets, databases, signals. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { selfSigned } from "../../src/gateway/Certificate.ts"
import * as Postgres from "./postgres.ts"
import * as Run from "./service.ts"

const limit = { timeout: 120_000 }

const waiting = "created, but waiting to start"
const running = "in process"
const uuid = /^[0-9a-f-]{36}$/

const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "tasks-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const create = (service: Run.Service, key?: string) =>
  Effect.map(service.ask("POST", "/task", key === undefined ? {} : { "idempotency-key": key }), (answer) => {
    assert.strictEqual(answer.status, 202)
    return String(Run.field(answer.body, "id"))
  })

const statusOf = (service: Run.Service, id: string) =>
  Effect.map(service.ask("GET", `/task/${id}/status`), ({ body }) => Run.field(body, "status"))

const becomes = (service: Run.Service, id: string, status: string) =>
  Run.until(statusOf(service, id), (now) => now === status)

const resultOf = (service: Run.Service, id: string) =>
  Effect.map(service.ask("GET", `/task/${id}/result`), ({ body }) => Run.field(body, "result"))

/** Settings of services that share a database of their own, and what does their work. */
const onDatabase = Effect.fnUntraced(function* (more: Run.Settings) {
  const work = yield* Run.workshop
  return { work, settings: { ...Run.onPostgres(yield* Postgres.database), ...work.settings, ...more } }
})

/** Every route and status, in the life of three tasks with one permit. */
const everyRoute = (storage: Run.Settings) =>
  Effect.gen(function* () {
    const work = yield* Run.workshop
    const service = yield* Run.service({ ...storage, ...work.settings, TASKS_APP_SEMAPHORE: 1 })
    const { ask } = service
    const problem = Effect.fnUntraced(function* (method: string, path: string, status: number, name: string) {
      const answer = yield* ask(method, path)
      assert.strictEqual(answer.status, status, `${method} ${path}`)
      assert.match(answer.headers.get("content-type") ?? "", /^application\/problem\+json/)
      assert.strictEqual(Run.field(answer.body, "type"), `urn:tasks:problem:${name}`)
      assert.strictEqual(Run.field(answer.body, "status"), status)
      return answer
    })

    const empty = yield* ask("GET", "/task")
    assert.deepStrictEqual([empty.status, empty.body], [200, []])

    const created = yield* ask("POST", "/task")
    assert.strictEqual(created.status, 202)
    assert.deepStrictEqual(Object.keys(created.body ?? {}), ["id", "created_at", "duration"])
    const first = String(Run.field(created.body, "id"))
    assert.match(first, uuid)
    assert.strictEqual(created.headers.get("location"), `/task/${first}/status`)
    const job = yield* work.next
    assert.strictEqual(job.id, first)
    const [second, third] = [yield* create(service), yield* create(service)]

    assert.strictEqual(yield* statusOf(service, first), running)
    assert.strictEqual(yield* statusOf(service, second), waiting)
    for (const id of [first, second]) {
      const none = yield* problem("GET", `/task/${id}/result`, 409, "not-completed")
      assert.match(none.headers.get("retry-after") ?? "", /^\d+$/)
    }

    // Waiting: it leaves the queue, and never runs.
    assert.strictEqual((yield* ask("DELETE", `/task/${second}`)).status, 204)
    yield* problem("DELETE", `/task/${second}`, 404, "unknown-task")

    job.finish("made by hand")
    yield* becomes(service, first, "completed")
    assert.strictEqual(yield* resultOf(service, first), "made by hand")

    // Running: it is interrupted, and its permit is free for the next.
    const cancelled = yield* work.next
    assert.strictEqual(cancelled.id, third)
    assert.strictEqual((yield* ask("DELETE", `/task/${third}`)).status, 204)
    yield* cancelled.abandoned
    yield* problem("GET", `/task/${third}/status`, 404, "unknown-task")

    const fourth = yield* create(service)
    ;(yield* work.next).finish("no", 500)
    yield* becomes(service, fourth, "failed by io bound")
    const failed = yield* problem("GET", `/task/${fourth}/result`, 409, "failed")
    assert.isNull(failed.headers.get("retry-after"))

    const list = yield* ask("GET", "/task")
    assert.isArray(list.body)
    const rows = list.body as ReadonlyArray<unknown>
    assert.deepStrictEqual(
      rows.map((row) => [Run.field(row, "id"), Run.field(row, "result"), Run.field(row, "status")]),
      [
        [fourth, null, "failed by io bound"],
        [first, "made by hand", "completed"]
      ]
    )
    assert.deepStrictEqual(Object.keys(rows[0] ?? {}), ["id", "result", "status", "created_at", "duration"])

    // Finished: it is deleted.
    for (const id of [first, fourth]) {
      assert.strictEqual((yield* ask("DELETE", `/task/${id}`)).status, 204)
      yield* problem("DELETE", `/task/${id}`, 404, "unknown-task")
    }
    assert.deepStrictEqual((yield* ask("GET", "/task")).body, [])
    assert.strictEqual(work.runs(second), 0)

    yield* problem("GET", "/task/nonsense/status", 400, "invalid-id")
    yield* problem("GET", "/task?limit=0", 400, "invalid-request")
    yield* problem("GET", "/nowhere", 404, "unknown-route")
    yield* problem("PUT", "/task", 405, "method-not-allowed")
    assert.strictEqual(
      Run.field((yield* ask("GET", "/openapi.json")).body, "openapi")
        ?.toString()
        .slice(0, 2),
      "3."
    )
    assert.match(String((yield* ask("GET", "/docs")).body), /<!doctype html>/i)

    assert.strictEqual((yield* service.admin("/health/live")).status, 200)
    assert.strictEqual((yield* service.admin("/health/ready")).status, 200)
    const metrics = (yield* service.admin("/metrics")).text
    assert.match(metrics, /^tasks_completed_total 1$/m)
    assert.match(metrics, /^tasks_cancelled_total 1$/m)
    assert.match(metrics, /^http_server_request_duration_seconds_count\{/m)
    assert.match((yield* service.admin("/debug/fibers")).text, /worker: claims/)

    assert.strictEqual(yield* service.stop, 0)
  })

describe("the tasks service", () => {
  it.live(
    "on PGlite: every route and status, and a restart that finds it all again",
    () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const storage = { TASKS_STORAGE_TYPE: "internal", TASKS_STORAGE_DIRECTORY: join(directory, "data") }
        yield* everyRoute(storage)
        const work = yield* Run.workshop
        const settings = { ...storage, ...work.settings, TASKS_APP_DRAIN_TIMEOUT: "0s" }
        const before = yield* Run.service(settings)
        const id = yield* create(before, "kept")
        yield* work.next
        assert.strictEqual(yield* before.stop, 0)
        const after = yield* Run.service(settings)
        const again = yield* work.next
        assert.strictEqual(again.id, id)
        assert.strictEqual(yield* create(after, "kept"), id)
        again.finish("at last")
        yield* becomes(after, id, "completed")
        assert.strictEqual(yield* after.stop, 0)
      }),
    limit
  )

  it.live(
    "in memory, with no setting but that: it starts, answers and stops",
    () =>
      Effect.gen(function* () {
        const service = yield* Run.service({})
        const id = yield* create(service)
        yield* becomes(service, id, running)
        assert.strictEqual((yield* service.ask("DELETE", `/task/${id}`)).status, 204)
        assert.strictEqual(yield* service.stop, 0)
      }),
    limit
  )

  it.live(
    "settings that are wrong stop the start with all of them, and exit code 1",
    () =>
      Effect.gen(function* () {
        const wrong = { TASKS_APP_SEMAPHORE: "0", TASKS_APP_SEMAFORE: "4", TASKS_STORAGE_PASSWORD: "s3cret" }
        const process = yield* Run.start({ ...wrong, TASKS_STORAGE_PORT: "s3cret-no" })
        assert.strictEqual(yield* process.ended, 1)
        for (const part of ["TASKS_APP_SEMAPHORE", "TASKS_APP_SEMAFORE", "TASKS_STORAGE_PORT"]) {
          assert.include(process.output.text, part)
        }
        assert.notMatch(process.output.text, /\n\s+at /)
        assert.notMatch(process.output.text, /s3cret(?!-no)/)
      }),
    limit
  )

  it.live(
    "an address that is taken and a database that is not there stop the start in words, with exit code 1",
    () =>
      Effect.gen(function* () {
        const service = yield* Run.service({})
        const taken = yield* Run.start({ TASKS_SERVER_BIND: new URL(service.api).host })
        assert.strictEqual(yield* taken.ended, 1)
        assert.include(taken.output.text, new URL(service.api).host)
        const nowhere = { TASKS_STORAGE_TYPE: "postgres", TASKS_STORAGE_PORT: 1, TASKS_STORAGE_CONNECTION_ATTEMPTS: 1 }
        const lost = yield* Run.start(nowhere)
        assert.strictEqual(yield* lost.ended, 1)
        assert.match(lost.output.text, /storage cannot be reached/)
        for (const { output } of [taken, lost]) assert.notMatch(output.text, /\n\s+at /)
      }),
    limit
  )

  it.live(
    "a start that cannot use its folder says why and what to do",
    () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const storage = { TASKS_STORAGE_TYPE: "internal", TASKS_STORAGE_DIRECTORY: directory }
        const first = yield* Run.service(storage)
        const second = yield* Run.start(storage)
        assert.strictEqual(yield* second.ended, 1)
        assert.include(second.output.text, `${directory} is in use by another process: stop it`)
        assert.strictEqual(yield* first.stop, 0)
      }),
    limit
  )

  it.live(
    "who reads its log may leave: it goes on, and stops in order",
    () =>
      Effect.gen(function* () {
        const service = yield* Run.service({})
        yield* service.unread
        // Each task that starts or is cancelled writes a line.
        for (let index = 0; index < 3; index++) {
          const id = yield* create(service)
          yield* becomes(service, id, running)
          assert.strictEqual((yield* service.ask("DELETE", `/task/${id}`)).status, 204)
        }
        yield* service.output.match(/Nobody reads the log any more/)
        assert.strictEqual(yield* service.stop, 0)
      }),
    limit
  )

  it.live(
    "a ClickHouse that is not there from the start: the service works, and stops within its bound",
    () =>
      Effect.gen(function* () {
        const clickhouse = { TASKS_LOGGER_OUTPUT_INTERNAL: "false", TASKS_CLICKHOUSE_ADDRESS: "127.0.0.1:1" }
        const process = yield* Run.start({ ...clickhouse, TASKS_WORK_STUB_MIN: "0s", TASKS_WORK_STUB_MAX: "1ms" })
        const [, api = ""] = yield* process.output.match(/^api +(\S+)$/m)
        const post = Effect.promise(async () => (await fetch(new URL("/task", api), { method: "POST" })).status)
        for (let index = 0; index < 20; index++) assert.strictEqual(yield* post, 202)
        yield* process.signal("SIGTERM")
        assert.strictEqual(yield* process.ended, 0)
        assert.match(process.output.text, /dropped/i)
      }),
    limit
  )
})

Postgres.describeDatabase("the tasks service on PostgreSQL", () => {
  it.live(
    "every route and status",
    () => Effect.flatMap(Postgres.database, (location) => everyRoute(Run.onPostgres(location))),
    limit
  )

  it.live(
    "POST twice with one key, at two processes: one task",
    () =>
      Effect.gen(function* () {
        const storage = Run.onPostgres(yield* Postgres.database)
        const services = yield* Effect.all([Run.service(storage), Run.service(storage)], { concurrency: 2 })
        const posts = Array.from({ length: 20 }, (_, index) => create(services[index % 2]!, "order-1017"))
        const ids = yield* Effect.all(posts, { concurrency: "unbounded" })
        assert.strictEqual(new Set(ids).size, 1)
      }),
    limit
  )

  it.live(
    "a task that runs in one process is cancelled at the other: its work is interrupted, its permit is free",
    () =>
      Effect.gen(function* () {
        const { settings, work } = yield* onDatabase({ TASKS_APP_SEMAPHORE: 1 })
        const one = yield* Run.service(settings)
        const id = yield* create(one)
        const job = yield* work.next
        const other = yield* Run.service(settings)
        // Its own permit is in use, so that the next task can only run in the first.
        yield* create(other)
        yield* work.next
        const next = yield* create(other)
        assert.strictEqual((yield* other.ask("DELETE", `/task/${id}`)).status, 204)
        yield* job.abandoned
        assert.strictEqual((yield* work.next).id, next)
        yield* one.output.match(new RegExp(`was cancelled.*${id}`))
      }),
    limit
  )

  it.live(
    "a worker that is killed in mid-task: the task runs again elsewhere, once",
    () =>
      Effect.gen(function* () {
        const { settings, work } = yield* onDatabase({ TASKS_APP_LEASE: "3s" })
        const one = yield* Run.service(settings)
        const id = yield* create(one)
        yield* work.next
        const other = yield* Run.service(settings)
        yield* one.signal("SIGKILL")
        const again = yield* work.next
        assert.strictEqual(again.id, id)
        again.finish("made by the other")
        yield* becomes(other, id, "completed")
        assert.strictEqual(yield* resultOf(other, id), "made by the other")
        assert.strictEqual(work.runs(id), 2)
      }),
    limit
  )

  it.live(
    "a worker that slept through its lease: its late result does not count",
    () =>
      Effect.gen(function* () {
        const { settings, work } = yield* onDatabase({ TASKS_APP_LEASE: "3s" })
        const sleeper = yield* Run.service(settings)
        const id = yield* create(sleeper)
        const first = yield* work.next
        yield* sleeper.signal("SIGSTOP")
        const other = yield* Run.service(settings)
        const second = yield* work.next
        assert.strictEqual(second.id, id)
        first.finish("late")
        yield* sleeper.signal("SIGCONT")
        yield* sleeper.output.match(new RegExp(`(lease has ended|claim is lost).*${id}`))
        second.finish("in time")
        yield* becomes(other, id, "completed")
        assert.strictEqual(yield* resultOf(sleeper, id), "in time")
      }),
    limit
  )

  it.live(
    "everything is killed and started again: nothing is lost, nothing is stuck",
    () =>
      Effect.gen(function* () {
        const { settings, work } = yield* onDatabase({
          TASKS_APP_SEMAPHORE: 3,
          TASKS_APP_LEASE: "3s"
        })
        const before = yield* Effect.all([Run.service(settings), Run.service(settings)], { concurrency: 2 })
        const posts = Array.from({ length: 20 }, (_, index) => create(before[index % 2]!))
        const ids = yield* Effect.all(posts, { concurrency: 4 })
        for (let index = 0; index < 6; index++) yield* work.next
        for (const service of before) yield* service.signal("SIGKILL")
        yield* work.finishAll
        const after = yield* Effect.all([Run.service(settings), Run.service(settings)], { concurrency: 2 })
        yield* Effect.forEach(ids, (id) => becomes(after[0], id, "completed"))
        for (const id of ids) assert.strictEqual(yield* resultOf(after[1], id), `made ${id}`)
        for (const service of after) assert.strictEqual(yield* service.stop, 0)
      }),
    limit
  )

  it.live(
    "asked to stop, it finishes what runs",
    () =>
      Effect.gen(function* () {
        const work = yield* Run.workshop
        const location = yield* Postgres.database
        const service = yield* Run.service({ ...Run.onPostgres(location), ...work.settings })
        const id = yield* create(service)
        const job = yield* work.next
        const stopping = yield* Effect.forkChild(service.stop)
        yield* service.output.match(/The service stops/)
        job.finish("just in time")
        assert.strictEqual(yield* Fiber.join(stopping), 0)
        const rows = yield* Postgres.ask(location, `select result from tasks where id = '${id}'`)
        assert.deepStrictEqual(rows, [{ result: "just in time" }])
      }),
    limit
  )

  it.live(
    "what cannot be finished in time is handed back, and the next process runs it at once",
    () =>
      Effect.gen(function* () {
        const { settings, work } = yield* onDatabase({
          TASKS_APP_DRAIN_TIMEOUT: "0s"
        })
        const service = yield* Run.service(settings)
        const id = yield* create(service)
        const job = yield* work.next
        assert.strictEqual(yield* service.stop, 0)
        yield* job.abandoned
        // Far below the lease of 30 s: nobody waits for it.
        const next = yield* Run.service(settings)
        const again = yield* work.next
        assert.strictEqual(again.id, id)
        again.finish("by the next")
        yield* becomes(next, id, "completed")
      }),
    limit
  )
})

Postgres.describeCluster("the tasks service and a PostgreSQL that is away for a while", () => {
  it.live(
    "requests get 503 and a time to come back; then all goes on",
    () =>
      Effect.gen(function* () {
        const work = yield* Run.workshop
        const cluster = yield* Postgres.cluster
        const service = yield* Run.service({ ...Run.onPostgres(cluster.location), ...work.settings })
        const id = yield* create(service)
        const job = yield* work.next
        yield* Effect.promise(() => cluster.stop("crash"))
        const requests = [
          ["POST", "/task"],
          ["GET", "/task"],
          ["GET", `/task/${id}/status`],
          ["DELETE", `/task/${id}`]
        ] as const
        // Ten seconds of it, as an operator would see them.
        for (const end = Date.now() + 10_000; Date.now() < end;) {
          for (const [method, path] of requests) {
            const answer = yield* service.ask(method, path)
            assert.strictEqual(answer.status, 503, `${method} ${path}`)
            assert.strictEqual(Run.field(answer.body, "type"), "urn:tasks:problem:storage-unavailable")
            assert.match(answer.headers.get("retry-after") ?? "", /^\d+$/)
          }
        }
        assert.strictEqual((yield* service.admin("/health/ready")).status, 503)
        assert.strictEqual((yield* service.admin("/health/live")).status, 200)
        // It ends while nobody can be told.
        job.finish("kept meanwhile")
        yield* Effect.promise(() => cluster.start())
        yield* Run.until(service.ask("GET", "/task"), ({ status }) => status === 200)
        yield* becomes(service, id, "completed")
        assert.strictEqual(yield* resultOf(service, id), "kept meanwhile")
        assert.strictEqual((yield* service.admin("/health/ready")).status, 200)
        const next = yield* create(service)
        ;(yield* work.next).finish("as before")
        yield* becomes(service, next, "completed")
        assert.strictEqual(yield* service.stop, 0)
      }),
    limit
  )

  it.live(
    "an encrypted PostgreSQL: by anybody's certificate where that is asked for, by a checked one where that is",
    () =>
      Effect.gen(function* () {
        const cluster = yield* Postgres.cluster
        const certificate = selfSigned("localhost")
        const authority = join(yield* folder, "ca.pem")
        writeFileSync(authority, certificate.cert)
        yield* Effect.promise(async () => {
          await cluster.stop()
          cluster.encrypt(certificate)
          await cluster.start()
        })
        const settings = { TASKS_STORAGE_CONNECTION_ATTEMPTS: 1, TASKS_APP_DRAIN_TIMEOUT: "0s" }
        const storage = { ...Run.onPostgres(cluster.location), ...settings }
        const encrypted = `select count(*)::int as n from pg_stat_ssl join pg_stat_activity using (pid)
          where ssl and application_name = 'tasks'`
        const checked = { TASKS_STORAGE_SSL_MODE: "verify-full", TASKS_STORAGE_CA_FILE: authority }
        for (const settings of [{ TASKS_STORAGE_SSL_MODE: "require" }, checked]) {
          const service = yield* Run.service({ ...storage, ...settings })
          yield* create(service)
          assert.notDeepEqual(yield* Postgres.ask(cluster.location, encrypted), [{ n: 0 }])
          assert.strictEqual(yield* service.stop, 0)
        }
        const unknown = yield* Run.start({ ...storage, TASKS_STORAGE_SSL_MODE: "verify-full" })
        assert.strictEqual(yield* unknown.ended, 1)
        const missing = yield* Run.start({ ...storage, ...checked, TASKS_STORAGE_CA_FILE: `${authority}.not` })
        assert.strictEqual(yield* missing.ended, 1)
        assert.include(missing.output.text, "storage.ca_file")
      }),
    limit
  )
})
