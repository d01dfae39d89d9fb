import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Schedule } from "effect"
import { ManualTimers } from "../../fixtures/time.ts"
import type { Problem } from "../../../src/model/internal/field.ts"
import { readFields } from "../../../src/model/internal/groupField.ts"
import { isRetryBudget } from "../../../src/policy/internal/retryBudget.ts"
import { fields, type Given, resolve, rules } from "../../../src/policy/internal/retryOptions.ts"
import * as Retry from "../../../src/policy/Retry.ts"
import * as RetryBudget from "../../../src/policy/RetryBudget.ts"

const read = (input: unknown): { readonly given: Partial<Given>; readonly problems: ReadonlyArray<Problem> } => {
  const problems: Array<Problem> = []
  return { given: readFields<Given>(fields, input, "", problems), problems }
}

describe("retryOptions", () => {
  it("has the defaults of the design", () => {
    assert.deepStrictEqual(resolve({}), {
      maxRetries: 3,
      statuses: [408, 429, 500, 502, 503, 504],
      initialDelay: 1_000,
      multiplier: 2,
      maxDelay: 30_000,
      jitter: "proportional",
      jitterFactor: 0.1,
      maxRetryAfter: 60_000,
      retryNonIdempotent: false,
      schedule: undefined,
      while: undefined,
      onRetry: undefined,
      budget: { ratio: 0.2, minPerSecond: 10, window: 10_000 }
    })
  })

  it("keeps what is given", () => {
    const given: Given = {
      maxRetries: 1,
      statuses: [503],
      initialDelay: 2,
      multiplier: 3,
      maxDelay: 4,
      jitter: "full",
      jitterFactor: 0.5,
      maxRetryAfter: 6,
      retryNonIdempotent: true,
      schedule: Schedule.forever,
      while: () => true,
      onRetry: () => undefined,
      budget: false
    }
    assert.deepStrictEqual(read(given), { given, problems: [] })
    assert.deepStrictEqual(resolve(given), { ...given, budget: false })
    assert.deepStrictEqual(resolve({ budget: { ratio: 1 } }).budget, { ratio: 1, minPerSecond: 10, window: 10_000 })
  })

  it("takes a budget that others share as it is", () => {
    const budget = RetryBudget.makeUnsafe({ ratio: 1, minPerSecond: 1, window: 1_000 }, new ManualTimers())
    const { given, problems } = read({ budget })
    assert.deepStrictEqual(problems, [])
    assert.strictEqual(resolve(given).budget, budget)
    assert.isFalse(isRetryBudget({ deposit: () => undefined }))
  })

  it("reads statuses from text, separated by commas", () => {
    const { fromText } = fields.statuses
    assert.deepStrictEqual(fromText("429, 503"), [429, 503])
    assert.deepStrictEqual(fromText("503"), [503])
    assert.deepStrictEqual(fromText(" "), [])
    assert.deepStrictEqual(fromText([503]), [503])
    for (const wrong of ["5xx", "503;504", "503,", "5030", "503 504"]) {
      const { problems } = read({ statuses: fromText(wrong) })
      assert.deepStrictEqual(problems, [
        { path: "statuses", message: "must be a list of statuses from 400 to 599 (as text: separated by commas)" }
      ])
    }
  })

  it("reads a budget from text: off, or a group", () => {
    assert.deepStrictEqual(fields.budget.fromText("false"), false)
    assert.deepStrictEqual(fields.budget.fromText({ ratio: "0.5", window: "5s" }), { ratio: 0.5, window: 5_000 })
    assert.deepStrictEqual(read({ budget: false }), { given: { budget: false }, problems: [] })
  })

  it("allows statuses that say that something failed, and no others", () => {
    for (const statuses of [[399], [600], [200], [503.5], ["503"], 503, "503", {}]) {
      assert.deepStrictEqual(
        read({ statuses }).problems.map(({ path }) => path),
        ["statuses"],
        JSON.stringify(statuses)
      )
    }
    assert.deepStrictEqual(read({ statuses: [400, 599] }).problems, [])
    assert.deepStrictEqual(read({ statuses: [] }).problems, [])
  })

  it("refuses a backoff that begins above its own cap, defaults included", () => {
    const message = (millis: number) => [
      { path: "maxDelay", message: `must be at least \`initialDelay\`, which is ${millis} ms` }
    ]
    assert.deepStrictEqual(rules({ initialDelay: 31_000 }), message(31_000))
    assert.deepStrictEqual(rules({ maxDelay: 999 }), message(1_000))
    assert.deepStrictEqual(rules({ initialDelay: 5, maxDelay: 5 }), [])
  })

  it.effect("reports all that is wrong at once", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Retry.make({
          maxRetries: -1,
          statuses: [42],
          initialDelay: Duration.minutes(1),
          multiplier: 0.5,
          jitterFactor: 2,
          maxRetryAfter: Duration.infinity,
          budget: { ratio: -1, minPerSecond: Number.NaN, window: 1 }
        })
      )
      assert.deepStrictEqual(
        error.problems.map(({ path }) => path),
        [
          "maxRetries",
          "statuses",
          "multiplier",
          "jitterFactor",
          "maxRetryAfter",
          "budget.ratio",
          "budget.minPerSecond",
          "budget.window",
          "maxDelay"
        ]
      )
    })
  )

  it("takes functions and schedules from code only", () => {
    const wrong = { schedule: "1 second", while: true, onRetry: "log", budget: true, jitter: "some" }
    assert.deepStrictEqual(
      read(wrong).problems.map(({ path }) => path),
      ["jitter", "schedule", "while", "onRetry", "budget"]
    )
  })
})
