import { assert, describe, it } from "@effect/vitest"
import * as wakeups from "../../../src/client/internal/wakeups.ts"

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
    const defects: Array<unknown> = []
    const real = globalThis.queueMicrotask
    const log: Array<string> = []
    wakeups.add({
      wake: () => {
        // From here on, what would end as an uncaught exception is caught.
        globalThis.queueMicrotask = (task) =>
          real(() => {
            try {
              task()
            } catch (defect) {
              defects.push(defect)
            }
          })
        throw new Error("bad sleeper")
      }
    })
    wakeups.add({ wake: () => log.push("woken") })
    await microtask()
    globalThis.queueMicrotask = real
    await microtask()
    assert.deepStrictEqual(log, ["woken"])
    assert.deepStrictEqual(
      defects.map((defect) => (defect instanceof Error ? defect.message : defect)),
      ["bad sleeper"]
    )
    wakeups.add({ wake: () => log.push("still works") })
    await microtask()
    assert.deepStrictEqual(log, ["woken", "still works"])
  })
})
