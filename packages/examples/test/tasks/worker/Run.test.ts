/** Leases, results, and a storage that is away or refuses. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit } from "effect"
import { TestClock } from "effect/testing"
import { WorkFailed } from "../../../src/tasks/worker/Work.ts"
import { open, settle } from "./workshop.ts"

describe("Run", () => {
  describe("leases", () => {
    it.effect("work of many leases goes on under renewals, three in a lease, all claims in one", () =>
      Effect.gen(function* () {
        const { create, memory, storage, working } = yield* open({ lease: "30 seconds" })
        yield* create(5)
        storage.renewed.length = 0
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(working().length, 5)
        assert.deepStrictEqual(
          storage.renewed,
          Array.from({ length: 30 }, () => 5)
        )
        assert.deepStrictEqual(yield* memory.reclaim(5), { again: [], failed: [] })
      })
    )

    it.effect("nothing is renewed when nothing runs", () =>
      Effect.gen(function* () {
        const { storage } = yield* open()
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual(storage.renewed, [])
      })
    )

    it.effect("a claim that another worker has got is given up, and its permit is free", () =>
      Effect.gen(function* () {
        const { create, jobs, memory, metric, running, state } = yield* open({ hints: false, poll: "1 hour" })
        yield* TestClock.adjust("59 minutes")
        const [id] = yield* create(1)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* running, 1)
        yield* memory.release([{ id: id!, fence: 1 }])
        const [theirs] = yield* memory.claim({ worker: "other", limit: 1, lease: Duration.minutes(10) })
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(jobs[0]!.state, "interrupted")
        assert.strictEqual(yield* running, 0)
        assert.strictEqual(yield* metric("tasks.lost"), 1)
        yield* memory.complete(theirs!, "theirs")
        assert.include(yield* state(id!), { result: "theirs" })
      })
    )

    it.effect("who gets a task again gives up what it did before", () =>
      Effect.gen(function* () {
        const { create, jobs, memory, metric, running } = yield* open({ permits: 3 })
        const [id] = yield* create(1)
        yield* memory.release([{ id: id!, fence: 1 }])
        yield* settle
        assert.deepStrictEqual(
          jobs.map(({ state }) => state),
          ["interrupted", "working"]
        )
        assert.strictEqual(yield* running, 1)
        assert.strictEqual(yield* metric("tasks.lost"), 1)
      })
    )

    it.effect("a result under a lost claim is dropped, and only told", () =>
      Effect.gen(function* () {
        const { create, jobs, logs, memory, metric, running, state } = yield* open({ hints: false, poll: "1 hour" })
        yield* TestClock.adjust("59 minutes")
        const [id] = yield* create(1)
        yield* TestClock.adjust("1 minute")
        yield* memory.release([{ id: id!, fence: 1 }])
        yield* memory.claim({ worker: "other", limit: 1, lease: Duration.minutes(10) })
        yield* jobs[0]!.succeed("late")
        assert.strictEqual((yield* state(id!))._tag, "Running")
        assert.strictEqual(yield* running, 0)
        assert.strictEqual(yield* metric("tasks.lost"), 1)
        assert.deepStrictEqual(
          logs.filter(({ level }) => level === "Warn" || level === "Error"),
          []
        )
      })
    )

    it.effect("a failure under a lost claim is dropped too", () =>
      Effect.gen(function* () {
        const { create, jobs, memory, metric, state } = yield* open({ hints: false, poll: "1 hour" })
        yield* TestClock.adjust("59 minutes")
        const [id] = yield* create(1)
        yield* TestClock.adjust("1 minute")
        yield* memory.release([{ id: id!, fence: 1 }])
        yield* jobs[0]!.end(Exit.fail(new WorkFailed({ reason: "late" })))
        assert.strictEqual((yield* state(id!))._tag, "Waiting")
        assert.strictEqual(yield* metric("tasks.lost"), 1)
      })
    )

    it.effect("a renewal that crosses a result does not take it back", () =>
      Effect.gen(function* () {
        const { create, jobs, metric, storage } = yield* open({ lease: "30 seconds" })
        yield* create(1)
        // The result is kept, its answer takes so long that a renewal finds no claim any more.
        storage.after = (operation) => (operation === "complete" ? Effect.sleep("9 seconds") : Effect.void)
        yield* TestClock.adjust("9 seconds")
        yield* jobs[0]!.succeed()
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(yield* metric("tasks.completed"), 1)
        assert.strictEqual(yield* metric("tasks.lost"), 0)
      })
    )

    it.effect("tasks of a dead worker run here when their lease has ended", () =>
      Effect.gen(function* () {
        const { create, jobs, memory } = yield* open({ hints: false, lease: "30 seconds", poll: "1 hour" })
        yield* create(2)
        yield* memory.claim({ worker: "dead", limit: 2, lease: Duration.seconds(30) })
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual(jobs.length, 0)
        yield* TestClock.adjust("11 seconds")
        assert.strictEqual(jobs.length, 2)
      })
    )

    it.effect("a task whose workers died too often has failed, and is counted and told", () =>
      Effect.gen(function* () {
        const { create, jobs, logs, memory, metric, state } = yield* open({ hints: false, maxDeaths: 1 })
        const [id] = yield* create(1)
        yield* memory.claim({ worker: "dead", limit: 1, lease: Duration.seconds(1) })
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(jobs.length, 0)
        assert.strictEqual((yield* state(id!))._tag, "Failed")
        assert.strictEqual(yield* metric("tasks.failed"), 1)
        assert.isTrue(logs.some(({ level, message }) => level === "Warn" && message.includes(id!)))
      })
    )
  })

  describe("a storage that is away", () => {
    it.effect("for less than a lease: work goes on, and its result is kept when the storage is back", () =>
      Effect.gen(function* () {
        const { create, jobs, logs, running, state, storage } = yield* open({ lease: "30 seconds" })
        const [ended, working] = yield* create(2)
        storage.mode = "away"
        yield* jobs[0]!.succeed("kept")
        yield* TestClock.adjust("19 seconds")
        assert.strictEqual((yield* state(ended!))._tag, "Running")
        assert.strictEqual(yield* running, 2)
        storage.mode = "here"
        yield* TestClock.adjust("2 seconds")
        assert.include(yield* state(ended!), { _tag: "Completed", result: "kept" })
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(jobs[1]!.state, "working")
        assert.strictEqual((yield* state(working!))._tag, "Running")
        // Once away and once back, not once for each attempt.
        const told = logs.filter(({ level, message }) => level !== "Debug" && message.includes("storage"))
        assert.deepStrictEqual(
          told.map(({ level }) => level),
          ["Warn", "Info"]
        )
      })
    )

    for (const mode of ["away", "silent"] as const) {
      it.effect(
        `for longer than a lease (${mode}): nothing runs beyond its lease, nothing is lost, nobody has died`,
        () =>
          Effect.gen(function* () {
            const { create, jobs, memory, metric, running, state, storage, store, working } = yield* open({
              lease: "30 seconds",
              maxDeaths: 1,
              permits: 2
            })
            const [first, second, third] = yield* create(3)
            yield* jobs[0]!.succeed()
            yield* TestClock.adjust("1 second")
            storage.mode = mode
            yield* jobs[1]!.succeed("not kept")
            yield* TestClock.adjust("29 seconds")
            assert.strictEqual(yield* running, 0)
            assert.strictEqual(working().length, 0)
            assert.strictEqual(jobs[2]!.state, "interrupted")
            assert.strictEqual(yield* metric("tasks.expired"), 2)
            yield* TestClock.adjust("1 hour")
            assert.strictEqual(jobs.length, 3)
            storage.mode = "here"
            yield* TestClock.adjust("21 seconds")
            assert.deepStrictEqual(
              jobs.slice(3).map(({ id }) => id),
              [second, third]
            )
            for (const job of jobs.slice(3)) yield* job.succeed("again")
            assert.strictEqual((yield* state(first!))._tag, "Completed")
            assert.include(yield* state(second!), { result: "again" })
            assert.include(yield* state(third!), { result: "again" })
            assert.deepStrictEqual(yield* store.counts, { waiting: 0, running: 0 })
            assert.deepStrictEqual(yield* memory.reclaim(1), { again: [], failed: [] })
            const { released } = storage
            yield* TestClock.adjust("1 minute")
            assert.strictEqual(storage.released, released)
          })
      )
    }

    it.effect("after a renewal: the lease is counted from the question for it", () =>
      Effect.gen(function* () {
        const { create, jobs, storage } = yield* open({ lease: "30 seconds" })
        yield* create(1)
        storage.after = (operation) => (operation === "renew" ? Effect.sleep("5 seconds") : Effect.void)
        // Asked at 10 s, answered at 15 s.
        yield* TestClock.adjust("16 seconds")
        storage.mode = "away"
        yield* TestClock.adjust("23900 millis")
        assert.strictEqual(jobs[0]!.state, "working")
        yield* TestClock.adjust("100 millis")
        assert.strictEqual(jobs[0]!.state, "interrupted")
      })
    )

    it.effect("a lease is counted from the question for tasks, not from the answer", () =>
      Effect.gen(function* () {
        const { create, jobs, storage } = yield* open({ lease: "3 seconds" })
        storage.after = (operation) => (operation === "claim" ? Effect.sleep("999 millis") : Effect.void)
        yield* create(1)
        yield* TestClock.adjust("999 millis")
        assert.strictEqual(jobs.length, 1)
        storage.mode = "away"
        yield* TestClock.adjust("2001 millis")
        assert.strictEqual(jobs[0]!.state, "interrupted")
      })
    )

    it.effect("with defects it is as one that refuses: the worker goes on when they end", () =>
      Effect.gen(function* () {
        const { create, jobs, logs, storage } = yield* open()
        storage.mode = "dead"
        yield* create(1)
        yield* TestClock.adjust("1 minute")
        assert.isTrue(logs.some(({ cause, message }) => (message + cause).includes("a defect of the storage")))
        storage.mode = "here"
        yield* TestClock.adjust("1 second")
        assert.strictEqual(jobs.length, 1)
      })
    )
  })

  describe("a storage that refuses", () => {
    it.effect("a result: the task has failed and says so", () =>
      Effect.gen(function* () {
        const { create, jobs, logs, running, state, storage } = yield* open()
        const [id] = yield* create(1)
        storage.refuses.add("complete")
        yield* jobs[0]!.succeed("\0")
        const end = yield* state(id!)
        assert.strictEqual(end._tag, "Failed")
        assert.include(JSON.stringify(end), "refused the result")
        assert.strictEqual(yield* running, 0)
        assert.isTrue(logs.some(({ level, task }) => level === "Error" && task === id))
      })
    )

    it.effect("a result and its failure: the permit is free, and the task fails after so many deaths", () =>
      Effect.gen(function* () {
        const { create, jobs, metric, running, state, storage } = yield* open({ lease: "30 seconds", maxDeaths: 3 })
        const [id] = yield* create(1)
        storage.refuses.add("complete").add("fail")
        for (let run = 0; run < 3; run++) {
          yield* jobs[run]!.succeed()
          assert.strictEqual(yield* running, 0)
          yield* TestClock.adjust("40 seconds")
        }
        assert.strictEqual(jobs.length, 3)
        assert.strictEqual(yield* metric("tasks.refused"), 3)
        assert.strictEqual((yield* state(id!))._tag, "Failed")
      })
    )

    it.effect("a renewal: the work goes on until its lease ends", () =>
      Effect.gen(function* () {
        const { create, jobs, storage } = yield* open({ lease: "30 seconds" })
        yield* create(1)
        storage.refuses.add("renew")
        yield* TestClock.adjust("29 seconds")
        assert.strictEqual(jobs[0]!.state, "working")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(jobs[0]!.state, "interrupted")
        yield* settle
      })
    )
  })
})
