import { assert, describe, it } from "@effect/vitest"
import { Exit } from "effect"
import { whyFailed } from "../../../src/server/internal/together.ts"

describe("why several steps have failed", () => {
  it("is the error of the one that has", () => {
    const error = new Error("a")
    assert.strictEqual(whyFailed([Exit.void, Exit.die(error), Exit.void]), error)
  })

  it("is all of them, in their order, whatever was thrown", () => {
    const error = whyFailed([Exit.die(new Error("a")), Exit.void, Exit.die("b")])
    if (!(error instanceof AggregateError)) return assert.fail("not all of them")
    assert.strictEqual(error.message, "a; b")
    assert.lengthOf(error.errors, 2)
  })
})
