import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import * as Fibers from "../../src/Admin/Fibers.ts"

const live = Effect.flatMap(Fibers.Fibers, (fibers) => (fibers === undefined ? Effect.die("no watch") : fibers.live))

/** A fiber that has begun, and what it waits for. */
const begun = Effect.fn("begun")(function* (started: Deferred.Deferred<void>, end: Deferred.Deferred<void>) {
  yield* Deferred.succeed(started, undefined)
  yield* Deferred.await(end)
})

const forked = Effect.gen(function* () {
  const started = yield* Deferred.make<void>()
  const end = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkDetach(Effect.annotateLogs(begun(started, end), { task: 7 }))
  yield* Deferred.await(started)
  return { fiber, end }
})

describe("Fibers", () => {
  it.effect("a fiber is seen from its first step to its end, with names and annotations", () =>
    Effect.gen(function* () {
      const { end, fiber } = yield* forked
      const seen = (yield* live).find(({ id }) => id === fiber.id)
      assert.deepStrictEqual(seen?.annotations, { task: "7" })
      assert.deepStrictEqual(seen?.frames, ["begun"])
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(fiber)
      assert.notInclude(
        (yield* live).map(({ id }) => id),
        fiber.id
      )
    }).pipe(Effect.provide(Fibers.layer))
  )

  it.effect("an interrupted fiber is gone, oldest come first, and a thousand leave nothing", () =>
    Effect.gen(function* () {
      const many = yield* Effect.replicateEffect(forked, 1500)
      const ids = many.map(({ fiber }) => fiber.id)
      const mine = Effect.map(live, (seen) => seen.map(({ id }) => id).filter((id) => ids.includes(id)))
      assert.deepStrictEqual(yield* mine, ids)
      yield* Fiber.interruptAll(many.map(({ fiber }) => fiber))
      assert.deepStrictEqual(yield* mine, [])
    }).pipe(Effect.provide(Fibers.layer))
  )

  it.effect("spans name a fiber that has no frames", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const inner = Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
      const fiber = yield* inner.pipe(Effect.withSpan("inner"), Effect.withSpan("outer"), Effect.forkDetach)
      yield* Deferred.await(started)
      const seen = (yield* live).find(({ id }) => id === fiber.id)
      assert.deepStrictEqual(seen?.frames.slice(0, 2), ["inner", "outer"])
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Fibers.layer))
  )

  it.effect("a name is given without a span, and stands before those around it", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const inner = Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
      const fiber = yield* inner.pipe(Fibers.named("waits"), Fibers.named("polls"), Effect.forkDetach)
      yield* Deferred.await(started)
      const seen = (yield* live).find(({ id }) => id === fiber.id)
      assert.deepStrictEqual(seen?.frames, ["waits", "polls"])
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Fibers.layer))
  )

  it.effect("without the layer nothing watches", () =>
    Effect.map(Fibers.Fibers, (fibers) => assert.isUndefined(fibers))
  )

  it("more fibers than a function takes arguments are a text, too", () => {
    const many = Array.from({ length: 200_000 }, (_, id) => ({ id, age: id, frames: ["leaks"], annotations: {} }))
    assert.include(Fibers.format(many), "200000 × oldest 199999.0 s")
  })

  it("the text has those at one place together, the most first", () => {
    const at = (id: number, age: number, frames: ReadonlyArray<string>, annotations = {}) => ({
      id,
      age,
      frames,
      annotations
    })
    const many = Array.from({ length: 12 }, (_, index) => at(10 + index, index, ["poll", "worker"]))
    const text = Fibers.format([at(1, 90.04, []), ...many, at(40, 2, ["task"], { id: "t-1" })])
    assert.strictEqual(
      text,
      [
        "14 fibers",
        "",
        "12 × oldest 11.0 s, ids #10 #11 #12 #13 #14 #15 #16 #17 #18 #19 …",
        "    poll",
        "    worker",
        "",
        "1 × oldest 90.0 s, ids #1",
        "    (no name)",
        "",
        "1 × oldest 2.0 s, ids #40",
        "    task",
        "    #40 id=t-1",
        ""
      ].join("\n")
    )
  })
})
