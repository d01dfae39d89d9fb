import { assert, describe, it } from "@effect/vitest"
import { Stream } from "effect"
import { HttpBody } from "effect/http"
import type { Failure } from "../../../src/client/Connector.ts"
import { mayReplay, type Progress, toPoolError } from "../../../src/client/internal/failures.ts"

const broken: Failure = { _tag: "Broken", cause: new Error("reset") }
const protocol: Failure = { _tag: "Protocol", reason: "it is not HTTP/1.1", cause: undefined }
const refused: Failure = {
  _tag: "Connect",
  phase: "tcp",
  address: "127.0.0.1:1",
  millis: 3,
  cause: new Error("refused")
}

/** Written, on a connection that stood idle, without an answer. */
const stale: Progress = {
  method: "GET",
  body: HttpBody.empty,
  info: { method: "GET", url: "http://test.local/" },
  attempts: 1,
  address: "127.0.0.1:80",
  begun: true,
  writtenWhole: true,
  reused: true,
  responseBegun: false,
  replayed: false,
  everBegun: true
}

describe("failures", () => {
  describe("may be sent again at once", () => {
    it("when an idle connection broke under a request that may be sent twice", () => {
      for (const method of ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"]) {
        assert.isTrue(mayReplay(broken, { ...stale, method }), method)
      }
      for (const method of ["POST", "PATCH", "CONNECT", "get"]) {
        assert.isFalse(mayReplay(broken, { ...stale, method }), method)
      }
    })

    it("whatever the method, when nothing of it was written", () => {
      assert.isTrue(mayReplay(broken, { ...stale, method: "POST", begun: false }))
      assert.isTrue(mayReplay(protocol, { ...stale, method: "POST", begun: false }))
      assert.isFalse(mayReplay(refused, { ...stale, begun: false }))
    })

    it("not on a fresh connection, not after a byte of an answer, not twice, not after an answer that is no HTTP", () => {
      assert.isFalse(mayReplay(broken, { ...stale, reused: false }))
      assert.isFalse(mayReplay(broken, { ...stale, responseBegun: true }))
      assert.isFalse(mayReplay(broken, { ...stale, replayed: true }))
      assert.isFalse(mayReplay(broken, { ...stale, begun: false, replayed: true }))
      assert.isFalse(mayReplay(protocol, stale))
    })

    it("not with a body that is used up", () => {
      const put = { ...stale, method: "PUT" }
      assert.isTrue(mayReplay(broken, { ...put, body: HttpBody.text("again") }))
      assert.isTrue(mayReplay(broken, { ...put, body: HttpBody.raw("again") }))
      assert.isTrue(mayReplay(broken, { ...put, body: HttpBody.raw(null) }))
      assert.isFalse(mayReplay(broken, { ...put, body: HttpBody.stream(Stream.empty) }))
      assert.isFalse(mayReplay(broken, { ...put, body: HttpBody.raw(new ReadableStream()) }))
      assert.isFalse(mayReplay(broken, { ...put, body: HttpBody.raw(Stream.toAsyncIterable(Stream.empty)) }))
    })
  })

  it("each kind has its error", () => {
    const tags = (
      [
        broken,
        protocol,
        refused,
        { _tag: "ConnectTimeout", phase: "tls", address: undefined, millis: 9 },
        { _tag: "Rejected", reason: "no", cause: undefined }
      ] satisfies ReadonlyArray<Failure>
    ).map((failure) => toPoolError(failure, stale)._tag)
    assert.deepStrictEqual(tags, ["ConnectError", "DecodeError", "ConnectError", "TimeoutError", "InvalidRequest"])
  })

  it("`sent` tells whether a server may have it", () => {
    const sent = (failure: Failure, at: Progress) => {
      const error = toPoolError(failure, at)
      return error._tag === "ConnectError" ? error.sent : undefined
    }
    assert.strictEqual(sent(broken, stale), true)
    assert.strictEqual(sent(broken, { ...stale, everBegun: false }), false)
    assert.strictEqual(sent(refused, stale), false)
    assert.strictEqual(sent(refused, { ...stale, replayed: true }), true)
  })
})
