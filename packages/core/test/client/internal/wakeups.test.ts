import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as wakeups from "../../../src/client/internal/wakeups.ts"
import { catchingDefects } from "../../fixtures/defects.ts"
import { onWire, start, text } from "../../fixtures/pools.ts"
import { Wire } from "../../fixtures/wire.ts"

const microtask = (): Promise<void> => Promise.resolve()
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe.each([
  { name: "soon", add: wakeups.soon, later: microtask },
  { name: "afterTurn", add: wakeups.afterTurn, later: turn }
])("wakeups.$name", ({ add, later }) => {
  it("never wakes in the call, and in the order of the calls", async () => {
    const log: Array<number> = []
    for (let i = 0; i < 3; i++) add({ wake: () => log.push(i) })
    assert.deepStrictEqual(log, [])
    await later()
    assert.deepStrictEqual(log, [0, 1, 2])
  })

  it("wakes all of one turn together", async () => {
    let others = 0
    const seen: Array<number> = []
    const wake = () => {
      seen.push(others)
      queueMicrotask(() => others++)
    }
    for (let i = 0; i < 5; i++) add({ wake })
    await later()
    assert.deepStrictEqual(seen, [0, 0, 0, 0, 0])
    await microtask()
    assert.strictEqual(others, 5)
  })

  it("wakes those that are added by a wake later, once", async () => {
    const log: Array<string> = []
    add({
      wake: () => {
        log.push("first")
        add({ wake: () => log.push("third") })
      }
    })
    add({ wake: () => log.push("second") })
    await later()
    await later()
    assert.deepStrictEqual(log, ["first", "second", "third"])
    await later()
    assert.strictEqual(log.length, 3)
  })

  it("does not let the defect of one keep the others asleep, nor swallows it", async () => {
    const bad = new Error("bad sleeper")
    const log: Array<string> = []
    const defects = await catchingDefects(() => {
      add({
        wake: () => {
          throw bad
        }
      })
      add({ wake: () => log.push("woken") })
    })
    assert.deepStrictEqual(log, ["woken"])
    assert.deepStrictEqual(defects, [bad])
    add({ wake: () => log.push("still works") })
    await later()
    assert.deepStrictEqual(log, ["woken", "still works"])
  })
})

describe("wakeups", () => {
  it("wakes after the turn when the microtasks are done, of whatever has happened in it", async () => {
    const log: Array<string> = []
    wakeups.afterTurn({ wake: () => log.push("after the turn") })
    process.nextTick(() => {
      log.push("tick")
      wakeups.afterTurn({ wake: () => log.push("after the same turn") })
    })
    wakeups.soon({ wake: () => log.push("soon") })
    await turn()
    assert.deepStrictEqual(log.slice(-2), ["after the turn", "after the same turn"])
    assert.strictEqual(log.length, 4)
  })
})

describe("wakeups.afterTurn where there is no setImmediate", () => {
  afterEach(() => {
    vi.unstubAllGlobals()
    vi.resetModules()
  })

  it("wakes in a microtask", async () => {
    vi.stubGlobal("setImmediate", undefined)
    vi.resetModules()
    const inBrowser = await import("../../../src/client/internal/wakeups.ts")
    const log: Array<string> = []
    inBrowser.afterTurn({ wake: () => log.push("woken") })
    assert.deepStrictEqual(log, [])
    await microtask()
    assert.deepStrictEqual(log, ["woken"])
  })
})

/** Who has been woken in the turn of the answers, and who when it is over. */
const wokenBy = (callers: number) =>
  Effect.gen(function* () {
    const wire = new Wire()
    const pool = yield* onWire(wire, { size: callers })
    const woken: Array<string> = []
    const request = Effect.map(text(pool.client.get("/")), (body) => woken.push(body))
    const fibers = []
    for (let i = 0; i < callers; i++) fibers.push(yield* start(request))
    const within: ReadonlyArray<string> = yield* Effect.promise(async () => {
      for (let i = 0; i < callers; i++) {
        wire.at(i).answer(String(i))
        await microtask()
      }
      return [...woken]
    })
    yield* Fiber.joinAll(fibers)
    return { within, after: woken }
  })

describe("a pool", () => {
  it.live("wakes all callers whose responses came in one turn when it is over, in order", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* wokenBy(3), { within: [], after: ["0", "1", "2"] })
    })
  )

  it.live("does not let a turn pass for the only caller", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* wokenBy(1), { within: ["0"], after: ["0"] })
    })
  )

  it.effect("lets none pass on a test clock, which would go on without them", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* wokenBy(2), { within: ["0", "1"], after: ["0", "1"] })
    })
  )
})
