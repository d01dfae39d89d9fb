/** The typed client, where it does more than the API says: following pages. */
import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Effect, Schema, Stream } from "effect"
import type { TaskId } from "../../../src/tasks/domain/Task.ts"
import * as Client from "../../../src/tasks/http/Client.ts"
import { service } from "./service.ts"

const Step = Schema.Literals(["create", "remove"])

/** What happens between two pages, and how large they are. */
const Meanwhile = {
  before: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 })),
  limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
  steps: Schema.Array(Step).check(Schema.isMaxLength(8)),
  which: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100 }))
}

describe("Client", () => {
  it.live("is over a pool, and tells errors by their tags", () =>
    Effect.gen(function* () {
      const { client } = yield* service
      const { body } = yield* client.create({ headers: {} })
      const there = client.status({ params: { id: body.id } }).pipe(
        Effect.as(true),
        Effect.catchTag("UnknownTask", () => Effect.succeed(false))
      )
      assert.isTrue(yield* there)
      yield* client.cancel({ params: { id: body.id } })
      assert.isFalse(yield* there)
    })
  )

  it.live.prop(
    "follows Link: each task that was there all the time once, newest first, and none that came meanwhile",
    Meanwhile,
    ({ before, limit, steps, which }) =>
      Effect.gen(function* () {
        const { client, store } = yield* service
        const made = yield* Effect.replicateEffect(store.create(), before)
        const ids = made.map(({ task }) => task.id)
        const removed = new Set<TaskId>()
        const left = [...steps]
        const step = Effect.gen(function* () {
          const next = left.shift()
          if (next === "create") yield* store.create()
          const victim = ids[which % Math.max(1, ids.length)]
          if (next !== "remove" || victim === undefined) return
          removed.add(victim)
          yield* store.remove(victim)
        })
        const seen = yield* Client.all(limit).pipe(
          Stream.rechunk(1),
          Stream.tap(() => step),
          Stream.map(({ id }) => id),
          Stream.runCollect,
          Effect.provideService(Client.Client, { tasks: client })
        )
        assert.deepStrictEqual(seen, Arr.dedupe(seen))
        // Newest first, and of the old ones only.
        const places = seen.map((id) => ids.indexOf(id))
        assert.deepStrictEqual(
          places,
          places.toSorted((a, b) => b - a)
        )
        assert.notInclude(places, -1)
        const stayed = ids.filter((id) => !removed.has(id))
        assert.deepStrictEqual(
          stayed.filter((id) => !seen.includes(id)),
          []
        )
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 40 } }
  )

  it.live("asks for a page only when somebody wants it", () =>
    Effect.gen(function* () {
      const { client, store } = yield* service
      yield* Effect.replicateEffect(store.create(), 10)
      let asked = 0
      const counted = { ...client, list: (...args: Parameters<typeof client.list>) => (asked++, client.list(...args)) }
      const two = yield* Client.all(2).pipe(
        Stream.take(2),
        Stream.runCollect,
        Effect.provideService(Client.Client, { tasks: counted })
      )
      assert.lengthOf(two, 2)
      assert.strictEqual(asked, 1)
    })
  )
})
