/**
 * Tasks in a PostgreSQL (13 or newer), shared by as many processes as you like.
 *
 * Connections that break are replaced when they are needed: a database that was away needs no restart of the service.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { TaskQueue } from "../queue/TaskQueue.ts"
import { storageError } from "./Deadline.ts"
import * as Migrations from "./Migrations.ts"
import * as Notifications from "./Notifications.ts"
import * as Sql from "./Sql.ts"
import { type StorageError, why } from "./StorageError.ts"
import type { TaskStore } from "./TaskStore.ts"

export interface Options {
  readonly host: string
  /** Default: 5432. */
  readonly port?: number | undefined
  readonly username: string
  readonly password?: Redacted.Redacted | undefined
  readonly database: string
  /** Whether connections are encrypted, and how certificates are checked; `true`: as Node does. Default: false. */
  readonly ssl?: PgClient.PgClientConfig["ssl"]
  /** Of this process, beside the one that hears hints. Default: 10. */
  readonly maxConnections?: number | undefined
  /** Whether tables are made or changed at the start. Default: true. */
  readonly migrate?: boolean | undefined
  /** For a new connection, authentication included. Default: 5 s. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How often to try at the start, a second apart, when it cannot be reached: it may be starting too. Default: 10. */
  readonly attempts?: number | undefined
  /** How long an operation may take, waiting for a connection included; after that it is `unavailable`. Default: 5 s. */
  readonly statementTimeout?: Duration.Input | undefined
}

const make = (
  options: Options
): Effect.Effect<Context.Context<TaskStore | TaskQueue>, StorageError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function* () {
    const { attempts = 10, connectTimeout = "5 seconds", maxConnections = 10, migrate = true } = options
    const deadline = Duration.fromInputUnsafe(options.statementTimeout ?? "5 seconds")
    const settings: PgClient.PgClientConfig = {
      host: options.host,
      port: options.port ?? 5432,
      username: options.username,
      password: options.password,
      database: options.database,
      ssl: options.ssl ?? false,
      connectTimeout,
      applicationName: "tasks",
      // A machine that vanished says no goodbye.
      keepAlive: "30 seconds"
    }
    const client = yield* PgClient.make({
      ...settings,
      maxConnections,
      // The database gives up too, so that what nobody waits for holds no locks.
      startupParameters: {
        statement_timeout: Duration.isFinite(deadline) ? String(Math.ceil(Duration.toMillis(deadline))) : "0"
      }
    })
    // Migrations have a connection of their own: they may take longer than any request.
    const prepare = migrate
      ? Effect.flatMap(PgClient.make({ ...settings, maxConnections: 1 }), (own) =>
          Effect.asVoid(Effect.provideService(Migrations.run, SqlClient.SqlClient, own))
        )
      : Effect.asVoid(client`select from tasks limit 0`)
    yield* Effect.scoped(prepare).pipe(
      Effect.mapError(storageError(migrate ? "migrate" : "connect")),
      Effect.tapError((error) =>
        error.reason === "unavailable"
          ? Effect.logWarning(`${settings.host}:${settings.port} does not serve yet: ${why(error)}`)
          : Effect.void
      ),
      Effect.retry({
        schedule: Schedule.spaced("1 second"),
        times: attempts - 1,
        while: ({ reason }) => reason === "unavailable"
      })
    )
    const hints = yield* Notifications.make(client, settings)
    return yield* Effect.provideService(Sql.make({ hints, deadline }), SqlClient.SqlClient, client)
  }).pipe(Effect.mapError((error) => (error._tag === "SqlError" ? storageError("connect")(error) : error)))

/**
 * Both ports. Fails when the database cannot be reached after all attempts, or refuses.
 *
 * ```ts
 * import * as Postgres from "../../src/tasks/storage/Postgres.ts"
 * import { Redacted } from "effect"
 *
 * const storage = Postgres.layer({
 *   host: "db.internal",
 *   username: "tasks",
 *   password: Redacted.make("…"),
 *   database: "tasks"
 * })
 * ```
 */
export const layer = (options: Options): Layer.Layer<TaskStore | TaskQueue, StorageError> =>
  Layer.effectContext(make(options)).pipe(Layer.provide(Reactivity.layer))
