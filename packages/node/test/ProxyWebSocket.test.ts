/** WebSockets through the proxy, between real sockets. */
import { assert, describe, it } from "@effect/vitest"
import { Auth, Handler, Pool, Proxy } from "@millrace/core"
import type { Options as PoolOptions } from "@millrace/core/client/PoolConfig"
import type { Settings } from "@millrace/core/server/Listener"
import { Effect, Exit, Fiber, Layer, Redacted, Scope } from "effect"
import * as Headers from "effect/http/Headers"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { createHash, randomBytes } from "node:crypto"
import * as Net from "node:net"
import * as NodeHttpConnector from "../src/NodeHttpConnector.ts"
import * as FetchConnector from "../src/FetchConnector.ts"
import * as UndiciConnector from "../src/UndiciConnector.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { eventually, replace, serving, text, tlsOf } from "./fixtures/listener.ts"
import { closedPort, Later, loopback } from "./fixtures/net.ts"
import { eventually as stands, poolOn } from "./fixtures/pool.ts"
import { connect, connectTls, get } from "./fixtures/rawClient.ts"
import { asking, connected, echoServer, handshake, handshakeLines, take } from "./fixtures/webSocket.ts"

const certificate = selfSigned("localhost")

/** `ws` hands this to `tls.connect`, and its types know nothing of it. */
const trusting: object = { ca: certificate.cert, servername: "localhost" }

interface Setup {
  readonly proxy?: Proxy.Options
  readonly pool?: PoolOptions
  readonly server?: Partial<Settings>
}

const poolOf = (upstream: { readonly origin: string }, options: PoolOptions = {}) =>
  poolOn(upstream, { ...Proxy.poolOptions, proxy: false, ...options })

/** A proxy in front of `upstream`; `targets` tells how that stands. */
const between = (upstream: { readonly origin: string }, { pool: poolOptions, proxy, server }: Setup = {}) =>
  Effect.gen(function* () {
    const pool = yield* poolOf(upstream, poolOptions)
    const balanced = yield* Proxy.balance([pool])
    const handler = yield* Proxy.make(balanced, { onError: () => Effect.void, ...proxy })
    const { acceptor, backend, port } = yield* serving(handler, server)
    const target = Effect.map(balanced.targets, ([only]) => only!)
    return { acceptor, backend, pool, port, target, url: `ws://${loopback}:${port}` }
  })

/** A tunnel between a client and an upstream that both send bytes. */
const tunnelled = (setup: Setup = {}, options: HostileServer.Options = {}) =>
  Effect.gen(function* () {
    const far = new Later<ReturnType<typeof take>>()
    const upstream = yield* HostileServer.make((received) => far.resolve(take(received)), options)
    const front = yield* between(upstream, setup)
    const client = yield* connect(front.port)
    client.send(handshake())
    yield* client.take("\r\n\r\n")
    const socket = yield* far.wait
    let came = ""
    socket.on("data", (data: Buffer) => {
      came += data.toString("latin1")
    })
    return { ...front, client, upstream, socket, came: () => came }
  })

/** Sends `bytes` through a tunnel, and compares what comes back. */
const echoed = (port: number, bytes: Buffer) =>
  Effect.gen(function* () {
    const came = createHash("sha256")
    const all = new Later<void>()
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => Net.connect(port, loopback)),
      (connection) => Effect.sync(() => connection.destroy())
    )
    let head = Buffer.alloc(0)
    let length = 0
    let tunnelling = false
    const take = (data: Buffer) => {
      came.update(data)
      length += data.length
      if (length === bytes.length) all.resolve()
    }
    socket.on("data", (data: Buffer) => {
      if (tunnelling) return take(data)
      head = Buffer.concat([head, data])
      const end = head.indexOf("\r\n\r\n")
      if (end === -1) return
      tunnelling = true
      socket.write(bytes)
      take(head.subarray(end + 4))
    })
    socket.write(handshake())
    yield* all.wait
    assert.strictEqual(came.digest("hex"), createHash("sha256").update(bytes).digest("hex"))
  })

const statusOf = (answer: string) => Number(answer.split(" ")[1])

describe("a WebSocket through the proxy", () => {
  it.live("echoes; path, query, protocol and headers arrive as those of any request do", () =>
    Effect.gen(function* () {
      const upstream = yield* echoServer()
      const { backend, target, url } = yield* between(upstream, {
        proxy: {
          stripPrefix: "/live",
          requestHeaders: (headers) => Effect.succeed(Headers.set(headers, "x-hook", "up"))
        }
      })
      const client = yield* connected(`${url}/live/room?id=1`, { headers: { "x-one": "1" } }, ["chat"])
      assert.strictEqual(client.socket.protocol, "chat")
      assert.strictEqual(client.socket.extensions, "permessage-deflate")
      client.socket.send("hello")
      assert.strictEqual((yield* client.next).toString(), "hello")
      const [seen] = upstream.seen
      assert.strictEqual(seen?.url, "/room?id=1")
      assert.include(seen?.headers, {
        "x-one": "1",
        "x-hook": "up",
        host: `127.0.0.1:${upstream.port}`,
        via: "1.1 millrace",
        "x-forwarded-for": "127.0.0.1",
        upgrade: "websocket",
        connection: "Upgrade"
      })
      assert.include(yield* target, { requests: 1, pending: 1, webSockets: 1 })
      assert.include<object>(backend.counts(), { active: 1, connections: 1 })
      client.socket.close(4001, "bye")
      assert.deepStrictEqual(yield* client.closed.wait, { code: 4001, reason: "bye" })
      yield* eventually(() => backend.counts().connections === 0 && upstream.closed.length === 1)
      assert.deepStrictEqual(upstream.closed, [4001])
      yield* stands(target, { requests: 1, pending: 0, webSockets: 0 })
    })
  )

  it.live("of Node's own client, too, and by the other connector", () =>
    Effect.gen(function* () {
      const upstream = yield* echoServer()
      const pool = yield* Effect.provide(
        Pool.make({ ...Proxy.poolOptions, baseUrl: upstream.origin, drainTimeout: 0 }),
        NodeHttpConnector.layer
      )
      const { port } = yield* serving(yield* Proxy.make(pool))
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocket(`ws://${loopback}:${port}`)),
        (opened) => Effect.sync(() => opened.close())
      )
      const echoed = new Later<unknown>()
      socket.addEventListener("open", () => socket.send("hello"))
      socket.addEventListener("message", ({ data }) => echoed.resolve(data))
      assert.strictEqual(yield* echoed.wait, "hello")
    })
  )

  it.live("with TLS on both sides", () =>
    Effect.gen(function* () {
      const upstream = yield* echoServer(certificate)
      const { port } = yield* between(upstream, {
        pool: { tls: { ca: certificate.cert, servername: "localhost" } },
        server: { tls: tlsOf(certificate) }
      })
      const client = yield* connected(`wss://${loopback}:${port}`, trusting)
      const sent = randomBytes(300_000)
      client.socket.send(sent)
      assert.isTrue((yield* client.next).equals(sent))
      assert.strictEqual(upstream.seen[0]?.headers["x-forwarded-proto"], "https")
      client.socket.close(1000)
      assert.strictEqual((yield* client.closed.wait).code, 1000)
    })
  )

  it.live(
    "64 at once pass every byte, both ways, in order",
    () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => {
          const socket = take(received)
          socket.pipe(socket)
        })
        const { backend, port, target } = yield* between(upstream)
        const size = 3 * 1024 * 1024
        yield* Effect.forEach(Array.from({ length: 64 }), () => echoed(port, randomBytes(size)), {
          concurrency: "unbounded",
          discard: true
        })
        assert.include(yield* target, { requests: 64, pending: 64, webSockets: 64 })
        assert.strictEqual(backend.counts().active, 64)
      }),
    60_000
  )

  it.live("what either side sends too early comes first, and not before the handshake is taken", () =>
    Effect.gen(function* () {
      const gate = new Later<void>()
      let came = ""
      const upstream = yield* HostileServer.make((received) => {
        void gate.promise.then(() => {
          take(received, "from the server").on("data", (data: Buffer) => {
            came += data.toString("latin1")
          })
        })
      })
      const { port } = yield* between(upstream)
      const client = yield* connect(port)
      client.send(`${handshake()}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`)
      yield* upstream.received(1)
      client.send("and more")
      gate.resolve()
      yield* client.take("from the server")
      yield* eventually(() => came.endsWith("and more"))
      assert.strictEqual(came, "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nand more")
      assert.strictEqual(upstream.requests.length, 1)
    })
  )

  it.live("takes no slot of the pool", () =>
    Effect.gen(function* () {
      const upstream = yield* HostileServer.make((received) =>
        received.path === "/plain" ? received.answer("fine.") : void take(received)
      )
      const { pool, port } = yield* between(upstream, { pool: { size: 1 } })
      for (let i = 0; i < 3; i++) {
        const client = yield* connect(port)
        client.send(handshake())
        yield* client.take("\r\n\r\n")
      }
      const other = yield* connect(port)
      other.send(get("/plain"))
      yield* other.take("fine.")
      assert.include(yield* pool.stats, { requests: 1, active: 0, connectionsOpen: 1 })
    })
  )

  describe("the end", () => {
    it.live("a client that ends its side still gets what the upstream sends", () =>
      Effect.gen(function* () {
        const { backend, came, client, socket } = yield* tunnelled({}, { allowHalfOpen: true })
        client.socket.allowHalfOpen = true
        socket.on("end", () => socket.end("last words"))
        client.socket.end("question")
        yield* client.take("last words")
        assert.strictEqual(came(), "question")
        assert.strictEqual(yield* client.ended, "closed")
        yield* eventually(() => backend.counts().connections === 0)
      })
    )

    it.live("an upstream that ends its side still gets what the client sends", () =>
      Effect.gen(function* () {
        const { backend, came, client, socket } = yield* tunnelled({}, { allowHalfOpen: true })
        client.socket.allowHalfOpen = true
        const ended = new Later<void>()
        socket.on("end", () => ended.resolve())
        socket.end("the end.")
        yield* client.take("the end.")
        assert.strictEqual(yield* client.ended, "closed")
        client.socket.end("goodbye")
        yield* ended.wait
        assert.strictEqual(came(), "goodbye")
        yield* eventually(() => backend.counts().connections === 0)
      })
    )

    it.live("a client that resets closes the upstream's connection", () =>
      Effect.gen(function* () {
        const { backend, client, target, upstream } = yield* tunnelled()
        client.socket.resetAndDestroy()
        yield* upstream.allClosed
        yield* eventually(() => backend.counts().connections === 0)
        assert.strictEqual(backend.counts().active, 0)
        yield* stands(target, { pending: 0, webSockets: 0 })
      })
    )

    it.live("an upstream that resets closes the client's connection", () =>
      Effect.gen(function* () {
        const { backend, client, socket, target } = yield* tunnelled()
        socket.resetAndDestroy()
        yield* client.ended
        assert.notInclude(client.text, "HTTP/1.1")
        yield* eventually(() => backend.counts().connections === 0)
        yield* stands(target, { pending: 0, webSockets: 0 })
      })
    )

    it.live("400 that end in every way leave nothing, and no client gets more than was sent to it", () =>
      Effect.gen(function* () {
        const ends: ReadonlyArray<(socket: Net.Socket) => unknown> = [
          (socket) => socket.end(),
          (socket) => socket.destroy(),
          (socket) => socket.resetAndDestroy(),
          (socket) => socket.end(Buffer.alloc(100_000))
        ]
        const upstream = yield* HostileServer.make((received) => {
          const socket = take(received, "early")
          const way = ends[Number(received.path.slice(1)) - ends.length]
          if (way === undefined) socket.resume()
          else way(socket)
        })
        const { backend, port, target } = yield* between(upstream)
        yield* Effect.forEach(
          Array.from({ length: 400 }),
          (_, index) =>
            Effect.gen(function* () {
              const choice = index % (2 * ends.length)
              const client = yield* connect(port)
              client.send(handshake(`/${choice}`))
              yield* client.until(({ end, text: came }) => end !== undefined || came.includes("early"))
              ends[choice]?.(client.socket)
              yield* client.ended
              assert.strictEqual(client.text.split("HTTP/1.1").length, 2)
            }).pipe(Effect.scoped),
          { concurrency: 32, discard: true }
        )
        yield* upstream.allClosed
        yield* eventually(() => backend.counts().connections === 0)
        assert.include<object>(backend.counts(), { active: 0, accepted: 400, requests: 400 })
        yield* stands(target, { requests: 400, pending: 0, webSockets: 0 })
      })
    )

    it.live("a client that leaves before the handshake is answered ends it at the upstream, too", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(() => {})
        const { backend, port } = yield* between(upstream)
        const client = yield* connect(port)
        client.send(handshake())
        yield* upstream.received(1)
        client.socket.end()
        yield* upstream.allClosed
        yield* eventually(() => backend.counts().connections === 0)
      })
    )

    it.live("silence of both sides for webSocketIdleTimeout ends it", () =>
      Effect.gen(function* () {
        const { client, upstream } = yield* tunnelled({ proxy: { webSocketIdleTimeout: 100 } })
        yield* client.ended
        assert.strictEqual(client.text, "")
        yield* upstream.allClosed
      })
    )

    it.live("the end of the pool ends it", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => void take(received))
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(poolOf(upstream), scope)
        const { port } = yield* serving(yield* Proxy.make(pool))
        const client = yield* connect(port)
        client.send(handshake())
        yield* client.take("\r\n\r\n")
        yield* Scope.close(scope, Exit.void)
        yield* upstream.allClosed
        yield* client.ended
        const late = yield* connect(port)
        late.send(handshake())
        assert.strictEqual(statusOf(yield* late.until(({ end }) => end !== undefined)), 503)
      })
    )
  })

  describe("a slow side", () => {
    const piece = Buffer.alloc(256 * 1024, "x")
    const total = 96

    it.live("a client that does not read holds up the upstream, and gets all when it reads", () =>
      Effect.gen(function* () {
        const { client, socket } = yield* tunnelled()
        client.socket.pause()
        let written = 0
        const write = (): void => {
          while (written < total) {
            written++
            if (!socket.write(piece)) {
              socket.once("drain", write)
              return
            }
          }
          socket.end()
        }
        write()
        let before = -1
        while (before !== written) {
          before = written
          yield* Effect.sleep(300)
        }
        assert.isBelow(written, total)
        client.socket.resume()
        yield* client.ended
        assert.strictEqual(client.text.length, total * piece.length)
      })
    )

    it.live("an upstream that does not read holds up the client, and gets all when it reads", () =>
      Effect.gen(function* () {
        const { client, socket } = yield* tunnelled()
        socket.removeAllListeners("data")
        socket.pause()
        let came = 0
        let written = 0
        const write = (): void => {
          while (written < total) {
            written++
            if (!client.socket.write(piece)) {
              client.socket.once("drain", write)
              return
            }
          }
        }
        write()
        let before = -1
        while (before !== written) {
          before = written
          yield* Effect.sleep(300)
        }
        assert.isBelow(written, total)
        socket.on("data", (data: Buffer) => {
          came += data.length
        })
        socket.resume()
        yield* eventually(() => came === total * piece.length)
      })
    )
  })

  describe("what is refused", () => {
    const shapes: ReadonlyArray<readonly [what: string, request: string, status: number]> = [
      ["a POST", handshake().replace("GET", "POST"), 400],
      ["a body with a length", `${handshake("/", "Content-Length: 5")}hello`, 400],
      ["a chunked body", `${handshake("/", "Transfer-Encoding: chunked")}0\r\n\r\n`, 400],
      ["no key", get("/", ...handshakeLines({ "Sec-WebSocket-Key": undefined })), 400],
      ["a key that is none", get("/", ...handshakeLines({ "Sec-WebSocket-Key": "AAAA" })), 400],
      ["two keys", handshake("/", "Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBA=="), 400],
      ["another version", get("/", ...handshakeLines({ "Sec-WebSocket-Version": "8" })), 426],
      ["no version", get("/", ...handshakeLines({ "Sec-WebSocket-Version": undefined })), 426],
      ["a choice of protocols", get("/", ...handshakeLines({ Upgrade: "websocket, h2c" })), 400],
      ["h2c first", get("/", ...handshakeLines({ Upgrade: "h2c, websocket" })), 400],
      ["a version of the protocol's name", get("/", ...handshakeLines({ Upgrade: "websocket/13" })), 400],
      ["a Connection without Upgrade", get("/", ...handshakeLines({ Connection: "keep-alive" })), 400],
      ["no Connection", get("/", ...handshakeLines({ Connection: undefined })), 400],
      ["HTTP/1.0", handshake().replace("HTTP/1.1", "HTTP/1.0"), 400],
      ["a path that climbs", handshake("/../x"), 400]
    ]
    for (const [what, request, status] of shapes) {
      it.live(`${what}: ${status}, and what follows is no request`, () =>
        Effect.gen(function* () {
          const upstream = yield* HostileServer.make((received) => received.answer())
          const { port } = yield* between(upstream)
          const client = yield* connect(port)
          client.send(request)
          yield* client.until((answered) => answered.text.includes("}"))
          assert.strictEqual(statusOf(client.text), status)
          client.send(get("/smuggled"))
          yield* client.ended
          assert.strictEqual(upstream.requests.length, 0)
        })
      )
    }

    it.live("another protocol is not asked of the upstream: it answers as if nobody had", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => received.answer("plain."))
        const { port } = yield* between(upstream)
        const client = yield* connect(port)
        client.send(get("/", "Connection: Upgrade", "Upgrade: tcp"))
        yield* client.take("plain.")
        assert.notProperty(upstream.requests[0]!.headers, "upgrade")
      })
    )

    it.live("headers that Connection names are dropped, but not those that make the handshake", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => void take(received))
        const { port } = yield* between(upstream)
        const client = yield* connect(port)
        const named = "upgrade, X-Hop, Sec-WebSocket-Key, Sec-WebSocket-Version, Upgrade"
        client.send(get("/", ...handshakeLines({ Connection: named }), "X-Hop: 1"))
        assert.strictEqual(statusOf(yield* client.take("\r\n\r\n")), 101)
        const { headers } = upstream.requests[0]!
        assert.notProperty(headers, "x-hop")
        assert.include(headers, { connection: "Upgrade", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==" })
      })
    )

    it.live("all of them, with webSockets: false, or where the connector cannot hand over a connection", () =>
      Effect.gen(function* () {
        const upstream = yield* echoServer()
        const off = yield* between(upstream, { proxy: { webSockets: false } })
        assert.strictEqual(yield* (yield* asking(off.url)).refused.wait, 501)
        const pool = yield* Effect.provide(Pool.make({ baseUrl: upstream.origin }), FetchConnector.layer)
        const errors: Array<string> = []
        const handler = yield* Proxy.make(pool, { onError: (error) => Effect.sync(() => errors.push(error._tag)) })
        const { port } = yield* serving(handler)
        assert.strictEqual(yield* (yield* asking(`ws://${loopback}:${port}`)).refused.wait, 502)
        assert.deepStrictEqual(errors, ["InvalidRequest"])
      })
    )
  })

  describe("an upstream that does not take it", () => {
    it.live("its answer is passed on as it is, and the connections end with it", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) =>
          received.answer(
            "not you",
            "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Why: no\r\nConnection: X-Hop\r\nX-Hop: 1\r\n",
            403
          )
        )
        const { backend, port, target } = yield* between(upstream)
        const client = yield* connect(port)
        client.send(`${handshake()}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`)
        yield* client.ended
        assert.strictEqual(statusOf(client.text), 403)
        assert.match(client.text, /set-cookie: a=1\r\nset-cookie: b=2\r\n/i)
        assert.match(client.text, /x-why: no\r\n/i)
        assert.match(client.text, /connection: close\r\n/i)
        assert.notMatch(client.text, /x-hop/i)
        assert.isTrue(client.text.endsWith("\r\n\r\nnot you"))
        yield* upstream.allClosed
        assert.strictEqual(upstream.requests.length, 1)
        yield* eventually(() => backend.counts().connections === 0)
        yield* stands(target, { requests: 1, pending: 0, webSockets: 0 })
      })
    )

    for (const [what, answer] of [
      ["without a body", "HTTP/1.1 304 Not Modified\r\n\r\n"],
      ["a chunked one", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
      [
        "after an interim one",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
      ]
    ] as const) {
      it.live(`an answer ${what}`, () =>
        Effect.gen(function* () {
          const upstream = yield* HostileServer.make((received) => received.write(answer))
          const { port } = yield* between(upstream)
          const client = yield* connect(port)
          client.send(handshake())
          yield* client.ended
          assert.strictEqual(statusOf(client.text), what === "without a body" ? 304 : 200)
          assert.strictEqual(client.text.includes("abc"), what !== "without a body")
        })
      )
    }

    for (const [what, answer] of [
      ["a 101 for another protocol", "HTTP/1.1 101 Yes\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"],
      ["a 101 that names no protocol", "HTTP/1.1 101 Yes\r\n\r\n"],
      ["a 101 that accepts no key", "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
      ["a status that is none", "HTTP/1.1 999 Yes\r\nContent-Length: 0\r\n\r\n"],
      ["garbage", "SSH-2.0-OpenSSH\r\n\r\n"]
    ] as const) {
      it.live(`${what} is a 502, and closes its connection`, () =>
        Effect.gen(function* () {
          const upstream = yield* HostileServer.make((received) => received.write(answer))
          const { port } = yield* between(upstream)
          const client = yield* connect(port)
          client.send(handshake())
          yield* client.ended
          assert.strictEqual(statusOf(client.text), 502)
          yield* upstream.allClosed
        })
      )
    }

    it.live("one that breaks is a 502, one that is not there a 502, one that does not answer a 504", () =>
      Effect.gen(function* () {
        const broken = yield* HostileServer.make((received) => received.connection.reset())
        const first = yield* between(broken)
        assert.strictEqual(yield* (yield* asking(first.url)).refused.wait, 502)
        const dead = yield* closedPort
        const second = yield* between({ origin: `http://${loopback}:${dead}` })
        assert.strictEqual(yield* (yield* asking(second.url)).refused.wait, 502)
        const silent = yield* HostileServer.make(() => {})
        const third = yield* between(silent, { pool: { responseHeaderTimeout: 50 } })
        assert.strictEqual(yield* (yield* asking(third.url)).refused.wait, 504)
        yield* silent.allClosed
        const fourth = yield* between(silent, { proxy: { timeout: 50 } })
        assert.strictEqual(yield* (yield* asking(fourth.url)).refused.wait, 504)
        yield* silent.allClosed
      })
    )

    it.live("a hook that refuses is answered, before or after the upstream was asked", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => void take(received))
        const refuse = () => Effect.fail(HttpServerResponse.empty({ status: 401 }))
        const before = yield* between(upstream, { proxy: { requestHeaders: refuse } })
        assert.strictEqual(yield* (yield* asking(before.url)).refused.wait, 401)
        assert.strictEqual(upstream.requests.length, 0)
        const after = yield* between(upstream, { proxy: { responseHeaders: refuse } })
        assert.strictEqual(yield* (yield* asking(after.url)).refused.wait, 401)
        yield* upstream.allClosed
        const bad = yield* between(upstream, {
          proxy: { requestHeaders: (headers) => Effect.succeed(Headers.set(headers, "x-a", "b\r\nx-c: d")) }
        })
        assert.strictEqual(yield* (yield* asking(bad.url)).refused.wait, 502)
        yield* upstream.allClosed
        assert.strictEqual(upstream.requests.length, 1)
        const split = yield* between(upstream, {
          proxy: { responseHeaders: (headers) => Effect.succeed(Headers.set(headers, "x-a", "b\r\nx-c: d")) }
        })
        assert.strictEqual(yield* (yield* asking(split.url)).refused.wait, 502)
        yield* upstream.allClosed
      })
    )
  })

  it.live("the pool's credentials and circuit breaker see it", () =>
    Effect.gen(function* () {
      const upstream = yield* HostileServer.make((received) => received.answer("no", "", 503))
      const { pool, url } = yield* between(upstream, {
        pool: {
          auth: yield* Auth.bearer(Redacted.make("secret")),
          circuitBreaker: { consecutiveFailures: 2, openFor: "1 minute" }
        }
      })
      for (let i = 0; i < 4; i++) assert.strictEqual(yield* (yield* asking(url)).refused.wait, 503)
      assert.strictEqual(upstream.requests.length, 2)
      assert.strictEqual(upstream.requests[0]!.headers["authorization"], "Bearer secret")
      assert.include(yield* pool.stats, { requests: 0 })
    })
  )

  it.live("goes through a proxy that wants no credentials without any", () =>
    Effect.gen(function* () {
      const other = yield* HostileServer.make((received) => void take(received))
      const pool = { proxy: `http://${loopback}:${other.port}` }
      const { port } = yield* between({ origin: "http://upstream.test:81" }, { pool })
      const client = yield* connect(port)
      client.send(handshake("/live"))
      yield* client.take("\r\n\r\n")
      assert.strictEqual(other.requests[0]?.path, "http://upstream.test:81/live")
      assert.notProperty(other.requests[0]?.headers, "proxy-authorization")
    })
  )

  it.live("goes through the HTTP proxy of the pool, with what that wants", () =>
    Effect.gen(function* () {
      const other = yield* HostileServer.make((received) => void take(received))
      const { port } = yield* between(
        { origin: "http://upstream.test:81" },
        { pool: { proxy: `http://user:secret@${loopback}:${other.port}` } }
      )
      const client = yield* connect(port)
      client.send(handshake("/live?a=1"))
      yield* client.take("\r\n\r\n")
      const [seen] = other.requests
      assert.strictEqual(seen?.path, "http://upstream.test:81/live?a=1")
      assert.include(seen?.headers, {
        host: "upstream.test:81",
        "proxy-authorization": `Basic ${Buffer.from("user:secret").toString("base64")}`
      })
    })
  )

  it.live("several upstreams get them in turn; one that is down costs none", () =>
    Effect.gen(function* () {
      const upstreams = yield* Effect.all([echoServer(), echoServer()])
      const pool = yield* Pool.make({ drainTimeout: 0 }).pipe(Effect.provide(UndiciConnector.layer))
      const origins = [`http://${loopback}:${yield* closedPort}`, ...upstreams.map(({ origin }) => origin)]
      const balanced = yield* Proxy.balance(origins.map((baseUrl) => ({ pool, baseUrl })))
      const { port } = yield* serving(yield* Proxy.make(balanced, { onError: () => Effect.void }))
      for (let i = 0; i < 8; i++) yield* connected(`ws://${loopback}:${port}`)
      const [dead, ...living] = yield* balanced.targets
      assert.include(dead, { requests: 1, pending: 0, out: true })
      assert.strictEqual(
        living.reduce((sum, { webSockets }) => sum + webSockets, 0),
        8
      )
      for (const { pending, webSockets } of living) {
        assert.strictEqual(pending, webSockets)
        assert.isAtLeast(webSockets, 3)
      }
    })
  )

  describe("the server's side", () => {
    it.live("a swap of handlers leaves it be; the next request has the new one", () =>
      Effect.gen(function* () {
        const { backend, came, client, port, socket } = yield* tunnelled()
        yield* backend.handle(text("other."))
        const other = yield* connect(port)
        other.send(handshake())
        yield* other.take("other.")
        client.send("up")
        socket.write("down")
        yield* client.take("down")
        yield* eventually(() => came() === "up")
      })
    )

    it.live("a server that is replaced drains: what ends in time ends well", () =>
      Effect.gen(function* () {
        const { acceptor, backend, came, client, port, socket } = yield* tunnelled()
        yield* replace(acceptor, text("next."))
        const drain = yield* Effect.forkScoped(backend.drain(60_000), { startImmediately: true })
        const fresh = yield* connect(port)
        fresh.send(get())
        yield* fresh.take("next.")
        client.send("up")
        yield* eventually(() => came() === "up")
        socket.end("down")
        yield* client.take("down")
        assert.deepStrictEqual(yield* Fiber.join(drain), { connections: 0, requests: 0 })
      })
    )

    it.live("what does not end in time is cut and counted, on both sides", () =>
      Effect.gen(function* () {
        const { acceptor, backend, client, target, upstream } = yield* tunnelled()
        yield* acceptor.close
        assert.deepStrictEqual(yield* backend.drain(50), { connections: 1, requests: 1 })
        yield* client.ended
        // No frame of ours: nobody knows where one of theirs ends.
        assert.strictEqual(client.text, "")
        yield* upstream.allClosed
        yield* stands(target, { pending: 0, webSockets: 0 })
      })
    )

    it.live("it is one of maxConnections", () =>
      Effect.gen(function* () {
        const { backend, client, port } = yield* tunnelled({ server: { maxConnections: 1 } })
        const other = yield* connect(port)
        assert.strictEqual(yield* other.ended, "closed")
        assert.include<object>(backend.counts(), { connections: 1, active: 1, refused: 1 })
        client.socket.destroy()
        yield* eventually(() => backend.counts().connections === 0)
        const next = yield* connect(port)
        next.send(handshake())
        yield* next.take("101")
      })
    )

    it.live("a client of TLS that leaves is noticed", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => void take(received))
        const { backend, port } = yield* between(upstream, { server: { tls: tlsOf(certificate) } })
        const client = yield* connectTls(port, { ca: certificate.cert })
        client.send(handshake())
        yield* client.take("\r\n\r\n")
        client.socket.destroy()
        yield* upstream.allClosed
        yield* eventually(() => backend.counts().connections === 0)
      })
    )

    it.live("the writeTimeout of the server is not for it", () =>
      Effect.gen(function* () {
        const { client, socket } = yield* tunnelled({ server: { writeTimeout: 20, readTimeout: 50, idleTimeout: 20 } })
        yield* Effect.sleep(300)
        socket.write("still here")
        yield* client.take("still here")
      })
    )

    it.live("a route of a router forwards it, too", () =>
      Effect.gen(function* () {
        const upstream = yield* echoServer()
        const proxy = yield* Proxy.make(yield* poolOf(upstream), { stripPrefix: "/live" })
        const routes = Layer.mergeAll(
          HttpRouter.add("GET", "/live/*", proxy),
          HttpRouter.add("GET", "/health", HttpServerResponse.empty())
        )
        const { port } = yield* serving(yield* Handler.fromRouter(routes))
        const client = yield* connected(`ws://${loopback}:${port}/live/room`)
        client.socket.send("hello")
        assert.strictEqual(String(yield* client.next), "hello")
        assert.strictEqual(upstream.seen[0]?.url, "/room")
      })
    )

    it.live("a request that has been modified on its way to the proxy still can", () =>
      Effect.gen(function* () {
        const upstream = yield* echoServer()
        const handler = yield* Proxy.make(yield* poolOf(upstream))
        const { port } = yield* serving(
          Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
            Effect.provideService(handler, HttpServerRequest.HttpServerRequest, request.modify({ url: "/moved" }))
          )
        )
        yield* connected(`ws://${loopback}:${port}/x`)
        assert.strictEqual(upstream.seen[0]?.url, "/moved")
      })
    )
  })
})
