import { assert, describe, it, layer } from "@effect/vitest"
import { Cause, Context, Deferred, Duration, Effect, Exit, Layer, Logger, Redacted, Scope } from "effect"
import { createServer as createHttpServer } from "node:http"
import { createServer } from "node:net"
import * as Batcher from "../../../src/tasks/logging/Batcher.ts"
import * as ClickHouse from "../../../src/tasks/logging/ClickHouse.ts"
import * as LogRow from "../../../src/tasks/logging/LogRow.ts"
import * as Engine from "./clickhouse.ts"

class Server extends Context.Service<Server, Engine.ClickHouse>()("test/ClickHouse") {
  static readonly layer = Layer.effect(this, Engine.start)
}

const row = (message: string): LogRow.LogRow => ({
  timestamp: "2025-06-23 09:21:18.261",
  level: "INFO",
  message,
  service: "tasks",
  instance: "a:1",
  fiber: 7,
  annotations: {},
  spans: {},
  cause: ""
})

const options = (server: { readonly address: string }, database: string): ClickHouse.Options => ({
  address: server.address,
  username: "default",
  password: Redacted.make(""),
  database,
  table: "logs"
})

const messages = (server: Engine.ClickHouse, database: string) =>
  Effect.promise(async () => {
    const rows = await server.ask<{ message: string }>(`select message from ${database}.logs order by message`)
    return rows.map(({ message }) => message)
  })

layer(Server.layer, { excludeTestServices: true, timeout: "60 seconds" })("ClickHouse", (it) => {
  it.effect("what is logged stands in the table, with all that belongs to it", () =>
    Effect.gen(function* () {
      const server = yield* Server
      const rows: Array<LogRow.LogRow> = []
      const logger = Logger.map(LogRow.logger({ service: "tasks", instance: "host:1" }), (line) => void rows.push(line))
      yield* Effect.logError(
        'it\'s "broken"\n\tünïcode 😀 \\',
        { id: 1, token: Redacted.make("hush") },
        new Error("a reason")
      ).pipe(
        Effect.annotateLogs({ task: "4711", n: 2, deep: { a: [1] } }),
        Effect.withLogSpan("claim"),
        Effect.provide(Logger.layer([logger]))
      )
      yield* Effect.logWarning("failed", Cause.fail("why")).pipe(Effect.provide(Logger.layer([logger])))
      const sink = yield* ClickHouse.sink(options(server, "columns"))
      yield* sink(rows, "1")
      const found = yield* Effect.promise(() => server.ask<LogRow.LogRow>("select * from columns.logs order by level"))
      const [error, warning] = found
      assert.isDefined(error)
      assert.isDefined(warning)
      assert.deepStrictEqual(
        { ...error, timestamp: "", fiber: 0, spans: {} },
        {
          timestamp: "",
          level: "ERROR",
          message:
            'it\'s "broken"\n\tünïcode 😀 \\ {"id":1,"token":"<redacted>"} {"name":"Error","message":"a reason"}',
          service: "tasks",
          instance: "host:1",
          fiber: 0,
          annotations: { task: "4711", n: "2", deep: '{"a":[1]}' },
          spans: {},
          cause: ""
        }
      )
      assert.deepStrictEqual(Object.keys(error.spans), ["claim"])
      assert.isAbove(Number(error.fiber), 0)
      assert.strictEqual(error.timestamp, rows[0]?.timestamp)
      assert.strictEqual(warning.level, "WARN")
      assert.include(warning.cause, "why")
    })
  )

  it.effect("database and table are made when they are not there, and not touched when they are", () =>
    Effect.gen(function* () {
      const server = yield* Server
      for (const name of ["a", "b", "c"]) {
        // Each is a service that starts.
        yield* Effect.scoped(
          Effect.flatMap(ClickHouse.sink(options(server, "again")), (sink) => sink([row(name)], name))
        )
      }
      assert.deepStrictEqual(yield* messages(server, "again"), ["a", "b", "c"])
    })
  )

  it.effect("a table that somebody drops is made again", () =>
    Effect.gen(function* () {
      const server = yield* Server
      const sink = yield* ClickHouse.sink(options(server, "dropped"))
      yield* sink([row("before")], "1")
      yield* Effect.promise(() => server.run("drop table dropped.logs sync"))
      const error = yield* Effect.flip(sink([row("after")], "2"))
      assert.strictEqual(error.reason, "unavailable")
      assert.match(error.message, /^ClickHouse answers 60/)
      yield* sink([row("after")], "2")
      assert.deepStrictEqual(yield* messages(server, "dropped"), ["after"])
    })
  )

  it.effect("a batch that is written twice stands there once", () =>
    Effect.gen(function* () {
      const server = yield* Server
      const sink = yield* ClickHouse.sink(options(server, "twice"))
      yield* sink([row("a"), row("b")], "1")
      yield* sink([row("a"), row("b")], "1")
      yield* sink([row("a"), row("b")], "2")
      assert.deepStrictEqual(yield* messages(server, "twice"), ["a", "a", "b", "b"])
    })
  )

  it.effect("rows that do not fit the table are refused, all else counts as away", () =>
    Effect.gen(function* () {
      const server = yield* Server
      const sink = yield* ClickHouse.sink(options(server, "refused"))
      const error = yield* Effect.flip(sink([{ ...row("a"), timestamp: "yesterday" }], "1"))
      assert.strictEqual(error.reason, "refused")
      const wrong = yield* ClickHouse.sink({ ...options(server, "refused"), password: Redacted.make("hush") })
      const denied = yield* Effect.flip(wrong([row("a")], "1"))
      assert.strictEqual(denied.reason, "unavailable")
      assert.match(denied.message, /^ClickHouse answers 516/)
      assert.notInclude(denied.message, "hush")
    })
  )

  it.effect("a column that somebody added is no hindrance", () =>
    Effect.gen(function* () {
      const server = yield* Server
      const sink = yield* ClickHouse.sink(options(server, "wider"))
      yield* sink([row("a")], "1")
      yield* Effect.promise(() => server.run("alter table wider.logs add column region String default 'eu'"))
      yield* sink([row("b")], "2")
      assert.deepStrictEqual(yield* messages(server, "wider"), ["a", "b"])
    })
  )

  it.effect(
    "a batch of thousands arrives",
    () =>
      Effect.gen(function* () {
        const server = yield* Server
        const sink = yield* ClickHouse.sink(options(server, "many"))
        yield* sink(
          Array.from({ length: 10_000 }, (_, n) => row(`${n} ${"x".repeat(100)}`)),
          "1"
        )
        const count = yield* Effect.promise(() => server.ask("select toUInt32(count()) as n from many.logs"))
        assert.deepStrictEqual(count, [{ n: 10_000 }])
      }),
    { timeout: 30_000 }
  )

  it.effect(
    "not there at the start, killed and started again: each row is there once",
    () =>
      Effect.gen(function* () {
        const server = new Engine.ClickHouse(yield* Effect.promise(() => Engine.freePort()))
        yield* Effect.addFinalizer(() => Effect.promise(() => server.close()))
        const away = yield* Deferred.make<void>()
        const back = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        const batcher = yield* Batcher.make<LogRow.LogRow>({
          sink: yield* ClickHouse.sink(options(server, "tasks")).pipe(Scope.provide(scope)),
          batchSize: 2,
          batchInterval: Duration.millis(5),
          buffer: 100,
          attempts: 2,
          pause: Duration.millis(20),
          flushTimeout: Duration.seconds(30),
          report: ({ event }) =>
            event === "away" ? Deferred.succeed(away, undefined) : Deferred.succeed(back, undefined)
        }).pipe(Scope.provide(scope))
        const names = Array.from({ length: 9 }, (_, n) => `row ${n}`)

        // It is not there at the start: nothing waits for it.
        for (const name of names.slice(0, 3)) batcher.offer(row(name))
        yield* Deferred.await(away)
        yield* Effect.promise(() => server.start())
        yield* Deferred.await(back)

        yield* Effect.promise(() => server.kill())
        for (const name of names.slice(3, 6)) batcher.offer(row(name))
        yield* Effect.promise(() => server.start())
        for (const name of names.slice(6)) batcher.offer(row(name))
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(batcher.counts(), { written: 9, dropped: 0, waiting: 0 })
        assert.deepStrictEqual(yield* messages(server, "tasks"), names)
      }),
    { timeout: 60_000 }
  )
})

/** Answers what a ClickHouse would to a user without the right to create anything. */
const withoutRights = Effect.fnUntraced(function* (insert: { readonly status: number; readonly body: string }) {
  const server = createHttpServer((request, response) => {
    request.resume().on("end", () => {
      const creates = !(request.url ?? "").includes("query=")
      response.writeHead(creates ? 500 : insert.status)
      response.end(creates ? "Code: 497. DB::Exception: writer: Not enough privileges. (ACCESS_DENIED)" : insert.body)
    })
  })
  const port = yield* Effect.promise(() => Engine.freePort())
  yield* Effect.acquireRelease(
    Effect.promise(() => new Promise<void>((resolve) => void server.listen(port, "127.0.0.1", resolve))),
    () => Effect.sync(() => server.close().closeAllConnections())
  )
  return yield* ClickHouse.sink(options({ address: `http://127.0.0.1:${port}` }, "tasks"))
})

describe("ClickHouse", () => {
  it.live("a user who may not make tables writes to one that is there; where none is, both are told", () =>
    Effect.gen(function* () {
      const there = yield* withoutRights({ status: 200, body: "" })
      yield* there([row("a")], "1")
      const body = "Code: 60. DB::Exception: Table tasks.logs does not exist. (UNKNOWN_TABLE)"
      const missing = yield* withoutRights({ status: 404, body })
      const error = yield* Effect.flip(missing([row("a")], "1"))
      assert.strictEqual(error.reason, "unavailable")
      assert.match(error.message, /^ClickHouse answers 60, .*; the table could not be made: ClickHouse answers 497/)
    })
  )

  it.live(
    "a server that accepts and never answers holds nothing up: who waits is let go, and the socket is closed",
    () =>
      Effect.gen(function* () {
        const connected = yield* Deferred.make<void>()
        const closed = yield* Deferred.make<void>()
        const silent = createServer((socket) => {
          Deferred.doneUnsafe(connected, Effect.void)
          socket.resume().on("error", () => {})
          socket.on("close", () => Deferred.doneUnsafe(closed, Effect.void))
        })
        const port = yield* Effect.promise(() => Engine.freePort())
        yield* Effect.acquireRelease(
          Effect.promise(() => new Promise<void>((resolve) => void silent.listen(port, "127.0.0.1", resolve))),
          () => Effect.sync(() => silent.close())
        )
        const sink = yield* ClickHouse.sink(options({ address: `http://127.0.0.1:${port}` }, "tasks"))
        const first = yield* Effect.raceFirst(
          Effect.as(sink([row("a")], "1"), "written"),
          Effect.as(Deferred.await(connected), "interrupted")
        )
        assert.strictEqual(first, "interrupted")
        yield* Deferred.await(closed)
      })
  )

  it.live("where nobody listens the error says so, and names no password", () =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(() => Engine.freePort())
      const address = `http://127.0.0.1:${port}`
      const sink = yield* ClickHouse.sink({ ...options({ address }, "tasks"), password: Redacted.make("hush") })
      const error = yield* Effect.flip(sink([row("a")], "1"))
      assert.strictEqual(error.reason, "unavailable")
      assert.include(error.message, "ECONNREFUSED")
      assert.notInclude(error.message, "hush")
    })
  )
})
