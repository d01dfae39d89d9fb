/**
 * What servers and callers do to a pool, each found in the wild, in undici, or in a prototype.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Ref, Scheduler, Scope, Stream } from "effect"
import * as HttpBody from "effect/http/HttpBody"
import { HttpClientRequest } from "effect/http"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import * as Zlib from "node:zlib"
import { selfSigned } from "./fixtures/certificate.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { closedPort } from "./fixtures/net.ts"
import { eventually, failsWith, failureOf, poolOn, turn } from "./fixtures/pool.ts"

const times = (count: number) => Array.from({ length: count }, (_, i) => i)

const all = { concurrency: "unbounded" } as const

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const ok = (request: HostileServer.Received) => request.answer()

const text = <E1, E2, A extends { readonly text: Effect.Effect<string, E1> }>(response: Effect.Effect<A, E2>) =>
  Effect.flatMap(response, (_) => _.text)

/** More than every buffer on the way holds. */
const large = 32 * 1024 * 1024

V8.setFlagsFromString("--expose-gc")
const collectGarbage = Vm.runInNewContext("gc") as () => void

const certificate = selfSigned("127.0.0.1")

describe("Pool: interruption", () => {
  it.live("32 requests interrupted in the waiting line: no socket is opened or destroyed", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(() => {})
      const { client, stats } = yield* poolOn(server)
      yield* Effect.forEach(times(8), (i) => fork(client.get(`/running/${i}`)))
      yield* server.received(8)
      const queued = yield* Effect.forEach(times(32), (i) => fork(client.get(`/queued/${i}`)))
      assert.include(yield* stats, { active: 8, waiting: 32 })
      yield* Fiber.interruptAll(queued)
      assert.include(yield* stats, { active: 8, waiting: 0, failures: 0, connectionsOpened: 8, connectionsClosed: 0 })
      for (const request of server.requests) request.answer()
      yield* eventually(stats, { active: 0, responses: 8 })
      assert.deepStrictEqual([server.connections.length, server.open, server.requests.length], [8, 8, 8])
    })
  )

  it.live("32 requests interrupted between dispatch and write: none is written, no socket is touched", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok)
      const { client, stats } = yield* poolOn(server)
      for (let i = 0; i < 8; i++) yield* client.get("/warm")
      const pulled = yield* Ref.make(0)
      const body = HttpBody.stream(
        Stream.fromEffect(Ref.updateAndGet(pulled, (n) => n + 1)).pipe(Stream.map(() => new Uint8Array(1)))
      )
      for (let round = 0; round < 4; round++) {
        // An idle connection is looked at once before it is written to; until then the request waits in undici.
        const fibers = yield* Effect.forEach(times(8), (i) =>
          fork(i % 2 === 0 ? client.get("/never") : client.post("/never", { body }))
        )
        assert.include(yield* stats, { active: 8 })
        yield* Fiber.interruptAll(fibers)
        assert.include(yield* stats, { active: 0 })
        yield* turn
      }
      for (let i = 0; i < 8; i++) yield* client.get("/after")
      assert.deepStrictEqual(
        server.connections.map(({ requests }) => requests.map((request) => request.path)),
        times(8).map(() => ["/warm", "/after"])
      )
      assert.strictEqual(server.open, 8)
      assert.strictEqual(yield* Ref.get(pulled), 0)
    })
  )

  it.live("while its slot connects: the next request takes the connection", () =>
    Effect.gen(function* () {
      let proceed = () => {}
      const server = yield* HostileServer.make(ok, { tls: { ...certificate, handshake: (_, go) => (proceed = go) } })
      const { client, stats } = yield* poolOn(server, { size: 1, tls: { ca: certificate.cert } })
      const first = yield* fork(client.get("/never"))
      yield* server.until(() => server.connections.length === 1)
      yield* Fiber.interrupt(first)
      const second = yield* fork(client.get("/second"))
      proceed()
      assert.strictEqual((yield* Fiber.join(second)).status, 200)
      assert.strictEqual(server.connections.length, 1)
      assert.deepStrictEqual(
        server.requests.map((request) => request.path),
        ["/second"]
      )
      assert.include(yield* stats, { connectionsOpened: 1, connectionsOpen: 1 })
    })
  )

  it.live("while its slot connects, and nobody else comes: the connection is kept for idleConnectionTimeout", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok)
      const { client, stats } = yield* poolOn(server, { size: 1, idleConnectionTimeout: 60 })
      const fiber = yield* fork(client.get("/never"))
      yield* Fiber.interrupt(fiber)
      yield* eventually(stats, { connectionsOpen: 1 })
      yield* server.allClosed
      yield* eventually(stats, { connectionsOpen: 0, connectionsClosed: 1 })
      assert.strictEqual(server.connections[0]?.bytes, 0)
      assert.strictEqual((yield* client.get("/")).status, 200)
    })
  )

  it.live("a connection that was made for nobody, and closed by the server meanwhile, fails no GET", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, {
        onConnection: ({ index, socket }) => void (index === 0 && socket.end())
      })
      const { client, stats } = yield* poolOn(server, { size: 1 })
      const fiber = yield* fork(client.get("/never"))
      yield* Fiber.interrupt(fiber)
      yield* eventually(stats, { connectionsOpened: 1 })
      yield* turn
      assert.strictEqual((yield* client.get("/")).status, 200)
      assert.include(yield* stats, { failures: 0 })
    })
  )

  it.live("while undici reconnects for it: the next request of the slot is not lost", () =>
    Effect.gen(function* () {
      let proceed = () => {}
      const server = yield* HostileServer.make(
        (request) => (request.path === "/first" ? request.connection.end(HostileServer.response()) : request.answer()),
        { tls: { ...certificate, handshake: ({ index }, go) => (index === 0 ? go() : (proceed = go)) } }
      )
      const { client, stats } = yield* poolOn(server, { size: 1, tls: { ca: certificate.cert } })
      // Sent in the very turn in which the answer came, so that undici has it when it learns that the server is gone.
      const second = yield* fork(Effect.andThen(client.get("/first"), client.get("/never")))
      yield* server.until(() => server.connections.length === 2)
      yield* Fiber.interrupt(second)
      const third = yield* fork(client.get("/third"))
      yield* turn
      proceed()
      assert.strictEqual((yield* Fiber.join(third)).status, 200)
      assert.deepStrictEqual(
        server.requests.map((request) => request.path),
        ["/first", "/third"]
      )
      assert.strictEqual(server.connections.length, 2)
      yield* eventually(stats, { connectionsOpen: 1 })
    })
  )

  it.live("1000 callers at once: afterwards all 8 slots work, on no more than 8 sockets", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/after") request.answer()
      })
      const { client, stats } = yield* poolOn(server)
      const fibers = yield* Effect.forEach(times(1000), () => fork(client.get("/hang")))
      yield* server.received(8)
      yield* Fiber.interruptAll(fibers)
      assert.include(yield* stats, { active: 0, waiting: 0, requests: 1000, failures: 0 })
      for (let i = 0; i < 16; i++) yield* client.get("/after")
      yield* server.until(() => server.open === 8)
      const used = server.connections.filter((connection) => !connection.closed)
      assert.deepStrictEqual(
        used.map((connection) => connection.requests.length),
        times(8).map(() => 2)
      )
      assert.strictEqual(server.connections.length, 16)
      yield* eventually(stats, { connectionsOpened: 16, connectionsClosed: 8, connectionsOpen: 8 })
    })
  )

  it.live("1000 callers interrupted before anything is connected: 8 connections serve who comes then", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok)
      const { client, stats } = yield* poolOn(server)
      // In one turn, or the first ones would connect meanwhile.
      yield* Effect.forEach(times(1000), () => fork(client.get("/never"))).pipe(
        Effect.flatMap(Fiber.interruptAll),
        Effect.provideService(Scheduler.MaxOpsBeforeYield, Infinity)
      )
      for (let i = 0; i < 16; i++) yield* client.get("/")
      assert.strictEqual(server.connections.length, 8)
      assert.strictEqual(server.requests.length, 16)
      assert.include(yield* stats, { connectionsOpened: 8, connectionsOpen: 8 })
    })
  )

  it.live("of a reader in the middle of a body: aborted at once", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/") request.answer()
        else request.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
      })
      const { client, stats } = yield* poolOn(server, { size: 1 })
      const headers = yield* Ref.make(0)
      const body = Effect.tap(client.get("/body"), () => Ref.update(headers, (n) => n + 1))
      for (const [i, read] of [
        text(body),
        Effect.flatMap(body, (response) => Stream.runDrain(response.stream))
      ].entries()) {
        const fiber = yield* fork(read)
        yield* eventually(
          Effect.map(Ref.get(headers), (seen) => ({ seen })),
          { seen: i + 1 }
        )
        yield* Fiber.interrupt(fiber)
        assert.include(yield* stats, { active: 0 })
        assert.strictEqual((yield* client.get("/")).status, 200)
      }
      assert.strictEqual(server.connections.length, 3)
      assert.include(yield* stats, { active: 0 })
    })
  )

  it.live("of one caller by another that was woken in the same turn", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/") request.answer()
      })
      const { client, stats } = yield* poolOn(server, { size: 2, responseHeaderTimeout: 60 })
      const both = yield* failsWith(Effect.raceFirst(client.get("/hang"), client.get("/hang")), "TimeoutError")
      assert.strictEqual(both.phase, "headers")
      for (let i = 0; i < 4; i++) yield* client.get("/")
      assert.include(yield* stats, { active: 0, waiting: 0, requests: 6, responses: 4 })
      yield* server.until(() => server.open === 2)
    })
  )
})

describe("Pool: servers that close", () => {
  for (const [how, close] of [
    ["FIN with the answer", (request: HostileServer.Received) => request.connection.end(HostileServer.response())],
    [
      "FIN in the turn after the answer",
      (request: HostileServer.Received) => {
        request.answer()
        setImmediate(() => request.connection.end())
      }
    ],
    [
      "RST after the answer",
      (request: HostileServer.Received) =>
        void request.connection.socket.write(HostileServer.response(), () => request.connection.reset())
    ]
  ] as const) {
    it.live(`${how}, which promised to keep alive: no GET fails at 64 callers`, () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(close)
        const { client, stats } = yield* poolOn(server)
        yield* Effect.forEach(times(1000), () => text(client.get("/")), { concurrency: 64 })
        assert.include(yield* stats, { requests: 1000, responses: 1000, failures: 0, active: 0, waiting: 0 })
      })
    )

    it.live(`${how}: a POST is sent at most once`, () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.whole(close))
        const { client, stats } = yield* poolOn(server)
        const exits = yield* Effect.forEach(
          times(500),
          (i) => Effect.exit(text(client.post(`/${i}`, { body: HttpBody.text(String(i)) }))),
          { concurrency: 64 }
        )
        const sent = server.requests.map((request) => request.path)
        assert.strictEqual(new Set(sent).size, sent.length)
        const failed = exits.filter(Exit.isFailure).length
        assert.include(yield* stats, { requests: 500, failures: failed, active: 0 })
        assert.isAtLeast(sent.length, 500 - failed)
      })
    )
  }

  it.live("every kept-alive connection is dead when it is used again: GET is sent again once, POST is not", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.nth === 0) request.answer()
        else request.connection.reset()
      })
      const { client, stats } = yield* poolOn(server, { size: 4 })
      yield* Effect.forEach(times(200), () => text(client.get("/")), { concurrency: 64 })
      const before = yield* stats
      assert.include(before, { failures: 0, responses: 200 })
      assert.isAtLeast(before.staleRetries, 90)
      // Every slot's connection has been used once now, or is new.
      const sentBefore = server.requests.length
      const error = yield* failsWith(
        Effect.forEach(times(8), (i) => client.post(`/post/${i}`, { body: HttpBody.text("x") })),
        "ConnectError"
      )
      assert.include(error, { phase: "response", sent: true, attempts: 1 })
      const posts = server.requests.slice(sentBefore).map((request) => request.path)
      assert.strictEqual(new Set(posts).size, posts.length)
    })
  )

  it.live("a server that never answers is asked twice at the most", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.index === 0) request.answer()
        else request.connection.end()
      })
      const { client, stats } = yield* poolOn(server, { size: 1 })
      yield* client.get("/")
      const error = yield* failsWith(client.get("/"), "ConnectError")
      assert.include(error, { phase: "response", sent: true, attempts: 1 })
      assert.strictEqual(server.requests.length, 3)
      assert.include(yield* stats, { staleRetries: 1 })
      // On a new connection it is not the fault of the keep-alive.
      yield* failsWith(client.get("/"), "ConnectError")
      assert.strictEqual(server.requests.length, 4)
    })
  )

  it.live("garbage after an answer fails no other request", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write(Buffer.concat([HostileServer.response(), Buffer.from("garbage\r\n\r\n")]))
      })
      const { client, stats } = yield* poolOn(server, { size: 2 })
      yield* Effect.forEach(times(100), () => text(client.get("/")), { concurrency: 16 })
      assert.include(yield* stats, { failures: 0, responses: 100 })
    })
  )

  it.live("a second answer to one question is never taken for the answer to the next", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write(Buffer.concat([HostileServer.response(request.path), HostileServer.response("stolen")]))
      })
      const { client } = yield* poolOn(server, { size: 2 })
      const bodies = yield* Effect.forEach(times(100), (i) => text(client.get(`/${i}`)), { concurrency: 16 })
      assert.deepStrictEqual(
        bodies,
        times(100).map((i) => `/${i}`)
      )
    })
  )

  it.live("Connection: close: each request on a new connection, none fails", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => request.answer("ok", "Connection: close\r\n"))
      const { client, stats } = yield* poolOn(server, { size: 4 })
      yield* Effect.forEach(times(100), () => text(client.get("/")), { concurrency: 32 })
      assert.strictEqual(server.connections.length, 100)
      assert.include(yield* stats, { failures: 0, staleRetries: 0, connectionsOpened: 100 })
      assert.isAtMost(server.mostOpen, 8)
    })
  )

  it.live("Keep-Alive: timeout is honoured: one that ends at once is not used again, a long one is", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        const seconds = request.path === "/short" ? 1 : 30
        request.answer("ok", `Connection: keep-alive\r\nKeep-Alive: timeout=${seconds}\r\n`)
      })
      const { client, events } = yield* poolOn(server, { size: 1, idleConnectionTimeout: 80 })
      for (let i = 0; i < 4; i++) yield* client.get("/short")
      assert.strictEqual(server.connections.length, 4)
      for (let i = 0; i < 4; i++) yield* client.get("/long")
      assert.strictEqual(server.connections.length, 5)
      // The server's word goes over `idleConnectionTimeout`.
      const closed = yield* fork(Stream.runHead(Stream.filter(events, (event) => event._tag === "ConnectionClosed")))
      yield* Effect.sleep(160)
      assert.isUndefined(closed.pollUnsafe())
      assert.isFalse(server.connections[4]?.closed)
    })
  )

  it.live("an unused connection is closed after idleConnectionTimeout", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok)
      const { client, events, stats } = yield* poolOn(server, { size: 2, idleConnectionTimeout: 60 })
      const closed = yield* fork(
        events.pipe(
          Stream.filter((event) => event._tag === "ConnectionClosed"),
          Stream.take(2),
          Stream.runCollect
        )
      )
      yield* client.get("/")
      yield* client.get("/")
      assert.deepStrictEqual(
        (yield* Fiber.join(closed)).map((event) => event.reason),
        ["idle", "idle"]
      )
      yield* server.allClosed
      assert.include(yield* stats, { connectionsOpen: 0, failures: 0 })
      assert.strictEqual((yield* client.get("/")).status, 200)
    })
  )
})

describe("Pool: bodies", () => {
  const sendLarge = (request: HostileServer.Received) => {
    request.write(`HTTP/1.1 200 OK\r\nContent-Length: ${large}\r\n\r\n`)
    request.write(Buffer.alloc(large, "x"))
  }
  const largeOr = (request: HostileServer.Received) =>
    request.path === "/large" ? sendLarge(request) : request.answer()

  it.live("one that is larger than its buffer holds its slot until it is read", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(largeOr)
      const { client, stats } = yield* poolOn(server, { size: 1 })
      const response = yield* client.get("/large")
      const next = yield* fork(text(client.get("/")))
      yield* turn
      assert.include(yield* stats, { active: 1, waiting: 1 })
      assert.strictEqual((yield* response.arrayBuffer).byteLength, large)
      assert.strictEqual(yield* Fiber.join(next), "ok")
      assert.strictEqual(server.connections.length, 1)
      // Collected bodies stay.
      assert.strictEqual((yield* response.arrayBuffer).byteLength, large)
    })
  )

  it.live("or until its stream is left", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(largeOr)
      const { client } = yield* poolOn(server, { size: 1 })
      const response = yield* client.get("/large")
      const next = yield* fork(text(client.get("/")))
      yield* Stream.runDrain(Stream.take(response.stream, 1))
      assert.strictEqual(yield* Fiber.join(next), "ok")
      assert.strictEqual(server.connections.length, 2)
      // The pause of the aborted one does not live on.
      assert.strictEqual((yield* (yield* client.get("/large")).arrayBuffer).byteLength, large)
    })
  )

  it.live("a stream that is read slowly holds the server back, and loses nothing", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(largeOr)
      const { client, stats } = yield* poolOn(server, { size: 1, bodyIdleTimeout: 60 })
      const response = yield* client.get("/large")
      // Longer than `bodyIdleTimeout`: it is the reader who is slow, not the server.
      yield* Effect.sleep(120)
      const total = yield* Stream.runFoldEffect(
        response.stream,
        () => 0,
        (sum, chunk) => Effect.as(sum === 0 ? Effect.sleep(120) : Effect.void, sum + chunk.length)
      )
      assert.strictEqual(total, large)
      assert.include(yield* stats, { active: 0, failures: 0 })
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.live("nobody reads it and nobody can: the garbage collector aborts it, and it is counted", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(largeOr)
      const { client, events, stats } = yield* poolOn(server, { size: 2 })
      const abandoned = yield* fork(Stream.runHead(Stream.filter(events, (event) => event._tag === "BodyAbandoned")))
      yield* Effect.forEach(times(2), () => Effect.asVoid(client.get("/large")))
      const next = yield* fork(text(client.get("/")))
      while ((yield* stats).abandoned < 2) {
        collectGarbage()
        yield* turn
      }
      assert.strictEqual(yield* Fiber.join(next), "ok")
      assert.include(yield* stats, { active: 0, abandoned: 2 })
      assert.strictEqual((yield* Fiber.join(abandoned))._tag, "Some")
      yield* server.until(() => server.open === 1)
    })
  )

  it.live("one that somebody still holds, or streams, is not abandoned", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(largeOr)
      const { client, stats } = yield* poolOn(server, { size: 2 })
      const held = yield* client.get("/large")
      const { stream } = yield* client.get("/large")
      for (let i = 0; i < 10; i++) {
        collectGarbage()
        yield* turn
      }
      assert.include(yield* stats, { abandoned: 0, active: 2 })
      assert.strictEqual((yield* held.arrayBuffer).byteLength, large)
      assert.strictEqual(
        yield* Stream.runFold(
          stream,
          () => 0,
          (sum, chunk) => sum + chunk.length
        ),
        large
      )
    })
  )

  it.live("small ones that nobody reads cost nothing", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok)
      const { client, stats } = yield* poolOn(server, { size: 1 })
      for (let i = 0; i < 20; i++) yield* client.get("/")
      assert.include(yield* stats, { active: 0, abandoned: 0 })
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.live("a byte order mark is not text", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => request.answer('\uFEFF{"a":"é"}'))
      const { client } = yield* poolOn(server)
      const response = yield* client.get("/")
      assert.strictEqual(yield* response.text, '{"a":"é"}')
      assert.deepStrictEqual(yield* response.json, { a: "é" })
      assert.strictEqual((yield* response.arrayBuffer).byteLength, 13)
    })
  )

  for (const [how, headers, bytes] of [
    ["plain", "", Buffer.from('{"a":1}')],
    ["compressed", "Content-Encoding: gzip\r\n", Zlib.gzipSync('{"a":1}')]
  ] as const) {
    it.live(`${how}: read twice, in any way`, () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer(bytes, headers))
        const { client } = yield* poolOn(server)
        const response = yield* client.get("/")
        assert.strictEqual(yield* response.text, '{"a":1}')
        assert.strictEqual(yield* response.text, '{"a":1}')
        assert.deepStrictEqual(yield* response.json, { a: 1 })
        assert.strictEqual((yield* response.arrayBuffer).byteLength, 7)
      })
    )

    it.live(`${how}: what was streamed is gone, and says so`, () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer(bytes, headers))
        const { client } = yield* poolOn(server)
        const response = yield* client.get("/")
        assert.strictEqual(yield* Stream.mkString(Stream.decodeText(response.stream)), '{"a":1}')
        for (const again of [response.text, response.json, response.arrayBuffer, Stream.runDrain(response.stream)]) {
          const error = yield* failsWith<"DecodeError", unknown, unknown, never>(again, "DecodeError")
          assert.include(error.reason, "as a stream")
        }
      })
    )
  }

  it.live("what was collected can be streamed again", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => request.answer("twice"))
      const { client } = yield* poolOn(server)
      const response = yield* client.get("/")
      yield* response.text
      assert.strictEqual(yield* Stream.mkString(Stream.decodeText(response.stream)), "twice")
      assert.strictEqual(yield* response.text, "twice")
    })
  )

  it.live("two read it at the same time, one of them as a stream", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
      )
      const { client } = yield* poolOn(server)
      const response = yield* client.get("/")
      const readers = yield* Effect.forEach(
        [response.text, response.text, Stream.mkString(Stream.decodeText(response.stream))],
        fork
      )
      // One who gives up does not take it from the others.
      yield* Fiber.interrupt(readers[0]!)
      server.requests[0]?.write("HALF")
      assert.deepStrictEqual(yield* Fiber.joinAll(readers.slice(1)), ["halfHALF", "halfHALF"])
    })
  )

  it.live("an error after the headers reaches who reads", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
      })
      const { client, stats } = yield* poolOn(server, { size: 1 })
      const reset = Effect.sync(() => server.connections.at(-1)?.reset())
      const error = yield* failsWith(text(Effect.tap(client.get("/"), () => reset)), "ConnectError")
      assert.include(error, { phase: "response", sent: true })
      const chunks: Array<string> = []
      const streamed = yield* failureOf(
        Effect.flatMap(client.get("/"), (response) =>
          Stream.runForEach(Stream.decodeText(response.stream), (chunk) => {
            chunks.push(chunk)
            return reset
          })
        )
      )
      assert.strictEqual(streamed._tag, "ConnectError")
      assert.deepStrictEqual(chunks, ["part"])
      // An answer has begun: nothing is sent again.
      assert.strictEqual(server.requests.length, 2)
      assert.include(yield* stats, { active: 0, staleRetries: 0 })
    })
  )
})

describe("Pool: deadlines", () => {
  it.live("a body that stops: bodyIdleTimeout, whoever reads and however", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
      })
      const { client, stats } = yield* poolOn(server, { size: 1, bodyIdleTimeout: 60 })
      const error = yield* failsWith(text(client.get("/")), "TimeoutError")
      assert.strictEqual(error.phase, "bodyIdle")
      assert.include(error.message, "bodyIdleTimeout of 60 ms")
      const streamed = yield* failsWith(
        Effect.flatMap(client.get("/"), (response) => Stream.runDrain(response.stream)),
        "TimeoutError"
      )
      assert.strictEqual(streamed.phase, "bodyIdle")
      // Nobody reads: the slot is free again all the same.
      const unread = yield* client.get("/")
      yield* eventually(stats, { active: 0, timeouts: 3 })
      assert.strictEqual((yield* failsWith(unread.text, "TimeoutError")).phase, "bodyIdle")
      yield* server.allClosed
    })
  )

  it.live("a body that trickles: bodyIdleTimeout never, requestTimeout in the end", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        const timer = setInterval(() => request.write("1\r\nx\r\n"), 10)
        request.connection.socket.on("close", () => clearInterval(timer))
      })
      const { client } = yield* poolOn(server, { bodyIdleTimeout: 100, requestTimeout: 200 })
      const error = yield* failsWith(text(client.get("/")), "TimeoutError")
      assert.strictEqual(error.phase, "request")
      assert.strictEqual(Duration.toMillis(error.timeout), 200)
      yield* server.allClosed
    })
  )

  it.live("requestTimeout includes the waiting line, attemptTimeout does not", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(() => {})
      const { client, stats } = yield* poolOn(server, { size: 1, requestTimeout: 80 })
      const errors = yield* Effect.forEach(times(3), () => failsWith(client.get("/"), "TimeoutError"), all)
      assert.deepStrictEqual(
        errors.map((error) => error.phase),
        ["request", "request", "request"]
      )
      assert.strictEqual(server.requests.length, 1)
      assert.include(yield* stats, { active: 0, waiting: 0, timeouts: 3 })
      const other = yield* poolOn(server, { size: 1, attemptTimeout: 60 })
      const attempts = yield* Effect.forEach(times(3), () => failsWith(other.client.get("/"), "TimeoutError"), all)
      assert.deepStrictEqual(
        attempts.map(({ attempts, phase }) => [attempts, phase]),
        times(3).map(() => [1, "attempt"])
      )
    })
  )

  it.live("pool.stream: requestTimeout ends at the headers, bodyIdleTimeout goes on", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/headers") return
        request.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        let left = 10
        const timer = setInterval(() => {
          request.write(left > 0 ? "1\r\nx\r\n" : request.path === "/ends" ? "0\r\n\r\n" : "")
          if (left-- === 0) clearInterval(timer)
        }, 15)
        request.connection.socket.on("close", () => clearInterval(timer))
      })
      const pool = yield* poolOn(server, { requestTimeout: 100, bodyIdleTimeout: 100 })
      const get = (path: string) => Stream.mkString(Stream.decodeText(pool.stream(HttpClientRequest.get(path))))
      assert.strictEqual(yield* get("/ends"), "xxxxxxxxxx")
      assert.strictEqual((yield* failsWith(get("/stops"), "TimeoutError")).phase, "bodyIdle")
      assert.strictEqual((yield* failsWith(get("/headers"), "TimeoutError")).phase, "request")
    })
  )

  it.live("server-sent events are streams, too", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
        let left = 8
        const timer = setInterval(() => {
          request.write("data: x\n\n")
          if (--left > 0) return
          clearInterval(timer)
          request.connection.end()
        }, 20)
      })
      const { client } = yield* poolOn(server, { requestTimeout: 80 })
      assert.strictEqual(yield* text(client.get("/")), "data: x\n\n".repeat(8))
    })
  )

  it.live("responseHeaderTimeout begins when the request has been sent, however slowly the server reads", () =>
    Effect.gen(function* () {
      const slowly = (request: HostileServer.Received) => {
        const { socket } = request.connection
        socket.pause()
        setTimeout(() => socket.resume(), 400)
        request.whole(() => request.answer(String(request.length)))
      }
      const server = yield* HostileServer.make(slowly)
      const { client } = yield* poolOn(server, { size: 1, responseHeaderTimeout: 300 })
      const bytes = Buffer.alloc(large)
      const stream = Stream.fromIterable(times(512)).pipe(
        Stream.map(() => new Uint8Array(large / 512)),
        Stream.rechunk(1)
      )
      for (const body of [HttpBody.uint8Array(bytes), HttpBody.text("x".repeat(large)), HttpBody.stream(stream)]) {
        assert.strictEqual(yield* text(client.post("/", { body })), String(large))
      }
      assert.strictEqual(server.connections.length, 1)
      server.script = () => {}
      const error = yield* failsWith(client.post("/", { body: HttpBody.uint8Array(bytes) }), "TimeoutError")
      assert.strictEqual(error.phase, "headers")
    })
  )
})

describe("Pool: closing", () => {
  const opened = Effect.fnUntraced(function* (...args: Parameters<typeof poolOn>) {
    const scope = yield* Scope.make()
    const pool = yield* Scope.provide(poolOn(...args), scope)
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    return { ...pool, close: Scope.close(scope, Exit.void) }
  })

  it.live("running requests finish, new ones fail, and nothing remains", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path !== "/slow") request.answer()
      })
      const pool = yield* opened(server, { size: 2, drainTimeout: "10 seconds" })
      const running = yield* Effect.forEach(times(4), () => fork(text(pool.client.get("/slow"))))
      yield* server.received(2)
      const closing = yield* fork(pool.close)
      yield* failsWith(pool.client.get("/"), "PoolClosed")
      for (let i = 0; i < 4; i++) {
        yield* server.received(i + 1)
        assert.isUndefined(closing.pollUnsafe())
        server.requests[i]?.answer("finished")
      }
      assert.deepStrictEqual(
        yield* Fiber.joinAll(running),
        times(4).map(() => "finished")
      )
      yield* Fiber.join(closing)
      yield* server.allClosed
      assert.strictEqual(server.connections.length, 2)
      assert.include(yield* pool.stats, { connectionsOpen: 0, active: 0, failures: 0 })
    })
  )

  it.live("a reader between two chunks is running, too", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
      })
      const pool = yield* opened(server, { drainTimeout: "10 seconds" })
      const between = yield* Deferred.make<void>()
      const closed = yield* Deferred.make<void>()
      const reader = yield* fork(
        Effect.flatMap(pool.client.get("/"), (response) =>
          Stream.decodeText(response.stream).pipe(
            Stream.tap((chunk) =>
              chunk === "half"
                ? Effect.andThen(Deferred.succeed(between, undefined), Deferred.await(closed))
                : Effect.void
            ),
            Stream.mkString
          )
        )
      )
      yield* Deferred.await(between)
      const closing = yield* fork(pool.close)
      server.requests[0]?.write("HALF")
      yield* Deferred.succeed(closed, undefined)
      assert.strictEqual(yield* Fiber.join(reader), "halfHALF")
      yield* Fiber.join(closing)
    })
  )

  it.live("what is not finished within drainTimeout is cut", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/body") request.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
      })
      const pool = yield* opened(server, { size: 2, drainTimeout: 60 })
      const cut = yield* Effect.forEach(
        [pool.client.get("/hang"), text(pool.client.get("/body")), pool.client.get("/waits")],
        (effect) => fork(failsWith<"PoolClosed", unknown, unknown, never>(effect, "PoolClosed"))
      )
      yield* server.received(2)
      yield* pool.close
      yield* Fiber.joinAll(cut)
      yield* server.allClosed
      assert.deepStrictEqual(
        server.requests.map((request) => request.path),
        ["/hang", "/body"]
      )
    })
  )

  it.live("bodies that nobody reads are not waited for", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write(`HTTP/1.1 200 OK\r\nContent-Length: ${large}\r\n\r\n`)
        request.write(Buffer.alloc(large))
      })
      const pool = yield* opened(server, { size: 2, drainTimeout: "1 hour" })
      const responses = yield* Effect.forEach(times(2), () => pool.client.get("/"))
      yield* pool.close
      yield* server.allClosed
      for (const response of responses) yield* failsWith(response.text, "PoolClosed")
    })
  )

  it.live("while a slot connects", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, {
        tls: { ...certificate, handshake: ({ socket }) => socket.resume() }
      })
      const pool = yield* opened(server, { drainTimeout: 0 })
      const fiber = yield* fork(failsWith(pool.client.get("/"), "PoolClosed"))
      yield* server.until(() => server.connections.length === 1)
      yield* pool.close
      yield* Fiber.join(fiber)
      yield* server.allClosed
    })
  )

  it.live("while undici reconnects", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => request.connection.end(HostileServer.response()), {
        tls: { ...certificate, handshake: ({ index, socket }, proceed) => (index === 0 ? proceed() : socket.resume()) }
      })
      const pool = yield* opened(server, { size: 1, drainTimeout: 0, tls: { ca: certificate.cert } })
      const fiber = yield* fork(failsWith(Effect.andThen(pool.client.get("/"), pool.client.get("/")), "PoolClosed"))
      yield* server.until(() => server.connections.length === 2)
      yield* pool.close
      yield* Fiber.join(fiber)
      yield* server.allClosed
    })
  )

  it.live("with an upload under way: its stream is interrupted, its finalizer runs", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(() => {})
      const pool = yield* opened(server, { drainTimeout: 0 })
      const stopped = yield* Deferred.make<void>()
      const body = HttpBody.stream(
        Stream.make(new Uint8Array(10)).pipe(
          Stream.concat(Stream.never),
          Stream.ensuring(Deferred.succeed(stopped, undefined))
        )
      )
      const fiber = yield* fork(failsWith(pool.client.post("/", { body }), "PoolClosed"))
      yield* server.received(1)
      yield* pool.close
      yield* Fiber.join(fiber)
      yield* Deferred.await(stopped)
      yield* server.allClosed
    })
  )

  it.live("no timer and no socket outlives the scope", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/large")
          request.write(`HTTP/1.1 200 OK\r\nContent-Length: ${large}\r\n\r\n` + "x".repeat(200_000))
        else if (request.path !== "/hang") request.answer()
      })
      const dead = yield* closedPort
      const timers = yield* watchTimers
      const resources = () =>
        process
          .getActiveResourcesInfo()
          .filter((name) => /Socket|TLS|Connect|Pipe/.test(name))
          .sort()
      const before = resources()
      const pool = yield* opened(server, {
        size: 8,
        ejection: { failures: 1, base: "1 hour", max: "1 hour" },
        drainTimeout: 0
      })
      for (let i = 0; i < 8; i++) yield* pool.client.get("/")
      yield* Effect.forEach(times(2), () => Effect.exit(pool.client.get(`http://127.0.0.1:${dead}/`)))
      const cut = yield* Effect.forEach(times(4), () => fork(Effect.exit(pool.client.get("/hang"))))
      const unread = yield* pool.client.get("/large")
      const interrupted = yield* fork(pool.client.get("/hang"))
      yield* server.received(8 + 6)
      yield* Fiber.interrupt(interrupted)
      assert.isAbove(timers.size, 0)
      yield* pool.close
      yield* Fiber.joinAll(cut)
      yield* server.allClosed
      yield* turn
      assert.strictEqual(timers.size, 0)
      assert.deepStrictEqual(resources(), before)
      assert.strictEqual(unread.status, 200)
      assert.include(yield* pool.stats, { connectionsOpen: 0, active: 0, waiting: 0 })
    })
  )
})

/** The timers that were set meanwhile and have neither fired nor been cleared. */
const watchTimers: Effect.Effect<Set<unknown>, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const running = new Set<unknown>()
      const { clearTimeout, setTimeout } = globalThis
      globalThis.setTimeout = Object.assign(
        ((f: (...args: ReadonlyArray<unknown>) => void, millis?: number, ...args: ReadonlyArray<unknown>) => {
          const timer = setTimeout(() => {
            running.delete(timer)
            f(...args)
          }, millis)
          running.add(timer)
          return timer
        }) as typeof setTimeout,
        setTimeout
      )
      globalThis.clearTimeout = (timer) => {
        running.delete(timer)
        clearTimeout(timer)
      }
      return { running, restore: () => Object.assign(globalThis, { clearTimeout, setTimeout }) }
    }),
    ({ restore }) => Effect.sync(restore)
  ),
  ({ running }) => running
)
