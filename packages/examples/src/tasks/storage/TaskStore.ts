/**
 * Tasks as their clients see them: made, read, listed, removed.
 *
 * What every storage promises:
 *
 * - `create` with a key that a task has gives back that task and makes none, also when many ask at once.
 * - `list` is newest first, and its cost does not grow with the number of tasks.
 * - `remove` says whether there was one; a task that runs is removed too, and its worker is told by the queue.
 * - What was answered is kept: a restart loses nothing (except of the memory storage).
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Task, TaskId } from "../domain/Task.ts"
import type { StorageError } from "./StorageError.ts"

export interface Created {
  readonly task: Task
  /** False: there was one with this key. */
  readonly fresh: boolean
}

export interface Page {
  /** Only those created before the task of this place. */
  readonly before?: number | undefined
  readonly limit: number
}

export interface Counts {
  readonly waiting: number
  readonly running: number
}

export class TaskStore extends Context.Service<
  TaskStore,
  {
    readonly create: (idempotencyKey?: string) => Effect.Effect<Created, StorageError>
    readonly get: (id: TaskId) => Effect.Effect<Option.Option<Task>, StorageError>
    readonly list: (page: Page) => Effect.Effect<ReadonlyArray<Task>, StorageError>
    readonly remove: (id: TaskId) => Effect.Effect<boolean, StorageError>
    /** Of all processes together. */
    readonly counts: Effect.Effect<Counts, StorageError>
    /** Completes when the storage answers. */
    readonly ping: Effect.Effect<void, StorageError>
  }
>()("tasks/TaskStore") {}
