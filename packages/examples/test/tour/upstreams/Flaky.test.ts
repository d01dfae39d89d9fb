import { assert, describe, it } from "@effect/vitest"
import * as Flaky from "../../../src/tour/upstreams/Flaky.ts"

describe("Flaky", () => {
  it("does with each call what is planned, in whatever order calls come, and then answers", () => {
    const flaky = Flaky.make((path) => (path === "/a/1" ? [503, "reset"] : []))
    const send = (url: string) => flaky.reply({ url, method: "GET", headers: {} })
    assert.deepStrictEqual(
      [send("/a/1"), send("/a/2"), send("/a/1"), send("/a/1")],
      [{ status: 503 }, { status: 200 }, "reset", { status: 200 }]
    )
    assert.deepStrictEqual(flaky.sent("/a/"), [3, 1])
    assert.deepStrictEqual(flaky.sent("/b/"), [])
  })
})
