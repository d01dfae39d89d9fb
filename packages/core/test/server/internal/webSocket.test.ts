import { assert, describe, it } from "@effect/vitest"
import * as Headers from "effect/http/Headers"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as WebSocket from "../../../src/server/internal/webSocket.ts"

const handshake = {
  connection: "keep-alive, Upgrade",
  upgrade: "WebSocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
}

const asked = (
  headers: Record<string, string> = {},
  more: { readonly method?: string; readonly source?: object } = {}
) => {
  const request = HttpServerRequest.fromWeb(new Request("http://front.test/"))
  const all = { source: { httpVersion: "1.1" }, method: "GET", ...more }
  const values = { ...all, headers: Headers.fromInput({ ...handshake, ...headers }) }
  const made: HttpServerRequest.HttpServerRequest = Object.create(
    request,
    Object.fromEntries(Object.entries(values).map(([key, value]) => [key, { value }]))
  )
  return made
}

describe("refusalOf", () => {
  it("takes the example of RFC 6455", () => {
    assert.isUndefined(WebSocket.refusalOf(asked()))
    assert.isUndefined(WebSocket.refusalOf(asked({ "content-length": "0" })))
    assert.isUndefined(WebSocket.refusalOf(asked({}, { source: {} })))
  })

  const refused: ReadonlyArray<readonly [what: string, request: ReturnType<typeof asked>, status: number]> = [
    ["another method", asked({}, { method: "POST" }), 400],
    ["HTTP/1.0", asked({}, { source: { httpVersion: "1.0" } }), 400],
    ["several protocols", asked({ upgrade: "websocket, websocket" }), 400],
    ["a Connection that names another", asked({ connection: "upgraded" }), 400],
    ["a body", asked({ "content-length": "1" }), 400],
    ["a coding", asked({ "transfer-encoding": "chunked" }), 400],
    ["a short key", asked({ "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ" }), 400],
    ["a key with more after it", asked({ "sec-websocket-key": `${handshake["sec-websocket-key"]}, a` }), 400],
    ["two versions", asked({ "sec-websocket-version": "13, 13" }), 426]
  ]
  for (const [what, request, status] of refused) {
    it(`refuses ${what} with ${status}`, () => {
      assert.strictEqual(WebSocket.refusalOf(request)?.status, status)
      assert.include(WebSocket.refusalOf(request)?.headers["connection"], "close")
    })
  }

  it("says which version is spoken", () => {
    const answer = WebSocket.refusalOf(asked({ "sec-websocket-version": "8" }))
    assert.include(answer?.headers, { "sec-websocket-version": "13", upgrade: "websocket" })
  })
})

describe("asking", () => {
  it("puts back what Connection has named", () => {
    const headers = WebSocket.asking(Headers.fromInput({ "x-a": "1" }), asked())
    assert.deepStrictEqual({ ...headers }, { ...handshake, "x-a": "1", connection: "Upgrade", upgrade: "websocket" })
  })
})

describe("isTaken", () => {
  const taken = { upgrade: "WebSocket", connection: ["keep-alive", "upgrade"], "sec-websocket-accept": "x" }
  it("only by a 101 that says so", () => {
    assert.isTrue(WebSocket.isTaken(taken))
    for (const name of ["upgrade", "connection", "sec-websocket-accept"]) {
      assert.isFalse(WebSocket.isTaken({ ...taken, [name]: undefined }))
    }
    assert.isFalse(WebSocket.isTaken({ ...taken, upgrade: ["websocket", "h2c"] }))
    assert.isFalse(WebSocket.isTaken({ ...taken, "sec-websocket-accept": ["x", "y"] }))
  })
})

describe("taking", () => {
  it("has each cookie on a line of its own", () => {
    const lines = WebSocket.taking(Headers.fromInput({ "x-a": "1" }), { "set-cookie": ["a=1", "b=2"] })
    assert.deepStrictEqual(lines, [
      ["Connection", "Upgrade"],
      ["Upgrade", "websocket"],
      ["x-a", "1"],
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"]
    ])
  })
})
