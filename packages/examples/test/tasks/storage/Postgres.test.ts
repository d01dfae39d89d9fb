import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Redacted, Scope } from "effect"
import { inspect } from "node:util"
import { type Claim, TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Postgres from "../../../src/tasks/storage/Postgres.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as postgres from "../postgres.ts"
import { all, claim, contract, create, lasting, long, over } from "./contract.ts"
import { model } from "./model.ts"

/** Another process, as far as the database can tell: pools of its own. */
const other = (location: postgres.Location, options: Partial<Postgres.Options> = {}) =>
  Effect.map(
    Layer.build(Layer.fresh(Postgres.layer({ ...location, ...options }))),
    (context) =>
      <A, E>(effect: Effect.Effect<A, E, TaskStore | TaskQueue>) =>
        Effect.provide(effect, context)
  )

postgres.describeDatabase("a PostgreSQL", () => {
  contract("Postgres", postgres.storage())
  model("Postgres", postgres.storage(), 60)

  it.live("two who claim at once get each of 1000 tasks exactly once, those created first before the others", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const one = yield* other(location)
      const two = yield* other(location)
      const made = yield* one(create(1000))
      const worker: Effect.Effect<ReadonlyArray<Claim>, unknown, TaskQueue> = Effect.gen(function* () {
        const claims = yield* claim(7)
        return claims.length === 0 ? [] : [...claims, ...(yield* worker)]
      })
      const claimed = yield* Effect.all([one(worker), two(worker), one(worker), two(worker)], {
        concurrency: "unbounded"
      })
      const place = new Map(made.map(({ id, place }) => [id, place]))
      for (const claims of claimed) {
        const places = claims.map(({ id }) => place.get(id)!)
        assert.deepStrictEqual(
          places,
          [...places].sort((a, b) => a - b)
        )
      }
      const ids = claimed.flat().map(({ id }) => id)
      assert.deepStrictEqual([...ids].sort(), made.map(({ id }) => id).sort())
    })
  )

  it.live("what a worker says after another took over its task is refused", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const dead = yield* other(location)
      const alive = yield* other(location)
      yield* dead(create(1))
      const [old] = yield* dead(claim(1, over))
      yield* alive(TaskQueue.use((queue) => queue.reclaim(5)))
      const [current] = yield* alive(claim(1))
      const late = yield* Effect.flip(dead(TaskQueue.use((queue) => queue.complete(old!, "late"))))
      assert.strictEqual(late._tag, "ClaimLost")
      yield* alive(TaskQueue.use((queue) => queue.complete(current!, "in time")))
      const [task] = yield* dead(all)
      assert.strictEqual(task?.state._tag === "Completed" && task.state.result, "in time")
    })
  )

  it.live("50 who create with one key at once, half of them elsewhere, get one task", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const processes = [yield* other(location), yield* other(location)]
      const created = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => processes[index % 2]!),
        (process) => process(TaskStore.use((store) => store.create("key"))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(created.map(({ task }) => task.id)).size, 1)
      assert.strictEqual(created.filter(({ fresh }) => fresh).length, 1)
    })
  )

  it.live("who creates with a key while its task is removed, again and again, always gets a task", () =>
    Effect.gen(function* () {
      const use = yield* other(yield* postgres.database)
      const maker = TaskStore.use((store) => store.create("key"))
      const remover = TaskStore.use((store) =>
        Effect.flatMap(store.list({ limit: 1 }), (tasks) => Effect.forEach(tasks, ({ id }) => store.remove(id)))
      )
      yield* use(
        Effect.all([Effect.replicateEffect(maker, 200), Effect.replicateEffect(remover, 200)], {
          concurrency: "unbounded"
        })
      )
    })
  )

  it.live("renewing, settling, reclaiming and removing the same tasks at once is no dead-lock", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const one = yield* other(location)
      const two = yield* other(location)
      const made = yield* one(create(30))
      const claims = yield* one(claim(30, over))
      const queue = <A, E>(use: (queue: TaskQueue["Service"]) => Effect.Effect<A, E>) => TaskQueue.use(use)
      yield* Effect.all(
        [
          one(queue((queue) => queue.renew(claims, over))),
          two(queue((queue) => queue.renew([...claims].reverse().slice(15), over))),
          two(queue((queue) => queue.reclaim(5))),
          one(queue((queue) => queue.release(claims.slice(0, 10)))),
          two(
            Effect.forEach(claims.slice(5, 20), (claim) => Effect.exit(queue((queue) => queue.complete(claim, "done"))))
          ),
          one(Effect.forEach(made.slice(10, 25), ({ id }) => TaskStore.use((store) => store.remove(id))))
        ],
        { concurrency: "unbounded" }
      )
      const { running } = yield* one(TaskStore.use((store) => store.counts))
      assert.isAtMost(running, 15)
    })
  )

  it.live("a restart loses nothing: not what waits, runs or is done, and not the keys", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const restart = <A, E>(effect: Effect.Effect<A, E, TaskStore | TaskQueue>) =>
        Effect.scoped(Effect.flatMap(other(location), (use) => use(effect)))
      const before = yield* restart(
        Effect.gen(function* () {
          yield* (yield* TaskStore).create("key")
          yield* create(2)
          const [first] = yield* claim(2)
          yield* (yield* TaskQueue).complete(first!, "done")
          return yield* all
        })
      )
      assert.deepStrictEqual((yield* restart(all)).map(lasting), before.map(lasting))
      const again = yield* restart(TaskStore.use((store) => store.create("key")))
      assert.isFalse(again.fresh)
      assert.deepStrictEqual(lasting(again.task), lasting(before[2]!))
    })
  )

  it.live("the end of the layer closes all connections, also the one that listens", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const scope = yield* Scope.make()
      const use = yield* other(location).pipe(Scope.provide(scope))
      const listener = yield* Effect.forkChild(use(Effect.never), { startImmediately: true })
      yield* use(
        Effect.all(
          Array.from({ length: 10 }, () => create(1)),
          { concurrency: "unbounded" }
        )
      )
      const open = postgres.ask(
        location,
        "select 1 from pg_stat_activity where application_name = 'tasks' and datname = current_database()"
      )
      assert.isAbove((yield* open).length, 1)
      yield* Fiber.interrupt(listener)
      yield* Scope.close(scope, Exit.void)
      // The server notices a moment later.
      yield* Effect.repeat(open, { until: (rows) => rows.length === 0 })
    })
  )

  it.live("what is wrong with the database is a typed error without the password", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const password = Redacted.make("open-sesame")
      const wrong = Postgres.layer({ ...location, password, database: "no_such_database", attempts: 5 })
      const error = yield* Effect.flip(Effect.provide(TaskStore, wrong))
      assert.strictEqual(error._tag, "StorageError")
      assert.strictEqual(error.reason, "refused")
      assert.notInclude(`${error.message} ${inspect(error, { depth: 9 })} ${JSON.stringify(error)}`, "open-sesame")
    })
  )

  it.live("an interrupted caller gives its connection back", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const use = yield* other(location, { maxConnections: 1 })
      const [task] = yield* use(create(1))
      const held = yield* Effect.forkChild(
        postgres
          .ask(location, "do $$ begin lock table tasks in access exclusive mode; perform pg_sleep(60); end $$")
          .pipe(Effect.exit),
        { startImmediately: true }
      )
      const locked = postgres.ask(
        location,
        "select 1 from pg_locks where mode = 'AccessExclusiveLock' and relation = 'tasks'::regclass"
      )
      yield* Effect.repeat(locked, { until: (rows) => rows.length > 0 })
      const fiber = yield* Effect.forkChild(use(TaskStore.use((store) => store.get(task!.id))), {
        startImmediately: true
      })
      const waits = postgres.ask(
        location,
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
      )
      yield* Effect.repeat(waits, { until: (rows) => rows.length > 0 })
      yield* Fiber.interrupt(fiber)
      yield* Effect.repeat(waits, { until: (rows) => rows.length === 0 })
      yield* Fiber.interrupt(held)
      assert.strictEqual((yield* use(all)).length, 1)
      assert.deepStrictEqual(yield* use(TaskQueue.use((queue) => queue.renew([], long))), [])
    })
  )
})
