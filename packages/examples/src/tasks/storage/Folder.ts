/**
 * A folder that is one process's: the embedded database would let a second one in, and each would write over what the other
 * has written.
 *
 * The lock is that of SQLite on the file `lock` in it. It belongs to the process: the system takes it away when the process
 * ends, however it ends, so nobody has to clear anything away.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { StorageError } from "./StorageError.ts"

/** Somebody else works in it. */
export class FolderInUse extends Data.TaggedError("FolderInUse")<{ readonly folder: string }> {
  override get message(): string {
    return `${this.folder} is in use by another process: stop it, or take another folder, or PostgreSQL for several processes`
  }
}

/** SQLITE_BUSY */
const busy = 5

const lock = (folder: string): DatabaseSync => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const database = new DatabaseSync(join(folder, "lock"))
  try {
    database.exec("pragma busy_timeout = 0; begin exclusive")
    return database
  } catch (cause) {
    database.close()
    throw Predicate.hasProperty(cause, "errcode") && cause.errcode === busy ? new FolderInUse({ folder }) : cause
  }
}

/** Makes the folder when it is not there, and keeps everybody else out until the scope ends. */
export const hold = (folder: string): Effect.Effect<void, StorageError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => lock(folder),
      catch: (cause) => new StorageError({ operation: "open", reason: "refused", cause })
    }),
    (database) => Effect.sync(() => database.close())
  ).pipe(Effect.asVoid)
