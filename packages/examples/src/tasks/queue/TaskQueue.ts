/**
 * The waiting tasks, as workers see them: claimed under a lease, renewed by heartbeats, settled under a fence.
 *
 * What every storage promises:
 *
 * - A task is claimed by one worker at a time, those created first before the others.
 * - A claim holds until its lease ends, by the clock of the storage, and after that until somebody reclaims its task. `renew`
 *   says which claims are lost: their task was removed, handed back, settled, or is somebody else's now.
 * - Each claim of a task has a higher fence than the one before; a result under an older fence is refused (`ClaimLost`).
 * - Whoever does not know whether a result arrived may settle again: the first one stays, and the same once more is no error.
 * - `release` puts a task back to its old place, for anybody, at once. Claims that are lost are passed over.
 * - `reclaim` does so with tasks whose lease ended; one whose workers died `maxDeaths` times has failed, so that a task that
 *   kills its worker does not kill them all.
 * - `hints` are for speed only: they may be late, doubled or missing.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { TaskId } from "../domain/Task.ts"
import type { StorageError } from "../storage/StorageError.ts"

export interface Claim {
  readonly id: TaskId
  readonly fence: number
}

export interface Claiming {
  /** Who claims, for those who look into the database. */
  readonly worker: string
  /** At most so many, maybe none. */
  readonly limit: number
  readonly lease: Duration.Duration
}

export type Hint = { readonly _tag: "Waiting" } | { readonly _tag: "Removed"; readonly id: TaskId }

export interface Reclaimed {
  readonly again: ReadonlyArray<TaskId>
  readonly failed: ReadonlyArray<TaskId>
}

/** Why such a task has failed; what every storage writes. */
export const diedTooOften = (maxDeaths: number): string =>
  maxDeaths === 1 ? "Its worker died" : `Its workers died ${maxDeaths} times`

/** The task of a claim was removed, or is claimed by another worker: what this one found out does not count. */
export class ClaimLost extends Data.TaggedError("ClaimLost")<{ readonly claim: Claim }> {
  override get message(): string {
    return `Task ${this.claim.id} was cancelled or taken over (fence ${this.claim.fence}): its result is dropped`
  }
}

export class TaskQueue extends Context.Service<
  TaskQueue,
  {
    readonly claim: (claiming: Claiming) => Effect.Effect<ReadonlyArray<Claim>, StorageError>
    /** Those that are lost. */
    readonly renew: (
      claims: ReadonlyArray<Claim>,
      lease: Duration.Duration
    ) => Effect.Effect<ReadonlyArray<Claim>, StorageError>
    readonly complete: (claim: Claim, result: string) => Effect.Effect<void, ClaimLost | StorageError>
    readonly fail: (claim: Claim, reason: string) => Effect.Effect<void, ClaimLost | StorageError>
    readonly release: (claims: ReadonlyArray<Claim>) => Effect.Effect<void, StorageError>
    readonly reclaim: (maxDeaths: number) => Effect.Effect<Reclaimed, StorageError>
    readonly hints: Stream.Stream<Hint>
  }
>()("tasks/TaskQueue") {}
