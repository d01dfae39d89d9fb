/** A worker on tasks in memory, with work and a storage that do what a test says. */
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  References,
  Scope,
  Stream
} from "effect"
import { TestClock } from "effect/testing"
import type { TaskId } from "../../../src/tasks/domain/Task.ts"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Memory from "../../../src/tasks/storage/Memory.ts"
import { StorageError } from "../../../src/tasks/storage/StorageError.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import { Work, type WorkFailed } from "../../../src/tasks/worker/Work.ts"
import * as Worker from "../../../src/tasks/worker/Worker.ts"

type Operation = "claim" | "renew" | "complete" | "fail" | "release" | "reclaim"

/** One run of a task's work. */
interface Job {
  readonly id: TaskId
  readonly end: (exit: Exit.Exit<string, WorkFailed>) => Effect.Effect<void>
  readonly succeed: (result?: string) => Effect.Effect<void>
  state: "working" | "ended" | "interrupted"
}

export interface Options extends Worker.Options {
  /** What is done instead of waiting for the test to end the job. */
  readonly work?: Work["Service"]["run"] | undefined
  readonly hints?: boolean | undefined
}

/** How the storage behaves, by operation. */
interface Storage {
  mode: "here" | "away" | "silent" | "dead"
  /** Operations that are refused. */
  readonly refuses: Set<Operation>
  /** Runs before an operation reaches the storage, and after it has done what was asked but not answered. */
  before: (operation: Operation) => Effect.Effect<void>
  after: (operation: Operation) => Effect.Effect<void>
  /** Limits of claims, and how many claims each of the renewals had. */
  readonly claimed: Array<number>
  readonly renewed: Array<number>
  released: number
}

/** Lets what can go on without time go on. */
export const settle = Effect.repeat(TestClock.adjust(0), { times: 30 })

export const open = Effect.fnUntraced(function* ({ hints = true, work, ...options }: Options = {}) {
  const services = yield* Layer.build(Memory.layer)
  const store = Context.get(services, TaskStore)
  const memory = Context.get(services, TaskQueue)
  const logs: Array<{ readonly level: string; readonly message: string; readonly task: unknown; cause: string }> = []
  const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
    const { task } = fiber.getRef(References.CurrentLogAnnotations)
    logs.push({ level: logLevel, message: String(message), task, cause: Cause.pretty(cause) })
  })
  const registry: Metric.MetricRegistry = new Map()

  const storage: Storage = {
    mode: "here",
    refuses: new Set(),
    before: () => Effect.void,
    after: () => Effect.void,
    claimed: [],
    renewed: [],
    released: 0
  }
  const on = <A, E>(operation: Operation, self: Effect.Effect<A, E>): Effect.Effect<A, E | StorageError> =>
    Effect.suspend((): Effect.Effect<A, E | StorageError> => {
      const cause = "its reason"
      if (storage.mode === "away") return Effect.fail(new StorageError({ operation, reason: "unavailable", cause }))
      if (storage.mode === "silent") return Effect.never
      if (storage.mode === "dead") return Effect.die(new Error("a defect of the storage"))
      if (storage.refuses.has(operation)) return Effect.fail(new StorageError({ operation, reason: "refused", cause }))
      return Effect.andThen(storage.before(operation), self).pipe(Effect.tap(() => storage.after(operation)))
    })
  const queue = TaskQueue.of({
    claim: (claiming) => {
      storage.claimed.push(claiming.limit)
      return on("claim", memory.claim(claiming))
    },
    renew: (claims, lease) => {
      storage.renewed.push(claims.length)
      return on("renew", memory.renew(claims, lease))
    },
    complete: (claim, result) => on("complete", memory.complete(claim, result)),
    fail: (claim, reason) => on("fail", memory.fail(claim, reason)),
    release: (claims) => {
      storage.released += claims.length
      return on("release", memory.release(claims))
    },
    reclaim: (maxDeaths) => on("reclaim", memory.reclaim(maxDeaths)),
    hints: hints ? memory.hints : Stream.never
  })

  const jobs: Array<Job> = []
  const wait: Work["Service"]["run"] = (id) =>
    Effect.suspend(() => {
      const done = Deferred.makeUnsafe<string, WorkFailed>()
      const end = (exit: Exit.Exit<string, WorkFailed>) => Effect.andThen(Deferred.done(done, exit), settle)
      const job: Job = { id, end, succeed: (result = "done") => end(Exit.succeed(result)), state: "working" }
      jobs.push(job)
      return Deferred.await(done).pipe(
        Effect.onExit(() => Effect.sync(() => (job.state = "ended"))),
        Effect.onInterrupt(() => Effect.sync(() => (job.state = "interrupted")))
      )
    })

  const scope = yield* Scope.make()
  const worker = yield* Worker.make({ drain: 0, ...options }).pipe(
    Effect.provideService(TaskQueue, queue),
    Effect.provideService(Work, Work.of({ run: work ?? wait })),
    Effect.provideService(Metric.MetricRegistry, registry),
    Effect.provideService(References.MinimumLogLevel, "Debug"),
    Effect.provide(Logger.layer([logger])),
    Scope.provide(scope)
  )

  /** Closes the scope of the worker; the fiber ends when that has closed. */
  const stop = Effect.tap(Effect.forkDetach(Scope.close(scope, Exit.void)), settle)
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const stopped = yield* stop
      yield* TestClock.adjust("10 minutes")
      yield* Fiber.join(stopped)
    })
  )
  yield* settle

  return {
    memory,
    store,
    storage,
    worker,
    jobs,
    logs,
    stop,
    /** Tasks in order of creation. */
    create: (count: number) =>
      Effect.forEach(Array.from({ length: count }), () => Effect.map(store.create(), ({ task }) => task.id)).pipe(
        Effect.tap(settle)
      ),
    /** Settles until it is so; for what takes many turns. */
    until: (condition: Effect.Effect<boolean>) =>
      Effect.repeat(Effect.andThen(settle, condition), { until: (so) => so, times: 1000 }),
    /** Of jobs that work now. */
    working: () => jobs.filter(({ state }) => state === "working"),
    running: Effect.map(worker.status, ({ running }) => running),
    state: (id: TaskId) =>
      Effect.map(store.get(id), (task) => (Option.isSome(task) ? task.value.state : { _tag: "Removed" as const })),
    metric: (name: string) =>
      Effect.gen(function* () {
        const found = (yield* Metric.snapshot).find(({ id }) => id === name)
        return found?.type === "Counter"
          ? Number(found.state.count)
          : found?.type === "Gauge"
            ? Number(found.state.value)
            : undefined
      }).pipe(Effect.provideService(Metric.MetricRegistry, registry))
  }
})
