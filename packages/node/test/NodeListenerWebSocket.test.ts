/** WebSockets that handlers speak themselves, with clients as people have them: `ws`, and Node's own. */
import { assert, describe, it } from "@effect/vitest"
import { ServerPool } from "@millrace/core"
import type { Handler } from "@millrace/core/server/Listener"
import { Effect, Exit, Fiber } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { TestClock } from "effect/testing"
import { randomBytes } from "node:crypto"
import * as NodeListener from "../src/NodeListener.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { eventually, replace, serving, text, tlsOf } from "./fixtures/listener.ts"
import { Later, loopback } from "./fixtures/net.ts"
import { connect, get } from "./fixtures/rawClient.ts"
import { asking, type Client, connected } from "./fixtures/webSocket.ts"

const certificate = selfSigned("localhost")

/** `ws` hands this to `tls.connect`, and its types know nothing of it. */
const trusting: object = { ca: certificate.cert, servername: "localhost" }

/** Sends back what comes, after `name`, until the client closes. */
const echoing = (name = ""): Handler =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const socket = yield* request.upgrade
    yield* Effect.scoped(
      Effect.gen(function* () {
        const { pull } = yield* socket.reader
        const writer = yield* socket.writer
        for (;;) for (const frame of yield* pull) yield* writer.write(typeof frame === "string" ? name + frame : frame)
      })
    ).pipe(Effect.ignore)
    return HttpServerResponse.empty()
  })

const says = (client: Client, message: string) =>
  Effect.suspend(() => {
    client.socket.send(message)
    return Effect.map(client.next, String)
  })

const url = (port: number, protocol = "ws") => `${protocol}://${loopback}:${port}`

describe("a WebSocket of a handler", () => {
  it.live("64 clients at once, over TLS too, each with its own bytes", () =>
    Effect.gen(function* () {
      for (const tls of [undefined, tlsOf(certificate)]) {
        const { backend, port } = yield* serving(echoing(), tls === undefined ? {} : { tls })
        const address = url(port, tls === undefined ? "ws" : "wss")
        const clients = yield* Effect.forEach(
          Array.from({ length: 64 }),
          () =>
            Effect.gen(function* () {
              const client = yield* connected(address, trusting)
              const sent = randomBytes(100_000)
              client.socket.send(sent)
              assert.isTrue((yield* client.next).equals(sent))
              return client
            }),
          { concurrency: "unbounded" }
        )
        assert.include<object>(backend.counts(), { active: 64, connections: 64, requests: 64 })
        for (const client of clients) client.socket.close(1000)
        for (const client of clients) assert.strictEqual((yield* client.closed.wait).code, 1000)
        yield* eventually(() => backend.counts().connections === 0)
        assert.include<object>(backend.counts(), { active: 0, failures: 0 })
      }
    })
  )

  for (const [how, leave] of [
    ["closes", (client: Client) => client.socket.close()],
    ["vanishes", (client: Client) => client.socket.terminate()]
  ] as const) {
    it.effect(`a client that ${how} ends its handler 5 s later, whatever that waits for`, () =>
      Effect.gen(function* () {
        const left = new Later<Exit.Exit<unknown, unknown>>()
        let ended = false
        const { backend, port } = yield* serving(
          Effect.gen(function* () {
            const request = yield* HttpServerRequest.HttpServerRequest
            const socket = yield* request.upgrade
            yield* socket.reader
            return yield* Effect.never
          }).pipe(
            Effect.onExit((exit) =>
              Effect.sync(() => {
                ended = true
                left.resolve(exit)
              })
            )
          )
        )
        const client = yield* connected(url(port))
        leave(client)
        yield* eventually(() => backend.counts().connections === 0 && backend.counts().active === 0)
        yield* TestClock.adjust("4 seconds")
        assert.isFalse(ended)
        yield* TestClock.adjust("1 second")
        assert.isTrue(Exit.hasInterrupts(yield* left.wait))
      })
    )
  }

  it.live("is one of maxConnections", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(echoing(), { maxConnections: 1 })
      const client = yield* connected(url(port))
      const other = yield* asking(url(port))
      assert.strictEqual((yield* other.closed.wait).code, 1006)
      assert.include<object>(backend.counts(), { connections: 1, active: 1, refused: 1 })
      client.socket.close()
      yield* eventually(() => backend.counts().connections === 0)
      yield* connected(url(port))
    })
  )

  it.live("keeps its handler when another one is put in; the next gets that", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(echoing("old "))
      const old = yield* connected(url(port))
      yield* backend.handle(echoing("new "))
      assert.strictEqual(yield* says(yield* connected(url(port)), "a"), "new a")
      assert.strictEqual(yield* says(old, "b"), "old b")
    })
  )

  it.live("keeps its certificate when another one is put in", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(echoing(), { tls: tlsOf(certificate) })
      const old = yield* connected(url(port, "wss"), trusting)
      const other = selfSigned("localhost")
      yield* backend.secure(tlsOf(other))
      assert.strictEqual(yield* says(old, "a"), "a")
      const trustingOther: object = { ca: other.cert, servername: "localhost" }
      assert.strictEqual(yield* says(yield* connected(url(port, "wss"), trustingOther), "b"), "b")
    })
  )

  describe("a drain", () => {
    it.live("lets it go on, and waits for its end", () =>
      Effect.gen(function* () {
        const { acceptor, backend, port } = yield* serving(echoing("old "))
        const client = yield* connected(url(port))
        yield* replace(acceptor, text("next."))
        const drain = yield* Effect.forkScoped(backend.drain(60_000), { startImmediately: true })
        const fresh = yield* connect(port)
        fresh.send(get())
        yield* fresh.take("next.")
        assert.strictEqual(yield* says(client, "still"), "old still")
        client.socket.close(1000)
        assert.deepStrictEqual(yield* Fiber.join(drain), { connections: 0, requests: 0 })
        assert.strictEqual((yield* client.closed.wait).code, 1000)
      })
    )

    for (const protocol of ["ws", "wss"]) {
      it.live(`says 1001 (going away) at the timeout, then cuts and counts: ${protocol}`, () =>
        Effect.gen(function* () {
          const { acceptor, backend, port } = yield* serving(
            echoing(),
            protocol === "ws" ? {} : { tls: tlsOf(certificate) }
          )
          const clients = yield* Effect.forEach(Array.from({ length: 8 }), () =>
            connected(url(port, protocol), trusting)
          )
          yield* acceptor.close
          assert.deepStrictEqual(yield* backend.drain(50), { connections: 8, requests: 8 })
          for (const client of clients) assert.strictEqual((yield* client.closed.wait).code, 1001)
          assert.include<object>(backend.counts(), { active: 0, connections: 0 })
        })
      )
    }

    it.live("says so to Node's own client, too", () =>
      Effect.gen(function* () {
        const { acceptor, backend, port } = yield* serving(echoing())
        const socket = yield* Effect.acquireRelease(
          Effect.sync(() => new WebSocket(url(port))),
          (opened) => Effect.sync(() => opened.close())
        )
        const closed = new Later<number>()
        socket.addEventListener("close", ({ code }) => closed.resolve(code))
        yield* eventually(() => backend.counts().active === 1 && socket.readyState === WebSocket.OPEN)
        yield* acceptor.close
        yield* backend.drain(20)
        assert.strictEqual(yield* closed.wait, 1001)
      })
    )

    it.live("does not wait for a client that reads nothing", () =>
      Effect.gen(function* () {
        const flood: Handler = Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const socket = yield* request.upgrade
          yield* socket.reader
          const writer = yield* socket.writer
          return yield* Effect.forever(writer.write(new Uint8Array(1_000_000)))
        })
        const { acceptor, backend, port } = yield* serving(flood)
        const client = yield* connected(url(port))
        client.socket.pause()
        yield* acceptor.close
        assert.deepStrictEqual(yield* backend.drain(50), { connections: 1, requests: 1 })
        assert.strictEqual(backend.counts().connections, 0)
      })
    )
  })

  it.live("a server of a pool: an update keeps it until drainTimeout, a stop reports what was cut", () =>
    Effect.gen(function* () {
      const options = { name: "live", bind: `${loopback}:0`, drainTimeout: "200 millis" } as const
      const pool = yield* ServerPool.make({ servers: [options], handlers: { default: echoing("old ") } })
      yield* pool.start
      const [server] = yield* pool.servers
      const address = url(server?.address?.port ?? 0)
      const before = yield* connected(address)
      yield* pool.setHandler(echoing("new "), "default")
      yield* pool.update({ ...options, idleTimeout: "10 seconds" })
      const after = yield* connected(address)
      assert.strictEqual(yield* says(before, "a"), "old a")
      assert.strictEqual(yield* says(after, "b"), "new b")
      assert.strictEqual((yield* before.closed.wait).code, 1001)
      assert.strictEqual(yield* says(after, "c"), "new c")
      const stopped = yield* pool.stop
      assert.deepStrictEqual(
        stopped.map(({ cut }) => cut),
        [{ connections: 1, requests: 1 }]
      )
      assert.strictEqual((yield* after.closed.wait).code, 1001)
    }).pipe(Effect.provide(NodeListener.layer))
  )
})
