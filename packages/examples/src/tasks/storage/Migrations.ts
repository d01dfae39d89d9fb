/**
 * The tables of the service, step by step. Each step runs once, whoever starts first; what is done already is passed over.
 *
 * A step that was released is never changed: a new one follows it.
 */
import * as Effect from "effect/Effect"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/** Where it is written what has been done. */
const table = "tasks_migrations"

const tasks = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // A row changes three times in its life. Vacuum by a hundredth keeps the front of the queue short when the table is long.
  yield* sql`
    create table tasks (
      place bigint generated always as identity primary key,
      id uuid not null default gen_random_uuid() unique,
      status text not null default 'waiting' check (status in ('waiting', 'running', 'completed', 'failed')),
      result text,
      reason text,
      created_at timestamptz not null default now(),
      started_at timestamptz,
      finished_at timestamptz,
      lease_until timestamptz,
      worker text,
      fence bigint not null default 0,
      deaths integer not null default 0,
      idempotency_key text unique
    ) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.01)`
  // They hold what is to be done only: a million tasks that are done cost a claim and a count nothing.
  yield* sql`create index tasks_waiting on tasks (place) where status = 'waiting'`
  yield* sql`create index tasks_running on tasks (lease_until) where status = 'running'`
})

/** Gives what was done now. */
export const run: Effect.Effect<
  ReadonlyArray<readonly [id: number, name: string]>,
  Migrator.MigrationError | SqlError,
  SqlClient.SqlClient
> = Migrator.make({})({ table, loader: Migrator.fromRecord({ "0001_tasks": tasks }) })
