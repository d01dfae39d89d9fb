/** What callers see while the database is away, and after it is back. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Stream } from "effect"
import type { TaskId } from "../../../src/tasks/domain/Task.ts"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Postgres from "../../../src/tasks/storage/Postgres.ts"
import type { StorageError } from "../../../src/tasks/storage/StorageError.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as postgres from "../postgres.ts"
import { all, claim, create, long } from "./contract.ts"
import { wire } from "./wire.ts"

const make = TaskStore.use((store) => store.create())

const unavailable = (operation: string) => (error: StorageError) => {
  assert.strictEqual(error._tag, "StorageError")
  assert.strictEqual(error.reason, "unavailable")
  assert.strictEqual(error.operation, operation)
}

/** Each port's operations, as one who needs them all. */
const everything = Effect.gen(function* () {
  const store = yield* TaskStore
  const queue = yield* TaskQueue
  const { task } = yield* store.create()
  const [first, ...rest] = yield* claim(5)
  yield* store.get(task.id)
  yield* queue.renew(rest, long)
  yield* queue.release(rest)
  if (first !== undefined) yield* Effect.catchTag(queue.complete(first, "done"), "ClaimLost", () => Effect.void)
  yield* queue.reclaim(5)
  yield* store.counts
  return task.id
})

postgres.describeCluster("while the database is away", () => {
  it.live(
    "every operation is unavailable, and goes on by itself when the database is back; nothing answered is lost",
    () =>
      Effect.gen(function* () {
        const cluster = yield* postgres.cluster
        yield* Effect.gen(function* () {
          const store = yield* TaskStore
          const made: Array<TaskId> = []
          const reasons = new Set<string>()
          let rounds = 0
          const caller = everything.pipe(
            Effect.tap((id) => Effect.sync(() => made.push(id))),
            Effect.catch((error) => {
              reasons.add(error.reason)
              return Effect.sleep("5 millis")
            }),
            Effect.tap(() => Effect.sync(() => rounds++)),
            Effect.forever
          )
          const callers = yield* Effect.forEach(Array.from({ length: 12 }), () => Effect.forkChild(caller))
          const untilMore = (count: number) => {
            const wanted = made.length + count
            return Effect.repeat(Effect.sleep("5 millis"), { until: () => made.length >= wanted })
          }
          for (const how of ["fast", "crash", "fast"] as const) {
            yield* untilMore(50)
            yield* Effect.promise(() => cluster.stop(how))
            unavailable("create")(yield* Effect.flip(store.create()))
            unavailable("ping")(yield* Effect.flip(store.ping))
            yield* Effect.promise(() => cluster.start())
          }
          yield* untilMore(50)
          yield* Fiber.interruptAll(callers)
          assert.deepStrictEqual([...reasons], ["unavailable"])
          assert.isAbove(rounds, made.length)
          for (const id of made) assert.isTrue(Option.isSome(yield* store.get(id)))
        }).pipe(Effect.provide(Postgres.layer(cluster.location)))
      })
  )

  it.live("a service that starts before its database waits for it", () =>
    Effect.gen(function* () {
      const cluster = yield* postgres.cluster
      yield* Effect.promise(() => cluster.stop())
      const fiber = yield* Effect.forkChild(Effect.provide(make, Postgres.layer(cluster.location)), {
        startImmediately: true
      })
      yield* Effect.promise(() => cluster.start())
      assert.isTrue((yield* Fiber.join(fiber)).fresh)
    })
  )

  it.live("hints come again after the connection that hears them was lost", () =>
    Effect.gen(function* () {
      const cluster = yield* postgres.cluster
      yield* Effect.gen(function* () {
        const { hints } = yield* TaskQueue
        const heard: Array<string> = []
        const listening = yield* Effect.forkChild(
          Stream.runForEach(hints, ({ _tag }) => Effect.sync(() => heard.push(_tag)))
        )
        const removed = Effect.gen(function* () {
          const store = yield* TaskStore
          yield* create(1)
          for (const { id } of yield* claim(1)) yield* store.remove(id)
        })
        const untilHeard = Effect.repeat(Effect.ignore(removed), { until: () => heard.includes("Removed") })
        yield* untilHeard
        yield* Effect.promise(() => cluster.stop("crash"))
        heard.length = 0
        yield* Effect.promise(() => cluster.start())
        yield* untilHeard
        assert.strictEqual(heard[0], "Waiting")
        yield* Fiber.interrupt(listening)
      }).pipe(Effect.provide(Postgres.layer(cluster.location)))
    })
  )
})

postgres.describeDatabase("when the database does not answer", () => {
  it.live("nobody there: the start fails, typed, after so many attempts", () =>
    Effect.gen(function* () {
      const nowhere = Postgres.layer({ ...(yield* postgres.database), port: 1, attempts: 2 })
      unavailable("migrate")(yield* Effect.flip(Effect.provide(make, nowhere)))
      const unprepared = Postgres.layer({ ...(yield* postgres.database), port: 1, attempts: 1, migrate: false })
      unavailable("connect")(yield* Effect.flip(Effect.provide(make, unprepared)))
    })
  )

  it.live("a server that accepts and says nothing: unavailable after connectTimeout", () =>
    Effect.gen(function* () {
      const cut = yield* wire(yield* postgres.database)
      cut.silence()
      const storage = Postgres.layer({ ...cut.location, attempts: 1, connectTimeout: "50 millis" })
      unavailable("migrate")(yield* Effect.flip(Effect.provide(make, storage)))
    })
  )

  it.live("a statement that hangs is unavailable after statementTimeout, and holds nothing after that", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      yield* Effect.gen(function* () {
        const store = yield* TaskStore
        const { task } = yield* store.create()
        const lock = "do $$ begin lock table tasks in access exclusive mode; perform pg_sleep(60); end $$"
        const locked = "select 1 from pg_locks where mode = 'AccessExclusiveLock' and relation = 'tasks'::regclass"
        const holder = yield* Effect.forkChild(Effect.exit(postgres.ask(location, lock)))
        yield* Effect.repeat(postgres.ask(location, locked), { until: (rows) => rows.length > 0 })
        unavailable("get")(yield* Effect.flip(store.get(task.id)))
        unavailable("remove")(yield* Effect.flip(store.remove(task.id)))
        yield* Fiber.interrupt(holder)
        assert.isTrue(Option.isSome(yield* store.get(task.id)))
      }).pipe(Effect.provide(Postgres.layer({ ...location, maxConnections: 1, statementTimeout: "200 millis" })))
    })
  )

  it.live("a wire that falls silent is unavailable in time, for all who wait, and goes on when it speaks again", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const cut = yield* wire(location)
      yield* Effect.gen(function* () {
        const store = yield* TaskStore
        yield* store.create()
        cut.silence()
        const errors = yield* Effect.all(
          Array.from({ length: 8 }, () => Effect.flip(store.counts)),
          { concurrency: "unbounded" }
        )
        for (const error of errors) unavailable("counts")(error)
        cut.restore()
        yield* Effect.retry(store.counts, { while: ({ reason }) => reason === "unavailable" })
        assert.strictEqual((yield* all).length, 1)
      }).pipe(Effect.provide(Postgres.layer({ ...cut.location, maxConnections: 2, statementTimeout: "150 millis" })))
    })
  )

  it.live("who listens to a wire that fell silent can stop, and so can the service", () =>
    Effect.gen(function* () {
      const cut = yield* wire(yield* postgres.database)
      yield* Effect.gen(function* () {
        const { hints } = yield* TaskQueue
        const listens = yield* Deferred.make<void>()
        const listening = yield* Effect.forkChild(Stream.runForEach(hints, () => Deferred.succeed(listens, undefined)))
        yield* Deferred.await(listens)
        cut.silence()
        yield* Fiber.interrupt(listening)
      }).pipe(Effect.provide(Postgres.layer(cut.location)))
    })
  )

  it.live("an administrator who ends all sessions costs an operation for each at most, and no restart", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const sessions = 10
      const context = yield* Layer.build(Postgres.layer({ ...location, maxConnections: sessions }))
      yield* Effect.gen(function* () {
        const store = yield* TaskStore
        yield* create(5)
        const end =
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        const seen = new Set<string>()
        for (let round = 0; round < 5; round++) {
          const callers = yield* Effect.forkChild(
            Effect.all(
              Array.from({ length: 20 }, () => Effect.result(store.counts)),
              { concurrency: "unbounded" }
            )
          )
          yield* postgres.ask(location, end)
          for (const result of yield* Fiber.join(callers)) {
            if (result._tag === "Failure") seen.add(result.failure.reason)
          }
          yield* Effect.retry(store.counts, { times: sessions })
        }
        assert.isFalse(seen.has("refused"))
      }).pipe(Effect.provide(context))
    })
  )
})
