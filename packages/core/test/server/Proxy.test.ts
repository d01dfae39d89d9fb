/** The proxy on pools without sockets; between real ones it is in node's tests of the same name. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Ref, Schema, Scope, Stream } from "effect"
import { HttpServerError, HttpServerRequest } from "effect/http"
import * as Headers from "effect/http/Headers"
import { TestClock } from "effect/testing"
import type { Options as PoolOptions } from "../../src/client/PoolConfig.ts"
import type { PoolError } from "../../src/model/PoolError.ts"
import type { Handler } from "../../src/server/Listener.ts"
import * as Proxy from "../../src/server/Proxy.ts"
import { onWire, start, turn } from "../fixtures/pools.ts"
import { type Sent, Wire } from "../fixtures/wire.ts"

const quiet: Proxy.Options = { onError: () => Effect.void }

interface Incoming extends RequestInit {
  readonly path?: string
  readonly peer?: string
  readonly duplex?: "half"
}

const incoming = ({ path = "/", peer, ...init }: Incoming = {}): HttpServerRequest.HttpServerRequest => {
  const request = HttpServerRequest.fromWeb(new Request("http://front.test/", init))
  return request.modify({ url: path, peerAddress: Option.fromUndefinedOr(peer), remoteAddress: Option.none() })
}

/** A request that no `Request` could be, with the given values of its properties. */
const plain = (values: {
  readonly method?: string
  readonly source?: object
  readonly headers?: Record<string, string>
  readonly stream?: Stream.Stream<Uint8Array, HttpServerError.HttpServerError>
}): HttpServerRequest.HttpServerRequest => {
  const all = { method: "GET", ...values, headers: Headers.fromInput(values.headers) }
  return Object.create(incoming(), Object.fromEntries(Object.entries(all).map(([key, value]) => [key, { value }])))
}

/** What a server does with a handler: the request's scope ends when the answer is sent. */
const ask = (handler: Handler, request: Incoming | HttpServerRequest.HttpServerRequest = {}) =>
  Effect.gen(function* () {
    const answer = yield* handler
    const { body } = answer
    const bytes = body._tag === "Stream" ? yield* Stream.mkUint8Array(body.stream) : undefined
    const text = body._tag === "Uint8Array" ? new TextDecoder().decode(body.body) : new TextDecoder().decode(bytes)
    return { status: answer.status, headers: answer.headers, cookies: answer.cookies, text }
  }).pipe(
    Effect.scoped,
    Effect.provideService(
      HttpServerRequest.HttpServerRequest,
      HttpServerRequest.TypeId in request ? request : incoming(request)
    )
  )

const proxy = (onSend: (sent: Sent) => void, options: Proxy.Options = {}, poolOptions: PoolOptions = {}) =>
  Effect.gen(function* () {
    const wire = new Wire(onSend)
    const pool = yield* onWire(wire, poolOptions)
    return { wire, pool, handler: yield* Proxy.make(pool, { ...quiet, ...options }) }
  })

const answering = (sent: Sent) => sent.answer("hello")

describe("make", () => {
  it.effect("forwards a request, and its answer back", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(
        (sent) => sent.answer("hello", 201, { "x-a": "1", "content-length": "5" }),
        {
          stripPrefix: "/api/",
          rewrite: (path) => `/v2${path}`
        }
      )
      const answer = yield* ask(handler, { path: "/api/a?b=c", headers: { "x-b": "2" } })
      assert.deepStrictEqual([answer.status, answer.text], [201, "hello"])
      assert.deepStrictEqual({ ...answer.headers }, { "x-a": "1", "content-length": "5" })
      assert.strictEqual(wire.at(0).path, "/v2/a?b=c")
      assert.strictEqual(wire.at(0).header("x-b"), "2")
      assert.strictEqual(wire.at(0).header("x-forwarded-prefix"), "/api")
      assert.strictEqual(wire.at(0).header("via"), "1.1 millrace")
      assert.strictEqual(wire.at(0).header("forwarded"), "for=unknown;proto=http")
    })
  )

  it.effect("names every option that is wrong, at once", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(new Wire())
      const wrong: Record<string, unknown> = {
        stripPrefix: "api",
        rewrite: "x",
        timeout: "soon",
        trustForwarded: ["10.0.0.0/8", "10.0.0.1/8", "x", 7],
        forwarded: "yes",
        via: "a b",
        host: "mine",
        maxBodySize: -1,
        requestHeaders: {},
        via2: 1
      }
      const error = yield* Effect.flip(Effect.asVoid(Proxy.make(pool, wrong)))
      assert.deepStrictEqual(
        error.problems.map(({ path }) => path),
        [
          "stripPrefix",
          "rewrite",
          "timeout",
          "trustForwarded[1]",
          "trustForwarded[2]",
          "trustForwarded[3]",
          "forwarded",
          "via",
          "host",
          "maxBodySize",
          "requestHeaders",
          "via2"
        ]
      )
      const text: Record<string, unknown> = { trustForwarded: "10.0.0.0/8" }
      const list = yield* Effect.flip(Effect.asVoid(Proxy.make(pool, text)))
      assert.include(list.message, "trustForwarded: must be false, or a list")
    })
  )

  const refused: ReadonlyArray<readonly [what: string, request: Incoming, status: number]> = [
    ["a path that climbs", { path: "/../x" }, 400],
    ["the server as a whole", { path: "*", method: "OPTIONS" }, 400],
    ["both a length and a coding", { headers: { "content-length": "1", "transfer-encoding": "chunked" } }, 400],
    ["a coding that is not known", { headers: { "transfer-encoding": "gzip" } }, 501],
    ["what asks for a WebSocket and is no handshake", { headers: { upgrade: "WebSocket" } }, 400],
    ["an expectation that cannot be met", { headers: { expect: "the-best" } }, 417],
    ["a host that is none", { headers: { host: "a b" } }, 400],
    ["more than maxBodySize", { headers: { "content-length": "6" } }, 413]
  ]
  for (const [what, request, status] of refused) {
    it.effect(`refuses ${what} with ${status}, before anybody is asked`, () =>
      Effect.gen(function* () {
        const { handler, wire } = yield* proxy(answering, { maxBodySize: 5 })
        const answer = yield* ask(handler, request)
        assert.strictEqual(answer.status, status)
        assert.strictEqual(JSON.parse(answer.text).status, status)
        assert.strictEqual(wire.sent.length, 0)
      })
    )
  }

  it.effect("refuses a second Host, of which Node tells only in its raw headers", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(answering)
      const asked = (rawHeaders: unknown) => {
        const source = Object.assign(new Request("http://front.test/"), { rawHeaders })
        return Effect.map(ask(handler, plain({ headers: { host: "a" }, source })), ({ status }) => status)
      }
      assert.strictEqual(yield* asked(["Host", "a", "X", "host", "HOST", "b"]), 400)
      assert.strictEqual(wire.sent.length, 0)
      for (const good of [["Host", "a", "X", "host", "Post", "b"], ["Host", "a", 5], "Host"]) {
        assert.strictEqual(yield* asked(good), 200)
      }
    })
  )

  it.effect("a WebSocket is not forwarded where its connection cannot be had, or nobody wants it", () =>
    Effect.gen(function* () {
      const headers = {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
      }
      for (const webSockets of [true, false]) {
        const { handler, wire } = yield* proxy(answering, { webSockets })
        assert.strictEqual((yield* ask(handler, plain({ headers }))).status, 501)
        assert.strictEqual(wire.sent.length, 0)
      }
    })
  )

  it.effect("TRACE and CONNECT are not forwarded", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(answering)
      for (const method of ["TRACE", "CONNECT"]) {
        const answer = yield* ask(handler, plain({ method }))
        assert.strictEqual(answer.status, 501)
      }
      assert.strictEqual(wire.sent.length, 0)
    })
  )

  it.effect("Max-Forwards counts for OPTIONS, and for nothing else (RFC 9110, 7.6.2)", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(answering)
      const of = (method: string, left: string) => ask(handler, { method, headers: { "max-forwards": left } })
      assert.strictEqual((yield* of("OPTIONS", "0")).status, 204)
      assert.strictEqual(wire.sent.length, 0)
      yield* of("OPTIONS", "3")
      yield* of("OPTIONS", "x")
      yield* of("GET", "0")
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("max-forwards")),
        ["2", "x", "0"]
      )
    })
  )

  it.effect("Forwarded is believed only of peers that are named, by address or network", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(answering, {
        trustForwarded: ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"],
        forwarded: "x-forwarded"
      })
      const peers: ReadonlyArray<readonly [string | undefined, string]> = [
        ["10.9.8.7", "9.9.9.9, 10.9.8.7"],
        ["::ffff:10.9.8.7", "9.9.9.9, 10.9.8.7"],
        ["192.0.2.7", "9.9.9.9, 192.0.2.7"],
        ["2001:db8::1%eth0", "9.9.9.9, 2001:db8::1"],
        ["192.0.2.8", "192.0.2.8"],
        ["11.0.0.1", "11.0.0.1"],
        ["2001:db9::1", "2001:db9::1"],
        ["no address", "no address"],
        [undefined, "unknown"]
      ]
      for (const [peer] of peers) {
        yield* ask(handler, { headers: { "x-forwarded-for": "9.9.9.9" }, ...(peer === undefined ? {} : { peer }) })
      }
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("x-forwarded-for")),
        peers.map(([, expected]) => expected)
      )
      assert.isUndefined(wire.at(0).header("forwarded"))
    })
  )

  it.effect("the scheme is what middleware has found out, or the socket, never the target", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(answering, { forwarded: "x-forwarded", via: false })
      yield* ask(handler, incoming().modify({ protocol: "https" }))
      yield* ask(handler, plain({ source: { socket: { encrypted: true }, httpVersion: "1.0" } }))
      yield* ask(handler, plain({ source: { socket: {} } }))
      yield* ask(handler, HttpServerRequest.fromWeb(new Request("https://front.test/")))
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("x-forwarded-proto")),
        ["https", "https", "http", "https"]
      )
      assert.isUndefined(wire.at(0).header("via"))
    })
  )

  it.effect("host: preserve sends the client's Host", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(answering, { host: "preserve" })
      yield* ask(handler, { headers: { host: "shop.test:81" } })
      yield* ask(handler)
      assert.deepStrictEqual(
        wire.sent.map((sent) => sent.header("host")),
        ["shop.test:81", undefined]
      )
    })
  )

  it.effect("hooks see what is sent and what comes, and cannot say where a message ends", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy(
        (sent) => sent.answer("hello", 200, { server: "x", "content-length": "5" }),
        {
          requestHeaders: (headers) =>
            Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) =>
              Headers.setAll(headers, { "x-url": url, "transfer-encoding": "chunked", "content-length": "9" })
            ),
          responseHeaders: (headers) =>
            Effect.succeed(Headers.remove(Headers.set(headers, "content-length", "99"), "server"))
        }
      )
      const answer = yield* ask(handler, { path: "/x" })
      assert.strictEqual(wire.at(0).header("x-url"), "/x")
      assert.isUndefined(wire.at(0).header("transfer-encoding"))
      assert.isUndefined(wire.at(0).header("content-length"))
      assert.deepStrictEqual({ ...answer.headers }, { "content-length": "5" })
    })
  )

  it.effect("a hook's failure is the handler's: a response of it refuses", () =>
    Effect.gen(function* () {
      const { handler, pool, wire } = yield* proxy((sent) => sent.write().head(200), {
        requestHeaders: (headers) => ("x-no" in headers ? Effect.fail("request") : Effect.succeed(headers)),
        responseHeaders: () => Effect.fail("response")
      })
      assert.strictEqual(yield* Effect.flip(ask(handler, { headers: { "x-no": "1" } })), "request")
      assert.strictEqual(wire.sent.length, 0)
      assert.strictEqual(yield* Effect.flip(ask(handler)), "response")
      yield* turn
      // The answer that nobody got does not hold its slot.
      assert.isTrue(wire.at(0).aborted)
      assert.strictEqual((yield* pool.stats).active, 0)
    })
  )

  it.effect("a status beyond 599 cannot be passed on", () =>
    Effect.gen(function* () {
      const { handler } = yield* proxy((sent) => sent.answer("", 999))
      assert.strictEqual((yield* ask(handler)).status, 502)
    })
  )

  it.effect("the answer in a ResponseError is passed on, after retries, too", () =>
    Effect.gen(function* () {
      for (const retry of [false, { maxRetries: 1, initialDelay: 0 }] as const) {
        const { handler, wire } = yield* proxy((sent) => sent.answer("sorry", 503), {}, { failOnStatus: true, retry })
        const fiber = yield* start(ask(handler))
        yield* TestClock.adjust("1 second")
        const answer = yield* Fiber.join(fiber)
        assert.deepStrictEqual([answer.status, answer.text], [503, "sorry"])
        assert.strictEqual(wire.sent.length, retry === false ? 1 : 2)
      }
    })
  )

  it.effect("onError hears of what the pool fails with, at the head and in the middle of a body", () =>
    Effect.gen(function* () {
      const seen = yield* Ref.make<ReadonlyArray<string>>([])
      const options: Proxy.Options = { onError: (error) => Ref.update(seen, (tags) => [...tags, error._tag]) }
      const refusing = yield* proxy((sent) => sent.refuse(), options)
      assert.strictEqual((yield* ask(refusing.handler)).status, 502)
      const breaking = yield* proxy((sent) => sent.write().head(200, { "content-length": "9" }).data("some"), options)
      const fiber = yield* start(ask(breaking.handler))
      breaking.wire.at(0).lose()
      assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
      assert.deepStrictEqual(yield* Ref.get(seen), ["ConnectError", "ConnectError"])
    })
  )

  it.effect("without onError it logs, and answers the same", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.refuse())
      const handler = yield* Proxy.make(yield* onWire(wire))
      assert.strictEqual((yield* ask(handler)).status, 502)
      const full = yield* Proxy.make(yield* onWire(new Wire(), { size: 1, maxWaiting: 0 }))
      yield* start(ask(full))
      assert.strictEqual((yield* ask(full)).status, 503)
    })
  )

  it.effect("timeout: from the begin to the head; the request is aborted", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy((sent) => sent.write(), { timeout: "5 seconds" })
      const fiber = yield* start(ask(handler))
      yield* TestClock.adjust(4999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(fiber)).status, 504)
      assert.isTrue(wire.at(0).aborted)
    })
  )

  it.effect("a body may take longer than timeout", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* proxy((sent) => sent.write().head(200).data("a"), { timeout: "5 seconds" })
      const fiber = yield* start(ask(handler))
      yield* TestClock.adjust("10 seconds")
      wire.at(0).data("b").end()
      assert.strictEqual((yield* Fiber.join(fiber)).text, "ab")
    })
  )

  describe("bodies of requests", () => {
    const bytes = (text: string) => new TextEncoder().encode(text)

    /** A request with a body that may fail, and what the upstream read of it. */
    const upload = (
      stream: Stream.Stream<Uint8Array, HttpServerError.HttpServerError>,
      headers: Record<string, string>,
      options: Proxy.Options = {}
    ) =>
      Effect.gen(function* () {
        const seen: Array<number> = []
        const { handler, wire } = yield* proxy((sent) => {
          const { body } = sent.exchange
          if (body._tag !== "Stream") return void sent.answer("none")
          sent.begin()
          const read = Stream.runForEach(body.stream, (chunk) => Effect.sync(() => seen.push(chunk.length)))
          Effect.runFork(
            Effect.matchEffect(read, {
              onSuccess: () => Effect.sync(() => (sent.exchange.onRequestSent(), sent.reply("all"))),
              onFailure: (cause) =>
                Effect.sync(() => sent.fail({ _tag: "Rejected", reason: "the request body failed", cause }))
            })
          )
        }, options)
        const request = plain({ method: "POST", headers, stream })
        return { answer: yield* ask(handler, request), seen, sent: wire.sent[0] }
      })

    it.effect("one with a length keeps it, one in chunks has none, and no type is made up", () =>
      Effect.gen(function* () {
        const known = yield* upload(Stream.make(bytes("hello")), { "content-length": "5", "content-type": "a/b" })
        assert.strictEqual(known.answer.text, "all")
        assert.include<object>(known.sent!.exchange.body, { contentLength: 5, contentType: "a/b" })
        const chunked = yield* upload(Stream.make(bytes("hello")), { "transfer-encoding": "chunked" })
        assert.include<object>(chunked.sent!.exchange.body, { contentLength: undefined, contentType: "" })
      })
    )

    it.effect("beyond maxBodySize: 413, and what was over is not passed on", () =>
      Effect.gen(function* () {
        const body = Stream.make(bytes("12345"), bytes("678"), bytes("9"))
        const over = yield* upload(body, { "transfer-encoding": "chunked" }, { maxBodySize: 8 })
        assert.deepStrictEqual([over.answer.status, over.seen], [413, [5, 3]])
        const exact = yield* upload(body, { "transfer-encoding": "chunked" }, { maxBodySize: 9 })
        assert.deepStrictEqual([exact.answer.status, exact.seen], [200, [5, 3, 1]])
      })
    )

    it.effect("one that cannot be read is the client's fault: 400", () =>
      Effect.gen(function* () {
        const failure = new HttpServerError.HttpServerError({
          reason: new HttpServerError.RequestParseError({ request: incoming() })
        })
        const broken = Stream.concat(Stream.make(bytes("12345")), Stream.fail(failure))
        const { answer } = yield* upload(broken, { "transfer-encoding": "chunked" })
        assert.strictEqual(answer.status, 400)
      })
    )
  })

  it.effect("whenever its client leaves, everything is given back", () =>
    Effect.gen(function* () {
      const steps: ReadonlyArray<(sent: Sent) => void> = [
        (sent) => void sent.begin(),
        (sent) => sent.exchange.onRequestSent(),
        (sent) => void sent.head(200, { "content-length": "6" }),
        (sent) => void sent.data("abc"),
        (sent) => void sent.data("def"),
        (sent) => void sent.end()
      ]
      for (let after = 0; after <= steps.length; after++) {
        const { handler, pool, wire } = yield* proxy(() => {}, {}, { size: 1 })
        const fiber = yield* start(ask(handler))
        for (const step of steps.slice(0, after)) {
          step(wire.at(0))
          yield* turn
        }
        yield* Fiber.interrupt(fiber)
        yield* turn
        const { active, waiting } = yield* pool.stats
        assert.deepStrictEqual([active, waiting], [0, 0], `after ${after} steps`)
        // The slot is free for the next.
        wire.onSend = answering
        assert.strictEqual((yield* ask(handler)).text, "hello")
      }
    })
  )

  it.effect("an answer whose body nobody asks for is aborted with the request's scope", () =>
    Effect.gen(function* () {
      const { handler, pool, wire } = yield* proxy((sent) => sent.write().head(200).data("abc"))
      const answer = yield* handler.pipe(
        Effect.scoped,
        Effect.provideService(HttpServerRequest.HttpServerRequest, incoming())
      )
      assert.strictEqual(answer.status, 200)
      yield* turn
      assert.isTrue(wire.at(0).aborted)
      assert.strictEqual((yield* pool.stats).active, 0)
    })
  )
})

describe("balance", () => {
  const at = "http://b.test"

  const balanced = (onSend: (sent: Sent) => void, options: Proxy.BalanceOptions = {}, poolOptions: PoolOptions = {}) =>
    Effect.gen(function* () {
      const wire = new Wire(onSend)
      const pool = yield* onWire(wire, { ...poolOptions, baseUrl: undefined })
      const upstream = yield* Proxy.balance(
        ["http://a.test/x/", `${at}/y`].map((baseUrl) => ({ pool, baseUrl })),
        options
      )
      return { wire, pool, upstream, handler: yield* Proxy.make(upstream, quiet) }
    })

  const to = (wire: Wire) => wire.sent.map((sent) => sent.origin + sent.path)

  it.effect("requests go to the targets in turn, under their bases", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* balanced(answering)
      for (let i = 0; i < 3; i++) yield* ask(handler, { path: "/p?q" })
      assert.deepStrictEqual(to(wire), ["http://a.test/x/p?q", "http://b.test/y/p?q", "http://a.test/x/p?q"])
    })
  )

  it.effect("what was never sent goes to one other, once; a third is not asked", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => sent.refuse())
      const pool = yield* onWire(wire, { baseUrl: undefined })
      const targets = ["http://a.test", "http://b.test", "http://c.test"].map((baseUrl) => ({ pool, baseUrl }))
      const seen: Array<PoolError["_tag"]> = []
      const handler = yield* Proxy.make(yield* Proxy.balance(targets), {
        onError: (error) => Effect.sync(() => seen.push(error._tag))
      })
      assert.strictEqual((yield* ask(handler, { method: "POST" })).status, 502)
      assert.deepStrictEqual(
        wire.sent.map(({ origin }) => origin),
        ["http://a.test", "http://b.test"]
      )
      // Each is told of, that which another made good, too.
      assert.deepStrictEqual(seen, ["ConnectError", "ConnectError"])
    })
  )

  it.effect("what was sent goes to no other", () =>
    Effect.gen(function* () {
      const { handler, wire } = yield* balanced((sent) => sent.write().lose())
      assert.strictEqual((yield* ask(handler, { method: "POST" })).status, 502)
      assert.strictEqual(wire.sent.length, 1)
    })
  )

  it.effect("a target that is out gets no request until failTimeout has passed", () =>
    Effect.gen(function* () {
      let down = true
      const { handler, upstream, wire } = yield* balanced(
        (sent) => (down && sent.origin !== at ? sent.refuse() : sent.answer("hello")),
        { failTimeout: "2 seconds" }
      )
      for (let i = 0; i < 4; i++) assert.strictEqual((yield* ask(handler)).status, 200)
      assert.strictEqual(to(wire).filter((url) => url.startsWith("http://a.")).length, 1)
      assert.deepStrictEqual(yield* upstream.targets, [
        { baseUrl: "http://a.test/x/", requests: 1, pending: 0, webSockets: 0, out: true },
        { baseUrl: "http://b.test/y", requests: 4, pending: 0, webSockets: 0, out: false }
      ])
      down = false
      yield* TestClock.adjust("2 seconds")
      yield* ask(handler)
      yield* ask(handler)
      assert.strictEqual(to(wire).filter((url) => url.startsWith("http://a.")).length, 2)
    })
  )

  it.effect("an open circuit costs no request", () =>
    Effect.gen(function* () {
      const { handler, pool, upstream, wire } = yield* balanced(
        (sent) => (sent.origin === at ? sent.answer("hello") : sent.answer("no", 500)),
        {},
        { circuitBreaker: { consecutiveFailures: 1 } }
      )
      const statuses: Array<number> = []
      for (let i = 0; i < 6; i++) statuses.push((yield* ask(handler)).status)
      assert.deepStrictEqual(statuses, [500, 200, 200, 200, 200, 200])
      assert.strictEqual(to(wire).filter((url) => url.startsWith("http://a.")).length, 1)
      const stats = yield* pool.hostStats("http://a.test")
      assert.strictEqual(Option.getOrThrow(stats).circuit, "Open")
      assert.isTrue((yield* upstream.targets)[0]!.out)
    })
  )

  it.effect("pools of their own: whose circuit is open, or that is closed, refuses, and the other is asked", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const gone = yield* Scope.provide(onWire(new Wire()), scope)
      yield* Scope.close(scope, Exit.void)
      const wire = new Wire(answering)
      const upstream = yield* Proxy.balance([gone, yield* onWire(wire)])
      const handler = yield* Proxy.make(upstream, quiet)
      for (let i = 0; i < 4; i++) assert.strictEqual((yield* ask(handler)).status, 200)
      const [first] = yield* upstream.targets
      assert.deepStrictEqual(first, { baseUrl: undefined, requests: 1, pending: 0, webSockets: 0, out: true })
    })
  )

  it.effect("leastPending counts to the end of the body", () =>
    Effect.gen(function* () {
      const { handler, upstream, wire } = yield* balanced((sent) => sent.write().head(200), {
        strategy: "leastPending"
      })
      const first = yield* start(ask(handler))
      const second = yield* start(ask(handler))
      const pending = Effect.map(upstream.targets, (targets) => targets.map((target) => target.pending))
      assert.deepStrictEqual(yield* pending, [1, 1])
      wire.at(1).end()
      yield* Fiber.join(second)
      assert.deepStrictEqual(yield* pending, [1, 0])
      yield* start(ask(handler))
      yield* start(ask(handler))
      assert.deepStrictEqual(wire.sent.map(({ origin }) => origin.slice(7, 8)).join(""), "abba")
      yield* Fiber.interrupt(first)
      assert.deepStrictEqual(yield* pending, [1, 1])
    })
  )

  it.effect("names everything that is wrong", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(new Wire())
      const problems = (targets: ReadonlyArray<Proxy.Target>, options?: Proxy.BalanceOptions) =>
        Effect.map(Effect.flip(Proxy.balance(targets, options)), (error) => error.problems.map(({ path }) => path))
      assert.deepStrictEqual(yield* problems([]), ["targets"])
      assert.deepStrictEqual(
        yield* problems([
          { pool, baseUrl: "a.test" },
          pool,
          { pool, baseUrl: "http://a.test/?q" },
          { pool, baseUrl: "http://u:p@a.test/" }
        ]),
        ["targets[0].baseUrl", "targets[2].baseUrl", "targets[3].baseUrl"]
      )
      const wrong: Record<string, unknown> = { strategy: "best", failTimeout: -1 }
      assert.deepStrictEqual(yield* problems([pool], wrong), ["strategy", "failTimeout"])
    })
  )

  const events = Schema.Array(Schema.Literals(["ask", "ask", "refuse", "end", "leave"]))

  it.effect.prop(
    "pending is never wrong, whatever ends requests in whatever order",
    [events, Schema.Literals(["roundRobin", "leastPending"])],
    ([script, strategy]) =>
      Effect.gen(function* () {
        let refuse = false
        let ended = 0
        const { handler, upstream, wire } = yield* balanced(
          (sent) => {
            if (refuse) sent.refuse()
            else sent.write().head(200)
          },
          { strategy },
          { size: 64 }
        )
        const running: Array<Fiber.Fiber<unknown, unknown>> = []
        for (const event of script) {
          refuse = event === "refuse"
          if (event === "ask" || event === "refuse") running.push(yield* start(ask(handler)))
          else if (event === "leave") yield* Effect.forEach(running.splice(0, 1), Fiber.interrupt)
          else yield* Effect.sync(() => wire.sent[ended++]?.end())
          yield* turn
          const targets = yield* upstream.targets
          const open = running.filter((fiber) => fiber.pollUnsafe() === undefined).length
          assert.strictEqual(
            targets.reduce((sum, { pending }) => sum + pending, 0),
            open
          )
        }
        yield* Effect.forEach(running, Fiber.interrupt)
        for (const { pending } of yield* upstream.targets) assert.strictEqual(pending, 0)
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 30 } }
  )
})

it("poolOptions are options of a pool", () => {
  assert.deepStrictEqual({ ...Proxy.poolOptions }, { decompress: false, requestTimeout: "Infinity", size: 64 })
})
