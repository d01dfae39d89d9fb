/**
 * Hints between processes, by LISTEN and NOTIFY.
 *
 * - Who listens has a connection of its own; when it is lost it is made again, and as something may have been missed
 *   meanwhile, that is a hint too.
 * - NOTIFY takes a lock of the whole database at its commit. So hints do not go with the statement that caused them but
 *   behind it, all of 20 ms together, each once; what is left at the end is told then.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TaskId } from "../domain/Task.ts"
import { type Hints, waiting } from "../queue/Hints.ts"
import type { Hint } from "../queue/TaskQueue.ts"

const channel = "tasks"

/** So many are kept while the database is slow; more are not told. */
const most = 1024

/** The id of what was removed, or nothing. */
const payload = (hint: Hint): string => (hint._tag === "Removed" ? hint.id : "")

const isTaskId = Schema.is(TaskId)

const hint = ({ payload }: PgConnection.Notification): Hint =>
  isTaskId(payload) ? { _tag: "Removed", id: payload } : waiting

const again = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")])

/** The client tells, a connection of these settings listens. */
export const make = (
  client: PgClient.PgClient,
  settings: PgConnection.Config
): Effect.Effect<Hints, never, Scope.Scope> =>
  Effect.gen(function* () {
    const untold = new Set<string>()
    const some = yield* Queue.sliding<void>(1)
    const tell = Effect.suspend(() => {
      const payloads = JSON.stringify([...untold])
      untold.clear()
      return client`select pg_notify(${channel}, payload) from json_array_elements_text(${payloads}::json) as payload`
    }).pipe(
      Effect.timeout("1 second"),
      Effect.catch((error) => Effect.logDebug("Nobody was told of tasks; workers look for themselves", error)),
      Effect.uninterruptible
    )
    yield* Effect.addFinalizer(() => (untold.size > 0 ? tell : Effect.void))
    yield* Queue.take(some).pipe(
      Effect.andThen(tell),
      Effect.andThen(Effect.sleep("20 millis")),
      Effect.forever,
      Effect.forkScoped
    )
    const listen = Effect.gen(function* () {
      // Ends after the connection: the driver says UNLISTEN otherwise, and waits for a silent database without end.
      const listening = yield* Effect.acquireRelease(Scope.make(), Scope.close)
      const connection = yield* PgConnection.make(settings)
      const notifications = yield* Scope.provide(connection.listen(channel), listening)
      return Stream.fromQueue(notifications).pipe(Stream.map(hint), Stream.prepend([waiting]))
    })
    return {
      tell: (hint) =>
        Effect.suspend(() => {
          if (untold.size < most) untold.add(payload(hint))
          return Effect.asVoid(Queue.offer(some, undefined))
        }),
      stream: Stream.unwrap(listen).pipe(
        Stream.tapError((error) => Effect.logDebug("Hears of no new tasks until the database is back", error)),
        Stream.retry(again),
        Stream.orDie
      )
    }
  })
