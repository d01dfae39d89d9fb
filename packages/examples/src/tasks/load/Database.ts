/** A database of the load's own, filled with tasks, and what it says of them. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Migrations from "../storage/Migrations.ts"

/** Where PostgreSQL is, and a name there that is free. */
export interface Location {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: Redacted.Redacted
  readonly database: string
}

const name = "tasks_load"

/** The one of `postgres://user:password@host:port/database`. */
export const locate = (url: URL): Location => ({
  host: url.hostname,
  port: Number(url.port || 5432),
  username: decodeURIComponent(url.username || "postgres"),
  password: Redacted.make(decodeURIComponent(url.password)),
  database: decodeURIComponent(url.pathname.slice(1) || "postgres")
})

const connect = (location: Location) =>
  PgClient.make({ ...location, ssl: false, maxConnections: 1 }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make)
  )

/** Makes the database with the tables of the service; it is dropped when the scope ends. */
export const fresh = Effect.fnUntraced(function* (server: Location) {
  const outer = yield* connect(server)
  const drop = outer`drop database if exists ${outer(name)} with (force)`
  yield* drop
  yield* Effect.acquireRelease(outer`create database ${outer(name)}`, () => Effect.ignore(drop))
  const location = { ...server, database: name }
  const sql = yield* connect(location)
  yield* Effect.provideService(Migrations.run, SqlClient.SqlClient, sql)
  return { location, sql }
})

export const addWaiting = (sql: SqlClient.SqlClient, count: number) =>
  sql`insert into tasks (status) select 'waiting' from generate_series(1, ${count}::int)`

/** Tasks that were completed long ago. */
export const addCompleted = (sql: SqlClient.SqlClient, count: number) =>
  Effect.andThen(
    sql`insert into tasks (status, result, started_at, finished_at)
      select 'completed', 'io work result = 7', now() - interval '1 day', now() - interval '1 day' + interval '4 minutes'
      from generate_series(1, ${count}::int)`,
    sql`vacuum analyze tasks`
  )

export interface Progress {
  readonly left: number
  /** Seconds from the first start to the last end. */
  readonly seconds: number
}

/** Of the first so many tasks. */
export const progress = (sql: SqlClient.SqlClient, count: number): Effect.Effect<Progress, SqlError> =>
  Effect.map(
    sql<Progress>`
      select count(*) filter (where status in ('waiting', 'running'))::float8 as left,
             coalesce(extract(epoch from max(finished_at) - min(started_at)), 0)::float8 as seconds
      from tasks where place <= ${count}::bigint`,
    ([row]) => row ?? { left: count, seconds: 0 }
  )
