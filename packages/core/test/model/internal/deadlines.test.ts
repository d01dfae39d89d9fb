import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { type Deadline, Deadlines, type Expiring, type Limit } from "../../../src/model/internal/deadlines.ts"
import { catchingDefects } from "../../fixtures/defects.ts"
import { ManualTimers } from "../../fixtures/time.ts"

/** Writes down when it expired. */
class Owner implements Expiring<string> {
  readonly number: number
  readonly at: Array<number> = []
  deadline: Deadline<string> | undefined = undefined
  readonly #timers: ManualTimers
  readonly #log: Array<number>
  constructor(number: number, timers: ManualTimers, log: Array<number> = []) {
    this.number = number
    this.#timers = timers
    this.#log = log
  }
  expired(): void {
    this.deadline = undefined
    this.at.push(this.#timers.now())
    this.#log.push(this.number)
  }
}

const limitOf = (timers: ManualTimers, millis: number): Limit<string> => {
  const limit = new Deadlines<string>(timers).limit(millis)
  if (limit === undefined) throw new Error("no limit")
  return limit
}

describe("deadlines", () => {
  it("have no limit where there is none", () => {
    const timers = new ManualTimers()
    assert.isUndefined(new Deadlines<string>(timers).limit(Infinity))
    assert.strictEqual(timers.size, 0)
  })

  it("share a limit where the length is equal", () => {
    const deadlines = new Deadlines<string>(new ManualTimers())
    assert.strictEqual(deadlines.limit(100), deadlines.limit(100))
    assert.notStrictEqual(deadlines.limit(100), deadlines.limit(200))
  })

  it("tell what expired, and after how long", () => {
    const timers = new ManualTimers()
    const seen: Array<readonly [string, number]> = []
    limitOf(timers, 100).arm({ expired: (kind, millis) => seen.push([kind, millis]) }, "headers", timers.now())
    timers.advance(99)
    assert.deepStrictEqual(seen, [])
    timers.advance(1)
    assert.deepStrictEqual(seen, [["headers", 100]])
  })

  it("share one timer, and need none when all have expired", () => {
    const timers = new ManualTimers()
    const limit = limitOf(timers, 100)
    for (let i = 0; i < 50; i++) {
      limit.arm(new Owner(i, timers), "request", timers.now())
      timers.advance(1)
    }
    assert.strictEqual(timers.size, 1)
    timers.advance(150)
    assert.strictEqual(timers.size, 0)
    assert.isUndefined(limit.line.head)
  })

  it("start again from the moment of a restart", () => {
    const timers = new ManualTimers()
    const limit = limitOf(timers, 100)
    const owner = new Owner(0, timers)
    const deadline = limit.arm(owner, "bodyIdle", timers.now())
    for (let i = 0; i < 5; i++) {
      timers.advance(60)
      deadline.restart()
    }
    assert.deepStrictEqual(owner.at, [])
    timers.advance(99)
    assert.deepStrictEqual(owner.at, [])
    timers.advance(1)
    assert.deepStrictEqual(owner.at, [400])
  })

  it("stay in time when an expiry arms another under the same limit", () => {
    const timers = new ManualTimers()
    const limit = limitOf(timers, 100)
    const [late, next] = [new Owner(1, timers), new Owner(2, timers)]
    limit.arm({ expired: () => limit.arm(next, "attempt", timers.now()) }, "attempt", timers.now())
    timers.advance(10)
    limit.arm(late, "attempt", timers.now())
    timers.advance(1000)
    assert.deepStrictEqual(late.at, [110])
    assert.deepStrictEqual(next.at, [200])
  })

  it("let an expiry disarm and restart others", () => {
    const timers = new ManualTimers()
    const limit = limitOf(timers, 100)
    const [disarmed, restarted, last] = [new Owner(0, timers), new Owner(1, timers), new Owner(2, timers)]
    const others: Array<Deadline<string>> = []
    for (const owner of [disarmed, restarted, last]) others.push(limit.arm(owner, "request", timers.now()))
    // Of those that are due together, the youngest hears of it first.
    limit.arm(
      {
        expired: () => {
          others[0]?.disarm()
          others[1]?.restart()
        }
      },
      "request",
      timers.now()
    )
    timers.advance(1000)
    assert.deepStrictEqual([disarmed.at, restarted.at, last.at], [[], [200], [100]])
  })

  it("never expire after a stop", () => {
    const timers = new ManualTimers()
    const deadlines = new Deadlines<string>(timers)
    const owner = new Owner(0, timers)
    deadlines.limit(100)?.arm(owner, "request", timers.now())
    deadlines.limit(200)?.arm(owner, "attempt", timers.now())
    deadlines.stop()
    deadlines.stop()
    assert.strictEqual(timers.size, 0)
    timers.advance(1000)
    assert.deepStrictEqual(owner.at, [])
  })

  it("lets the defect of one owner cost the others nothing, and does not swallow it", async () => {
    const timers = new ManualTimers()
    const limit = limitOf(timers, 100)
    const owners = [new Owner(0, timers), new Owner(1, timers), new Owner(2, timers)]
    const [before, after, later] = owners
    if (before === undefined || after === undefined || later === undefined) return assert.fail()
    const bad = new Error("bad owner")
    limit.arm(before, "request", timers.now())
    limit.arm(
      {
        expired: () => {
          throw bad
        }
      },
      "request",
      timers.now()
    )
    limit.arm(after, "request", timers.now())
    timers.advance(10)
    limit.arm(later, "request", timers.now())
    const defects = await catchingDefects(() => timers.advance(1000))
    assert.deepStrictEqual(defects, [bad])
    assert.deepStrictEqual(
      owners.map((owner) => owner.at),
      [[100], [100], [110]]
    )
    const next = new Owner(3, timers)
    limit.arm(next, "request", timers.now())
    timers.advance(100)
    assert.deepStrictEqual(next.at, [1110])
    assert.strictEqual(timers.size, 0)
  })

  // Steps: 0–3 arm one, 4–5 disarm one, 6–7 restart one, 8–9 let time pass.
  it.prop(
    "expire in order and exactly when due, disarmed ones never",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 })))],
    ([steps]) => {
      const timers = new ManualTimers()
      const limit = limitOf(timers, 50)
      const log: Array<number> = []
      const owners: Array<Owner> = []
      const due = new Map<number, number>()
      const step = (n: number) => {
        const owner = owners[Math.floor(n / 10) % Math.max(owners.length, 1)]
        if (n % 10 < 4) {
          const made = new Owner(owners.length, timers, log)
          made.deadline = limit.arm(made, "request", timers.now())
          due.set(made.number, timers.now() + 50)
          owners.push(made)
        } else if (n % 10 >= 8) timers.advance(n / 10)
        else if (owner?.deadline !== undefined && n % 10 < 6) {
          owner.deadline.disarm()
          owner.deadline = undefined
          due.delete(owner.number)
        } else if (owner?.deadline !== undefined) {
          owner.deadline.restart()
          due.set(owner.number, timers.now() + 50)
        }
      }
      for (const n of steps) step(n)
      timers.advance(1000)
      for (const owner of owners) {
        const at = due.get(owner.number)
        assert.strictEqual(owner.at.length, at === undefined ? 0 : 1)
        if (at !== undefined) assert.closeTo(owner.at[0] ?? NaN, at, 0.5)
      }
      const times = log.map((number) => due.get(number) ?? NaN)
      assert.deepStrictEqual(
        times,
        times.toSorted((a, b) => a - b)
      )
      assert.strictEqual(timers.size, 0)
    },
    { arbitrary: { runs: 200 } }
  )
})
