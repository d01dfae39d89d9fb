/**
 * Runs tasks of the queue, so many at a time.
 *
 * What it promises:
 *
 * - At most `permits` tasks run. A waiting task is a row of the storage and nothing here: no more are claimed than there are
 *   free permits. They start in the order in which the queue gives them, which is that of their creation.
 * - A permit that becomes free leads to a claim at once while more may wait; one claim is under way at a time, for all permits
 *   that are free. When nothing waits, it asks again every `poll`, and at once on a hint.
 * - All claims are renewed together, three times in a lease. A run whose task was removed, or whose claim is lost, is
 *   interrupted, and its permit is free as soon as the work has ended; nothing is settled. See `Run` for its states.
 * - Nothing runs beyond its lease: when the storage is away for longer, runs are interrupted, since others may have their
 *   tasks. What was interrupted so is handed back when the storage answers again.
 * - Tasks of dead workers are brought back, three times in a lease, whoever the worker was.
 * - When the scope ends nothing more is claimed; what runs gets `drain`; the rest is interrupted and handed back. That takes
 *   `drain` and twice 2 s at most, also with a storage that is gone and with work that cannot be interrupted. A task of such
 *   work is not handed back, as it may still be at work: its lease rules.
 *
 * ```
 * waiting for a permit ──► claiming ──► all permits in use: waiting for a permit
 *          ▲                  └──► less came than asked for: waiting for a hint, or for `poll`
 *          └───────────────────────────────┘
 * ```
 */
import * as Fibers from "@millrace/node/Admin/Fibers"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { hostname } from "node:os"
import type { TaskId } from "../domain/Task.ts"
import { type Claim, TaskQueue } from "../queue/TaskQueue.ts"
import { retrying, watched } from "./Away.ts"
import { elapsed, type End, Run, type Stop } from "./Run.ts"
import { Work } from "./Work.ts"
import * as WorkerMetrics from "./WorkerMetrics.ts"

export interface Options {
  /** How many tasks run at once; at least 1. Default: 16. */
  readonly permits?: number | undefined
  /** How long a task is this worker's without a renewal: a task of a killed worker waits so long. Default: 30 s. */
  readonly lease?: Duration.Input | undefined
  /** How often it asks for tasks when no hint comes. Default: 1 s. */
  readonly poll?: Duration.Input | undefined
  /** A task whose workers died so often has failed. Default: 5. */
  readonly maxDeaths?: number | undefined
  /** What running tasks get when the service stops. Default: 10 s. */
  readonly drain?: Duration.Input | undefined
  /** Its name in the database. Default: the host's name and the process id. */
  readonly name?: string | undefined
}

export interface Status {
  /** Tasks that run now, or are being settled. */
  readonly running: number
  readonly permits: number
  /** Whether it claims no more. */
  readonly draining: boolean
}

/** What is known of a running worker, and the one order that it takes. */
export class Worker extends Context.Service<
  Worker,
  {
    readonly status: Effect.Effect<Status>
    /** Claims no more, for good: the service is about to stop. What runs goes on. */
    readonly endClaims: Effect.Effect<void>
  }
>()("tasks/Worker") {}

/** For what is still to be done after `drain`: the end of what is interrupted, and handing it back. */
const farewell = Duration.seconds(2)

const keyOf = ({ fence, id }: Claim): string => `${id} ${fence}`

/** Works as long as the scope lasts. */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<Worker["Service"], never, Scope.Scope | TaskQueue | Work> {
  const { maxDeaths = 5, name = `${hostname()}:${process.pid}`, permits: limit = 16 } = options
  const lease = Duration.fromInputUnsafe(options.lease ?? "30 seconds")
  const poll = Duration.fromInputUnsafe(options.poll ?? "1 second")
  const drain = Duration.fromInputUnsafe(options.drain ?? "10 seconds")
  const leaseMillis = Duration.toMillis(lease)
  const beat = Duration.millis(leaseMillis / 3)

  const work = yield* Work
  const queue = watched(yield* TaskQueue, beat)
  const permits = yield* Semaphore.make(limit)
  const runs = new Set<Run>()
  /** Claims that are still ours in the storage, as far as we know, and that nobody works on. */
  const unused = new Set<Claim>()
  /** What was removed while a claim is under way: it may be among what comes. */
  let removed: Set<TaskId> | undefined
  let draining = false
  /** Open: there may be something to claim. */
  const wake = yield* Latch.make()
  /** Open: no answer is waited for any more. */
  const cut = yield* Latch.make()

  const stopRuns = (id: TaskId, why: Stop) => {
    for (const run of runs) if (run.claim.id === id) run.stop(why)
  }

  const ended = (run: Run, end: End) =>
    Effect.suspend(() => {
      if (end === "expired") unused.add(run.claim)
      return Effect.andThen(WorkerMetrics.countEnd(end), tell[end])
    })

  const start = (claim: Claim, leaseUntil: number, stop: Stop | undefined) =>
    Effect.suspend(() => {
      const run = new Run(claim, leaseUntil)
      if (stop !== undefined) run.stop(stop)
      // Who gets a task again has lost it before, and not noticed yet.
      stopRuns(claim.id, "lost")
      runs.add(run)
      return Effect.andThen(WorkerMetrics.countStart, run.execute(work, queue)).pipe(
        Effect.tap((end) => ended(run, end)),
        Effect.tapCause((cause) => Effect.logError("A run broke; its lease ends by itself", cause)),
        Effect.ensuring(
          Effect.suspend(() => {
            runs.delete(run)
            return permits.release(1)
          })
        ),
        Effect.annotateLogs({ task: claim.id }),
        Fibers.named("worker: runs a task"),
        Effect.forkDetach
      )
    })

  /** Claims for all permits that are free; says whether more may wait. What is claimed is never forgotten on the way. */
  const claim = Effect.uninterruptible(
    Effect.gen(function* () {
      let free = 0
      while (yield* permits.takeIfAvailable(1)) free++
      const gone = (removed = new Set<TaskId>())
      wake.closeUnsafe()
      const from = yield* elapsed
      const claims = yield* queue.claim({ worker: name, limit: free, lease }).pipe(
        Effect.raceFirst(Effect.as(cut.await, [])),
        Effect.onError(() => permits.release(free)),
        Effect.ensuring(Effect.sync(() => (removed = undefined)))
      )
      if (draining) {
        for (const claim of claims) unused.add(claim)
        yield* permits.release(free)
        return false
      }
      yield* permits.release(free - claims.length)
      for (const claim of claims) {
        yield* start(claim, from + leaseMillis, gone.has(claim.id) ? "cancelled" : undefined)
      }
      return claims.length === free
    })
  )

  const claiming = Effect.gen(function* () {
    // Only this takes permits, so the one that it sees is there when it claims.
    yield* permits.withPermit(Effect.void)
    const more = yield* Effect.orElseSucceed(claim, () => false)
    if (!more) yield* Effect.timeoutOption(wake.await, poll)
  })

  const renew = Effect.gen(function* () {
    const held = [...runs]
    if (held.length === 0) return
    const from = yield* elapsed
    const answer = yield* queue.renew(
      held.map(({ claim }) => claim),
      lease
    )
    const lost = new Set(answer.map(keyOf))
    for (const run of held) {
      if (lost.has(keyOf(run.claim))) run.lost()
      else run.renewed(from + leaseMillis)
    }
  })

  const handBack = Effect.suspend(() => {
    const claims = [...unused]
    if (claims.length === 0) return Effect.void
    return Effect.tap(queue.release(claims), () => {
      for (const claim of claims) unused.delete(claim)
      return Effect.logInfo(`Handed back tasks: ${claims.length}`)
    })
  })

  const bringBack = Effect.gen(function* () {
    yield* handBack
    const { again, failed } = yield* queue.reclaim(maxDeaths)
    if (failed.length > 0) {
      yield* WorkerMetrics.countEnd("failed", failed.length)
      yield* Effect.logWarning(`Failed, as their workers died too often: ${failed.join(", ")}`)
    }
    if (again.length > 0) {
      wake.openUnsafe()
      yield* Effect.logWarning(`Wait again, as their workers died: ${again.join(", ")}`)
    }
  })

  const listening = Stream.runForEach(queue.hints, (hint) =>
    Effect.sync(() => {
      if (hint._tag === "Waiting") return void wake.openUnsafe()
      removed?.add(hint.id)
      stopRuns(hint.id, "cancelled")
    })
  ).pipe(Effect.tapCause((cause) => Effect.logError("Hints have ended; tasks are asked for every poll", cause)))

  const everyBeat = (self: Effect.Effect<void, unknown>) =>
    Effect.repeat(Effect.ignore(retrying(self)), Schedule.spaced(beat))

  const endClaims = (loop: Fiber.Fiber<unknown>) =>
    Effect.sync(() => {
      draining = true
      loop.interruptUnsafe()
    })

  const stop = (loop: Fiber.Fiber<unknown>) =>
    Effect.gen(function* () {
      yield* endClaims(loop)
      if (runs.size > 0) yield* Effect.logInfo(`Stops: tasks that get ${Duration.format(drain)} to end: ${runs.size}`)
      // All permits back: neither does anything run, nor is a claim under way.
      const idle = permits.withPermits(limit)(Effect.void)
      yield* Effect.timeoutOption(idle, drain)
      const rest = [...runs]
      for (const run of rest) run.stop("handedBack")
      yield* cut.open
      yield* Effect.timeoutOption(idle, farewell)
      for (const { claim, state } of rest) if (state === "handedBack") unused.add(claim)
      if (runs.size > 0) yield* Effect.logWarning(`Tasks whose work does not let itself be interrupted: ${runs.size}`)
      yield* Effect.timeoutOption(Effect.ignore(retrying(handBack)), farewell)
      if (unused.size > 0) yield* Effect.logWarning(`Tasks that wait for the end of their lease: ${unused.size}`)
    })

  yield* WorkerMetrics.show(limit, () => runs.size)
  yield* Effect.forkScoped(Fibers.named("worker: listens")(listening), { startImmediately: true })
  yield* Effect.forkScoped(Fibers.named("worker: renews claims")(everyBeat(renew)))
  yield* Effect.forkScoped(Fibers.named("worker: brings back")(everyBeat(bringBack)))
  // Begun last, so ended first: claims are renewed, and cancelled tasks end, until nothing runs.
  const claims = Fibers.named("worker: claims")(Effect.forever(claiming))
  const loop = yield* Effect.acquireRelease(Effect.forkDetach(claims), stop)

  return Worker.of({
    status: Effect.sync(() => ({ running: runs.size, permits: limit, draining })),
    endClaims: endClaims(loop)
  })
})

const tell: Readonly<Record<End, Effect.Effect<void>>> = {
  completed: Effect.logInfo("The task is completed"),
  // Said where the reason is known.
  failed: Effect.void,
  refused: Effect.void,
  cancelled: Effect.logInfo("The task was cancelled"),
  lost: Effect.logInfo("The claim is lost: the task was removed, or is another worker's"),
  expired: Effect.logWarning("The lease has ended while the storage was away: the task will run again"),
  handedBack: Effect.logInfo("The task was interrupted, to be handed back: the worker stops")
}

/**
 * A worker as long as the layer lasts.
 *
 * ```ts
 * import { Layer } from "effect"
 * import * as Memory from "../../src/tasks/storage/Memory.ts"
 * import * as StubWork from "../../src/tasks/worker/StubWork.ts"
 * import * as Worker from "../../src/tasks/worker/Worker.ts"
 *
 * export const tasks = Worker.layer({ permits: 4 }).pipe(
 *   Layer.provide(StubWork.layer()),
 *   Layer.provideMerge(Memory.layer)
 * )
 * ```
 */
export const layer = (options?: Options): Layer.Layer<Worker, never, TaskQueue | Work> =>
  Layer.effect(Worker, make(options))
