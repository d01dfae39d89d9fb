import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import { ConfigError } from "../../src/model/ConfigError.ts"
import { ListenError } from "../../src/server/Listener.ts"
import { type Reason, ServerPoolError } from "../../src/server/ServerError.ts"

const listen = new ListenError({ reason: "bind", address: ":443", advice: "the port is in use", cause: undefined })

describe("ServerError", () => {
  it("the message names each server with its cause's message, and says what to do", () => {
    const error = new ServerPoolError({
      reason: "Start",
      servers: [
        { name: "public", bind: ":443", cause: listen },
        { name: ":80", bind: ":80", cause: Cause.fail(new Error("no permission")) }
      ]
    })
    assert.strictEqual(
      error.message,
      "Cannot be started:\n- public (:443): Cannot listen on :443: the port is in use\n- :80: no permission\n" +
        "All other servers run. Remove the cause and start again: only these are tried."
    )
  })

  it("indents a cause of several lines", () => {
    const cause = new ConfigError({ problems: [{ path: "bind", message: "is missing" }] })
    const error = new ServerPoolError({ reason: "Add", servers: [{ name: "a", bind: ":1", cause }] })
    assert.match(
      error.message,
      /^Cannot be added to the pool:\n- a \(:1\): The configuration is not valid:\n {2}- bind:/
    )
  })

  it.each([
    ["text", "text"],
    [{ _tag: "Odd" }, "Odd"],
    [new TypeError(""), "TypeError"],
    [undefined, "for a reason that has no message"],
    [{ message: 3 }, "for a reason that has no message"],
    [Cause.die("a defect"), "a defect"]
  ])("a cause %o is shown as %s", (cause, text) => {
    const error = new ServerPoolError({ reason: "Monitor", servers: [{ name: "a", bind: ":1", cause }] })
    assert.include(error.message, `\n- a (:1): ${text}\n`)
  })

  it("every reason has a message without servers, too", () => {
    const reasons: ReadonlyArray<Reason> = ["ParamEmpty", "Add", "Validate", "Start", "Stop", "Restart", "Monitor"]
    const messages = reasons.map((reason) => new ServerPoolError({ reason, servers: [], detail: "x" }).message)
    for (const message of messages) assert.match(message, /^[A-Z].*: x(\. [A-Z].*\.)?$/)
    assert.strictEqual(new Set(messages).size, reasons.length)
    assert.strictEqual(
      new ServerPoolError({ reason: "ParamEmpty", servers: [] }).message,
      "A parameter is empty or not valid"
    )
  })
})
