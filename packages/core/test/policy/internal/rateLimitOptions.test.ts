import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as RateLimit from "../../../src/policy/RateLimit.ts"
import { resolve, rules } from "../../../src/policy/internal/rateLimitOptions.ts"

const problems = (options: RateLimit.Options) => Effect.map(Effect.flip(RateLimit.make(options)), (_) => _.problems)

/** As a caller without types may give them. */
const untyped = (options: object): RateLimit.Options => Object.assign({ limit: 1, interval: 1 }, options)

describe("rateLimitOptions", () => {
  it("defaults: a token bucket whose burst is the limit, no limit to the wait, 10 000 in the line, pauses up to a minute", () => {
    assert.deepStrictEqual(resolve({ limit: 7, interval: 500 }), {
      limit: 7,
      interval: 500,
      algorithm: "tokenBucket",
      burst: 7,
      maxWait: Infinity,
      maxQueue: 10_000,
      cost: undefined,
      respectHeaders: true,
      maxPause: 60_000
    })
  })

  it.effect("limit and interval are required, and what is refused is not called missing", () =>
    Effect.gen(function* () {
      const missing = yield* problems(untyped({ limit: undefined, interval: undefined }))
      assert.deepStrictEqual(
        missing.map(({ path }) => path),
        ["limit", "interval"]
      )
      const refused = yield* problems(untyped({ limit: 0, interval: "soon" }))
      assert.strictEqual(refused.length, 2)
      for (const { message } of refused) assert.notInclude(message, "missing")
    })
  )

  it("without the input, what was read decides what is missing", () => {
    assert.deepStrictEqual(
      rules({}).map(({ path }) => path),
      ["limit", "interval"]
    )
    assert.deepStrictEqual(rules({ limit: 1, interval: 1 }), [])
  })

  it.effect("all that is wrong is told at once", () =>
    Effect.gen(function* () {
      const found = yield* problems(
        untyped({
          limit: 1.5,
          interval: 0,
          algorithm: "leakyBucket",
          burst: 0,
          maxWait: -1,
          maxQueue: -1,
          cost: 3,
          respectHeaders: "yes",
          maxPause: "Infinity",
          maxwait: 3
        })
      )
      assert.deepStrictEqual(
        found.map(({ path }) => path),
        [
          "limit",
          "interval",
          "algorithm",
          "burst",
          "maxWait",
          "maxQueue",
          "cost",
          "respectHeaders",
          "maxPause",
          "maxwait"
        ]
      )
    })
  )

  it.effect("a burst is for the token bucket only", () =>
    Effect.gen(function* () {
      for (const algorithm of ["slidingWindow", "slidingCounter"] as const) {
        const found = yield* problems({ limit: 1, interval: 1, burst: 2, algorithm })
        assert.deepStrictEqual(
          found.map(({ path }) => path),
          ["burst"]
        )
      }
    })
  )

  it.effect("a window that would remember more than a million times is refused; the counter is not", () =>
    Effect.gen(function* () {
      const options = { limit: 1_000_001, interval: "1 hour" } as const
      const found = yield* problems({ ...options, algorithm: "slidingWindow" })
      assert.deepStrictEqual(
        found.map(({ path }) => path),
        ["limit"]
      )
      yield* RateLimit.make({ ...options, algorithm: "slidingCounter" })
    })
  )
})
