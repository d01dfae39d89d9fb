/** What a task does. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { TaskId } from "../domain/Task.ts"

/** The task has failed, for good. */
export class WorkFailed extends Data.TaggedError("WorkFailed")<{
  /** For those who read logs; without secrets. */
  readonly reason: string
}> {
  override get message(): string {
    return this.reason
  }
}

/**
 * A port: `StubWork`, `HttpWork`, or yours. It may be run again for the same task, after a worker died in the middle, and it
 * is interrupted when its task is cancelled or the service stops.
 */
export class Work extends Context.Service<
  Work,
  {
    /** Gives the result that clients read. */
    readonly run: (id: TaskId) => Effect.Effect<string, WorkFailed>
  }
>()("tasks/Work") {}
