/** Whatever is done in whatever order, a storage agrees with a model that a reader can check. */
import { assert, layer } from "@effect/vitest"
import { Effect, type Layer, Schema } from "effect"
import type { TaskId } from "../../../src/tasks/domain/Task.ts"
import { type Claim, TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import { all, clear, claim, long, over } from "./contract.ts"

interface Model {
  readonly id: TaskId
  readonly key: string | undefined
  tag: "Waiting" | "Running" | "Completed" | "Failed"
  /** Of the claim that holds it, or settled it. */
  fence: number | undefined
  over: boolean
  deaths: number
  text: string | undefined
}

const maxDeaths = 2

const step = (numbers: { readonly what: number; readonly which: number }, tasks: Array<Model>, claims: Array<Claim>) =>
  Effect.gen(function* () {
    const store = yield* TaskStore
    const queue = yield* TaskQueue
    const chosen = claims[numbers.which % Math.max(1, claims.length)]
    const task = chosen && tasks.find(({ id }) => id === chosen.id)
    const held = task?.tag === "Running" && task.fence === chosen?.fence ? task : undefined
    const some = claims.filter((_, index) => index % 3 === numbers.which % 3)
    const heldOf = (claimed: Claim) =>
      tasks.find(({ fence, id, tag }) => id === claimed.id && tag === "Running" && fence === claimed.fence)

    const settle = (tag: "Completed" | "Failed") =>
      Effect.gen(function* () {
        if (chosen === undefined) return
        const text = `text ${numbers.which}`
        const answer = yield* Effect.exit(tag === "Completed" ? queue.complete(chosen, text) : queue.fail(chosen, text))
        const again = task?.tag === tag && task.fence === chosen.fence
        assert.strictEqual(answer._tag, held !== undefined || again ? "Success" : "Failure")
        if (held !== undefined) Object.assign(held, { tag, text })
      })

    switch (numbers.what) {
      case 0:
      case 1: {
        const key = numbers.which % 2 === 0 ? undefined : `key ${numbers.which % 5}`
        const known = key === undefined ? undefined : tasks.find((task) => task.key === key)
        const { fresh, task } = yield* store.create(key)
        assert.strictEqual(fresh, known === undefined)
        if (known !== undefined) return assert.strictEqual(task.id, known.id)
        tasks.push({ id: task.id, key, tag: "Waiting", fence: undefined, over: false, deaths: 0, text: undefined })
        return
      }
      case 2:
      case 3: {
        const ends = numbers.what === 3
        const next = tasks.filter(({ tag }) => tag === "Waiting").slice(0, numbers.which % 4)
        const claimed = yield* claim(numbers.which % 4, ends ? over : long)
        assert.deepStrictEqual(
          claimed.map(({ id }) => id),
          next.map(({ id }) => id)
        )
        for (const [index, task] of next.entries()) {
          const { fence } = claimed[index]!
          for (const older of claims) if (older.id === task.id) assert.isAbove(fence, older.fence)
          Object.assign(task, { tag: "Running", fence, over: ends })
        }
        claims.push(...claimed)
        return
      }
      case 4:
        return yield* settle("Completed")
      case 5:
        return yield* settle("Failed")
      case 6: {
        const lost = yield* queue.renew(some, long)
        assert.deepStrictEqual(
          lost,
          some.filter((claimed) => heldOf(claimed) === undefined)
        )
        for (const claimed of some) Object.assign(heldOf(claimed) ?? {}, { over: false })
        return
      }
      case 7: {
        yield* queue.release(some)
        for (const claimed of some) Object.assign(heldOf(claimed) ?? {}, { tag: "Waiting", fence: undefined })
        return
      }
      case 8: {
        const dead = tasks.filter(({ over, tag }) => tag === "Running" && over)
        const { again, failed } = yield* queue.reclaim(maxDeaths)
        for (const task of dead) {
          task.deaths++
          task.fence = undefined
          task.tag = task.deaths < maxDeaths ? "Waiting" : "Failed"
          if (task.tag === "Failed") task.text = "Its workers died 2 times"
        }
        const ids = (tag: string) => dead.filter((task) => task.tag === tag).map(({ id }) => id)
        assert.deepStrictEqual([...again].sort(), ids("Waiting").sort())
        assert.deepStrictEqual([...failed].sort(), ids("Failed").sort())
        return
      }
      default: {
        const index = numbers.which % Math.max(1, tasks.length)
        const [removed] = tasks.splice(index, 1)
        if (removed !== undefined) assert.isTrue(yield* store.remove(removed.id))
      }
    }
  })

const check = (tasks: ReadonlyArray<Model>) =>
  Effect.gen(function* () {
    const store = yield* TaskStore
    const seen = (yield* all).map(({ id, state }) => {
      const text = state._tag === "Completed" ? state.result : state._tag === "Failed" ? state.reason : undefined
      return { id, tag: state._tag, text }
    })
    assert.deepStrictEqual(seen, tasks.map(({ id, tag, text }) => ({ id, tag, text })).reverse())
    const count = (tag: string) => tasks.filter((task) => task.tag === tag).length
    assert.deepStrictEqual(yield* store.counts, { waiting: count("Waiting"), running: count("Running") })
  })

const number = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))
const steps = Schema.Array(Schema.Struct({ what: number(9), which: number(29) })).check(
  Schema.isMinLength(5),
  Schema.isMaxLength(40)
)

export const model = <E>(name: string, storage: Layer.Layer<TaskStore | TaskQueue, E>, runs: number): void =>
  layer(storage, { excludeTestServices: true, timeout: "60 seconds" })(`${name}, by a model`, (it) => {
    it.effect.prop(
      "agrees with the model after each step, whatever is done in whatever order",
      [steps],
      ([steps]) =>
        Effect.gen(function* () {
          yield* clear
          const tasks: Array<Model> = []
          const claims: Array<Claim> = []
          for (const numbers of steps) {
            yield* step(numbers, tasks, claims)
            yield* check(tasks)
          }
        }),
      { arbitrary: { runs, size: 40 }, timeout: 60_000 }
    )
  })
