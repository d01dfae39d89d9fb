import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Memory from "../../../src/tasks/storage/Memory.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import { contract } from "./contract.ts"
import { model } from "./model.ts"

contract("Memory", Memory.layer)
model("Memory", Memory.layer, 200)

describe("Memory", () => {
  it.effect("tells time by the clock of Effect: a lease of 30 s ends after 30 s, no sooner", () =>
    Effect.gen(function* () {
      const store = yield* TaskStore
      const queue = yield* TaskQueue
      yield* TestClock.adjust("1 minute")
      const { task } = yield* store.create()
      assert.strictEqual(task.createdAt, 60_000)
      yield* TestClock.adjust("5 seconds")
      const lease = Duration.seconds(30)
      const claims = yield* queue.claim({ worker: "test", limit: 1, lease })
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* queue.renew(claims, lease), [])
      yield* TestClock.adjust("29999 millis")
      assert.deepStrictEqual(yield* queue.reclaim(5), { again: [], failed: [] })
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* queue.reclaim(5), { again: [task.id], failed: [] })
    }).pipe(Effect.provide(Memory.layer))
  )

  it.effect("each build has its own tasks", () =>
    Effect.gen(function* () {
      const make = TaskStore.use((store) => store.create()).pipe(Effect.provide(Memory.layer, { local: true }))
      yield* make
      assert.strictEqual((yield* make).task.place, 1)
    })
  )
})
