import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import * as QueueMetrics from "../../../src/tasks/queue/QueueMetrics.ts"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Memory from "../../../src/tasks/storage/Memory.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"

const figure = Effect.map(Metric.snapshot, (all) => {
  const found = all.find(({ id }) => id === "tasks.waiting")
  return found?.type === "Gauge" ? Number(found.state.value) : undefined
})

describe("QueueMetrics", () => {
  it.effect("says how many wait, every ten seconds", () =>
    Effect.gen(function* () {
      const store = yield* TaskStore
      const queue = yield* TaskQueue
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* figure, 0)
      yield* Effect.replicateEffect(store.create(), 3)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* figure, 3)
      yield* queue.claim({ worker: "one", limit: 2, lease: Duration.minutes(1) })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* figure, 1)
    }).pipe(Effect.provide(QueueMetrics.layer.pipe(Layer.provideMerge(Memory.layer))))
  )
})
