import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, References, Schema, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import type * as PoolError from "../../src/model/PoolError.ts"
import * as Bulkhead from "../../src/policy/Bulkhead.ts"
import { resolve } from "../../src/policy/internal/bulkheadOptions.ts"
import { Passage } from "../../src/policy/internal/passage.ts"
import { start, tagged, turn } from "../fixtures/pools.ts"
import { ManualTimers } from "../fixtures/time.ts"

const request = HttpClientRequest.get("http://test.local/x")
const done = { _tag: "Success", value: undefined } as const

/** A bulkhead that is asked by hand. */
const bulkhead = (options: Parameters<typeof resolve>[0]) => {
  const timers = new ManualTimers()
  const made = Bulkhead.makeUnsafe(resolve(options), { timers })
  const ask = () => {
    const passage = new Passage<PoolError.PoolSaturated>([made.gate], request, 1)
    const wait = passage.enter()
    return { passage, wait, admitted: () => passage.sent || passage.enter() === undefined }
  }
  return { made, timers, ask }
}

/** A caller inside, or in the line, which lasts until it is told to end. */
const caller = Effect.fnUntraced(function* (made: Bulkhead.Bulkhead, log: Array<number>, name: number, budget = 2048) {
  const end = yield* Deferred.make<void>()
  const work = Effect.andThen(
    Effect.sync(() => log.push(name)),
    Deferred.await(end)
  )
  const fiber = yield* made
    .guard(work)
    .pipe(Effect.provideService(References.MaxOpsBeforeYield, budget), Effect.forkChild({ startImmediately: true }))
  return { fiber, end: Deferred.succeed(end, undefined) }
})

const yields = Effect.fnUntraced(function* (times: number) {
  for (let i = 0; i < times; i++) yield* Effect.yieldNow
})

const empty = (made: Bulkhead.Bulkhead): void => {
  const { active, waiting } = made.snapshot()
  assert.deepStrictEqual({ active, waiting }, { active: 0, waiting: 0 })
}

describe("Bulkhead", () => {
  it.effect("admits at most maxConcurrent at once, lets at most maxWaiting wait, and refuses the rest by name", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 2, maxWaiting: 3 })
      const log: Array<number> = []
      for (let i = 0; i < 5; i++) yield* caller(made, log, i)
      assert.deepStrictEqual(log, [0, 1])
      const error = yield* Effect.flip(made.guard(Effect.void))
      assert.deepStrictEqual(
        [error._tag, error.reason, error.limit, error.waiting, error.attempts],
        ["PoolSaturated", "bulkhead", 2, 3, 0]
      )
      assert.match(error.message, /bulkhead/)
      assert.deepStrictEqual(made.snapshot(), { active: 2, waiting: 3, rejected: 1 })
    })
  )

  it.effect("lets nobody wait by default", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1 })
      yield* caller(made, [], 0)
      assert.strictEqual((yield* Effect.flip(made.guard(Effect.void)))._tag, "PoolSaturated")
    })
  )

  it.effect("admits those who wait in the order they came", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1, maxWaiting: 10 })
      const log: Array<number> = []
      const callers: Array<Effect.Success<ReturnType<typeof caller>>> = []
      for (let i = 0; i < 5; i++) callers.push(yield* caller(made, log, i))
      for (const { end, fiber } of callers) {
        yield* end
        yield* Fiber.await(fiber)
        yield* turn
      }
      assert.deepStrictEqual(log, [0, 1, 2, 3, 4])
      empty(made)
    })
  )

  it("keeps a permit that gets free for the first in the line, whoever comes before it is back", () => {
    const { ask, made } = bulkhead({ maxConcurrent: 1, maxWaiting: 2 })
    const [first, second] = [ask(), ask()]
    first.passage.leave(done)
    assert.deepStrictEqual(made.snapshot(), { active: 1, waiting: 0, rejected: 0 })
    const newcomer = ask()
    assert.isDefined(newcomer.wait)
    assert.isTrue(second.admitted())
    assert.isFalse(newcomer.admitted())
    second.passage.leave(done)
    assert.isTrue(newcomer.admitted())
  })

  it("keeps the place of one that asks again too early", () => {
    const { ask } = bulkhead({ maxConcurrent: 1, maxWaiting: 2 })
    const [first, second, third] = [ask(), ask(), ask()]
    assert.isFalse(second.admitted())
    first.passage.leave(done)
    assert.isFalse(third.admitted())
    assert.isTrue(second.admitted())
  })

  it("passes on what was kept for one that is interrupted before it is back", () => {
    const { ask, made } = bulkhead({ maxConcurrent: 1, maxWaiting: 2 })
    const [first, second, third] = [ask(), ask(), ask()]
    first.passage.leave(done)
    second.passage.leave({ _tag: "Interrupted" })
    assert.isTrue(third.admitted())
    third.passage.leave(done)
    empty(made)
  })

  it.effect("is not starved by aborted waiters: they leave no hole", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1, maxWaiting: 1000 })
      const log: Array<number> = []
      const holder = yield* caller(made, log, 0)
      const aborted: Array<Fiber.Fiber<unknown, unknown>> = []
      for (let i = 1; i <= 999; i++) aborted.push((yield* caller(made, log, i)).fiber)
      const last = yield* caller(made, log, 1000)
      yield* Fiber.interruptAll(aborted)
      assert.strictEqual(made.snapshot().waiting, 1)
      yield* holder.end
      yield* turn
      assert.deepStrictEqual(log, [0, 1000])
      yield* last.end
      yield* Fiber.join(last.fiber)
      empty(made)
    })
  )

  it.effect("takes nothing from one that is refused", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1 })
      const holder = yield* caller(made, [], 0)
      for (let i = 0; i < 3; i++) yield* Effect.flip(made.guard(Effect.void))
      yield* holder.end
      yield* Fiber.join(holder.fiber)
      yield* made.guard(Effect.void)
      assert.deepStrictEqual(made.snapshot(), { active: 0, waiting: 0, rejected: 3 })
    })
  )

  it.effect("gives the permit back on failure, defect and interruption", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1 })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(made.guard(Effect.fail("no")))))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(made.guard(Effect.die("bug")))))
      const { fiber } = yield* caller(made, [], 0)
      yield* Fiber.interrupt(fiber)
      empty(made)
    })
  )

  it.effect("wakes nobody within the end of another: a long line of short calls is no deep stack", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1, maxWaiting: 20_000 })
      const holder = yield* caller(made, [], 0)
      let depth = 0
      let deepest = 0
      const nested = Effect.sync(() => {
        deepest = Math.max(deepest, ++depth)
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            depth--
          })
        )
      )
      const all = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 20_000 }, () => made.guard(nested)),
          { concurrency: "unbounded", discard: true }
        ),
        { startImmediately: true }
      )
      yield* holder.end
      yield* Fiber.join(all)
      assert.strictEqual(deepest, 1)
      empty(made)
    })
  )

  describe("maxWait", () => {
    it.effect("ends the wait, of each after its own time, with PoolSaturated", () =>
      Effect.gen(function* () {
        const made = yield* Bulkhead.make({ maxConcurrent: 1, maxWaiting: 10, maxWait: "1 second" })
        const log: Array<number> = []
        const holder = yield* caller(made, log, 0)
        const first = yield* caller(made, log, 1)
        yield* TestClock.adjust("600 millis")
        const second = yield* caller(made, log, 2)
        yield* TestClock.adjust("400 millis")
        const error = yield* Effect.flip(Fiber.join(first.fiber))
        assert.deepStrictEqual([tagged(error, "PoolSaturated").reason, error.waiting], ["bulkhead", 1])
        yield* holder.end
        yield* turn
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(log, [0, 2])
        yield* second.end
        yield* Fiber.join(second.fiber)
        assert.deepStrictEqual(made.snapshot(), { active: 0, waiting: 0, rejected: 1 })
      })
    )

    it.effect("ends it also for one that has not begun to wait", () =>
      Effect.gen(function* () {
        const { ask, made, timers } = bulkhead({ maxConcurrent: 1, maxWaiting: 10, maxWait: 1000 })
        const first = ask()
        const late = ask()
        timers.advance(1000)
        first.passage.leave(done)
        const wait = late.passage.enter()
        assert.isDefined(wait)
        assert.strictEqual((yield* Effect.flip(wait))._tag, "PoolSaturated")
        late.passage.leave(done)
        empty(made)
      })
    )

    it("loses no permit to one that is late and interrupted", () => {
      const { ask, made, timers } = bulkhead({ maxConcurrent: 1, maxWaiting: 10, maxWait: 1000 })
      const [first, late, next] = [ask(), ask(), ask()]
      timers.advance(999)
      first.passage.leave(done)
      timers.advance(1)
      assert.isTrue(late.admitted(), "what was kept in time stays kept")
      late.passage.leave(done)
      next.passage.leave({ _tag: "Interrupted" })
      empty(made)
      assert.strictEqual(timers.size, 0)
    })
  })

  it.effect("a permit is held to the head of the response, not to the end of its body", () =>
    Effect.gen(function* () {
      const made = yield* Bulkhead.make({ maxConcurrent: 1 })
      const head = yield* Deferred.make<void>()
      const client = HttpClient.make((request) =>
        Effect.as(
          Deferred.await(head),
          HttpClientResponse.fromWeb(request, new Response(new ReadableStream({ start: () => {} })))
        )
      )
      const fiber = yield* start(made.wrap(client).get("http://test.local/"))
      assert.strictEqual(made.snapshot().active, 1)
      yield* Deferred.succeed(head, undefined)
      const response = yield* Fiber.join(fiber)
      empty(made)
      const body = yield* start(Stream.runDrain(response.stream))
      yield* made.guard(Effect.void)
      yield* Fiber.interrupt(body)
    })
  )

  describe("make", () => {
    it.effect("lists everything that is wrong with the options", () =>
      Effect.gen(function* () {
        const problems = (options: Bulkhead.Options) =>
          Effect.map(Effect.flip(Bulkhead.make(options)), (error) => error.problems.map(({ path }) => path))
        assert.deepStrictEqual(yield* problems({ maxConcurrent: 0, maxWaiting: -1, maxWait: "1 second" }), [
          "maxConcurrent",
          "maxWaiting",
          "maxWait"
        ])
        assert.deepStrictEqual(yield* problems(JSON.parse("{}")), ["maxConcurrent"])
        assert.deepStrictEqual(yield* problems({ maxConcurrent: 1, maxWait: 1 }), ["maxWait"])
      })
    )

    it("has no limit where the options that it requires were not checked", () => {
      assert.strictEqual(resolve({}).maxConcurrent, Infinity)
    })
  })

  // The holder leaves, and one of the three is interrupted a little later, at another operation in each run.
  it.live("loses no permit, whenever an attempt is interrupted", () =>
    Effect.gen(function* () {
      for (let victim = 0; victim < 3; victim++) {
        for (let budget = 3; budget < 13; budget++) {
          for (let moment = 0; moment < 8; moment++) {
            const made = yield* Bulkhead.make({ maxConcurrent: 1, maxWaiting: 3 })
            const callers = [
              yield* caller(made, [], 0, budget),
              yield* caller(made, [], 1, budget),
              yield* caller(made, [], 2, budget)
            ]
            const interrupter = yield* Effect.forkChild(
              Effect.andThen(yields(moment), Fiber.interrupt(callers[victim]!.fiber)),
              { startImmediately: true }
            )
            for (const { end } of callers) yield* end
            yield* Fiber.join(interrupter)
            for (const { fiber } of callers) yield* Fiber.await(fiber)
            empty(made)
          }
        }
      }
    })
  )

  it.effect.prop(
    "a thousand callers, interrupted at random: permits are conserved, and never more run than there are",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 })),
      Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 })),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_147_483_646 })),
      Schema.Boolean
    ],
    ([maxConcurrent, maxWaiting, seed, impatient]) =>
      Effect.gen(function* () {
        let state = seed
        const random = (n: number): number => {
          state = (state * 48_271) % 2_147_483_647
          return state % n
        }
        // Impatient ones wait at most 20 ms on a clock that moves a little with every caller.
        const maxWait = impatient && maxWaiting > 0 ? 20 : Infinity
        const { made, timers } = bulkhead({ maxConcurrent, maxWaiting, maxWait })
        let running = 0
        const work = Effect.acquireUseRelease(
          Effect.sync(() => {
            assert.isAtMost(++running, maxConcurrent)
            assert.isAtLeast(made.snapshot().active, running)
            assert.isAtMost(made.snapshot().active, maxConcurrent)
          }),
          () => Effect.suspend(() => yields(random(8))),
          () =>
            Effect.sync(() => {
              running--
            })
        )
        const fibers: Array<Fiber.Fiber<void, PoolError.PoolSaturated>> = []
        const interrupted = new Set<number>()
        for (let i = 0; i < 1000; i++) {
          fibers.push(
            yield* made
              .guard(work)
              .pipe(
                Effect.provideService(References.MaxOpsBeforeYield, 3 + random(20)),
                Effect.forkChild({ startImmediately: true })
              )
          )
          const victim = random(3 * fibers.length)
          if (victim < fibers.length) {
            interrupted.add(victim)
            fibers[victim]!.interruptUnsafe()
          }
          assert.isAtMost(made.snapshot().waiting, maxWaiting)
          timers.advance(random(4))
          yield* yields(random(3))
        }
        let refused = 0
        for (const [i, fiber] of fibers.entries()) {
          const exit = yield* Fiber.await(fiber)
          if (Exit.isSuccess(exit) || interrupted.has(i)) continue
          assert.isFalse(Exit.hasDies(exit))
          assert.isTrue(Exit.hasFails(exit))
          refused++
        }
        empty(made)
        assert.isAtLeast(made.snapshot().rejected, refused)
      }),
    { arbitrary: { runs: 10 }, timeout: 60_000 }
  )
})
