/**
 * A task: what a client asked for, and how far it is.
 *
 * ```
 * Waiting ──► Running ──► Completed
 *    ▲           │  └───► Failed
 *    └───────────┘  handed back at shutdown, or its worker died
 * ```
 *
 * A task that is cancelled, in any state, is no more.
 */
import * as Schema from "effect/Schema"

/** A UUID, as every client sees it. */
export const TaskId = Schema.String.check(Schema.isUUID()).pipe(Schema.brand("TaskId"))
export type TaskId = typeof TaskId.Type

/** Instants are milliseconds since 1970 on the clock of the storage. */
export type State =
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Running"; readonly startedAt: number }
  | { readonly _tag: "Completed"; readonly startedAt: number; readonly finishedAt: number; readonly result: string }
  | { readonly _tag: "Failed"; readonly startedAt: number; readonly finishedAt: number; readonly reason: string }

export interface Task {
  readonly id: TaskId
  /** Its place in the order of creation; unique, growing, with gaps. */
  readonly place: number
  readonly createdAt: number
  /** When the storage said this: what runs has run so long by then. */
  readonly readAt: number
  readonly state: State
}

/** What a client reads. */
export const Status = Schema.Literals([
  "created, but waiting to start",
  "in process",
  "completed",
  "failed by io bound"
])
export type Status = typeof Status.Type

const names: Readonly<Record<State["_tag"], Status>> = {
  Waiting: "created, but waiting to start",
  Running: "in process",
  Completed: "completed",
  Failed: "failed by io bound"
}

export const status = (task: Task): Status => names[task.state._tag]

/** Whole seconds of work: 0 while it waits, growing while it runs, and what it took after that. */
export const duration = ({ readAt, state }: Task): number => {
  if (state._tag === "Waiting") return 0
  const until = state._tag === "Running" ? readAt : state.finishedAt
  return Math.max(0, Math.floor((until - state.startedAt) / 1000))
}
