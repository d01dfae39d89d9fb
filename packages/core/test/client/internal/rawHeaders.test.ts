import { assert, describe, it } from "@effect/vitest"
import { isDelimited, isEventStream, lengthOf } from "../../../src/client/internal/rawHeaders.ts"

describe("rawHeaders", () => {
  it("a length is what is said, once", () => {
    assert.strictEqual(lengthOf({ "content-length": "12" }), 12)
    assert.isNaN(lengthOf({}))
    assert.isNaN(lengthOf({ "content-length": ["12", "13"] }))
    assert.isNaN(lengthOf({ "content-length": "a dozen" }))
  })

  it("a body is delimited by its length or its coding", () => {
    assert.isTrue(isDelimited({ "content-length": "0" }))
    assert.isTrue(isDelimited({ "transfer-encoding": "chunked" }))
    assert.isFalse(isDelimited({ connection: "close" }))
  })

  it("an event stream is told by its type, in any case and with parameters", () => {
    assert.isTrue(isEventStream({ "content-type": "text/event-stream" }))
    assert.isTrue(isEventStream({ "content-type": "Text/Event-Stream; charset=utf-8" }))
    assert.isFalse(isEventStream({ "content-type": "text/event" }))
    assert.isFalse(isEventStream({ "content-type": ["text/event-stream", "text/plain"] }))
    assert.isFalse(isEventStream({}))
  })
})
