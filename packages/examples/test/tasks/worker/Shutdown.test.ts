/** How a worker stops. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Latch } from "effect"
import { TestClock } from "effect/testing"
import { open, settle } from "./workshop.ts"

describe("Worker's shutdown", () => {
  it.effect("claims no more, and waits for what runs", () =>
    Effect.gen(function* () {
      const { create, jobs, state, stop, store, worker } = yield* open({ permits: 2, drain: "10 seconds" })
      const [first, second, third] = yield* create(3)
      const stopped = yield* stop
      assert.deepStrictEqual(yield* worker.status, { running: 2, permits: 2, draining: true })
      yield* TestClock.adjust("9 seconds")
      yield* jobs[0]!.succeed()
      assert.isUndefined(stopped.pollUnsafe())
      yield* jobs[1]!.succeed()
      assert.isDefined(stopped.pollUnsafe())
      assert.strictEqual((yield* state(first!))._tag, "Completed")
      assert.strictEqual((yield* state(second!))._tag, "Completed")
      assert.strictEqual((yield* state(third!))._tag, "Waiting")
      yield* store.create()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(jobs.length, 2)
    })
  )

  it.effect("told to claim no more, it lets what runs go on, and its end needs no more than that", () =>
    Effect.gen(function* () {
      const { create, jobs, state, stop, worker } = yield* open({ permits: 1, drain: "10 seconds" })
      const [first, second] = yield* create(2)
      yield* worker.endClaims
      yield* jobs[0]!.succeed()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* state(first!))._tag, "Completed")
      assert.strictEqual((yield* state(second!))._tag, "Waiting")
      assert.deepStrictEqual(yield* worker.status, { running: 0, permits: 1, draining: true })
      assert.isDefined((yield* stop).pollUnsafe())
    })
  )

  it.effect("a claim under way when it is told so is handed back, not begun", () =>
    Effect.gen(function* () {
      const { create, jobs, stop, storage, store, worker } = yield* open({ permits: 1, drain: "10 seconds" })
      storage.after = (operation) => (operation === "claim" ? worker.endClaims : Effect.void)
      yield* create(1)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(jobs.length, 0)
      assert.isDefined((yield* stop).pollUnsafe())
      assert.deepStrictEqual(yield* store.counts, { waiting: 1, running: 0 })
    })
  )

  it.effect("without work it ends at once", () =>
    Effect.gen(function* () {
      const { stop } = yield* open({ drain: "10 seconds" })
      assert.isDefined((yield* stop).pollUnsafe())
    })
  )

  it.effect("interrupts what has not ended in time and hands it back, with no death, to its old place", () =>
    Effect.gen(function* () {
      const { create, jobs, memory, metric, stop, store } = yield* open({ permits: 2, drain: "10 seconds" })
      const ids = yield* create(3)
      const stopped = yield* stop
      yield* TestClock.adjust("10 seconds")
      assert.isDefined(stopped.pollUnsafe())
      assert.deepStrictEqual(
        jobs.map(({ state }) => state),
        ["interrupted", "interrupted"]
      )
      assert.deepStrictEqual(yield* store.counts, { waiting: 3, running: 0 })
      assert.strictEqual(yield* metric("tasks.handed_back"), 2)
      const next = yield* memory
        .claim({ worker: "other", limit: 3, lease: Duration.minutes(1) })
        .pipe(Effect.map((claims) => claims.map(({ id }) => id)))
      assert.deepStrictEqual(next, ids)
    })
  )

  it.effect("claims are renewed while it waits, and cancelled tasks end", () =>
    Effect.gen(function* () {
      const { create, jobs, memory, stop, store } = yield* open({ lease: "3 seconds", drain: "1 minute" })
      const [cancelled] = yield* create(2)
      const stopped = yield* stop
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(yield* memory.reclaim(5), { again: [], failed: [] })
      yield* store.remove(cancelled!)
      yield* settle
      assert.strictEqual(jobs[0]!.state, "interrupted")
      assert.strictEqual(jobs[1]!.state, "working")
      yield* jobs[1]!.succeed()
      assert.isDefined(stopped.pollUnsafe())
    })
  )

  for (const mode of ["away", "silent"] as const) {
    it.effect(`is bounded when the storage is ${mode}: leases rule then`, () =>
      Effect.gen(function* () {
        const { create, jobs, logs, memory, stop, storage, store } = yield* open({
          lease: "30 seconds",
          drain: "10 seconds"
        })
        yield* create(2)
        storage.mode = mode
        yield* jobs[0]!.succeed("found, but not told")
        const stopped = yield* stop
        yield* TestClock.adjust("14 seconds")
        assert.isDefined(stopped.pollUnsafe())
        assert.strictEqual(jobs[1]!.state, "interrupted")
        assert.isTrue(logs.some(({ level, message }) => level === "Warn" && message.includes("end of their lease: 2")))
        yield* TestClock.adjust("16 seconds")
        assert.strictEqual((yield* memory.reclaim(5)).again.length, 2)
        assert.strictEqual((yield* store.counts).waiting, 2)
      })
    )
  }

  it.effect("hands back as soon as the storage is back, if that is in time", () =>
    Effect.gen(function* () {
      const { create, stop, storage, store } = yield* open({ drain: "10 seconds" })
      yield* create(2)
      storage.mode = "away"
      const stopped = yield* stop
      yield* TestClock.adjust("10 seconds")
      storage.mode = "here"
      yield* TestClock.adjust("1 second")
      assert.isDefined(stopped.pollUnsafe())
      assert.deepStrictEqual(yield* store.counts, { waiting: 2, running: 0 })
    })
  )

  it.effect("is bounded with work that cannot be interrupted, whose task is not handed back", () =>
    Effect.gen(function* () {
      const end = yield* Deferred.make<string>()
      let stuck = 0
      const { create, logs, stop, store } = yield* open({
        drain: "10 seconds",
        work: () => (stuck++ === 0 ? Effect.uninterruptible(Deferred.await(end)) : Effect.never)
      })
      yield* create(2)
      const stopped = yield* stop
      yield* TestClock.adjust("14 seconds")
      assert.isDefined(stopped.pollUnsafe())
      assert.deepStrictEqual(yield* store.counts, { waiting: 1, running: 1 })
      assert.isTrue(logs.some(({ level, message }) => level === "Warn" && message.includes("interrupted: 1")))
      yield* Deferred.succeed(end, "late")
      yield* settle
      // What it found out is not told: it was stopped.
      assert.deepStrictEqual(yield* store.counts, { waiting: 1, running: 1 })
    })
  )

  it.effect("what a claim under way brings is handed back without being begun", () =>
    Effect.gen(function* () {
      const { create, jobs, stop, storage, store } = yield* open({ drain: "10 seconds" })
      const answer = yield* Latch.make()
      storage.after = (operation) => (operation === "claim" ? answer.await : Effect.void)
      yield* create(2)
      const stopped = yield* stop
      assert.isUndefined(stopped.pollUnsafe())
      yield* answer.open
      yield* settle
      assert.isDefined(stopped.pollUnsafe())
      assert.strictEqual(jobs.length, 0)
      assert.deepStrictEqual(yield* store.counts, { waiting: 2, running: 0 })
    })
  )

  it.effect("does not wait longer than that for a claim under way", () =>
    Effect.gen(function* () {
      const { stop, storage } = yield* open({ drain: "3 seconds", lease: "10 minutes" })
      storage.mode = "silent"
      yield* TestClock.adjust("1 second")
      const stopped = yield* stop
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(stopped.pollUnsafe())
    })
  )

  it.effect("a result that is being told at the end of the time is given up, and the task runs again", () =>
    Effect.gen(function* () {
      const { create, jobs, stop, storage, store } = yield* open({ drain: "1 second" })
      yield* create(1)
      storage.before = (operation) => (operation === "complete" ? Effect.never : Effect.void)
      yield* jobs[0]!.succeed()
      const stopped = yield* stop
      yield* TestClock.adjust("1 second")
      assert.isDefined(stopped.pollUnsafe())
      assert.deepStrictEqual(yield* store.counts, { waiting: 1, running: 0 })
    })
  )
})
