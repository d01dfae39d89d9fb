import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Stream } from "effect"
import { type Hint, TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Postgres from "../../../src/tasks/storage/Postgres.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import * as postgres from "../postgres.ts"
import { claim, create } from "./contract.ts"

/** A process that listens already: what it hears first, of those. */
const listener = (location: postgres.Location, which: (hint: Hint) => boolean) =>
  Effect.gen(function* () {
    const process = yield* Layer.build(Layer.fresh(Postgres.layer(location)))
    const { hints } = yield* Effect.provide(TaskQueue, process)
    const listens = yield* Deferred.make<void>()
    const fiber = yield* hints.pipe(
      Stream.tap(() => Deferred.succeed(listens, undefined)),
      Stream.drop(1),
      Stream.filter(which),
      Stream.runHead,
      Effect.forkScoped
    )
    yield* Deferred.await(listens)
    return Effect.map(Fiber.join(fiber), Option.getOrThrow)
  })

postgres.describeDatabase("Notifications", () => {
  it.live("tell other processes of new tasks", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const heard = yield* listener(location, () => true)
      yield* Effect.gen(function* () {
        yield* create(1)
        assert.deepStrictEqual(yield* heard, { _tag: "Waiting" })
      }).pipe(Effect.provide(Postgres.layer(location)))
    })
  )

  it.live("tell what is left at the end: a task that is removed just before that, say", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const heard = yield* listener(location, (hint) => hint._tag === "Removed")
      const removed = yield* Effect.gen(function* () {
        yield* create(1)
        const [claimed] = yield* claim(1)
        yield* (yield* TaskStore).remove(claimed!.id)
        return claimed!.id
      }).pipe(Effect.provide(Postgres.layer(location)))
      assert.deepStrictEqual(yield* heard, { _tag: "Removed", id: removed })
    })
  )

  it.live("of many hints at once each is heard", () =>
    Effect.gen(function* () {
      const location = yield* postgres.database
      const wanted = new Set<string>()
      const heard = yield* listener(
        location,
        (hint) => hint._tag === "Removed" && wanted.delete(hint.id) && wanted.size === 0
      )
      yield* Effect.gen(function* () {
        const store = yield* TaskStore
        yield* create(100)
        const claims = yield* claim(100)
        for (const { id } of claims) wanted.add(id)
        yield* Effect.forEach(claims, ({ id }) => store.remove(id), { concurrency: 8 })
        yield* heard
      }).pipe(Effect.provide(Postgres.layer(location)))
      assert.strictEqual(wanted.size, 0)
    })
  )
})
