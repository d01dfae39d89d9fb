import { assert, describe, it } from "@effect/vitest"
import type { Target } from "@millrace/core/client/Connector"
import { Effect, Redacted } from "effect"
import * as HttpBody from "effect/http/HttpBody"
import * as Https from "node:https"
import * as NodeHttpConnector from "../src/NodeHttpConnector.ts"
import { connectorContract, echo, exchanged, failureOf, open, Recorder, scripted, seenBy } from "./connectorContract.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { Later, listening } from "./fixtures/net.ts"
import { ManualTimers, targetOf } from "./fixtures/target.ts"

connectorContract("NodeHttpConnector", NodeHttpConnector.layer)

const opened = (target: Target) => Effect.provide(open(target), NodeHttpConnector.layer)

const watched = () => {
  const disconnected = new Later<string>()
  return { disconnected, observer: { connected: () => {}, disconnected: disconnected.resolve } }
}

describe("NodeHttpConnector", () => {
  it.live("https, with the connection kept", () =>
    Effect.gen(function* () {
      const certificate = selfSigned("localhost")
      let connections = 0
      const server = Https.createServer(certificate, (_, response) => response.end("secure"))
      server.on("secureConnection", () => connections++)
      const port = yield* listening(server)
      const transport = yield* opened(targetOf(`https://localhost:${port}`, { tls: { ca: certificate.cert } }))
      for (let i = 0; i < 3; i++) assert.strictEqual((yield* exchanged(transport, {})).text, "secure")
      assert.strictEqual(connections, 1)
      const untrusting = yield* opened(targetOf(`https://localhost:${port}`))
      const failure = failureOf(untrusting, yield* exchanged(untrusting, {}))
      assert.include<object>(failure, { _tag: "Connect", phase: "tls" })
    })
  )

  it.live("an http proxy gets the absolute form and the credentials", () =>
    Effect.gen(function* () {
      const { origin } = yield* echo()
      const proxy = Redacted.make(origin.replace("http://", "http://u:p@"))
      const transport = yield* opened(targetOf("http://never.test", { proxy }))
      const seen = seenBy(yield* exchanged(transport, { path: "/a?b" }))
      assert.strictEqual(seen.url, "http://never.test/a?b")
      assert.include<object>(seen.headers, {
        host: "never.test",
        "proxy-authorization": `Basic ${Buffer.from("u:p").toString("base64")}`
      })
      const absolute = yield* exchanged(transport, { path: "http://never.test/c" })
      assert.strictEqual(seenBy(absolute).url, "http://never.test/c")
      const plain = yield* opened(targetOf("http://never.test", { proxy: Redacted.make(origin) }))
      assert.notProperty(seenBy(yield* exchanged(plain, {})).headers, "proxy-authorization")
    })
  )

  it.live("an idle connection is closed after idleConnectionTimeout, and the time begins anew with each request", () =>
    Effect.gen(function* () {
      const { count, origin, server } = yield* echo()
      server.keepAliveTimeout = 0
      const timers = new ManualTimers()
      const { disconnected, observer } = watched()
      const transport = yield* opened(targetOf(origin, { idleConnectionTimeout: 1000 }, { observer, timers }))
      yield* exchanged(transport, {})
      timers.advance(999)
      yield* exchanged(transport, {})
      timers.advance(999)
      yield* exchanged(transport, {})
      assert.strictEqual(count.connections, 1)
      assert.strictEqual(timers.size, 1)
      timers.advance(1000)
      yield* disconnected.wait
      assert.strictEqual(timers.size, 0)
    })
  )

  it.live("the server's `Keep-Alive: timeout` wins, with a second to spare; one that is too short is no promise", () =>
    Effect.gen(function* () {
      const promising = (seconds: number) =>
        scripted((socket) =>
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=${seconds}, max=9\r\n\r\n`)
        )
      const timers = new ManualTimers()
      const { disconnected, observer } = watched()
      const transport = yield* opened(targetOf(yield* promising(5), {}, { observer, timers }))
      yield* exchanged(transport, {})
      assert.strictEqual(timers.size, 1)
      timers.advance(4000)
      yield* disconnected.wait
      const short = watched()
      yield* exchanged(yield* opened(targetOf(yield* promising(1), {}, { observer: short.observer })), {})
      yield* short.disconnected.wait
    })
  )

  it.live("a connection that nobody wants any more when it is made stays for the next request, but not for ever", () =>
    Effect.gen(function* () {
      const { count, origin } = yield* echo()
      const timers = new ManualTimers()
      const connected = new Later<object>()
      const disconnected = new Later<string>()
      const observer = { connected: connected.resolve, disconnected: disconnected.resolve }
      const transport = yield* opened(targetOf(origin, {}, { observer, timers }))
      const exchange = new Recorder({})
      transport.send(exchange)
      transport.cancel(exchange)
      yield* connected.wait
      assert.strictEqual(timers.size, 1)
      timers.advance(90_000)
      yield* disconnected.wait
      assert.deepStrictEqual(exchange.calls, [])
      assert.strictEqual(count.connections, 1)
    })
  )

  it.live("a body on a GET is framed; a header of the caller wins over what the body says", () =>
    Effect.gen(function* () {
      const { origin } = yield* echo()
      const transport = yield* opened(targetOf(origin))
      const web = () => HttpBody.raw(ReadableStream.from(["a", "b"]))
      const chunked = seenBy(yield* exchanged(transport, { body: web() }))
      assert.deepStrictEqual([chunked.body, chunked.headers["transfer-encoding"]], ["ab", "chunked"])
      const counted = seenBy(
        yield* exchanged(transport, { method: "PUT", headers: ["content-length", "2"], body: web() })
      )
      assert.deepStrictEqual([counted.body, counted.headers["content-length"]], ["ab", "2"])
      const named = seenBy(
        yield* exchanged(transport, {
          method: "PUT",
          headers: ["Content-Type", "a/b", "content-length", "99", "transfer-encoding", "chunked", "x", "1", "x", "2"],
          body: HttpBody.text("text")
        })
      )
      assert.strictEqual(named.body, "text")
      assert.include<object>(named.headers, { "content-type": "a/b", "content-length": "4", x: "1, 2" })
    })
  )
})
