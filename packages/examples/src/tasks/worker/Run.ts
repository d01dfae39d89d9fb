/**
 * One claimed task, from its claim to its end.
 *
 * ```
 * Working ──► Settling ──► completed | failed | refused
 *    └───────────┴───────► cancelled | lost | expired | handedBack
 * ```
 *
 * - `Working`: its work runs. `Settling`: the work has ended, and the storage is told, again and again while it is away.
 * - `completed`, `failed`: the storage has the result, or the reason. A defect of the work is a failure too; the log has its
 *   cause, the task only says that there is one.
 * - `refused`: the storage takes neither the result nor the reason. Nobody renews the claim, so the task runs again, until
 *   it has died too often.
 * - `cancelled`: the task was removed. `lost`: the storage says that the claim is not valid any more. `expired`: its lease
 *   ended and nobody could renew it. `handedBack`: the worker stops. These four interrupt what goes on and settle nothing.
 *
 * A run never goes on after its lease, as measured here: from before the storage was asked, so never too long.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Claim, TaskQueue } from "../queue/TaskQueue.ts"
import { retrying } from "./Away.ts"
import type { Work, WorkFailed } from "./Work.ts"

/** What ends a run before it has settled. */
export type Stop = "cancelled" | "lost" | "expired" | "handedBack"

export type End = "completed" | "failed" | "refused" | Stop

type Queue = TaskQueue["Service"]

/** Milliseconds that only grow: a lease does not become longer when somebody sets the clock. */
export const elapsed: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const broken = "The work broke unexpectedly: the log of the service has the cause"
const untold = "The storage refused the result: the log of the service has the cause"

export class Run {
  readonly claim: Claim
  state: "Working" | "Settling" | End = "Working"
  #leaseUntil: number
  readonly #stopped = Deferred.makeUnsafe<Stop>()

  constructor(claim: Claim, leaseUntil: number) {
    this.claim = claim
    this.#leaseUntil = leaseUntil
  }

  renewed(leaseUntil: number): void {
    this.#leaseUntil = leaseUntil
  }

  /** Only the first reason counts. */
  stop(why: Stop): void {
    Deferred.doneUnsafe(this.#stopped, Effect.succeed(why))
  }

  /** By the answer to a renewal. While it settles that may mean that it just has, and settling itself says what is true. */
  lost(): void {
    if (this.state === "Working") this.stop("lost")
  }

  /** Ends when all that it has begun has ended, which work that cannot be interrupted may delay. */
  execute(work: Work["Service"], queue: Queue): Effect.Effect<End> {
    // What stops it stands before what it does: a run that is stopped already never begins.
    return Effect.raceAllFirst<Effect.Effect<End>>([
      Deferred.await(this.#stopped),
      this.#expiry,
      Effect.flatMap(Effect.exit(Effect.suspend(() => work.run(this.claim.id))), (exit) => {
        this.state = "Settling"
        return this.#settle(queue, exit)
      })
    ]).pipe(Effect.tap((end) => Effect.sync(() => void (this.state = end))))
  }

  readonly #expiry: Effect.Effect<"expired"> = Effect.flatMap(elapsed, (now) =>
    now >= this.#leaseUntil
      ? Effect.succeed("expired" as const)
      : Effect.andThen(
          Effect.sleep(Math.ceil(this.#leaseUntil - now)),
          Effect.suspend(() => this.#expiry)
        )
  )

  #settle(queue: Queue, exit: Exit.Exit<string, WorkFailed>): Effect.Effect<End> {
    if (Exit.isSuccess(exit)) {
      return retrying(queue.complete(this.claim, exit.value)).pipe(
        Effect.as("completed" as const),
        Effect.catchTags({ ClaimLost: dropped, StorageError: () => this.#fail(queue, untold) })
      )
    }
    // Beside a defect there is none.
    const failure = exit.cause.reasons.find(Cause.isFailReason)
    return failure === undefined
      ? Effect.andThen(Effect.logError("The work of a task broke", exit.cause), this.#fail(queue, broken))
      : Effect.andThen(
          Effect.logInfo(`The task failed: ${failure.error.reason}`),
          this.#fail(queue, failure.error.reason)
        )
  }

  #fail(queue: Queue, reason: string): Effect.Effect<End> {
    return retrying(queue.fail(this.claim, reason)).pipe(
      Effect.as("failed" as const),
      Effect.catchTags({
        ClaimLost: dropped,
        StorageError: (error) =>
          Effect.as(Effect.logError("A task cannot be settled; it will run again", error), "refused" as const)
      })
    )
  }
}

const dropped = (lost: { readonly message: string }): Effect.Effect<"lost"> =>
  Effect.as(Effect.logInfo(lost.message), "lost" as const)
