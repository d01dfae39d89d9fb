/**
 * Tasks in a PostgreSQL that runs inside this process (PGlite): nothing to install, and what was answered is kept in a
 * folder. One process at a time: a second one is refused.
 *
 * It is reached through a socket on loopback, whatever else runs on the machine can reach it too. There is one session
 * behind all connections, so there is one connection, and no statement is prepared by name. It executes on the thread of
 * the service: for a look around and for small services, not for load.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { PGlite } from "@electric-sql/pglite"
import { PGLiteSocketServer } from "@electric-sql/pglite-socket"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { inProcess } from "../queue/Hints.ts"
import type { TaskQueue } from "../queue/TaskQueue.ts"
import { storageError } from "./Deadline.ts"
import * as Folder from "./Folder.ts"
import * as Migrations from "./Migrations.ts"
import * as Sql from "./Sql.ts"
import { StorageError } from "./StorageError.ts"
import type { TaskStore } from "./TaskStore.ts"

export interface Options {
  /** A folder of the database's own, made when it is not there. Default: in memory, forgotten at the end. */
  readonly directory?: string | undefined
  /** Whether tables are made or changed at the start. Default: true. */
  readonly migrate?: boolean | undefined
  /** How long an operation may take; after that it is `unavailable`. Default: 5 s. */
  readonly statementTimeout?: Duration.Input | undefined
}

const host = "127.0.0.1"

/** One for the client, the others for those that it has given up but not closed yet, and for cancellations. */
const serverConnections = 8

/** A connection that comes while it stops is never closed by it, and it would wait for that without end. */
const farewell = "500 millis"

const start = <A>(operation: string, promise: () => Promise<A>): Effect.Effect<A, StorageError> =>
  Effect.tryPromise({ try: promise, catch: (cause) => new StorageError({ operation, reason: "refused", cause }) })

const make = ({
  directory,
  migrate = true,
  statementTimeout = "5 seconds"
}: Options): Effect.Effect<Context.Context<TaskStore | TaskQueue>, StorageError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function* () {
    if (directory !== undefined) yield* Folder.hold(directory)
    const database = yield* Effect.acquireRelease(
      start("open", () => PGlite.create(directory === undefined ? {} : { dataDir: directory })),
      (database) => Effect.promise(() => database.close())
    )
    const server = new PGLiteSocketServer({ db: database, host, port: 0, maxConnections: serverConnections })
    yield* Effect.acquireRelease(
      start("listen", () => server.start()),
      () => Effect.timeoutOption(Effect.interruptible(Effect.promise(() => server.stop())), farewell)
    )
    const client = yield* PgClient.make({
      host,
      port: Number(server.getServerConn().split(":").at(-1)),
      username: "postgres",
      database: "postgres",
      ssl: false,
      maxConnections: 1,
      prepare: false
    })
    if (migrate) yield* Effect.provideService(Migrations.run, SqlClient.SqlClient, client)
    // Nothing vacuums it while it runs.
    yield* client`vacuum analyze tasks`
    const deadline = Duration.fromInputUnsafe(statementTimeout)
    const hints = yield* inProcess
    return yield* Effect.provideService(Sql.make({ hints, deadline }), SqlClient.SqlClient, client)
  }).pipe(Effect.mapError((error) => (error._tag === "StorageError" ? error : storageError("open")(error))))

/** Both ports. Fails when the folder cannot be used. */
export const layer = (options: Options = {}): Layer.Layer<TaskStore | TaskQueue, StorageError> =>
  Layer.effectContext(make(options)).pipe(Layer.provide(Reactivity.layer))
