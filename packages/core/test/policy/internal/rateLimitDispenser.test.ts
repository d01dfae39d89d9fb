import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Dispenser, Waiter } from "../../../src/policy/internal/rateLimitDispenser.ts"
import { type Given, resolve } from "../../../src/policy/internal/rateLimitOptions.ts"
import { type Admission, excess, steps } from "../../fixtures/rateLimitRules.ts"
import { ManualTimers } from "../../fixtures/time.ts"

/** Those that come to a dispenser, and when each is let go. */
class World {
  readonly timers = new ManualTimers()
  readonly dispenser: Dispenser
  readonly log: Array<string> = []

  constructor(options: Partial<Given>) {
    this.dispenser = new Dispenser(resolve({ limit: 10, interval: 1_000, ...options }), this.timers)
  }

  /** Takes what can be had at once, or waits. */
  come(name: string, cost = 1): Waiter | number {
    const at = this.dispenser.take(cost)
    if (at !== undefined) {
      this.log.push(`${name} ${at}`)
      return at
    }
    const joined = this.dispenser.join(cost)
    if (typeof joined === "number") this.log.push(`${name} refused: ${joined}`)
    else joined.wake = () => this.log.push(`${name} ${joined.state === "granted" ? this.timers.now() : "refused"}`)
    return joined
  }

  wait(name: string, cost = 1): Waiter {
    const joined = this.come(name, cost)
    if (joined instanceof Waiter) return joined
    throw new Error(`${name} did not wait`)
  }

  /** Everything is taken, in this instant. */
  empty(): this {
    this.dispenser.take(this.dispenser.available)
    return this
  }
}

const algorithms = ["tokenBucket", "slidingWindow", "slidingCounter"] as const

const unused = () => () => {}

describe("rateLimitDispenser", () => {
  it("those who wait go one by one as tokens come, in their order, with one timer", () => {
    const world = new World({}).empty()
    for (const name of ["a", "b", "c"]) world.come(name)
    assert.strictEqual(world.dispenser.waiting, 3)
    assert.strictEqual(world.timers.size, 1)
    world.timers.advance(1_000)
    assert.deepStrictEqual(world.log, ["a 100", "b 200", "c 300"])
    assert.strictEqual(world.timers.size, 0)
    assert.strictEqual(world.dispenser.available, 7)
  })

  for (const algorithm of algorithms) {
    it(`${algorithm}: after all was used up in one instant, those who wait do not go all in one instant`, () => {
      const world = new World({ algorithm, limit: 10 }).empty()
      for (let i = 0; i < 20; i++) world.come(`${i}`)
      const times: Array<number> = []
      for (let now = 0; now < 4_000; now += 10) {
        const before = world.log.length
        world.timers.advance(10)
        times.push(world.log.length - before)
      }
      assert.strictEqual(world.log.length, 20)
      assert.isAtMost(Math.max(...times), 1)
    })

    it(`${algorithm}: after a pause, those who waited do not go all in one instant`, () => {
      const world = new World({ algorithm })
      world.dispenser.extendPause(3_000)
      for (const name of ["a", "b", "c"]) world.come(name)
      world.timers.advance(5_000)
      assert.deepStrictEqual(world.log, ["a 3000", "b 3100", "c 3200"])
    })
  }

  it("a later cheaper one never overtakes, though its tokens are there", () => {
    const world = new World({})
    world.dispenser.take(8)
    world.come("dear", 5)
    world.come("cheap", 1)
    assert.strictEqual(world.dispenser.available, 2)
    world.timers.advance(1_000)
    assert.deepStrictEqual(world.log, ["dear 300", "cheap 400"])
  })

  it("one that leaves the line gives its place to the next; the last one leaves no timer", () => {
    const world = new World({}).empty()
    const first = world.wait("first", 5)
    const middle = world.wait("middle")
    const last = world.wait("last")
    world.dispenser.leave(middle)
    world.dispenser.leave(first)
    world.timers.advance(100)
    assert.deepStrictEqual(world.log, ["last 100"])
    world.dispenser.leave(last)
    const other = world.wait("other", 3)
    assert.strictEqual(world.timers.size, 1)
    world.dispenser.leave(other)
    assert.strictEqual(world.timers.size, 0)
    assert.strictEqual(world.dispenser.waiting, 0)
  })

  for (const algorithm of algorithms) {
    it(`${algorithm}: one that was granted and does not use it loses no token, and its turn is the next one's`, () => {
      const world = new World({ algorithm, limit: 2 }).empty()
      const a = world.wait("a")
      const b = world.wait("b")
      world.timers.advance(2_000)
      if (b.state === "granted") world.dispenser.leave(b)
      const granted = a.at
      const early = new World({ algorithm, limit: 2 }).empty()
      const first = early.wait("a")
      early.wait("b")
      early.timers.advance(granted)
      early.dispenser.leave(first)
      early.timers.advance(0)
      assert.deepStrictEqual(early.log, [`a ${granted}`, `b ${granted}`])
    })
  }

  it("what is given back goes to the first in the line at once", () => {
    const world = new World({})
    const at = world.dispenser.take(10)
    world.come("a")
    world.come("b")
    world.timers.advance(10)
    world.dispenser.giveBack(5, at ?? 0)
    world.timers.advance(0)
    assert.deepStrictEqual(world.log, ["a 10"])
    world.timers.advance(100)
    assert.deepStrictEqual(world.log, ["a 10", "b 60"])
  })

  describe("refuses at once", () => {
    it("a cost that can never be had", () => {
      for (const algorithm of algorithms) {
        assert.strictEqual(new World({ algorithm }).come("a", 11), Infinity)
      }
      assert.strictEqual(new World({ burst: 20 }).come("a", 20), 0)
      assert.strictEqual(new World({ burst: 5 }).come("a", 6), Infinity)
    })

    it("a wait longer than maxWait, by the debt of those in front", () => {
      const world = new World({ maxWait: 350 }).empty()
      world.come("a")
      world.come("b", 2)
      assert.strictEqual(world.come("c"), 400)
      world.timers.advance(50)
      world.wait("d")
      assert.strictEqual(world.dispenser.waiting, 3)
    })

    it("all that would have to wait, with a maxWait of 0", () => {
      const world = new World({ maxWait: 0 }).empty()
      assert.strictEqual(world.come("a"), 100)
      world.timers.advance(100)
      assert.strictEqual(world.come("b"), 100)
    })

    it("one more than maxQueue", () => {
      const world = new World({ maxQueue: 2 }).empty()
      const a = world.wait("a")
      world.wait("b")
      assert.strictEqual(world.come("c"), 300)
      world.dispenser.leave(a)
      world.wait("d")
      assert.strictEqual(new World({ maxQueue: 0 }).empty().come("a"), 100)
    })

    it("by a debt that is counted anew when somebody has left", () => {
      const world = new World({ maxWait: 300 }).empty()
      const a = world.wait("a", 2)
      world.wait("b")
      assert.strictEqual(world.come("c"), 400)
      world.dispenser.leave(a)
      world.wait("d", 2)
      assert.strictEqual(world.come("e"), 400)
    })

    it("by what each of those in front must wait for, in a window used unevenly", () => {
      const world = new World({ algorithm: "slidingWindow", maxWait: 1_850 })
      world.dispenser.take(1)
      world.timers.advance(900)
      world.dispenser.take(9)
      for (let i = 0; i < 10; i++) world.wait(`${i}`)
      // The first goes at 1000, the others from 1900 on.
      assert.strictEqual(world.dispenser.join(1), 1_900)
    })
  })

  describe("a pause", () => {
    it("lets nobody pass, not even with tokens, and ends by itself", () => {
      const world = new World({})
      world.dispenser.extendPause(500)
      assert.strictEqual(world.dispenser.pausedFor, 500)
      assert.isUndefined(world.dispenser.take(1))
      world.timers.advance(500)
      assert.strictEqual(world.dispenser.pausedFor, 0)
      assert.strictEqual(world.dispenser.take(1), 500)
    })

    it("is made longer by a later one, not shorter; unless it is set", () => {
      const world = new World({})
      world.dispenser.extendPause(500)
      world.dispenser.extendPause(100)
      assert.strictEqual(world.dispenser.pausedFor, 500)
      world.come("a")
      world.dispenser.setPause(0)
      world.timers.advance(0)
      assert.deepStrictEqual(world.log, ["a 0"])
    })

    it("without end has no timer, and ends when it is told to", () => {
      const world = new World({})
      world.dispenser.setPause(Infinity)
      world.come("a")
      assert.strictEqual(world.timers.size, 0)
      world.timers.advance(1e6)
      assert.deepStrictEqual(world.log, [])
      world.dispenser.setPause(0)
      world.timers.advance(0)
      assert.deepStrictEqual(world.log, ["a 1000000"])
    })

    it("refuses those in the line whose wait it makes too long, and no others", () => {
      const world = new World({ maxWait: 300 }).empty()
      world.come("a")
      world.timers.advance(50)
      world.come("b")
      world.come("c")
      world.dispenser.extendPause(200)
      assert.deepStrictEqual(world.log, ["c refused"])
      world.timers.advance(1_000)
      assert.deepStrictEqual(world.log, ["c refused", "a 250", "b 350"])
    })
  })

  it("a clock that goes back creates no token and loses none", () => {
    let now = 10_000
    const timers = new ManualTimers()
    for (const algorithm of algorithms) {
      now = 10_000
      const options = resolve({ limit: 10, interval: 1_000, algorithm })
      const dispenser = new Dispenser(options, { now: () => now, after: timers.after, wait: timers.wait })
      assert.strictEqual(dispenser.take(10), 10_000)
      now = 0
      assert.isUndefined(dispenser.take(1), algorithm)
      assert.strictEqual(dispenser.available, 0)
      now = 10_000
      assert.isUndefined(dispenser.take(1))
      now = 12_000
      assert.strictEqual(dispenser.available, 10)
    }
  })

  it("a timer that fires too early or for nothing lets nobody go", () => {
    let now = 0
    const calls: Array<() => void> = []
    const dispenser = new Dispenser(resolve({ limit: 1, interval: 1_000 }), {
      now: () => now,
      after: unused,
      wait: (_, f) => {
        calls.push(f)
        return () => {}
      }
    })
    dispenser.take(1)
    const waiter = dispenser.join(1)
    now = 999
    calls[0]!()
    assert.strictEqual(waiter instanceof Waiter && waiter.state, "waiting")
    now = 1_000
    calls[1]!()
    assert.strictEqual(waiter instanceof Waiter && waiter.state, "granted")
    calls[1]!()
    assert.strictEqual(calls.length, 2)
  })

  it("what a late timer missed is made up for, but not much of it", () => {
    let now = 0
    let fire = (): void => {}
    const dispenser = new Dispenser(resolve({ limit: 100, interval: 1_000 }), {
      now: () => now,
      after: unused,
      wait: (_, f) => {
        fire = f
        return () => {}
      }
    })
    dispenser.take(100)
    const waiters = Array.from({ length: 100 }, () => dispenser.join(1))
    const granted = () => waiters.filter((waiter) => waiter instanceof Waiter && waiter.state === "granted").length
    now = 32
    fire()
    assert.strictEqual(granted(), 3)
    now = 832
    fire()
    assert.strictEqual(granted(), 3 + 6)
  })

  const maxCosts = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 }))

  for (const algorithm of algorithms) {
    it.effect.prop(
      `law: ${algorithm}: the limit holds, first come is first served, everybody goes in the end, nothing is left behind`,
      [maxCosts, steps],
      ([maxCost, numbers]) =>
        Effect.sync(() => {
          const limit = 6
          const interval = 100
          const world = new World({ algorithm, limit, interval, maxQueue: 20 })
          const { dispenser, timers } = world
          const admissions: Array<Admission & { back: () => void }> = []
          const waiting = new Set<Waiter>()
          const order: Array<number> = []
          let arrivals = 0
          for (const number of numbers) {
            const what = Math.floor(number / 8) % 8
            const chosen = Math.floor(number / 64)
            if (what < 5) {
              const cost = 1 + (chosen % maxCost)
              const me = arrivals++
              const admitted = (at: number, back: () => void): void => {
                order.push(me)
                admissions.push({ at, count: cost, used: true, back })
              }
              const at = dispenser.take(cost)
              if (at !== undefined) {
                admitted(at, () => dispenser.giveBack(cost, at))
              } else {
                const waiter = dispenser.join(cost)
                if (waiter instanceof Waiter) {
                  waiting.add(waiter)
                  waiter.wake = () => {
                    waiting.delete(waiter)
                    admitted(timers.now(), () => dispenser.leave(waiter))
                  }
                }
              }
            } else if (what === 5) {
              const waiter = [...waiting][chosen % Math.max(1, waiting.size)]
              if (waiter !== undefined) {
                waiting.delete(waiter)
                dispenser.leave(waiter)
              }
            } else if (what === 6) {
              const admission = admissions[chosen % Math.max(1, admissions.length)]
              if (admission?.used === true) {
                admission.used = false
                admission.back()
              }
            } else if (chosen % 4 === 0) {
              dispenser.extendPause(chosen % 150)
            }
            assert.isAtMost(timers.size, 1)
            assert.strictEqual(timers.size, waiting.size === 0 ? 0 : 1)
            assert.strictEqual(dispenser.waiting, waiting.size)
            timers.advance([0, 0, 1, 5, 13, 20, 60, 170][number % 8]!)
          }
          timers.advance(20_000)
          assert.strictEqual(waiting.size, 0)
          assert.strictEqual(timers.size, 0)
          assert.strictEqual(dispenser.available, limit)
          assert.deepStrictEqual(
            order,
            order.toSorted((a, b) => a - b)
          )
          const allowed = {
            tokenBucket: (millis: number) => limit + (millis * limit) / interval,
            slidingWindow: (millis: number) => (millis < interval ? limit : Infinity),
            slidingCounter: (millis: number) => (millis <= interval ? limit * (1 + millis / interval) : Infinity)
          }
          assert.isAtMost(excess(admissions, allowed[algorithm]), 1e-6)
        }),
      { arbitrary: { runs: 300 } }
    )
  }

  for (const algorithm of ["tokenBucket", "slidingWindow"] as const) {
    it.effect.prop(
      `law: ${algorithm}: nobody waits longer than maxWait, and nobody is refused who would not have had to`,
      [steps],
      ([numbers]) =>
        Effect.sync(() => {
          const maxWait = 60
          const world = new World({ algorithm, limit: 5, interval: 100, maxWait })
          const free = new World({ algorithm, limit: 5, interval: 100 })
          for (const number of numbers) {
            const joined = world.dispenser.take(1) ?? world.dispenser.join(1)
            if (joined instanceof Waiter) {
              joined.wake = () => assert.isAtMost(joined.at - joined.since, maxWait)
              free.come("same")
            } else if (joined === world.timers.now()) {
              free.come("same")
            } else {
              const would = free.dispenser.join(1)
              if (!(would instanceof Waiter)) throw new Error("it waits for ever")
              const since = would.since
              free.dispenser.leave(would)
              assert.isAbove(joined, maxWait)
              assert.strictEqual(since, free.timers.now())
            }
            const millis = [0, 0, 0, 5, 20, 45][number % 6]!
            world.timers.advance(millis)
            free.timers.advance(millis)
          }
        }),
      { arbitrary: { runs: 200 } }
    )
  }
})
