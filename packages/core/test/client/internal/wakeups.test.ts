import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as wakeups from "../../../src/client/internal/wakeups.ts"
import { catchingDefects } from "../../fixtures/defects.ts"
import { onWire, start, text } from "../../fixtures/pools.ts"
import { Wire } from "../../fixtures/wire.ts"

const microtask = (): Promise<void> => Promise.resolve()
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const afterTurn = (f: () => void): void => void setImmediate(f)
const turns = new wakeups.Wakeups(afterTurn)

describe.each([
  { name: "soon", add: wakeups.soon, later: microtask },
  { name: "after the turn", add: (sleeper: wakeups.Sleeper) => turns.add(sleeper), later: turn }
])("wakeups $name", ({ add, later }) => {
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
  it("that can wait for the end of a turn can be hurried", async () => {
    const log: Array<string> = []
    turns.add({ wake: () => log.push("woken") })
    assert.isTrue(turns.some)
    turns.hurry()
    assert.deepStrictEqual(log, [])
    await microtask()
    assert.deepStrictEqual(log, ["woken"])
    assert.isFalse(turns.some)
    await turn()
    assert.strictEqual(log.length, 1)
  })
})

/** Who has been woken in the turn of the answers, and who when it is over. */
const wokenBy = (callers: number) =>
  Effect.gen(function* () {
    const wire = new Wire()
    wire.afterTurn = afterTurn
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

  it.live("tells the callers whom it cuts before it is closed", () =>
    Effect.gen(function* () {
      const wire = new Wire()
      wire.afterTurn = afterTurn
      const log: Array<string> = []
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      yield* Effect.scoped(
        Effect.gen(function* () {
          const pool = yield* onWire(wire, { size: 3 })
          const caller = Effect.matchEffect(pool.client.get("/"), {
            onFailure: ({ _tag }) => Effect.sync(() => log.push(_tag)),
            onSuccess: () => Effect.die("answered")
          })
          for (let i = 0; i < 3; i++) {
            const fiber = yield* Effect.forkDetach(caller, { startImmediately: true })
            fibers.push(fiber)
          }
        })
      )
      log.push("closed")
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(log, ["PoolClosed", "PoolClosed", "PoolClosed", "closed"])
    })
  )

  it.live("sends no hedge for an answer that is here, though its caller has not been woken", () =>
    Effect.gen(function* () {
      const wire = new Wire()
      const ends: Array<() => void> = []
      wire.afterTurn = (f) => void ends.push(f)
      const pool = yield* onWire(wire, { size: 4, hedge: { delay: "20 millis", maxRatio: 1 } })
      const fibers = [yield* start(text(pool.client.get("/"))), yield* start(text(pool.client.get("/")))]
      wire.at(0).answer("first")
      wire.at(1).write().head()
      // The hedge's time.
      yield* Effect.sleep("50 millis")
      assert.strictEqual(wire.sent.length, 2)
      wire.at(1).data("second").end()
      for (const end of ends) end()
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), ["first", "second"])
      assert.strictEqual((yield* pool.stats).hedges, 0)
    })
  )
})
