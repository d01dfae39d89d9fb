import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Latch, Layer } from "effect"
import { TestClock } from "effect/testing"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as Memory from "../../../src/tasks/storage/Memory.ts"
import * as StubWork from "../../../src/tasks/worker/StubWork.ts"
import { Work, WorkFailed } from "../../../src/tasks/worker/Work.ts"
import * as Worker from "../../../src/tasks/worker/Worker.ts"
import { open, settle } from "./workshop.ts"

describe("Worker", () => {
  describe("permits and order", () => {
    it.effect("keeps the result of work, and the reason of its failure", () =>
      Effect.gen(function* () {
        const { create, jobs, running, state } = yield* open()
        const [good, bad] = yield* create(2)
        assert.strictEqual(yield* running, 2)
        yield* TestClock.adjust("2 seconds")
        yield* jobs[0]!.succeed("io work result = 7")
        yield* jobs[1]!.end(Exit.fail(new WorkFailed({ reason: "the disk is full" })))
        assert.include(yield* state(good!), { _tag: "Completed", result: "io work result = 7" })
        assert.include(yield* state(bad!), { _tag: "Failed", reason: "the disk is full" })
        assert.strictEqual(yield* running, 0)
      })
    )

    it.effect("starts tasks in the order of their creation, and never more than it has permits", () =>
      Effect.gen(function* () {
        const { create, jobs, running, worker } = yield* open({ permits: 3 })
        const ids = yield* create(8)
        for (let ended = 0; ended < 8; ended++) {
          assert.strictEqual(yield* running, Math.min(3, 8 - ended))
          assert.deepStrictEqual(
            jobs.map(({ id }) => id),
            ids.slice(0, 3 + ended)
          )
          yield* jobs[ended]!.succeed()
        }
        assert.deepStrictEqual(yield* worker.status, { running: 0, permits: 3, draining: false })
      })
    )

    it.effect("claims at once for a permit that becomes free, and for many with one claim", () =>
      Effect.gen(function* () {
        const { create, jobs, storage, working } = yield* open({ permits: 4, hints: false })
        yield* create(12)
        yield* TestClock.adjust("1 second")
        storage.claimed.length = 0
        yield* jobs[0]!.succeed()
        assert.strictEqual(working().length, 4)
        // While this claim waits for its answer three permits become free.
        const answer = yield* Latch.make()
        storage.after = (operation) => (operation === "claim" ? answer.await : Effect.void)
        for (const job of working()) yield* job.succeed()
        assert.deepStrictEqual(storage.claimed, [1, 1])
        yield* answer.open
        yield* settle
        assert.deepStrictEqual(storage.claimed, [1, 1, 3])
        assert.strictEqual(working().length, 4)
      })
    )

    it.effect("never claims more than it has free permits", () =>
      Effect.gen(function* () {
        const { create, jobs, storage, worker } = yield* open({ permits: 5 })
        storage.before = (operation) =>
          operation !== "claim"
            ? Effect.void
            : Effect.map(worker.status, ({ running }) => {
                assert.isAtMost(running + storage.claimed.at(-1)!, 5)
                assert.isAtLeast(storage.claimed.at(-1)!, 1)
              })
        yield* create(30)
        for (let next = 0; next < 30; next++) yield* jobs[next]!.succeed()
        assert.strictEqual(jobs.length, 30)
      })
    )
  })

  describe("waking", () => {
    it.effect("asks every poll when no hint comes", () =>
      Effect.gen(function* () {
        const { create, jobs, storage } = yield* open({ hints: false, poll: "3 seconds" })
        yield* create(1)
        yield* TestClock.adjust("2900 millis")
        assert.strictEqual(jobs.length, 0)
        yield* TestClock.adjust("100 millis")
        assert.strictEqual(jobs.length, 1)
        storage.claimed.length = 0
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual(storage.claimed.length, 10)
      })
    )

    it.effect("asks at once on a hint, also on one that comes while it asks", () =>
      Effect.gen(function* () {
        const { create, jobs, storage } = yield* open({ poll: "1 hour" })
        yield* create(1)
        assert.strictEqual(jobs.length, 1)
        const answer = yield* Latch.make()
        storage.after = (operation) => (operation === "claim" ? answer.await : Effect.void)
        yield* create(1)
        yield* create(1)
        yield* answer.open
        yield* settle
        assert.strictEqual(jobs.length, 3)
      })
    )

    it.effect("does not ask when a task ends and nothing waits", () =>
      Effect.gen(function* () {
        const { create, jobs, storage } = yield* open({ poll: "1 hour" })
        yield* create(3)
        storage.claimed.length = 0
        for (const job of jobs) yield* job.succeed()
        assert.deepStrictEqual(storage.claimed, [])
      })
    )

    it.effect("goes on by polling when the hints end", () =>
      Effect.gen(function* () {
        const { create, jobs } = yield* open({ hints: false })
        for (let n = 1; n <= 3; n++) {
          yield* create(1)
          yield* TestClock.adjust("1 second")
          assert.strictEqual(jobs.length, n)
        }
      })
    )
  })

  describe("cancelling", () => {
    it.effect("a waiting task never begins", () =>
      Effect.gen(function* () {
        const { create, jobs, store } = yield* open({ permits: 1 })
        const [, waiting, last] = yield* create(3)
        yield* store.remove(waiting!)
        yield* jobs[0]!.succeed()
        assert.deepStrictEqual(jobs.map(({ id }) => id).slice(1), [last])
      })
    )

    it.effect("a running task is interrupted at once, settles nothing, and the next one begins", () =>
      Effect.gen(function* () {
        const { create, jobs, metric, running, storage, store } = yield* open({ permits: 1 })
        const [first, second] = yield* create(2)
        const settled: Array<string> = []
        storage.before = (operation) => Effect.sync(() => settled.push(operation))
        yield* store.remove(first!)
        yield* settle
        assert.strictEqual(jobs[0]!.state, "interrupted")
        assert.strictEqual(jobs[1]!.id, second)
        assert.strictEqual(yield* running, 1)
        assert.notInclude(settled, "complete")
        assert.notInclude(settled, "fail")
        assert.strictEqual(yield* metric("tasks.cancelled"), 1)
      })
    )

    it.effect("a task whose result is on its way is let go", () =>
      Effect.gen(function* () {
        const { create, jobs, metric, running, storage, store } = yield* open()
        const [id] = yield* create(1)
        storage.before = (operation) => (operation === "complete" ? Effect.never : Effect.void)
        yield* jobs[0]!.succeed()
        assert.strictEqual(yield* running, 1)
        yield* store.remove(id!)
        yield* settle
        assert.strictEqual(yield* running, 0)
        assert.strictEqual(yield* metric("tasks.cancelled"), 1)
      })
    )

    it.effect("a finished task does not concern the worker", () =>
      Effect.gen(function* () {
        const { create, jobs, metric, store } = yield* open()
        const [id] = yield* create(1)
        yield* jobs[0]!.succeed()
        yield* store.remove(id!)
        yield* settle
        assert.strictEqual(yield* metric("tasks.cancelled"), 0)
        assert.strictEqual(yield* metric("tasks.completed"), 1)
      })
    )

    it.effect("a task that is removed while the answer to its claim is on its way never begins", () =>
      Effect.gen(function* () {
        const { create, jobs, running, storage, store } = yield* open()
        const answer = yield* Latch.make()
        storage.after = (operation) => (operation === "claim" ? answer.await : Effect.void)
        const [removed, kept] = yield* create(2)
        yield* store.remove(removed!)
        yield* settle
        yield* answer.open
        yield* settle
        assert.deepStrictEqual(
          jobs.map(({ id }) => id),
          [kept]
        )
        assert.strictEqual(yield* running, 1)
      })
    )

    it.effect("without a hint the next renewal tells", () =>
      Effect.gen(function* () {
        const { create, jobs, metric, store } = yield* open({ hints: false })
        const ids = yield* create(3)
        yield* TestClock.adjust("1 second")
        yield* store.remove(ids[1]!)
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(
          jobs.map(({ state }) => state),
          ["working", "interrupted", "working"]
        )
        assert.strictEqual(yield* metric("tasks.lost"), 1)
      })
    )

    it.effect("1000 tasks at once give back all permits", () =>
      Effect.gen(function* () {
        const { create, jobs, running, store, working } = yield* open({ permits: 1000 })
        const ids = yield* create(1000)
        assert.strictEqual(yield* running, 1000)
        yield* Effect.forEach(ids, (id) => store.remove(id), { discard: true, concurrency: "unbounded" })
        yield* settle
        assert.strictEqual(yield* running, 0)
        assert.isTrue(jobs.every(({ state }) => state === "interrupted"))
        yield* create(1001)
        assert.strictEqual(working().length, 1000)
      })
    )

    it.effect("work that cannot be interrupted keeps its permit until it has ended", () =>
      Effect.gen(function* () {
        const end = yield* Deferred.make<string>()
        const { create, running, store } = yield* open({
          permits: 1,
          work: () => Effect.uninterruptible(Deferred.await(end))
        })
        const [first] = yield* create(1)
        yield* store.remove(first!)
        yield* settle
        assert.strictEqual(yield* running, 1)
        yield* Deferred.succeed(end, "late")
        yield* settle
        assert.strictEqual(yield* running, 0)
      })
    )
  })

  describe("poison", () => {
    const secret = "password=hunter2"

    const poisons = {
      "a defect": () => Effect.die(new Error(secret)),
      "a throw": () => {
        throw new Error(secret)
      },
      "a failure with a defect": () =>
        Effect.ensuring(Effect.fail(new WorkFailed({ reason: secret })), Effect.die(new Error("in a finalizer")))
    }
    for (const [name, work] of Object.entries(poisons)) {
      it.effect(`${name} fails the task with a reason that shows no secret, and the log has the cause`, () =>
        Effect.gen(function* () {
          const { create, logs, running, state } = yield* open({ work })
          const [id] = yield* create(1)
          const end = yield* state(id!)
          assert.strictEqual(end._tag, "Failed")
          assert.notInclude(JSON.stringify(end), "hunter2")
          const told = logs.filter(({ level }) => level === "Error")
          assert.deepStrictEqual(
            told.map(({ task }) => task),
            [id]
          )
          assert.include(told[0]!.cause, name === "a failure with a defect" ? "in a finalizer" : secret)
          assert.strictEqual(yield* running, 0)
        })
      )
    }

    it.effect("work that interrupts itself has failed", () =>
      Effect.gen(function* () {
        const { create, metric, state } = yield* open({ work: () => Effect.interrupt })
        const [id] = yield* create(1)
        assert.strictEqual((yield* state(id!))._tag, "Failed")
        assert.strictEqual(yield* metric("tasks.failed"), 1)
      })
    )

    it.effect("1000 poisoned tasks give back all permits", () =>
      Effect.gen(function* () {
        const { create, metric, running, until } = yield* open({ permits: 7, work: () => Effect.die("poison") })
        yield* create(1000)
        yield* until(Effect.map(metric("tasks.failed"), (failed) => failed === 1000))
        assert.strictEqual(yield* metric("tasks.failed"), 1000)
        assert.strictEqual(yield* running, 0)
      })
    )
  })

  it.effect("tells what it does by status, metrics, and logs with the id of the task", () =>
    Effect.gen(function* () {
      const { create, jobs, logs, metric, stop, worker } = yield* open({ permits: 2 })
      assert.strictEqual(yield* metric("tasks.completed"), 0)
      const ids = yield* create(3)
      assert.deepStrictEqual(yield* worker.status, { running: 2, permits: 2, draining: false })
      assert.strictEqual(yield* metric("tasks.running"), 2)
      assert.strictEqual(yield* metric("tasks.permits"), 2)
      yield* jobs[0]!.succeed()
      yield* jobs[1]!.end(Exit.fail(new WorkFailed({ reason: "no disk" })))
      assert.strictEqual(yield* metric("tasks.started"), 3)
      assert.strictEqual(yield* metric("tasks.completed"), 1)
      assert.strictEqual(yield* metric("tasks.failed"), 1)
      assert.deepInclude(
        logs.map(({ level, message, task }) => ({ level, message, task })),
        { level: "Info", message: "The task is completed", task: ids[0] }
      )
      assert.isTrue(logs.some(({ message, task }) => message.includes("no disk") && task === ids[1]))
      yield* stop
      assert.isTrue((yield* worker.status).draining)
      assert.isUndefined(yield* metric("tasks.running"))
    })
  )

  it.effect("several share a queue: each task runs once, on all of them", () =>
    Effect.gen(function* () {
      const store = yield* TaskStore
      const ran: Array<string> = []
      const workers = yield* Effect.forEach([1, 2, 3], (n) =>
        Worker.make({ name: `worker ${n}`, permits: 2 }).pipe(
          Effect.provideService(Work, {
            run: (id) =>
              Effect.delay(
                Effect.sync(() => (ran.push(id), `by ${n}`)),
                "1 second"
              )
          })
        )
      )
      yield* Effect.forEach(Array.from({ length: 60 }), () => store.create())
      yield* settle
      for (const { status } of workers) assert.strictEqual((yield* status).running, 2)
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(new Set(ran).size, 60)
      assert.strictEqual(ran.length, 60)
      const by = new Set((yield* store.list({ limit: 100 })).map(({ state }) => JSON.stringify(state).slice(-5)))
      assert.strictEqual(by.size, 3)
    }).pipe(Effect.scoped, Effect.provide(Memory.layer))
  )

  it.effect("is a layer over a storage and work", () =>
    Effect.gen(function* () {
      const store = yield* TaskStore
      const { status } = yield* Worker.Worker
      yield* Effect.forEach(Array.from({ length: 40 }), () => store.create())
      yield* settle
      assert.deepStrictEqual(yield* status, { running: 16, permits: 16, draining: false })
      yield* TestClock.adjust("15 minutes")
      assert.deepStrictEqual(yield* store.counts, { waiting: 0, running: 0 })
    }).pipe(
      Effect.provide(
        Worker.layer().pipe(Layer.provide(StubWork.layer({ failures: 0.1 })), Layer.provideMerge(Memory.layer))
      )
    )
  )
})
