/** What every storage promises, sentence by sentence: the headers of `TaskStore` and `TaskQueue`, as tests. */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, type Layer, Option, Stream } from "effect"
import { type Task, TaskId } from "../../../src/tasks/domain/Task.ts"
import { type Hint, TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"

/** Nobody waits for this one to end. */
export const long = Duration.hours(1)

/** It has ended when it begins. */
export const over = Duration.zero

export const claim = (limit: number, lease = long) =>
  TaskQueue.use((queue) => queue.claim({ worker: "test", limit, lease }))

/** Makes so many, the oldest first. */
export const create = (count: number) =>
  TaskStore.use((store) => Effect.forEach(Array.from({ length: count }), () => store.create())).pipe(
    Effect.map((created) => created.map(({ task }) => task))
  )

export const all = TaskStore.use((store) => store.list({ limit: 1000 }))

/** All of a task but when it was read. */
export const lasting = ({ readAt: _, ...rest }: Task) => rest

/** The tests of one storage share it. */
export const clear = TaskStore.use((store) =>
  Effect.flatMap(all, (tasks) => Effect.forEach(tasks, ({ id }) => store.remove(id), { discard: true }))
)

const stateOf = (id: TaskId) =>
  TaskStore.use((store) => store.get(id)).pipe(Effect.map((task) => Option.getOrThrow(task).state))

const tagOf = (id: TaskId) => Effect.map(stateOf(id), ({ _tag }) => _tag)

const nobody = TaskId.make("00000000-0000-4000-8000-000000000000")

/** Hints may be missing: the cause is repeated until so many came. */
const hintsOf = <E, R>(count: number, which: (hint: Hint) => boolean, cause: Effect.Effect<unknown, E, R>) =>
  Effect.flatMap(TaskQueue, ({ hints }) =>
    Effect.raceFirst(
      Stream.runDrain(Stream.take(Stream.filter(hints, which), count)),
      Effect.forever(Effect.uninterruptible(cause))
    )
  )

const isWaiting = (hint: Hint) => hint._tag === "Waiting"

export const contract = <E>(name: string, storage: Layer.Layer<TaskStore | TaskQueue, E>): void =>
  layer(storage, { excludeTestServices: true, timeout: "60 seconds" })(name, (it) => {
    const promise = <A, E>(sentence: string, test: () => Effect.Effect<A, E, TaskStore | TaskQueue>) =>
      it.effect(sentence, () => Effect.andThen(clear, Effect.suspend(test)))

    promise("create makes a task that waits, with an id, a later place and the time", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const one = yield* store.create()
        const two = yield* store.create()
        assert.isTrue(one.fresh && two.fresh)
        assert.notStrictEqual(one.task.id, two.task.id)
        assert.isAbove(two.task.place, one.task.place)
        assert.isAtLeast(two.task.createdAt, one.task.createdAt)
        assert.isTrue(Number.isInteger(one.task.createdAt))
        assert.deepStrictEqual(one.task.state, { _tag: "Waiting" })
        const read = Option.getOrThrow(yield* store.get(one.task.id))
        assert.deepStrictEqual(lasting(read), lasting(one.task))
        assert.isAtLeast(read.readAt, one.task.readAt)
      })
    )

    promise("create with a key that a task has gives back that task and makes none", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const first = yield* store.create("key")
        const again = yield* store.create("key")
        const other = yield* store.create("another key")
        assert.isFalse(again.fresh)
        assert.deepStrictEqual(lasting(again.task), lasting(first.task))
        assert.notStrictEqual(other.task.id, first.task.id)
        assert.strictEqual((yield* all).length, 2)
      })
    )

    promise("create gives back the task as it is now, whatever its state", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const queue = yield* TaskQueue
        yield* store.create("key")
        const [claimed] = yield* claim(1)
        assert.strictEqual((yield* store.create("key")).task.state._tag, "Running")
        yield* queue.complete(claimed!, "done")
        assert.strictEqual((yield* store.create("key")).task.state._tag, "Completed")
      })
    )

    promise("50 who create with one key at once get one task, one of them as its maker", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const created = yield* Effect.all(
          Array.from({ length: 50 }, () => store.create("key")),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(created.map(({ task }) => task.id)).size, 1)
        assert.strictEqual(created.filter(({ fresh }) => fresh).length, 1)
        assert.strictEqual((yield* all).length, 1)
      })
    )

    promise("a key is free again when its task is removed", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const first = yield* store.create("key")
        yield* store.remove(first.task.id)
        const second = yield* store.create("key")
        assert.isTrue(second.fresh)
        assert.notStrictEqual(second.task.id, first.task.id)
      })
    )

    promise("a key is a text like any other: quotes, umlauts and 255 characters", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const keys = [`'; drop table tasks; --`, "ключ-ü", "x".repeat(255), `"\\n$1`]
        const made = yield* Effect.forEach(keys, (key) => store.create(key))
        const again = yield* Effect.forEach(keys, (key) => store.create(key))
        assert.deepStrictEqual(
          again.map(({ task }) => task.id),
          made.map(({ task }) => task.id)
        )
      })
    )

    promise("a task says when it was read, by the clock that says when it started", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        yield* create(1)
        const [claimed] = yield* claim(1)
        const read = Option.getOrThrow(yield* store.get(claimed!.id))
        const [listed] = yield* all
        assert(read.state._tag === "Running" && listed !== undefined)
        assert.isAtLeast(read.readAt, read.state.startedAt)
        assert.isAtLeast(listed.readAt, read.readAt)
      })
    )

    promise("get knows no task that is not there", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* (yield* TaskStore).get(nobody), Option.none())
      })
    )

    promise("list is newest first, page after page, without doubles and without holes", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const made = yield* create(7)
        yield* store.remove(made[3]!.id)
        const one = yield* store.list({ limit: 3 })
        const two = yield* store.list({ limit: 3, before: one.at(-1)!.place })
        const three = yield* store.list({ limit: 3, before: two.at(-1)!.place })
        const expected = [6, 5, 4, 2, 1, 0].map((index) => made[index]!.id)
        assert.deepStrictEqual(
          [...one, ...two].map(({ id }) => id),
          expected
        )
        assert.deepStrictEqual(three, [])
        assert.deepStrictEqual(yield* store.list({ limit: 0 }), [])
      })
    )

    promise("a page goes on where it was, also when its last task was removed and new ones came", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const made = yield* create(4)
        const [, last] = yield* store.list({ limit: 2 })
        yield* store.remove(last!.id)
        yield* create(2)
        const next = yield* store.list({ limit: 2, before: last!.place })
        assert.deepStrictEqual(
          next.map(({ id }) => id),
          [made[1]!.id, made[0]!.id]
        )
      })
    )

    promise("remove says whether there was one, in each state", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const queue = yield* TaskQueue
        const tasks = yield* create(4)
        const [completed, failed] = yield* claim(3)
        yield* queue.complete(completed!, "done")
        yield* queue.fail(failed!, "broken")
        assert.deepStrictEqual(
          (yield* all).map(({ state }) => state._tag),
          ["Waiting", "Running", "Failed", "Completed"]
        )
        for (const { id } of tasks) {
          assert.isTrue(yield* store.remove(id))
          assert.isFalse(yield* store.remove(id))
          assert.deepStrictEqual(yield* store.get(id), Option.none())
        }
        assert.deepStrictEqual(yield* all, [])
        assert.deepStrictEqual(yield* store.counts, { waiting: 0, running: 0 })
        assert.isFalse(yield* store.remove(nobody))
      })
    )

    promise("a removed task is claimed by nobody", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const [first, second] = yield* create(2)
        yield* store.remove(first!.id)
        assert.deepStrictEqual(
          (yield* claim(5)).map(({ id }) => id),
          [second!.id]
        )
      })
    )

    promise("a task that runs is removed too, and its worker is told by the queue", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const queue = yield* TaskQueue
        yield* create(1)
        const [claimed] = yield* claim(1)
        yield* store.remove(claimed!.id)
        assert.deepStrictEqual(yield* queue.renew([claimed!], long), [claimed!])
        const refused = yield* Effect.flip(queue.complete(claimed!, "late"))
        assert.strictEqual(refused._tag, "ClaimLost")
        assert.include(refused.message, claimed!.id)
        assert.deepStrictEqual(yield* store.get(claimed!.id), Option.none())
      })
    )

    promise("counts tell how many wait and how many run", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const queue = yield* TaskQueue
        yield* create(5)
        const [first] = yield* claim(2)
        assert.deepStrictEqual(yield* store.counts, { waiting: 3, running: 2 })
        yield* queue.complete(first!, "done")
        assert.deepStrictEqual(yield* store.counts, { waiting: 3, running: 1 })
      })
    )

    promise("ping completes", () => Effect.andThen(TaskStore, (store) => store.ping))

    promise("those created first are claimed before the others, at most so many, maybe none", () =>
      Effect.gen(function* () {
        const made = yield* create(5)
        const ids = [...(yield* claim(2)), ...(yield* claim(0)), ...(yield* claim(9)), ...(yield* claim(1))]
        assert.deepStrictEqual(
          ids.map(({ id }) => id),
          made.map(({ id }) => id)
        )
      })
    )

    promise("a task is claimed by one worker at a time, when ten of them ask at once", () =>
      Effect.gen(function* () {
        yield* create(40)
        const claims = yield* Effect.all(
          Array.from({ length: 10 }, () => claim(7)),
          { concurrency: "unbounded" }
        )
        const ids = claims.flat().map(({ id }) => id)
        assert.strictEqual(ids.length, 40)
        assert.strictEqual(new Set(ids).size, 40)
      })
    )

    promise("a claimed task runs, since it was claimed", () =>
      Effect.gen(function* () {
        const [task] = yield* create(1)
        yield* claim(1)
        const state = yield* stateOf(task!.id)
        assert.strictEqual(state._tag, "Running")
        assert.isAtLeast(state._tag === "Running" ? state.startedAt : 0, task!.createdAt)
      })
    )

    promise("a claim whose lease has not ended is not reclaimed, and renew makes it so", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(2)
        const [held] = yield* claim(1)
        const [renewed] = yield* claim(1, over)
        assert.deepStrictEqual(yield* queue.renew([held!, renewed!], long), [])
        assert.deepStrictEqual(yield* queue.reclaim(5), { again: [], failed: [] })
      })
    )

    promise("after its lease a claim holds until somebody reclaims its task", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(2)
        const [first, second] = yield* claim(2, over)
        yield* queue.complete(first!, "done")
        assert.deepStrictEqual(yield* queue.reclaim(5), { again: [second!.id], failed: [] })
        assert.strictEqual((yield* Effect.flip(queue.complete(second!, "late")))._tag, "ClaimLost")
        assert.deepStrictEqual(yield* queue.renew([second!], long), [second!])
        assert.strictEqual(yield* tagOf(second!.id), "Waiting")
      })
    )

    promise("renew gives the lost ones only: removed, handed back, settled, or somebody else's", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const queue = yield* TaskQueue
        yield* create(5)
        const [removed, released, settled, taken, held] = yield* claim(5)
        yield* store.remove(removed!.id)
        yield* queue.release([released!, taken!])
        yield* queue.complete(settled!, "done")
        const again = yield* claim(2)
        yield* queue.release(again.filter(({ id }) => id === released!.id))
        const lost = yield* queue.renew([removed!, released!, settled!, taken!, held!], long)
        assert.deepStrictEqual(lost, [removed!, released!, settled!, taken!])
        assert.deepStrictEqual(yield* queue.renew([], long), [])
      })
    )

    promise("renew tells an older claim of a task from the newer one, also when one worker has both", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(1)
        const [old] = yield* claim(1, over)
        yield* queue.reclaim(5)
        const [current] = yield* claim(1)
        assert.deepStrictEqual(yield* queue.renew([old!, current!], long), [old!])
        assert.deepStrictEqual(yield* queue.renew([current!, old!], long), [old!])
      })
    )

    promise("renew under an older fence prolongs nobody's lease", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(1)
        const [old] = yield* claim(1, over)
        yield* queue.reclaim(5)
        yield* claim(1, over)
        assert.deepStrictEqual(yield* queue.renew([old!], long), [old!])
        assert.deepStrictEqual((yield* queue.reclaim(5)).again, [old!.id])
      })
    )

    promise("each claim of a task has a higher fence than the one before", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(1)
        const fences: Array<number> = []
        for (const back of ["release", "reclaim", "release", "end"] as const) {
          const [claimed] = yield* claim(1, over)
          fences.push(claimed!.fence)
          if (back === "release") yield* queue.release([claimed!])
          if (back === "reclaim") yield* queue.reclaim(9)
        }
        assert.deepStrictEqual(
          fences,
          [...new Set(fences)].sort((a, b) => a - b)
        )
      })
    )

    promise("a result under an older fence is refused, and so is a failure, and the newer one counts", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(1)
        const [old] = yield* claim(1, over)
        yield* queue.reclaim(5)
        const [current] = yield* claim(1)
        const refused = yield* Effect.flip(queue.complete(old!, "late"))
        assert.strictEqual(refused._tag, "ClaimLost")
        assert.strictEqual((yield* Effect.flip(queue.fail(old!, "late")))._tag, "ClaimLost")
        assert.strictEqual(yield* tagOf(old!.id), "Running")
        yield* queue.complete(current!, "in time")
        const state = yield* stateOf(old!.id)
        assert.strictEqual(state._tag === "Completed" && state.result, "in time")
      })
    )

    promise("complete and fail keep what was found out, and when", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(2)
        const [one, two] = yield* claim(2)
        yield* queue.complete(one!, "the result: 'quoted', Grüße, 漢字, 🎉\n")
        yield* queue.fail(two!, "the reason")
        const completed = yield* stateOf(one!.id)
        const failed = yield* stateOf(two!.id)
        assert.strictEqual(
          completed._tag === "Completed" && completed.result,
          "the result: 'quoted', Grüße, 漢字, 🎉\n"
        )
        assert.strictEqual(failed._tag === "Failed" && failed.reason, "the reason")
        for (const state of [completed, failed]) {
          if (state._tag === "Completed" || state._tag === "Failed") assert.isAtLeast(state.finishedAt, state.startedAt)
        }
      })
    )

    promise("a result may be empty, of a megabyte, or hold a NUL: it is kept, and never makes the task run again", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(3)
        const claims = yield* claim(3)
        const results = ["", "x".repeat(1 << 20), "a\0b"]
        for (const [index, claimed] of claims.entries()) yield* queue.complete(claimed, results[index]!)
        const kept: Array<string> = []
        for (const { id } of claims) {
          const state = yield* stateOf(id)
          kept.push(state._tag === "Completed" ? state.result : state._tag)
        }
        assert.deepStrictEqual(kept.slice(0, 2), results.slice(0, 2))
        assert.match(kept[2]!, /^a.b$/s)
      })
    )

    promise("settling again is no error, the first one stays, and the other way it is refused", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(2)
        const [one, two] = yield* claim(2)
        yield* queue.complete(one!, "first")
        yield* queue.complete(one!, "second")
        yield* queue.fail(two!, "first")
        yield* queue.fail(two!, "second")
        assert.strictEqual((yield* Effect.flip(queue.fail(one!, "no")))._tag, "ClaimLost")
        assert.strictEqual((yield* Effect.flip(queue.complete(two!, "no")))._tag, "ClaimLost")
        const completed = yield* stateOf(one!.id)
        const failed = yield* stateOf(two!.id)
        assert.strictEqual(completed._tag === "Completed" && completed.result, "first")
        assert.strictEqual(failed._tag === "Failed" && failed.reason, "first")
      })
    )

    promise("release puts a task back to its old place, for anybody, at once, and counts no death", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const made = yield* create(3)
        const claims = yield* claim(2)
        yield* queue.release([claims[1]!, claims[0]!])
        yield* queue.release(claims)
        assert.strictEqual(yield* tagOf(made[0]!.id), "Waiting")
        const again = yield* claim(3, over)
        assert.deepStrictEqual(
          again.map(({ id }) => id),
          made.map(({ id }) => id)
        )
        assert.deepStrictEqual((yield* queue.reclaim(2)).failed, [])
      })
    )

    promise("release passes over claims that are lost", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(2)
        const [old, settled] = yield* claim(2, over)
        yield* queue.complete(settled!, "done")
        yield* queue.reclaim(5)
        const [current] = yield* claim(1)
        yield* queue.release([old!, settled!, { id: nobody, fence: 1 }])
        yield* queue.release([])
        assert.strictEqual(yield* tagOf(current!.id), "Running")
        assert.strictEqual(yield* tagOf(settled!.id), "Completed")
      })
    )

    promise("reclaim puts tasks whose lease ended back to their old place", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const made = yield* create(3)
        yield* claim(2, over)
        const { again, failed } = yield* queue.reclaim(5)
        assert.deepStrictEqual([...again].sort(), [made[0]!.id, made[1]!.id].sort())
        assert.deepStrictEqual(failed, [])
        assert.deepStrictEqual(
          (yield* claim(3)).map(({ id }) => id),
          made.map(({ id }) => id)
        )
      })
    )

    promise("a task whose workers died maxDeaths times has failed, and nobody claims it again", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const [task] = yield* create(1)
        for (const _ of [1, 2]) {
          yield* claim(1, over)
          assert.deepStrictEqual(yield* queue.reclaim(3), { again: [task!.id], failed: [] })
        }
        const [last] = yield* claim(1, over)
        assert.deepStrictEqual(yield* queue.reclaim(3), { again: [], failed: [task!.id] })
        const state = yield* stateOf(task!.id)
        assert.strictEqual(state._tag === "Failed" && state.reason, "Its workers died 3 times")
        assert.deepStrictEqual(yield* claim(1), [])
        assert.strictEqual((yield* Effect.flip(queue.complete(last!, "late")))._tag, "ClaimLost")
        assert.strictEqual((yield* Effect.flip(queue.fail(last!, "late")))._tag, "ClaimLost")
        assert.deepStrictEqual(yield* queue.reclaim(3), { again: [], failed: [] })
      })
    )

    promise("with maxDeaths 1 no task runs twice after a death, and what it took is known", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        const [task] = yield* create(1)
        yield* create(5)
        yield* claim(1, over)
        const running = yield* stateOf(task!.id)
        assert.deepStrictEqual((yield* queue.reclaim(1)).failed, [task!.id])
        const state = yield* stateOf(task!.id)
        assert.strictEqual(state._tag === "Failed" && state.reason, "Its worker died")
        assert.isTrue(running._tag === "Running" && state._tag === "Failed" && state.startedAt === running.startedAt)
      })
    )

    promise("those who reclaim at once reclaim each task once", () =>
      Effect.gen(function* () {
        const queue = yield* TaskQueue
        yield* create(20)
        yield* claim(20, over)
        const reclaimed = yield* Effect.all(
          Array.from({ length: 5 }, () => queue.reclaim(5)),
          { concurrency: "unbounded" }
        )
        const ids = reclaimed.flatMap(({ again }) => again)
        assert.strictEqual(ids.length, 20)
        assert.strictEqual(new Set(ids).size, 20)
      })
    )

    promise("hints tell of tasks that wait: new ones, released ones, reclaimed ones", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const queue = yield* TaskQueue
        // A storage may begin with one, as it cannot know what was before.
        const seen = 2
        yield* hintsOf(seen, isWaiting, Effect.andThen(create(1), clear))
        yield* store.create()
        yield* hintsOf(seen, isWaiting, Effect.flatMap(claim(1), queue.release))
        yield* hintsOf(seen, isWaiting, Effect.andThen(claim(1, over), queue.reclaim(Number.MAX_SAFE_INTEGER)))
      })
    )

    promise("hints tell of the removal of a task that runs", () =>
      Effect.gen(function* () {
        const store = yield* TaskStore
        const removed = new Set<TaskId>()
        const remove = Effect.gen(function* () {
          yield* create(1)
          for (const { id } of yield* claim(1)) {
            removed.add(id)
            yield* store.remove(id)
          }
        })
        yield* hintsOf(1, (hint) => hint._tag === "Removed" && removed.has(hint.id), remove)
      })
    )
  })
