import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { RawConnectionError } from "../../../src/model/RawConnection.ts"
import { tunnel } from "../../../src/server/internal/tunnel.ts"
import { Ends } from "../../fixtures/rawConnection.ts"

const between = (idle = Infinity) =>
  Effect.gen(function* () {
    const [one, other] = [new Ends(), new Ends()]
    const fiber = yield* Effect.forkChild(tunnel(one, other, idle), { startImmediately: true })
    return { one, other, fiber }
  })

describe("tunnel", () => {
  it.effect("passes pieces on in order, both ways, and ends when both directions have", () =>
    Effect.gen(function* () {
      const { fiber, one, other } = yield* between()
      one.send("a")
      one.send("b")
      other.send("c")
      yield* one.until(() => one.got === "c")
      yield* other.until(() => other.got === "ab")
      one.finish()
      yield* other.until(() => other.ended)
      other.send("d")
      yield* one.until(() => one.got === "cd")
      other.finish()
      yield* Fiber.join(fiber)
      assert.isTrue(one.ended)
    })
  )

  it.effect("does not read what the other side has no room for", () =>
    Effect.gen(function* () {
      const { fiber, one, other } = yield* between()
      other.full = true
      one.send("a")
      one.send("b")
      one.send("c")
      yield* other.until(() => other.got === "a")
      yield* Effect.yieldNow
      assert.strictEqual(one.left, 2)
      other.open()
      yield* other.until(() => other.got === "abc")
      yield* Fiber.interrupt(fiber)
    })
  )

  for (const what of ["read", "write"] as const) {
    it.effect(`fails when a side cannot ${what}, whatever the other does`, () =>
      Effect.gen(function* () {
        const { fiber, one, other } = yield* between()
        if (what === "read") one.fail()
        else {
          other.broken = true
          one.send("a")
        }
        assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), RawConnectionError)
      })
    )
  }

  it.effect("fails when nothing has moved for `idle`, in either direction", () =>
    Effect.gen(function* () {
      const { fiber, one, other } = yield* between(1000)
      yield* TestClock.adjust(900)
      one.send("a")
      yield* other.until(() => other.got === "a")
      yield* TestClock.adjust(900)
      other.send("b")
      yield* one.until(() => one.got === "b")
      yield* TestClock.adjust(999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.message, "Nothing came over the tunnel for 1000 ms")
    })
  )

  it.effect("a side that takes nothing is silence, too", () =>
    Effect.gen(function* () {
      const { fiber, one, other } = yield* between(1000)
      other.full = true
      for (let i = 0; i < 10; i++) one.send("a")
      yield* other.until(() => other.got === "a")
      yield* TestClock.adjust(1000)
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "TunnelIdle")
    })
  )

  it.effect("when one direction has ended, the other has 10 s of silence at most", () =>
    Effect.gen(function* () {
      const { fiber, one, other } = yield* between()
      yield* TestClock.adjust("1 hour")
      one.finish()
      yield* other.until(() => other.ended)
      yield* TestClock.adjust("9 seconds")
      other.send("a")
      yield* one.until(() => one.got === "a")
      yield* TestClock.adjust("9 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "TunnelIdle")
    })
  )
})
