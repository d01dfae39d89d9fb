import { assert, describe, it } from "@effect/vitest"
import * as wakeups from "../../../src/client/internal/wakeups.ts"
import { catchingDefects } from "../../fixtures/defects.ts"

const microtask = (): Promise<void> => Promise.resolve()

describe("wakeups", () => {
  it("wakes in a microtask, never in the call, in the order of the calls", async () => {
    const log: Array<number> = []
    for (let i = 0; i < 3; i++) wakeups.add({ wake: () => log.push(i) })
    assert.deepStrictEqual(log, [])
    await microtask()
    assert.deepStrictEqual(log, [0, 1, 2])
  })

  it("wakes all of one turn in one microtask", async () => {
    let others = 0
    const seen: Array<number> = []
    const wake = () => {
      seen.push(others)
      queueMicrotask(() => others++)
    }
    for (let i = 0; i < 5; i++) wakeups.add({ wake })
    await microtask()
    assert.deepStrictEqual(seen, [0, 0, 0, 0, 0])
    await microtask()
    assert.strictEqual(others, 5)
  })

  it("wakes those that are added by a wake later, once", async () => {
    const log: Array<string> = []
    wakeups.add({
      wake: () => {
        log.push("first")
        wakeups.add({ wake: () => log.push("third") })
      }
    })
    wakeups.add({ wake: () => log.push("second") })
    await microtask()
    await microtask()
    assert.deepStrictEqual(log, ["first", "second", "third"])
    await microtask()
    assert.strictEqual(log.length, 3)
  })

  it("does not let the defect of one keep the others asleep, nor swallows it", async () => {
    const bad = new Error("bad sleeper")
    const log: Array<string> = []
    const defects = await catchingDefects(() => {
      wakeups.add({
        wake: () => {
          throw bad
        }
      })
      wakeups.add({ wake: () => log.push("woken") })
    })
    assert.deepStrictEqual(log, ["woken"])
    assert.deepStrictEqual(defects, [bad])
    wakeups.add({ wake: () => log.push("still works") })
    await microtask()
    assert.deepStrictEqual(log, ["woken", "still works"])
  })
})
