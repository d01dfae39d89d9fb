/**
 * What a statement may cost its caller: no more than the deadline, whatever has become of the database.
 *
 * A statement that is too late is cancelled behind the caller's back: a database that hangs does not answer a cancellation
 * either, and the driver waits for it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import { MigrationError } from "effect/sql/Migrator"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { StorageError } from "./StorageError.ts"

/**
 * Those that pass by themselves, beside what the driver knows (connection, deadlock, timeout): not enough of something (53),
 * stopped, crashed or starting (57P), trouble with its disk (58), a standby that is not the primary any more or not yet (25006).
 */
const passing = /^(?:53|57P0[1235]|58|25006)/

const passes = ({ reason }: SqlError): boolean => {
  if (reason.isRetryable) return true
  const { cause } = reason
  return Predicate.hasProperty(cause, "code") && typeof cause.code === "string" && passing.test(cause.code)
}

/** Which of the two it is for those who called. */
export const storageError =
  (operation: string) =>
  (cause: SqlError | MigrationError): StorageError => {
    const error = cause instanceof MigrationError ? cause.cause : cause
    const reason = error instanceof SqlError && passes(error) ? "unavailable" : "refused"
    return new StorageError({ operation, reason, cause })
  }

const late = (operation: string, deadline: Duration.Duration): SqlError => {
  const message = `No answer within ${Duration.format(deadline)}`
  return new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation }) })
}

/** Gives what runs statements: within the deadline, with errors as the ports have them. */
export const answering = (
  deadline: Duration.Duration
): Effect.Effect<
  <A>(operation: string, statement: Effect.Effect<A, SqlError>) => Effect.Effect<A, StorageError>,
  never,
  Scope.Scope
> =>
  Effect.map(
    Effect.scope,
    (scope) =>
      <A>(operation: string, statement: Effect.Effect<A, SqlError>) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.forkIn(statement, scope, { startImmediately: true }), (fiber) =>
            restore(
              Effect.timeoutOrElse(Fiber.join(fiber), {
                duration: deadline,
                orElse: () => Effect.fail(late(operation, deadline))
              })
            ).pipe(Effect.ensuring(Effect.sync(() => fiber.interruptUnsafe())))
          )
        ).pipe(Effect.mapError(storageError(operation)))
  )
