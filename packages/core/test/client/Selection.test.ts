import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Random, Ref, Schema } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import type { Pool } from "../../src/client/Pool.ts"
import * as Selection from "../../src/client/Selection.ts"
import { onWire, start, tagged, turn } from "../fixtures/pools.ts"
import { type Sent, Wire } from "../fixtures/wire.ts"

const answerAll = (sent: Sent) => sent.answer("ok")

const size = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 }))
const count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 }))

/** Slots as a rule sees them, of which those in `free` are free. */
const candidates = (
  free: ReadonlyArray<boolean>,
  options: { readonly usedAt?: ReadonlyArray<number>; readonly cursor?: number; readonly random?: () => number } = {}
): Selection.Candidates => ({
  size: free.length,
  cursor: Ref.makeUnsafe(options.cursor ?? 0),
  random: options.random ?? (() => 0),
  isFree: (slot) => free[slot] === true,
  usedAt: (slot) => options.usedAt?.[slot] ?? 0
})

const any = (selection: Selection.Selection) => {
  const rule = Selection.rule(selection)
  if (rule._tag !== "Any") throw new Error("a fixed rule")
  return rule.pick
}

const fixed = (selection: Selection.Selection) => {
  const rule = Selection.rule(selection)
  if (rule._tag !== "Fixed") throw new Error("not a fixed rule")
  return rule.slotOf
}

const request = HttpClientRequest.get("/")

const selections = ["roundRobin", "leastPending", "powerOfTwoChoices"] as const

describe("Selection", () => {
  describe("of those that pick a free slot", () => {
    for (const selection of selections) {
      it.prop(
        `${selection} picks one that is free, and none only when none is`,
        [Schema.NonEmptyArray(Schema.Boolean), count, Schema.Array(count)],
        ([free, cursor, usedAt]) => {
          let state = cursor
          const random = () => (state = (state * 16_807 + 7) % 2_147_483_647) / 2_147_483_647
          const slot = any(selection)(candidates(free, { cursor: cursor % (free.length + 1), usedAt, random }))
          assert.strictEqual(slot === -1 ? !free.includes(true) : free[slot], true)
        },
        { arbitrary: { runs: 200 } }
      )
    }
  })

  describe("roundRobin", () => {
    it.prop("goes through all slots, each once, from any start", [size, count], ([n, from]) => {
      const slots = candidates(
        Array.from({ length: n }, () => true),
        { cursor: from % (n + 1) }
      )
      const picked = Array.from({ length: 2 * n }, () => any("roundRobin")(slots))
      const first = from % (n + 1) === n ? 0 : from % (n + 1)
      assert.deepStrictEqual(
        picked,
        Array.from({ length: 2 * n }, (_, i) => (first + i) % n)
      )
    })

    it.effect.prop(
      "N sequential requests use N connections, exactly once each, for any N and start",
      [size, count],
      ([n, before]) =>
        Effect.gen(function* () {
          const wire = new Wire(answerAll)
          const pool = yield* onWire(wire, { size: n })
          for (let i = 0; i < before; i++) yield* pool.client.get("/before")
          for (let i = 0; i < n; i++) yield* pool.client.get("/")
          assert.deepStrictEqual(
            wire.slots.slice(before).toSorted((a, b) => a - b),
            Array.from({ length: n }, (_, i) => i)
          )
          assert.strictEqual(wire.opened, n)
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 40 } }
    )

    it.effect("passes over a slot that is busy, and comes back to it when it is free", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => (sent.path === "/stuck" ? sent.write() : sent.answer("ok")))
        const pool = yield* onWire(wire, { size: 3 })
        yield* pool.client.get("/")
        const stuck = yield* start(pool.client.get("/stuck"))
        for (let i = 0; i < 5; i++) yield* pool.client.get("/")
        assert.deepStrictEqual(wire.slots, [0, 1, 2, 0, 2, 0, 2])
        wire.at(1).reply("late")
        yield* Fiber.join(stuck)
        for (let i = 0; i < 4; i++) yield* pool.client.get("/")
        assert.deepStrictEqual(wire.slots.slice(7), [0, 1, 2, 0])
      })
    )

    it.effect("passes over a slot that is ejected", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => (sent.slot === 1 ? sent.refuse() : sent.answer("ok")))
        const pool = yield* onWire(wire, { size: 3, ejection: { failures: 1, base: "5 seconds" } })
        for (let i = 0; i < 6; i++) yield* Effect.exit(pool.client.get("/"))
        assert.deepStrictEqual(wire.slots, [0, 1, 2, 0, 2, 0])
        wire.onSend = answerAll
        yield* TestClock.adjust("5 seconds")
        for (let i = 0; i < 3; i++) yield* pool.client.get("/")
        assert.deepStrictEqual(wire.slots.slice(6), [1, 2, 0])
      })
    )

    it.effect("gives a waiting request the slot that is free first", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, { size: 3 })
        for (let i = 0; i < 5; i++) yield* start(pool.client.get(`/${i}`))
        assert.deepStrictEqual(wire.slots, [0, 1, 2])
        wire.at(2).reply()
        wire.at(0).reply()
        yield* turn
        assert.deepStrictEqual(wire.slots, [0, 1, 2, 2, 0])
        assert.deepStrictEqual(wire.paths, ["/0", "/1", "/2", "/3", "/4"])
      })
    )
  })

  describe("strict", () => {
    it.effect("takes slot i modulo size, and waits for that very slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, { size: 2, selection: "strict" })
        for (let i = 0; i < 3; i++) yield* start(pool.client.get(`/${i}`))
        assert.deepStrictEqual(wire.slots, [0, 1])
        wire.at(1).reply()
        yield* turn
        assert.deepStrictEqual(wire.slots, [0, 1], "slot 1 is free, but the third request is for slot 0")
        yield* start(pool.client.get("/3"))
        assert.deepStrictEqual(wire.paths, ["/0", "/1", "/3"])
        wire.at(0).reply()
        yield* turn
        assert.deepStrictEqual(wire.slots, [0, 1, 1, 0])
      })
    )

    it.effect("one behind the other, first come first served", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, { size: 1, selection: "strict" })
        for (let i = 0; i < 4; i++) yield* start(pool.client.get(`/${i}`))
        for (let i = 0; i < 4; i++) {
          wire.at(i).reply()
          yield* turn
        }
        assert.deepStrictEqual(wire.paths, ["/0", "/1", "/2", "/3"])
        assert.strictEqual((yield* pool.stats).waiting, 0)
      })
    )
  })

  describe("leastPending", () => {
    it.prop(
      "takes the free slot that was used least recently",
      [Schema.NonEmptyArray(Schema.Tuple([Schema.Boolean, count]))],
      ([slots]) => {
        const free = slots.map(([isFree]) => isFree)
        const usedAt = slots.map(([, at]) => at)
        const slot = any("leastPending")(candidates(free, { usedAt }))
        const oldest = Math.min(...usedAt.filter((_, i) => free[i] === true))
        if (slot !== -1) assert.strictEqual(usedAt[slot], oldest)
      }
    )

    it.effect("goes on in turn after a slow answer, and does not make up for it", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => (sent.path === "/stuck" ? sent.write() : sent.answer("ok")))
        const pool = yield* onWire(wire, { size: 2, selection: "leastPending" })
        const stuck = yield* start(pool.client.get("/stuck"))
        for (let i = 0; i < 3; i++) yield* pool.client.get("/")
        wire.at(0).reply()
        yield* Fiber.join(stuck)
        for (let i = 0; i < 3; i++) yield* pool.client.get("/")
        assert.deepStrictEqual(wire.slots, [0, 1, 1, 1, 0, 1, 0])
      })
    )
  })

  describe("powerOfTwoChoices", () => {
    const randoms = (...values: ReadonlyArray<number>) => {
      let i = 0
      return () => values[i++ % values.length] ?? 0
    }

    it("takes two different free slots, and of them the one unused for longer", () => {
      const free = [true, false, true, true]
      const pick = (usedAt: ReadonlyArray<number>, ...values: ReadonlyArray<number>) =>
        any("powerOfTwoChoices")(candidates(free, { usedAt, random: randoms(...values) }))
      // The free ones are 0, 2, 3; the first number chooses one, the second how far the other is from it.
      assert.strictEqual(pick([5, 0, 4, 9], 0, 0), 2)
      assert.strictEqual(pick([5, 0, 4, 9], 0, 0.99), 0)
      assert.strictEqual(pick([5, 0, 4, 9], 0.99, 0), 0)
      assert.strictEqual(pick([5, 0, 5, 9], 0.5, 0.99), 2, "of equals the first")
    })

    it("takes the only one there is", () => {
      assert.strictEqual(any("powerOfTwoChoices")(candidates([false, true, false])), 1)
      assert.strictEqual(any("powerOfTwoChoices")(candidates([false, false])), -1)
    })

    it.effect("takes its numbers from Effect's Random, and spreads the load", () =>
      Effect.gen(function* () {
        const run = (seed: string) =>
          Effect.gen(function* () {
            const wire = new Wire(answerAll)
            const pool = yield* onWire(wire, { size: 5, selection: "powerOfTwoChoices" })
            for (let i = 0; i < 100; i++) yield* pool.client.get("/")
            return wire.slots
          }).pipe(Random.withSeed(seed), Effect.scoped)
        const slots = yield* run("a seed")
        assert.deepStrictEqual(yield* run("a seed"), slots)
        assert.notDeepEqual(yield* run("another"), slots)
        for (let slot = 0; slot < 5; slot++) assert.closeTo(slots.filter((s) => s === slot).length, 20, 5)
        assert.isFalse(
          slots.some((slot, i) => slot === slots[i - 1]),
          "the one that was used last is never unused for longer"
        )
      })
    )
  })

  describe("a slot that is restored after an ejection", () => {
    /** Slot 0 rests while the others do what comes; then 40 more requests, of which the slots are told. */
    const afterEjection = (selection: Selection.Selection) =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => (sent.slot === 0 ? sent.refuse() : sent.answer("ok")))
        const pool = yield* onWire(wire, { size: 4, selection, ejection: { failures: 1, base: "5 seconds" } })
        while (!wire.slots.includes(0)) yield* Effect.exit(pool.client.get("/"))
        const before = wire.sent.length
        for (let i = 0; i < 200; i++) yield* pool.client.get("/")
        assert.notInclude(wire.slots.slice(before), 0)
        wire.onSend = answerAll
        yield* TestClock.adjust("5 seconds")
        for (let i = 0; i < 40; i++) yield* pool.client.get("/")
        return wire.slots.slice(before + 200)
      })

    it.effect("has its turn and no more, with leastPending", () =>
      Effect.gen(function* () {
        const slots = yield* afterEjection("leastPending")
        assert.strictEqual(slots[0], 0)
        for (let i = 0; i < 40; i += 4)
          assert.deepStrictEqual(
            slots.slice(i, i + 4).toSorted((a, b) => a - b),
            [0, 1, 2, 3]
          )
      })
    )

    it.effect("has its share and no more, with powerOfTwoChoices", () =>
      Effect.gen(function* () {
        const slots = yield* afterEjection("powerOfTwoChoices").pipe(Random.withSeed("a seed"))
        assert.closeTo(slots.filter((slot) => slot === 0).length, 10, 3)
      })
    )
  })

  describe("byKey", () => {
    const byPath = { byKey: (r: HttpClientRequest.HttpClientRequest) => r.url }

    it.prop(
      "names a slot, always the same for the same key, whatever else happens",
      [Schema.String, size],
      ([key, n]) => {
        const slotOf = fixed({ byKey: () => key })
        const slot = slotOf(request, candidates(Array.from({ length: n }, () => true)))
        assert.isTrue(Number.isInteger(slot) && slot >= 0 && slot < n)
        assert.strictEqual(
          slotOf(
            request,
            candidates(
              Array.from({ length: n }, () => false),
              { cursor: 3 % n }
            )
          ),
          slot
        )
      }
    )

    it("is FNV-1a, so that it is the same in every process", () => {
      // 0xe40c292c and 0xbf9cf968, from the authors' page.
      assert.strictEqual(
        fixed({ byKey: () => "a" })(request, candidates(Array.from({ length: 1024 }, () => true))),
        0x12c
      )
      assert.strictEqual(
        fixed({ byKey: () => "foobar" })(request, candidates(Array.from({ length: 1024 }, () => true))),
        0x168
      )
    })

    it("spreads keys over the slots", () => {
      const slots = candidates(Array.from({ length: 8 }, () => true))
      const counts = Array.from({ length: 8 }, () => 0)
      for (let i = 0; i < 800; i++) {
        const slot = fixed({ byKey: () => `user-${i}` })(request, slots)
        counts[slot] = (counts[slot] ?? 0) + 1
      }
      for (const n of counts) assert.isAbove(n, 50)
    })

    for (const [lane, transform] of [
      ["fast", (pool: Pool) => pool.client],
      ["slow", (pool: Pool) => HttpClient.mapRequest(pool.client, (r) => r)]
    ] as const) {
      it.effect(`that throws costs the request, and nothing else (${lane} lane)`, () =>
        Effect.gen(function* () {
          const defect = new Error("no key")
          const wire = new Wire(answerAll)
          const byKey = (r: HttpClientRequest.HttpClientRequest) => {
            if (r.url.includes("/bad")) throw defect
            return "same"
          }
          const pool = yield* onWire(wire, { size: 2, selection: { byKey } })
          const client = transform(pool)
          yield* client.get("/good")
          const before = yield* pool.stats
          for (let i = 0; i < 3; i++) {
            const error = tagged(yield* Effect.flip(client.get("/bad?token=s3cret")), "InvalidRequest")
            assert.deepStrictEqual([error.attempts, error.cause], [0, defect])
            assert.include(error.message, "`byKey` selection threw")
            assert.notInclude(error.message, "s3cret")
          }
          assert.deepStrictEqual(yield* pool.stats, before)
          yield* client.get("/good")
          assert.strictEqual(wire.opened, 1)
          assert.strictEqual((yield* pool.stats).requests, before.requests + 1)
        })
      )
    }

    it.effect("waits for its slot, busy or not", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write())
        const pool = yield* onWire(wire, { size: 8, selection: byPath })
        yield* start(pool.client.get("/a"))
        yield* start(pool.client.get("/a"))
        assert.strictEqual(wire.sent.length, 1)
        wire.at(0).reply()
        yield* turn
        assert.strictEqual(wire.sent.length, 2)
        assert.strictEqual(wire.at(1).slot, wire.at(0).slot)
      })
    )
  })
})
