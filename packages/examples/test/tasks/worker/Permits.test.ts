/** Laws of the permits, whatever happens to tasks. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Schema } from "effect"
import { TestClock } from "effect/testing"
import { WorkFailed } from "../../../src/tasks/worker/Work.ts"
import { open, settle } from "./workshop.ts"

/** What happens to a task: the n-th of those that work, or of those that exist, modulo their number. */
const Event = Schema.Struct({
  what: Schema.Literals([
    "create",
    "succeed",
    "fail",
    "defect",
    "cancel",
    "cancel a waiting one",
    "take over",
    "storage goes",
    "storage comes",
    "a second passes",
    "a lease passes"
  ]),
  n: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 }))
})

describe("permits", () => {
  it.effect.prop(
    "are neither lost nor doubled, and every task that nobody removes ends",
    {
      permits: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
      hints: Schema.Boolean,
      events: Schema.Array(Event).check(Schema.isMaxLength(40))
    },
    ({ events, hints, permits }) =>
      Effect.gen(function* () {
        const lease = Duration.seconds(9)
        const { create, jobs, memory, running, storage, store, working } = yield* open({
          permits,
          hints,
          lease,
          maxDeaths: 1000
        })
        const begun = () => new Set(working().map(({ id }) => id))

        for (const { n, what } of events) {
          const job = working()[n % Math.max(1, working().length)]
          const all = yield* store.list({ limit: 1000 })
          const task = all[n % Math.max(1, all.length)]
          if (what === "create") yield* create(1 + (n % 4))
          else if (what === "succeed") yield* job?.succeed() ?? Effect.void
          else if (what === "fail") yield* job?.end(Exit.fail(new WorkFailed({ reason: "no" }))) ?? Effect.void
          else if (what === "defect") yield* job?.end(Exit.die("poison")) ?? Effect.void
          else if (what === "cancel" && job !== undefined) yield* store.remove(job.id)
          else if (what === "cancel a waiting one" && task?.state._tag === "Waiting") yield* store.remove(task.id)
          else if (what === "take over" && job !== undefined) {
            // Whatever its fence is: one of them is right.
            yield* memory.release(Array.from({ length: 50 }, (_, fence) => ({ id: job.id, fence })))
            if (n % 2 === 0) yield* memory.claim({ worker: "other", limit: 1, lease })
          } else if (what === "storage goes") storage.mode = n % 2 === 0 ? "away" : "silent"
          else if (what === "storage comes") storage.mode = "here"
          else if (what === "a second passes") yield* TestClock.adjust("1 second")
          else if (what === "a lease passes") yield* TestClock.adjust(lease)
          yield* settle
          assert.isAtMost(working().length, permits)
          assert.isAtMost(yield* running, permits)
          assert.strictEqual(begun().size, working().length, "no task runs twice at once")
        }

        // All permits are there: as many tasks run at once as there are permits, and not one more.
        storage.mode = "here"
        yield* create(permits + 1)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(working().length, permits)

        for (let turn = 0; turn < 200 && (yield* store.counts).waiting + working().length > 0; turn++) {
          for (const job of working()) yield* job.succeed()
          yield* TestClock.adjust("1 second")
        }
        assert.deepStrictEqual(yield* store.counts, { waiting: 0, running: 0 })
        assert.strictEqual(yield* running, 0)
        assert.isTrue(jobs.every(({ state }) => state !== "working"))
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 100 } }
  )
})
