/**
 * Tasks in a PostgreSQL: the real one and the embedded one alike.
 *
 * - The row of a task is its place in the queue: nothing else has to be kept in step with it.
 * - Each operation is one statement, so nothing is ever half done, and time is the database's `now()`.
 * - Each operation answers within the deadline, if need be with `unavailable`.
 *
 * Why not `PersistedQueue` of Effect, which has leases in SQL too: the fence of a claim stays inside it, so the result of a
 * task, in a table of its own, could not be written under it, and an acknowledgement that is too late goes unnoticed. It
 * can neither take back a task that waits nor tell the worker that runs one, cannot list, and cannot say how many wait. A
 * second table beside it would need a transaction for each step, and could still disagree.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { type State, type Task, TaskId } from "../domain/Task.ts"
import { type Hints, waiting } from "../queue/Hints.ts"
import { type Claim, ClaimLost, diedTooOften, TaskQueue } from "../queue/TaskQueue.ts"
import { answering } from "./Deadline.ts"
import { type Created, TaskStore } from "./TaskStore.ts"

interface Row {
  readonly id: string
  readonly place: number
  readonly status: "waiting" | "running" | "completed" | "failed"
  readonly result: string | null
  readonly reason: string | null
  readonly createdAt: number
  readonly readAt: number
  readonly startedAt: number | null
  readonly finishedAt: number | null
}

// Whole milliseconds; a double holds them, and places, exactly.
const columns = `tasks.id, tasks.place::float8 as place, status, result, reason,
  floor(extract(epoch from created_at) * 1000)::float8 as "createdAt",
  floor(extract(epoch from now()) * 1000)::float8 as "readAt",
  floor(extract(epoch from started_at) * 1000)::float8 as "startedAt",
  floor(extract(epoch from finished_at) * 1000)::float8 as "finishedAt"`

const stateOf = ({ createdAt, finishedAt, reason, result, startedAt, status }: Row): State => {
  const start = startedAt ?? createdAt
  const end = finishedAt ?? start
  switch (status) {
    case "waiting":
      return { _tag: "Waiting" }
    case "running":
      return { _tag: "Running", startedAt: start }
    case "completed":
      return { _tag: "Completed", startedAt: start, finishedAt: end, result: result ?? "" }
    case "failed":
      return { _tag: "Failed", startedAt: start, finishedAt: end, reason: reason ?? "" }
  }
}

const taskOf = (row: Row): Task => ({
  id: TaskId.make(row.id),
  place: row.place,
  createdAt: row.createdAt,
  readAt: row.readAt,
  state: stateOf(row)
})

/** PostgreSQL knows no NUL in a text, and a result that it refuses would be worked out again and again. */
const storable = (text: string): string => text.replaceAll("\0", "\uFFFD")

export interface Options {
  readonly hints: Hints
  /** For each operation, waiting for a connection included. */
  readonly deadline: Duration.Duration
}

/** Both ports on the client that is there. The tables have to be there too. */
export const make = (
  options: Options
): Effect.Effect<Context.Context<TaskStore | TaskQueue>, never, SqlClient.SqlClient | Scope.Scope> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const { hints } = options
    const answer = yield* answering(options.deadline)
    const all = sql.literal(columns)
    const json = (claims: ReadonlyArray<Claim>) => JSON.stringify(claims.map(({ fence, id }) => ({ fence, id })))

    const ofKey = (key: string) => sql<Row>`select ${all} from tasks where idempotency_key = ${key}`
    const insert = (key: string | undefined) => sql<Row>`
      insert into tasks (idempotency_key) values (${key ?? null})
      on conflict (idempotency_key) do nothing
      returning ${all}`
    const create = (key: string | undefined): Effect.Effect<Created, SqlError> =>
      Effect.gen(function* () {
        const [made] = yield* insert(key)
        if (made !== undefined) return { task: taskOf(made), fresh: true }
        const [known] = key === undefined ? [] : yield* ofKey(key)
        if (known !== undefined) return { task: taskOf(known), fresh: false }
        // It was removed between the two.
        return yield* create(key)
      })

    const settle = (claim: Claim, status: "completed" | "failed", result: string | null, reason: string | null) =>
      // Whether it was settled before is seen as it was before this statement.
      answer(
        status === "completed" ? "complete" : "fail",
        sql<{ readonly held: boolean }>`
          with settled as (
            update tasks set status = ${status}, result = ${result}, reason = ${reason}, finished_at = now(), lease_until = null
            where id = ${claim.id}::uuid and fence = ${claim.fence}::bigint and status = 'running'
            returning 1
          )
          select exists (select from settled) or exists (
            select from tasks where id = ${claim.id}::uuid and fence = ${claim.fence}::bigint and status = ${status}
          ) as held`
      ).pipe(
        Effect.flatMap(([row]): Effect.Effect<void, ClaimLost> =>
          row?.held === true ? Effect.void : Effect.fail(new ClaimLost({ claim }))
        )
      )

    const store = TaskStore.of({
      create: (key) =>
        answer("create", create(key)).pipe(Effect.tap(({ fresh }) => (fresh ? hints.tell(waiting) : Effect.void))),
      get: (id) =>
        answer("get", sql<Row>`select ${all} from tasks where id = ${id}::uuid`).pipe(
          Effect.map(([row]) => Option.map(Option.fromUndefinedOr(row), taskOf))
        ),
      list: ({ before = Number.MAX_SAFE_INTEGER, limit }) =>
        answer(
          "list",
          sql<Row>`
            select ${all} from tasks where tasks.place < ${before}::bigint
            order by tasks.place desc limit ${limit}::bigint`
        ).pipe(Effect.map((rows) => rows.map(taskOf))),
      remove: (id) =>
        answer(
          "remove",
          sql<{ readonly status: string }>`delete from tasks where id = ${id}::uuid returning status`
        ).pipe(
          Effect.tap(([row]) => (row?.status === "running" ? hints.tell({ _tag: "Removed", id }) : Effect.void)),
          Effect.map((rows) => rows.length > 0)
        ),
      counts: answer(
        "counts",
        sql<{ readonly waiting: number; readonly running: number }>`
          select (select count(*) from tasks where status = 'waiting')::float8 as waiting,
                 (select count(*) from tasks where status = 'running')::float8 as running`
      ).pipe(Effect.map(([row]) => ({ waiting: row?.waiting ?? 0, running: row?.running ?? 0 }))),
      ping: Effect.asVoid(answer("ping", sql`select 1`))
    })

    const queue = TaskQueue.of({
      // The rows are chosen once and for all before any is changed: `in (select … limit)` may be evaluated again.
      claim: ({ lease, limit, worker }) =>
        answer(
          "claim",
          sql<Claim>`
            with next as materialized (
              select place from tasks where status = 'waiting' order by place limit ${limit}::bigint for update skip locked
            ), claimed as (
              update tasks set status = 'running', started_at = now(), worker = ${worker}, fence = fence + 1,
                lease_until = now() + ${Duration.toMillis(lease)}::float8 * interval '1 millisecond'
              from next where tasks.place = next.place
              returning tasks.id, tasks.fence, tasks.place
            )
            select id, fence::float8 as fence from claimed order by place`
        ).pipe(Effect.map((rows) => rows.map(({ fence, id }) => ({ id: TaskId.make(id), fence })))),
      renew: (claims, lease) =>
        answer(
          "renew",
          sql<Claim>`
            update tasks set lease_until = now() + ${Duration.toMillis(lease)}::float8 * interval '1 millisecond'
            from json_to_recordset(${json(claims)}::json) as held(id uuid, fence bigint)
            where tasks.id = held.id and tasks.fence = held.fence and status = 'running'
            returning tasks.id, tasks.fence::float8 as fence`
        ).pipe(
          Effect.map((rows) => {
            const held = new Map(rows.map(({ fence, id }) => [id, fence]))
            return claims.filter(({ fence, id }) => held.get(id) !== fence)
          })
        ),
      complete: (claim, result) => settle(claim, "completed", storable(result), null),
      fail: (claim, reason) => settle(claim, "failed", null, storable(reason)),
      release: (claims) =>
        answer(
          "release",
          sql`
            update tasks set status = 'waiting', started_at = null, lease_until = null, worker = null
            from json_to_recordset(${json(claims)}::json) as held(id uuid, fence bigint)
            where tasks.id = held.id and tasks.fence = held.fence and status = 'running'
            returning 1 as released`
        ).pipe(Effect.flatMap((rows) => (rows.length > 0 ? hints.tell(waiting) : Effect.void))),
      // A new fence, so that what the dead worker says late is refused, also when the task has failed.
      reclaim: (maxDeaths) =>
        answer(
          "reclaim",
          sql<{ readonly id: string; readonly failed: boolean }>`
            with dead as materialized (
              select place, deaths + 1 >= ${maxDeaths}::bigint as too_often from tasks
              where status = 'running' and lease_until <= now() for update skip locked
            )
            update tasks set
              deaths = deaths + 1, fence = fence + 1, lease_until = null, worker = null,
              status = case when too_often then 'failed' else 'waiting' end,
              started_at = case when too_often then started_at end,
              finished_at = case when too_often then now() end,
              reason = case when too_often then ${diedTooOften(maxDeaths)} end
            from dead where tasks.place = dead.place
            returning tasks.id, too_often as failed`
        ).pipe(
          Effect.map((rows) => {
            const ids = (failed: boolean) =>
              rows.filter((row) => row.failed === failed).map(({ id }) => TaskId.make(id))
            return { again: ids(false), failed: ids(true) }
          }),
          Effect.tap(({ again }) => (again.length > 0 ? hints.tell(waiting) : Effect.void))
        ),
      hints: hints.stream
    })
    return Context.make(TaskStore, store).pipe(Context.add(TaskQueue, queue))
  })
