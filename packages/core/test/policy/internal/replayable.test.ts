import { assert, describe, it } from "@effect/vitest"
import { Stream } from "effect"
import { HttpBody } from "effect/http"
import { isIdempotent, isReplayable } from "../../../src/policy/internal/replayable.ts"

function* letters() {
  yield "a"
}

async function* lettersLater() {
  yield "a"
}

describe("isIdempotent", () => {
  it("knows the methods that may be sent twice", () => {
    for (const method of ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"]) {
      assert.isTrue(isIdempotent(method), method)
    }
  })

  it("trusts no other: not POST, not PATCH, none that it does not know", () => {
    for (const method of ["POST", "PATCH", "CONNECT", "LOCK", "get", ""]) assert.isFalse(isIdempotent(method), method)
  })
})

describe("isReplayable", () => {
  it("is true for bodies that are there as a whole", () => {
    for (const body of [
      HttpBody.empty,
      HttpBody.text("text"),
      HttpBody.uint8Array(new Uint8Array(3)),
      HttpBody.formData(new FormData()),
      HttpBody.raw("text"),
      HttpBody.raw(null),
      HttpBody.raw(undefined),
      HttpBody.raw(new Blob(["text"])),
      HttpBody.raw(new URLSearchParams("a=1")),
      HttpBody.raw(new Uint8Array(3)),
      HttpBody.raw(["a", "b"])
    ]) {
      assert.isTrue(isReplayable(body), String(body._tag))
    }
  })

  it("is false for what can be read only once", () => {
    for (const body of [
      HttpBody.stream(Stream.make(new Uint8Array(3))),
      HttpBody.raw(new ReadableStream()),
      HttpBody.raw({ getReader: () => undefined }),
      HttpBody.raw(lettersLater()),
      HttpBody.raw(letters())
    ]) {
      assert.isFalse(isReplayable(body), String(body._tag))
    }
  })
})
