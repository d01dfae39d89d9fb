import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { Migrator, SqlError } from "effect/sql"
import { TestClock } from "effect/testing"
import { answering, storageError } from "../../../src/tasks/storage/Deadline.ts"

const error = (reason: SqlError.SqlErrorReason) => new SqlError.SqlError({ reason })
const told = (code: string) => error(new SqlError.UnknownError({ cause: Object.assign(new Error("no"), { code }) }))
const lost = error(new SqlError.ConnectionError({ cause: new Error("lost") }))

describe("Deadline", () => {
  it.effect.each([
    { code: "53300", what: "too many connections", reason: "unavailable" },
    { code: "53100", what: "the disk is full", reason: "unavailable" },
    { code: "57P01", what: "an administrator ended it", reason: "unavailable" },
    { code: "57P02", what: "it crashed", reason: "unavailable" },
    { code: "57P03", what: "it starts", reason: "unavailable" },
    { code: "57P05", what: "the session was idle too long", reason: "unavailable" },
    { code: "58030", what: "a disk failed", reason: "unavailable" },
    { code: "25006", what: "a standby", reason: "unavailable" },
    { code: "3D000", what: "no such database", reason: "refused" },
    { code: "22021", what: "a text it does not know", reason: "refused" },
    { code: "57P04", what: "the database was dropped", reason: "refused" }
  ] as const)("$code ($what) is $reason", ({ code, reason }) =>
    Effect.sync(() => assert.strictEqual(storageError("get")(told(code)).reason, reason))
  )

  it.effect("what the driver knows to pass is unavailable, the rest is refused", () =>
    Effect.sync(() => {
      const reasons = [
        [new SqlError.ConnectionError({ cause: "" }), "unavailable"],
        [new SqlError.StatementTimeoutError({ cause: "" }), "unavailable"],
        [new SqlError.LockTimeoutError({ cause: "" }), "unavailable"],
        [new SqlError.DeadlockError({ cause: "" }), "unavailable"],
        [new SqlError.SerializationError({ cause: "" }), "unavailable"],
        [new SqlError.AuthenticationError({ cause: "" }), "refused"],
        [new SqlError.SqlSyntaxError({ cause: "" }), "refused"],
        [new SqlError.UnknownError({ cause: "" }), "refused"],
        [new SqlError.UnknownError({ cause: { code: 53300 } }), "refused"]
      ] as const
      for (const [cause, reason] of reasons)
        assert.strictEqual(storageError("get")(error(cause)).reason, reason, cause._tag)
    })
  )

  it.effect("a migration is what its statement is", () =>
    Effect.sync(() => {
      const failed = (cause: unknown) => new Migrator.MigrationError({ kind: "Failed", message: "", cause })
      assert.strictEqual(storageError("migrate")(failed(lost)).reason, "unavailable")
      assert.strictEqual(storageError("migrate")(failed(new Error("no"))).reason, "refused")
    })
  )

  it.effect("a statement that is too late is unavailable, at the deadline, though it cannot be cancelled", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const answer = yield* Scope.provide(answering(Duration.seconds(5)), scope)
      const stubborn = Effect.uninterruptible(Effect.as(Effect.sleep("1 hour"), 1))
      const fiber = yield* Effect.forkChild(Effect.flip(answer("get", stubborn)), { startImmediately: true })
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const late = yield* Fiber.join(fiber)
      assert.strictEqual(late.reason, "unavailable")
      assert.include(String(late.cause), "No answer within 5s")
    })
  )

  it.effect("a statement that fails or succeeds in time does so, and one whose caller is interrupted ends", () =>
    Effect.gen(function* () {
      const answer = yield* answering(Duration.seconds(5))
      assert.strictEqual(yield* answer("get", Effect.succeed(1)), 1)
      assert.strictEqual((yield* Effect.flip(answer("get", Effect.fail(lost)))).cause, lost)
      assert.isTrue(Exit.hasDies(yield* Effect.exit(answer("get", Effect.die("a defect stays one")))))
      let ended = false
      const running = Effect.onInterrupt(Effect.never, () => Effect.sync(() => (ended = true)))
      const fiber = yield* Effect.forkChild(answer("get", running), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      yield* Effect.yieldNow
      assert.isTrue(ended)
    })
  )
})
