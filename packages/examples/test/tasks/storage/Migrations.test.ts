import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { Migrator } from "effect/sql"
import * as Postgres from "../../../src/tasks/storage/Postgres.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as postgres from "../postgres.ts"
import { all, create } from "./contract.ts"

const started = (options: Postgres.Options) => Effect.provide(TaskStore, Postgres.layer(options))
const done = (location: postgres.Location) =>
  postgres.ask(location, "select migration_id, name from tasks_migrations order by migration_id")

postgres.describeDatabase("Migrations", () => {
  it.live("run twice they do nothing the second time", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      yield* Effect.provide(create(3), Postgres.layer(location))
      const first = yield* done(location)
      assert.strictEqual((yield* Effect.provide(all, Postgres.layer(location))).length, 3)
      assert.deepStrictEqual(yield* done(location), first)
      assert.deepStrictEqual(first, [{ migration_id: 1, name: "tasks" }])
    })
  )

  it.live("five processes that start at once on an empty database all come up, and each step runs once", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      yield* Effect.all(
        Array.from({ length: 5 }, () => Effect.provide(create(1), Postgres.layer({ ...location }))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual((yield* done(location)).length, 1)
      assert.strictEqual((yield* postgres.ask(location, "select 1 from tasks")).length, 5)
    })
  )

  it.live("switched off, nothing is made: an empty database refuses the start, a prepared one serves", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const off = { ...location, migrate: false }
      const error = yield* Effect.flip(Effect.provide(create(1), Postgres.layer(off)))
      assert.strictEqual(error._tag, "StorageError")
      assert.deepStrictEqual([error.reason, error.operation], ["refused", "connect"])
      assert.strictEqual(error.message, 'The storage refused connect: relation "tasks" does not exist')
      assert.deepStrictEqual(yield* postgres.ask(location, "select 1 from pg_tables where schemaname = 'public'"), [])
      yield* started(location)
      assert.strictEqual((yield* Effect.provide(create(2), Postgres.layer(off))).length, 2)
    })
  )

  it.live("a step that fails leaves nothing half done, and says which it was", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      yield* postgres.ask(location, "create table tasks (mine int)")
      const error = yield* Effect.flip(started(location))
      assert.strictEqual(error.operation, "migrate")
      assert.strictEqual(error.reason, "refused")
      assert.isTrue(error.cause instanceof Migrator.MigrationError && error.cause.message.includes("1_tasks"))
      assert.deepStrictEqual(yield* done(location), [])
    })
  )
})
