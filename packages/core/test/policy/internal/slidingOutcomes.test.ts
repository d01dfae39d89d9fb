import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { LastCalls, LastTime, type Outcomes } from "../../../src/policy/internal/slidingOutcomes.ts"
import { ManualTimers } from "../../fixtures/time.ts"

const numbers = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 }))).check(
  Schema.isMaxLength(100)
)

interface Call {
  readonly at: number
  readonly failed: boolean
  readonly slow: boolean
}

const counted = (calls: ReadonlyArray<Call>) => ({
  calls: calls.length,
  failures: calls.filter(({ failed }) => failed).length,
  slowCalls: calls.filter(({ slow }) => slow).length
})

const counts = ({ calls, failures, slowCalls }: Outcomes) => ({ calls, failures, slowCalls })

describe("LastCalls", () => {
  it.prop(
    "counts exactly the last n calls",
    [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 })), numbers],
    ([size, steps]) => {
      const window = new LastCalls(size)
      const all: Array<Call> = []
      for (const step of steps) {
        const call = { at: 0, failed: step % 2 === 0, slow: step % 3 === 0 }
        all.push(call)
        window.record(call.failed, call.slow)
        assert.deepStrictEqual(counts(window), counted(all.slice(-size)))
      }
      return true
    }
  )
})

describe("LastTime", () => {
  it.prop(
    "counts every call of the last nine tenths of its length, and none that is older than its length",
    [numbers],
    ([steps]) => {
      const timers = new ManualTimers()
      const window = new LastTime(1000, timers)
      const all: Array<Call> = []
      for (const step of steps) {
        timers.advance(step % 5 === 0 ? step : step % 150)
        const now = timers.now()
        const call = { at: now, failed: step % 2 === 0, slow: step % 3 === 0 }
        all.push(call)
        window.record(call.failed, call.slow)
        const atLeast = counted(all.filter(({ at }) => now - at <= 900))
        const atMost = counted(all.filter(({ at }) => now - at < 1000))
        for (const key of ["calls", "failures", "slowCalls"] as const) {
          assert.isAtLeast(window[key], atLeast[key])
          assert.isAtMost(window[key], atMost[key])
        }
      }
      timers.advance(1000)
      window.refresh()
      assert.deepStrictEqual(counts(window), { calls: 0, failures: 0, slowCalls: 0 })
      return true
    }
  )

  it("forgets everything after a pause of any length", () => {
    const timers = new ManualTimers()
    const window = new LastTime(1000, timers)
    for (let pause = 1000; pause < 1e12; pause *= 7) {
      window.record(true, true)
      timers.advance(pause)
      window.refresh()
      assert.strictEqual(window.calls, 0)
    }
  })
})
