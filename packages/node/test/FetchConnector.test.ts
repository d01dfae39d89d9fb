import { assert, describe, it } from "@effect/vitest"
import type { Target } from "@millrace/core/client/Connector"
import { Connector } from "@millrace/core/client/Connector"
import { Effect } from "effect"
import * as HttpBody from "effect/http/HttpBody"
import * as Https from "node:https"
import { inspect } from "node:util"
import * as Zlib from "node:zlib"
import * as FetchConnector from "../src/FetchConnector.ts"
import { connectorContract, echo, exchanged, failureOf, open, Recorder, seenBy } from "./connectorContract.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { Later, listening } from "./fixtures/net.ts"
import { targetOf } from "./fixtures/target.ts"

connectorContract("FetchConnector", FetchConnector.layer, { interim: false, ownsConnection: false })

const opened = (target: Target) => Effect.provide(open(target), FetchConnector.layer)

describe("FetchConnector", () => {
  it.live("has no decompressor: fetch has decoded the body, and the headers no longer say otherwise", () =>
    Effect.gen(function* () {
      const connector = yield* Effect.provide(Connector, FetchConnector.layer)
      assert.isUndefined(connector.decompress)
      const { origin } = yield* echo((request, response) => {
        response.writeHead(200, { "content-encoding": "gzip", "x-kept": "1" })
        response.end(request.method === "HEAD" ? undefined : Zlib.gzipSync("plain"))
        return true
      })
      const transport = yield* opened(targetOf(origin))
      const exchange = yield* exchanged(transport, {})
      assert.strictEqual(exchange.text, "plain")
      assert.notProperty(exchange.responseHeaders, "content-encoding")
      assert.notProperty(exchange.responseHeaders, "content-length")
      assert.property(exchange.responseHeaders, "x-kept")
      const head = yield* exchanged(transport, { method: "HEAD" })
      assert.strictEqual(head.responseHeaders["content-encoding"], "gzip")
    })
  )

  it.live("headers that fetch wants to set by itself do not make it fail", () =>
    Effect.gen(function* () {
      const { origin } = yield* echo()
      const transport = yield* opened(targetOf(origin))
      const exchange = yield* exchanged(transport, {
        method: "POST",
        headers: [
          "Content-Length",
          "99",
          "connection",
          "close",
          "transfer-encoding",
          "chunked",
          "x",
          "1",
          "content-type",
          "a/b"
        ],
        body: HttpBody.text("text")
      })
      assert.strictEqual(seenBy(exchange).body, "text")
      assert.include<object>(seenBy(exchange).headers, { "content-length": "4", "content-type": "a/b", x: "1" })
    })
  )

  it.live("an absolute URL goes where it says; a path that begins with two slashes stays on its origin", () =>
    Effect.gen(function* () {
      const { origin } = yield* echo()
      const transport = yield* opened(targetOf(origin))
      assert.strictEqual(seenBy(yield* exchanged(transport, { path: `${origin}/a` })).url, "/a")
      assert.strictEqual(seenBy(yield* exchanged(transport, { path: "//other.test/a" })).url, "//other.test/a")
    })
  )

  it.live("a certificate nobody trusts: a connect failure of phase tls", () =>
    Effect.gen(function* () {
      const port = yield* listening(Https.createServer(selfSigned("localhost")))
      const transport = yield* opened(targetOf(`https://localhost:${port}`))
      const failure = failureOf(transport, yield* exchanged(transport, {}))
      assert.include<object>(failure, { _tag: "Connect", phase: "tls" })
    })
  )

  it.live("what fetch refuses is rejected: a GET with a body, a method it forbids", () =>
    Effect.gen(function* () {
      const { origin } = yield* echo()
      const transport = yield* opened(targetOf(origin))
      for (const options of [{ body: HttpBody.text("x") }, { method: "TRACE" }]) {
        assert.strictEqual(failureOf(transport, yield* exchanged(transport, options))._tag, "Rejected")
      }
    })
  )

  it.live("a header that fetch refuses is named, and not shown", () =>
    Effect.gen(function* () {
      const { origin } = yield* echo()
      const transport = yield* opened(targetOf(origin))
      const failure = failureOf(
        transport,
        yield* exchanged(transport, { headers: ["authorization", "Bearer s3cret\nx"] })
      )
      assert.include<object>(failure, { _tag: "Rejected", reason: "invalid authorization header" })
      assert.notInclude(inspect(failure), "s3cret")
      const trimmed = yield* exchanged(transport, { headers: ["authorization", "Bearer s3cret\n"] })
      assert.strictEqual(seenBy(trimmed).headers["authorization"], "Bearer s3cret")
    })
  )

  it.live("after `close`, what is sent fails", () =>
    Effect.gen(function* () {
      const { count, origin } = yield* echo()
      const transport = yield* opened(targetOf(origin))
      yield* transport.close
      const exchange = yield* exchanged(transport, {})
      assert.deepStrictEqual(exchange.calls, ["error"])
      assert.strictEqual(failureOf(transport, exchange)._tag, "Broken")
      assert.strictEqual(count.connections, 0)
    })
  )

  it.live("`close` ends what runs", () =>
    Effect.gen(function* () {
      const asked = new Later<void>()
      const gone = new Later<void>()
      const { origin } = yield* echo((_, response) => {
        response.on("close", () => gone.resolve())
        asked.resolve()
        return true
      })
      const transport = yield* opened(targetOf(origin))
      const exchange = new Recorder({})
      transport.send(exchange)
      yield* asked.wait
      transport.cancel(exchange)
      transport.retire()
      yield* transport.close
      yield* gone.wait
      assert.deepStrictEqual(exchange.calls, ["start", "error"])
      assert.strictEqual(failureOf(transport, exchange)._tag, "Broken")
    })
  )

  it.live("classifies what only other platforms or bad days bring", () =>
    Effect.gen(function* () {
      const transport = yield* opened(targetOf("http://a.test"))
      const failed = (properties: object, message = "m") =>
        transport.classify(new TypeError("fetch failed", { cause: Object.assign(new Error(message), properties) }))
      assert.include<object>(failed({ syscall: "getaddrinfo" }), { _tag: "Connect", phase: "dns" })
      assert.include<object>(failed({ code: "UND_ERR_CONNECT_TIMEOUT" }), { _tag: "Connect", phase: "tcp" })
      assert.include<object>(failed({ name: "HTTPParserError" }), { _tag: "Protocol" })
      assert.include<object>(failed({ code: "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH" }), { _tag: "Rejected" })
      assert.include<object>(failed({ code: "UND_ERR_SOCKET" }), { _tag: "Broken" })
    })
  )
})
