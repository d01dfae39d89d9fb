import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, References } from "effect"
import { TestClock } from "effect/testing"
import { race } from "../../../src/policy/internal/race.ts"

const tagged = (log: Array<string>, name: string, effect: Effect.Effect<string, string>) =>
  Effect.onExit(
    Effect.suspend(() => {
      log.push(`${name} starts`)
      return effect
    }),
    (exit) =>
      Effect.sync(() =>
        log.push(`${name} ${Exit.isSuccess(exit) ? "wins" : Exit.hasInterrupts(exit) ? "is cut" : "fails"}`)
      )
  )

const after = <A, E>(millis: number, effect: Effect.Effect<A, E>) => Effect.andThen(Effect.sleep(millis), effect)

const contest = (
  log: Array<string>,
  first: Effect.Effect<string, string>,
  second: Effect.Effect<string, string> | undefined,
  delay = 10
) =>
  race<string, string, never>({
    first: tagged(log, "first", first),
    delay,
    second: () => {
      if (second === undefined) log.push("not asked for")
      return second === undefined ? undefined : tagged(log, "second", second)
    },
    won: (by) => log.push(`won by ${by}`),
    discard: (value) => Effect.sync(() => log.push(`discards ${value}`))
  })

describe("race", () => {
  it.effect("there is no second one when the first ends before the delay", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, after(9, Effect.succeed("a")), Effect.succeed("b")))
      yield* TestClock.adjust(9)
      assert.strictEqual(yield* Fiber.join(fiber), "a")
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(log, ["first starts", "first wins", "won by first"])
    })
  )

  it.effect("a first one that ends at once needs no timer", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      assert.strictEqual(yield* contest(log, Effect.succeed("a"), Effect.succeed("b")), "a")
      assert.strictEqual(yield* Effect.flip(contest(log, Effect.fail("no"), Effect.succeed("b"))), "no")
      yield* TestClock.adjust(100)
      assert.notInclude(log, "second starts")
    })
  )

  it.effect("a failure before the delay is the result: no second one", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(Effect.flip(contest(log, after(9, Effect.fail("no")), Effect.succeed("b"))))
      yield* TestClock.adjust(9)
      assert.strictEqual(yield* Fiber.join(fiber), "no")
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(log, ["first starts", "first fails"])
    })
  )

  it.effect("after the delay the second starts; the first success wins and the loser is interrupted", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, after(50, Effect.succeed("a")), after(5, Effect.succeed("b"))))
      yield* TestClock.adjust(15)
      assert.strictEqual(yield* Fiber.join(fiber), "b")
      assert.sameOrderedMembers(log, ["first starts", "second starts", "second wins", "won by second", "first is cut"])
    })
  )

  it.effect("the first may still win", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, after(12, Effect.succeed("a")), after(5, Effect.succeed("b"))))
      yield* TestClock.adjust(12)
      assert.strictEqual(yield* Fiber.join(fiber), "a")
      assert.sameOrderedMembers(log, ["first starts", "second starts", "first wins", "won by first", "second is cut"])
    })
  )

  it.effect("without permission the first stays alone", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, after(50, Effect.succeed("a")), undefined))
      yield* TestClock.adjust(50)
      assert.strictEqual(yield* Fiber.join(fiber), "a")
      assert.deepStrictEqual(log, ["first starts", "not asked for", "first wins", "won by first"])
    })
  )

  for (const [name, first, second] of [
    ["first", after(12, Effect.fail("no")), after(20, Effect.succeed("yes"))],
    ["second", after(30, Effect.succeed("yes")), after(2, Effect.fail("no"))]
  ] as const) {
    it.effect(`a failure of the ${name} waits for the other`, () =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(contest([], first, second))
        yield* TestClock.adjust(29)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* Fiber.join(fiber), "yes")
      })
    )
  }

  it.effect("when both fail, the earlier failure is the result", () =>
    Effect.gen(function* () {
      const early = yield* Effect.forkChild(
        Effect.flip(contest([], after(12, Effect.fail("first")), after(20, Effect.fail("second"))))
      )
      const late = yield* Effect.forkChild(
        Effect.flip(contest([], after(30, Effect.fail("first")), after(2, Effect.fail("second"))))
      )
      yield* TestClock.adjust(30)
      assert.strictEqual(yield* Fiber.join(early), "first")
      assert.strictEqual(yield* Fiber.join(late), "second")
    })
  )

  it.effect("a defect of either ends it at once", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, after(50, Effect.succeed("a")), after(2, Effect.die("bug"))))
      yield* TestClock.adjust(12)
      const exit = yield* Fiber.await(fiber)
      assert.deepStrictEqual(exit, Exit.die("bug"))
      assert.include(log, "first is cut")
    })
  )

  it.effect("the loser is interrupted, but not waited for", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const stubborn = Effect.uninterruptible(after(50, Effect.succeed("late")))
      const fiber = yield* Effect.forkChild(contest(log, stubborn, after(5, Effect.succeed("b"))))
      yield* TestClock.adjust(15)
      assert.strictEqual(yield* Fiber.join(fiber), "b")
      assert.notInclude(log, "first is cut")
      yield* TestClock.adjust(35)
      assert.include(log, "first is cut")
    })
  )

  it.effect("an interruption interrupts both and waits for both", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const stubborn = Effect.uninterruptible(after(50, Effect.succeed("late")))
      const fiber = yield* Effect.forkChild(contest(log, stubborn, Effect.never))
      yield* TestClock.adjust(15)
      fiber.interruptUnsafe()
      yield* TestClock.adjust(1)
      assert.include(log, "second is cut")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(34)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.include(log, "first is cut")
    })
  )

  it.effect("a result that the caller's interruption overtakes is discarded", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, Effect.succeed("a"), Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(log, ["first starts", "first wins", "won by first", "discards a"])
    })
  )

  it.effect("interrupted before the delay, no second one starts", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const fiber = yield* Effect.forkChild(contest(log, Effect.never, Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(log, ["first starts", "first is cut"])
    })
  )

  it.effect("one that interrupts itself has failed", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(contest([], Effect.interrupt, Effect.never))
      assert.isTrue(Exit.hasInterrupts(exit))
      const fiber = yield* Effect.forkChild(contest([], after(12, Effect.interrupt), after(5, Effect.succeed("b"))))
      yield* TestClock.adjust(15)
      assert.strictEqual(yield* Fiber.join(fiber), "b")
    })
  )

  it.effect("services and the clock are the caller's", () =>
    Effect.gen(function* () {
      const seen = race<number, never, never>({
        first: Effect.sleep(100).pipe(Effect.as(0)),
        delay: 10,
        second: () => References.MaxOpsBeforeYield,
        won: () => {},
        discard: () => Effect.void
      })
      const fiber = yield* Effect.forkChild(Effect.provideService(seen, References.MaxOpsBeforeYield, 77))
      yield* TestClock.adjust(10)
      assert.strictEqual(yield* Fiber.join(fiber), 77)
    })
  )

  // What is won must reach the caller or `discard`: at whichever operation the caller is interrupted.
  it.live("loses no value, whenever it is interrupted", () =>
    Effect.gen(function* () {
      const outcomes = { delivered: 0, discarded: 0, none: 0 }
      for (let budget = 3; budget < 14; budget++) {
        for (let moment = 0; moment < 16; moment++) {
          const held = new Set<string>()
          const one = (name: string, steps: number): Effect.Effect<string> =>
            Effect.callback((resume) => {
              let left = steps
              let cut = false
              const step = (): void => {
                if (cut) return
                if (left-- > 0) return queueMicrotask(step)
                held.add(name)
                resume(Effect.succeed(name))
              }
              // Never at once: nothing could take back what is given before it can be interrupted.
              queueMicrotask(step)
              return Effect.sync(() => {
                cut = true
                held.delete(name)
              })
            })
          let discarded = 0
          const fiber = yield* race<string, never, never>({
            first: one("first", moment % 5),
            delay: 0,
            second: () => one("second", budget % 4),
            won: () => {},
            discard: (name) =>
              Effect.sync(() => {
                held.delete(name)
                discarded++
              })
          }).pipe(
            Effect.provideService(References.MaxOpsBeforeYield, budget),
            Effect.forkChild({ startImmediately: true })
          )
          for (let i = 0; i < moment; i++)
            yield* i % 3 === 0 ? Effect.yieldNow : Effect.promise(() => Promise.resolve())
          yield* Fiber.interrupt(fiber)
          const exit = yield* Fiber.await(fiber)
          yield* Effect.yieldNow
          if (Exit.isSuccess(exit)) {
            outcomes.delivered++
            held.delete(exit.value)
          } else {
            assert.isTrue(Cause.hasInterruptsOnly(exit.cause))
            if (discarded > 0) outcomes.discarded++
            else outcomes.none++
          }
          assert.deepStrictEqual([...held], [])
        }
      }
      assert.isAbove(outcomes.delivered, 0)
      assert.isAbove(outcomes.none, 0)
    })
  )
})
