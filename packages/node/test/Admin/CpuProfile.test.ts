import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as CpuProfile from "../../src/Admin/CpuProfile.ts"

const Profile = Schema.fromJsonString(
  Schema.Struct({ nodes: Schema.Array(Schema.Unknown), startTime: Schema.Number, endTime: Schema.Number })
)

describe("CpuProfile", () => {
  it.effect("gives the text of a profile", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(CpuProfile.record("5 seconds"))
      yield* TestClock.adjust("5 seconds")
      const profile = yield* Schema.decodeEffect(Profile)(yield* Fiber.join(fiber))
      assert.isNotEmpty(profile.nodes)
      assert.isAtLeast(profile.endTime, profile.startTime)
    })
  )

  it.effect("one at a time; an interrupted one makes way for the next", () =>
    Effect.gen(function* () {
      const first = yield* Effect.forkChild(CpuProfile.record("5 seconds"))
      yield* TestClock.adjust("1 second")
      const busy = yield* Effect.flip(CpuProfile.record("1 second"))
      assert.strictEqual(busy.reason, "busy")
      assert.match(busy.message, /try again/)
      yield* Fiber.interrupt(first)
      const next = yield* Effect.forkChild(CpuProfile.record("1 second"))
      yield* TestClock.adjust("1 second")
      assert.include(yield* Fiber.join(next), '"nodes"')
    })
  )
})
