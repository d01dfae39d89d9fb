import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import { inProcess } from "../../../src/tasks/queue/Hints.ts"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Migrations from "../../../src/tasks/storage/Migrations.ts"
import * as Sql from "../../../src/tasks/storage/Sql.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as postgres from "../postgres.ts"
import { claim, create, over } from "./contract.ts"

/** Both ports, and the client under them. */
const storage = Layer.effectContext(
  Effect.gen(function* () {
    const client = yield* PgClient.make({ ...(yield* postgres.database), ssl: false })
    const sql = Effect.provideService(SqlClient.SqlClient, client)
    yield* sql(Migrations.run)
    const ports = yield* sql(Sql.make({ hints: yield* inProcess, deadline: Duration.seconds(30) }))
    return Context.add(ports, SqlClient.SqlClient, client)
  })
).pipe(Layer.provide(Reactivity.layer))

/** What an operation reads of the table. */
const readOf = <A, E>(operation: Effect.Effect<A, E, TaskStore | TaskQueue>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const read = sql<{ scans: number; rows: number }>`
      select seq_scan::int as scans, (coalesce(idx_tup_fetch, 0) + seq_tup_read)::int as rows
      from pg_stat_xact_user_tables where relname = 'tasks'`
    const [before, after] = yield* sql.withTransaction(
      Effect.gen(function* () {
        const [before] = yield* read
        yield* operation
        const [after] = yield* read
        return [before!, after!] as const
      })
    )
    return { scans: after.scans - before.scans, rows: after.rows - before.rows }
  })

postgres.describeDatabase("Sql", () => {
  it.live("reads no more rows than it answers, though a hundred thousand tasks are done", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const store = yield* TaskStore
      const queue = yield* TaskQueue
      yield* sql`
          insert into tasks (status, result, started_at, finished_at, idempotency_key)
          select 'completed', 'done', now(), now(), 'key ' || n from generate_series(1, 100000) n`
      const made = yield* create(40)
      const claims = yield* claim(8)
      yield* sql`vacuum analyze tasks`
      const middle = made[0]!.place - 50_000
      const operations = {
        create: [store.create("key"), 1],
        "create again": [store.create("key 5"), 2],
        get: [store.get(made[1]!.id), 1],
        list: [store.list({ limit: 20 }), 20],
        "list from the middle": [store.list({ limit: 20, before: middle }), 20],
        counts: [store.counts, 40],
        claim: [claim(8), 8 * 2],
        renew: [queue.renew(claims, over), 8],
        complete: [queue.complete(claims[0]!, "done"), 1],
        fail: [queue.fail(claims[1]!, "broken"), 1],
        release: [queue.release([claims[2]!]), 1],
        reclaim: [queue.reclaim(5), 8 * 2],
        remove: [store.remove(made[20]!.id), 1]
      } as const
      for (const [name, [operation, limit]] of Object.entries(operations)) {
        const { rows, scans } = yield* readOf<unknown, unknown>(operation)
        assert.strictEqual(scans, 0, `${name} reads the whole table`)
        // A few versions of a row that changed in between.
        assert.isAtMost(rows, limit + 20, name)
      }
    }).pipe(Effect.provide(storage))
  )
})
