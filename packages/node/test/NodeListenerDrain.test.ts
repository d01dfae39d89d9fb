import { assert, describe, it } from "@effect/vitest"
import type { Backend, Handler } from "@millrace/core/server/Listener"
import { Deferred, Effect, type Exit, Fiber, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { selfSigned } from "./fixtures/certificate.ts"
import { echoAs, eventually, replace, serving, text, tlsOf } from "./fixtures/listener.ts"
import { Later } from "./fixtures/net.ts"
import { connect, get, post } from "./fixtures/rawClient.ts"

const nothing = { connections: 0, requests: 0 }

/** Waits at `gate` before it answers. */
const gated = (name = "done.") =>
  Effect.map(Deferred.make<void>(), (gate) => ({
    open: Deferred.succeed(gate, undefined),
    handler: Effect.andThen(Deferred.await(gate), text(name)) as Handler
  }))

const begun = (backend: Backend, active = 1) => eventually(() => backend.counts().active === active)

const kept = (port: number, end = ".") =>
  Effect.gen(function* () {
    const client = yield* connect(port)
    client.send(get())
    yield* client.take(end)
    return client
  })

/** A drain that has begun: what clients had sent before is read, and those who had sent nothing are closed. */
const drained = (backend: Backend, timeout: number) =>
  Effect.tap(Effect.forkScoped(backend.drain(timeout), { startImmediately: true }), () => {
    let turns = 0
    return eventually(() => ++turns > 5)
  })

const timed = <A>(effect: Effect.Effect<A>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(effect, (value) => ({ millis: performance.now() - start, value }))
  })

describe("drain, for good", () => {
  it.live("connections that are idle, or have said nothing, are closed at once and without a reset", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("here."))
      const clients = yield* Effect.forEach(Array.from({ length: 64 }), () => kept(port))
      clients.push(yield* connect(port))
      yield* eventually(() => backend.counts().connections === 65)
      yield* acceptor.close
      const { millis, value } = yield* timed(backend.drain(10_000))
      assert.deepStrictEqual(value, nothing)
      assert.isBelow(millis, 100)
      for (const client of clients) assert.strictEqual(yield* client.ended, "closed")
      assert.strictEqual(backend.counts().connections, 0)
    })
  )

  it.live("a request under way is finished, and told Connection: close; the end comes with it", () =>
    Effect.gen(function* () {
      const { handler, open } = yield* gated()
      const { acceptor, backend, port } = yield* serving(handler)
      const client = yield* connect(port)
      client.send(get())
      yield* begun(backend)
      yield* acceptor.close
      const drain = yield* drained(backend, 10_000)
      assert.isUndefined(client.end)
      yield* open
      const { millis, value } = yield* timed(Fiber.join(drain))
      assert.deepStrictEqual(value, nothing)
      assert.isBelow(millis, 100)
      assert.include(yield* client.take("done."), "Connection: close")
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live("one that falls idle during the drain, though it was promised more, is closed then", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const body = Stream.concat(
        Stream.make("begin."),
        Stream.fromEffect(Effect.as(Deferred.await(gate), "end."))
      ).pipe(Stream.encodeText)
      const { acceptor, backend, port } = yield* serving(Effect.sync(() => HttpServerResponse.stream(body)))
      const client = yield* connect(port)
      client.send(get())
      assert.include(yield* client.take("begin."), "Connection: keep-alive")
      yield* acceptor.close
      const drain = yield* drained(backend, 10_000)
      yield* Deferred.succeed(gate, undefined)
      const { millis, value } = yield* timed(Fiber.join(drain))
      assert.deepStrictEqual(value, nothing)
      assert.isBelow(millis, 100)
      yield* client.take("end.")
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live("a request that has begun to arrive, and one sent in the same moment, are answered", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(echoAs("last"))
      const partial = yield* connect(port)
      partial.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Le")
      const next = yield* connect(port)
      next.send(post("one"))
      yield* next.take("one.")
      partial.send("ngth: 4\r\n")
      yield* eventually(() => backend.counts().connections === 2)
      next.send(post("two"))
      yield* acceptor.close
      const drain = yield* drained(backend, 10_000)
      assert.include(yield* next.take("last:two."), "Connection: close")
      partial.send("\r\nlate")
      assert.include(yield* partial.take("last:late."), "Connection: close")
      assert.deepStrictEqual(yield* Fiber.join(drain), nothing)
      assert.strictEqual(yield* next.ended, "closed")
      assert.strictEqual(yield* partial.ended, "closed")
    })
  )

  it.live("half a head that came before its last answer is none: it is closed, and without a reset", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(echoAs("last"))
      const client = yield* connect(port)
      client.send(`${post("one")}GET /next HT`)
      yield* client.take("last:one.")
      yield* acceptor.close
      assert.deepStrictEqual(yield* backend.drain(10_000), nothing)
      assert.strictEqual(yield* client.ended, "closed")
      assert.strictEqual(client.text, "")
    })
  )

  it.live("one whose expectation was refused is idle as any other", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("never"))
      const client = yield* connect(port)
      client.send(get("/", "Expect: tea"))
      assert.include(yield* client.take("\r\n\r\n"), "417 Expectation Failed")
      assert.strictEqual(backend.counts().requests, 1)
      yield* acceptor.close
      const { millis, value } = yield* timed(backend.drain(10_000))
      assert.deepStrictEqual(value, nothing)
      assert.isBelow(millis, 100)
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live("a body that still comes after its answer does not hold the end for long", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("unread."))
      const client = yield* connect(port)
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
      assert.include(yield* client.take("unread."), "Connection: keep-alive")
      yield* acceptor.close
      const drain = yield* drained(backend, 10_000)
      assert.isUndefined(client.end)
      client.send("rest")
      assert.deepStrictEqual(yield* Fiber.join(drain), nothing)
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live(
    "what is left at the timeout is cut and counted: streams, WebSockets, handlers; these may still say 503",
    () =>
      Effect.gen(function* () {
        const endless = Stream.concat(Stream.make(new Uint8Array([46])), Stream.never)
        const { acceptor, backend, port } = yield* serving(
          Effect.flatMap(HttpServerRequest.HttpServerRequest, (request): Handler =>
            request.url === "/stream"
              ? Effect.succeed(HttpServerResponse.stream(endless))
              : request.url === "/socket"
                ? Effect.as(echoSocket(request), HttpServerResponse.empty())
                : Effect.never
          )
        )
        const handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        const clients = yield* Effect.all([connect(port), connect(port), connect(port), connect(port)])
        const [stream, socket, never, partial] = clients
        stream.send(get("/stream"))
        socket.send(get("/socket", ...handshake, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))
        never.send(get())
        partial.send("GET / HTT")
        yield* socket.take("\r\n\r\n")
        yield* stream.take(".")
        yield* begun(backend, 3)
        yield* eventually(() => backend.counts().connections === 4)
        yield* acceptor.close
        const { millis, value } = yield* timed(backend.drain(50))
        assert.deepStrictEqual(value, { connections: 4, requests: 3 })
        assert.isBelow(millis, 150)
        for (const client of clients) yield* client.ended
        assert.match(never.text, /^HTTP\/1.1 503 /)
        // A close frame that says "going away".
        assert.include(socket.text, "\x88\x02\x03\xe9")
        assert.include<object>(backend.counts(), { active: 0, connections: 0 })
      })
  )

  it.live("a handler that cannot be interrupted does not hold the end; one that tidies up is waited for", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const tidied = new Later<string>()
      const { acceptor, backend, port } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }): Handler =>
          url === "/stuck"
            ? Effect.uninterruptible(Effect.andThen(Deferred.await(gate), text("late.")))
            : Effect.andThen(
                Effect.addFinalizer(() => Effect.map(Effect.sleep(30), () => tidied.resolve("tidied"))),
                text("here.")
              )
        )
      )
      const tidying = yield* kept(port)
      const stuck = yield* connect(port)
      stuck.send(get("/stuck"))
      yield* begun(backend)
      assert.deepStrictEqual(yield* backend.drain(20), { connections: 1, requests: 1 })
      yield* stuck.ended
      yield* tidied.wait
      yield* Deferred.succeed(gate, undefined)
      yield* tidying.ended
      const next = yield* replace(
        acceptor,
        Effect.andThen(
          Effect.addFinalizer(() => Effect.sleep(30)),
          text("next.")
        )
      )
      yield* kept(port)
      const { millis } = yield* timed(next.drain(10_000))
      assert.isAbove(millis, 20)
      assert.isBelow(millis, 130)
    })
  )

  it.live("several drains at once end together, with the shortest time, and say the same", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(Effect.never)
      const client = yield* connect(port)
      client.send(get())
      yield* begun(backend)
      const long = yield* drained(backend, Infinity)
      assert.deepStrictEqual(yield* backend.drain(10), { connections: 1, requests: 1 })
      assert.deepStrictEqual(yield* Fiber.join(long), { connections: 1, requests: 1 })
      assert.deepStrictEqual(yield* backend.drain(10), { connections: 1, requests: 1 })
    })
  )

  it.live("a drain that is interrupted leaves its backend draining, and nothing cut", () =>
    Effect.gen(function* () {
      const { handler, open } = yield* gated()
      const { acceptor, backend, port } = yield* serving(handler)
      const client = yield* connect(port)
      client.send(get())
      yield* begun(backend)
      yield* acceptor.close
      yield* Fiber.interrupt(yield* drained(backend, 10))
      yield* open
      assert.include(yield* client.take("done."), "Connection: close")
      assert.deepStrictEqual(yield* backend.drain(1000), nothing)
    })
  )

  it.live("secure and handle after the end are harmless", () =>
    Effect.gen(function* () {
      const tls = tlsOf(selfSigned("localhost"))
      const { backend } = yield* serving(text("here."), { tls })
      yield* backend.drain(1000)
      yield* backend.handle(text("late."))
      yield* backend.secure(tls)
      assert.deepStrictEqual(yield* backend.drain(1000), nothing)
    })
  )
})

const echoSocket = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.flatMap(request.upgrade, (socket) =>
    Effect.scoped(
      Effect.gen(function* () {
        const reader = yield* socket.reader
        const writer = yield* socket.writer
        while (true) {
          yield* writer.writeAll(yield* reader.pull)
        }
      })
    )
  ).pipe(Effect.ignore)

describe("drain, with a successor", () => {
  it.live("idle connections are taken over: the successor answers their next request, and closes then", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(echoAs("old"))
      const client = yield* connect(port)
      client.send(post("one"))
      yield* client.take("old:one.")
      const next = yield* replace(acceptor, echoAs("new"))
      const { millis, value } = yield* timed(backend.drain(10_000))
      assert.deepStrictEqual(value, nothing)
      assert.isBelow(millis, 100)
      assert.include<object>(backend.counts(), { accepted: 1, connections: 0, requests: 1 })
      assert.include<object>(next.counts(), { accepted: 0, connections: 1, requests: 0 })
      assert.isUndefined(client.end)
      client.send(post("two"))
      assert.include(yield* client.take("new:two."), "Connection: close")
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live(
    "so are those that fall idle, and those whose request is arriving; who is under way is finished by the old one",
    () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const body = Stream.concat(
          Stream.make("begin."),
          Stream.fromEffect(Effect.as(Deferred.await(gate), "old."))
        ).pipe(Stream.encodeText)
        const { acceptor, backend, port } = yield* serving(Effect.sync(() => HttpServerResponse.stream(body)))
        const [busy, partial] = yield* Effect.all([connect(port), connect(port)])
        busy.send(get())
        yield* busy.take("begin.")
        partial.send("GET / HTTP/1.1\r\n")
        yield* eventually(() => backend.counts().connections === 2)
        const next = yield* replace(acceptor, text("new."))
        const drain = yield* drained(backend, 10_000)
        assert.strictEqual(backend.counts().connections, 1)
        partial.send("Host: a\r\n\r\n")
        yield* partial.take("new.")
        yield* Deferred.succeed(gate, undefined)
        yield* busy.take("old.")
        assert.deepStrictEqual(yield* Fiber.join(drain), nothing)
        assert.strictEqual(next.counts().connections, 1)
        busy.send(get())
        assert.include(yield* busy.take("new."), "Connection: close")
      })
  )

  it.live("a connection may be handed on many times, and is closed when the last one drains for good", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("here."))
      const client = yield* kept(port)
      let current = backend
      for (let i = 0; i < 5; i++) {
        const next = yield* replace(acceptor, text("next."))
        assert.deepStrictEqual(yield* current.drain(1000), nothing)
        current = next
      }
      assert.strictEqual(current.counts().connections, 1)
      yield* acceptor.close
      assert.deepStrictEqual(yield* current.drain(1000), nothing)
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live("a drained one that is current serves who comes before its end", () =>
    Effect.gen(function* () {
      const { handler, open } = yield* gated("slow.")
      const { backend, port } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) => (url === "/slow" ? handler : text("fast.")))
      )
      const slow = yield* connect(port)
      slow.send(get("/slow"))
      yield* begun(backend)
      const drain = yield* drained(backend, 10_000)
      const fresh = yield* connect(port)
      fresh.send(get())
      assert.include(yield* fresh.take("fast."), "Connection: close")
      yield* open
      yield* slow.take("slow.")
      assert.deepStrictEqual(yield* Fiber.join(drain), nothing)
    })
  )
})

describe("upgrades", () => {
  it.live("a WebSocket speaks until its client leaves, which interrupts its handler", () =>
    Effect.gen(function* () {
      const left = new Later<Exit.Exit<unknown, unknown>>()
      const { backend, port } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          Effect.as(echoSocket(request), HttpServerResponse.empty())
        ).pipe(Effect.onExit((exit) => Effect.sync(() => left.resolve(exit))))
      )
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocket(`ws://127.0.0.1:${port}`)),
        (opened) => Effect.sync(() => opened.close())
      )
      const echoed = new Later<unknown>()
      socket.addEventListener("open", () => socket.send("hello"))
      socket.addEventListener("message", ({ data }) => echoed.resolve(data))
      assert.strictEqual(yield* echoed.wait, "hello")
      assert.include<object>(backend.counts(), { active: 1, connections: 1, requests: 1 })
      socket.close()
      yield* left.wait
      yield* eventually(() => backend.counts().connections === 0)
      assert.strictEqual(backend.counts().active, 0)
    })
  )

  it.live("an offer of another protocol that the handler does not take is answered; h2c is not even an offer", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(echoAs("plain"))
      const other = yield* connect(port)
      other.send(post("a").replace("Host: a", "Host: a\r\nConnection: Upgrade\r\nUpgrade: other"))
      yield* other.take("plain:a.")
      yield* other.ended
      // As Java's client sends each first request.
      const h2c = yield* connect(port)
      h2c.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n" +
          "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      )
      assert.include(yield* h2c.take("plain:abc."), "Connection: keep-alive")
      assert.strictEqual(backend.counts().requests, 2)
    })
  )

  it.live("nothing is taken for an upgrade behind a body whose end is not certain, or with one", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("never"))
      const chunks = "HTTP/1.0\r\nHost: a\r\nConnection: upgrade, keep-alive\r\nTransfer-Encoding: chunked\r\n"
      const offer = get("/", "Connection: upgrade", "Upgrade: other")
      for (const bytes of [
        `POST / ${chunks}\r\n0\r\n\r\n${offer}`,
        `POST / ${chunks}Upgrade: other\r\n\r\n0\r\n\r\n`
      ]) {
        const client = yield* connect(port)
        client.send(bytes)
        yield* client.ended
        assert.notInclude(client.text, "never")
      }
      yield* eventually(() => backend.counts().active === 0)
    })
  )

  it.live("who does not close after such an answer is cut after a moment, as no timeout of Node's knows it", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("no."))
      const client = yield* connect(port)
      client.socket.allowHalfOpen = true
      client.send(get("/", "Connection: Upgrade", "Upgrade: other"))
      yield* client.take("no.")
      yield* eventually(() => backend.counts().connections === 0)
    })
  )

  it.live("the bytes of another protocol pass both ways", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          Effect.as(echoSocket(request), HttpServerResponse.empty())
        )
      )
      const client = yield* connect(port)
      client.send(`${get("/", "Connection: Upgrade", "Upgrade: other")}early`)
      assert.match(yield* client.take("early"), /^HTTP\/1.1 101 /)
      client.send("later")
      yield* client.take("later")
    })
  )
})
