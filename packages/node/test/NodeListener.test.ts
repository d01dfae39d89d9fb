import { assert, describe, it } from "@effect/vitest"
import { type Handler, ListenError } from "@millrace/core/server/Listener"
import { Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { execFile } from "node:child_process"
import * as Http from "node:http"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { echoAs, eventually, open, plain, replace, serving, text } from "./fixtures/listener.ts"
import { Later, listening } from "./fixtures/net.ts"
import { connect, get, post } from "./fixtures/rawClient.ts"

const bodyEnd = "."

class Busy implements HttpServerRespondable.Respondable {
  [HttpServerRespondable.symbol]() {
    return Effect.succeed(HttpServerResponse.empty({ status: 503, headers: { "retry-after": "3" } }))
  }
}

/** A handler that says when it began and how it ended. */
const watched = () => {
  const began = new Later<void>()
  const ended = new Later<Exit.Exit<unknown, unknown>>()
  const handler = Effect.onExit(
    Effect.suspend(() => {
      began.resolve()
      return Effect.never
    }),
    (exit) => Effect.sync(() => ended.resolve(exit))
  )
  return { began, ended, handler }
}

/** Handles that hold a process, of those that a listener makes; Node counts some a turn after they are gone. */
const resources = () =>
  process.getActiveResourcesInfo().filter((name) => /^(TCPServerWrap|TCPSocketWrap|Timeout|TLSWrap)$/.test(name)).length

describe("NodeListener.open", () => {
  it.live("completes when the address accepts, and reports the port that the system chose", () =>
    Effect.gen(function* () {
      const { acceptor, port } = yield* serving(text("here."))
      assert.strictEqual(acceptor.address.host, "127.0.0.1")
      assert.isAbove(port, 0)
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("here.")
    })
  )

  it.live("without a host it accepts on all of this machine", () =>
    Effect.gen(function* () {
      const acceptor = yield* open({ host: undefined, port: 0 })
      yield* replace(acceptor, text("here."))
      const client = yield* connect(acceptor.address.port)
      client.send(get())
      yield* client.take("here.")
    })
  )

  it.live("an address that cannot be bound is a typed error that names it and says what to do", () =>
    Effect.gen(function* () {
      const port = yield* listening(Net.createServer())
      const failures = yield* Effect.all([
        Effect.flip(open({ host: "127.0.0.1", port })),
        Effect.flip(open({ host: "192.0.2.1", port: 0 })),
        Effect.flip(open({ host: "2001:db8::1", port: 80 })),
        Effect.flip(open({ host: "no-such-name.invalid", port: 0 }))
      ])
      const seen = failures.map((failure) => [failure._tag, failure.reason, failure.address])
      assert.deepStrictEqual(seen, [
        ["ListenError", "bind", `127.0.0.1:${port}`],
        ["ListenError", "bind", "192.0.2.1:0"],
        ["ListenError", "bind", "[2001:db8::1]:80"],
        ["ListenError", "bind", "no-such-name.invalid:0"]
      ])
      assert.include(failures[0]!.message, "choose another port")
      assert.include(failures[1]!.message, "no interface of this machine")
      assert.include(failures[3]!.message, "cannot be resolved")
      // A group of hosts, or no IPv6 at all: what has no advice of ours is told in the system's words.
      const group = yield* Effect.flip(open({ host: "ff02::1", port: 0 }))
      assert.match(group.message, /EINVAL|no such addresses|no interface/)
      assert.include<object>(failures[0]!.cause as object, { code: "EADDRINUSE" })
    })
  )

  it.live("what failed leaves nothing behind: the address can be opened when it is free again", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const port = yield* Scope.provide(listening(Net.createServer()), scope)
      assert.instanceOf(yield* Effect.flip(open({ host: "127.0.0.1", port })), ListenError)
      yield* Scope.close(scope, Exit.void)
      const acceptor = yield* open({ host: "127.0.0.1", port })
      assert.strictEqual(acceptor.address.port, port)
    })
  )

  it.live("connections that come before there is a backend wait, and none is lost", () =>
    Effect.gen(function* () {
      const acceptor = yield* open()
      const clients = yield* Effect.all([connect(acceptor.address.port), connect(acceptor.address.port)])
      for (const client of clients) client.send(post("early"))
      // One more has come and gone.
      const gone = yield* connect(acceptor.address.port)
      gone.socket.destroy()
      const backend = yield* replace(acceptor, echoAs("first"))
      for (const client of clients) yield* client.take("first:early.")
      assert.include<object>(backend.counts(), { requests: 2, failures: 0 })
    })
  )

  it.live("close: nobody gets in, who is in stays; closing twice is harmless", () =>
    Effect.gen(function* () {
      const { acceptor, port } = yield* serving(text("here."))
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("here.")
      yield* acceptor.close
      yield* acceptor.close
      assert.include<object>(yield* Effect.flip(connect(port)), { code: "ECONNREFUSED" })
      client.send(get())
      yield* client.take("here.")
      // The address is free at once, with the connections of the old acceptor open.
      yield* open({ host: "127.0.0.1", port })
    })
  )

  it.live("close ends those that wait for a backend", () =>
    Effect.gen(function* () {
      const acceptor = yield* open()
      const client = yield* connect(acceptor.address.port)
      yield* acceptor.close
      yield* client.ended
    })
  )

  it.live("use takes only a living backend of its own", () =>
    Effect.gen(function* () {
      const acceptor = yield* open()
      const other = yield* serving(text("other."))
      const foreign = yield* Effect.exit(acceptor.use(other.backend))
      assert.isTrue(Exit.hasDies(foreign))
      yield* other.backend.drain(1000)
      assert.isTrue(Exit.hasDies(yield* Effect.exit(other.acceptor.use(other.backend))))
    })
  )

  it.live("connections wait when the backend has ended, for the one that comes", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("one."))
      yield* backend.drain(1000)
      const client = yield* connect(port)
      client.send(get())
      yield* replace(acceptor, text("two."))
      yield* client.take("two.")
      assert.strictEqual(backend.counts().requests, 0)
    })
  )

  it.live("when its scope closes no socket, timer or fiber is left, whatever was under way", () =>
    Effect.gen(function* () {
      const before = resources()
      const scope = yield* Scope.make()
      const { began, ended, handler } = watched()
      const { acceptor, backend, port } = yield* Scope.provide(
        serving(handler, { maxConnections: 3, writeTimeout: 10_000 }),
        scope
      )
      const clients = yield* Effect.all([connect(port), connect(port), connect(port)])
      const [busy, partial] = clients
      busy.send(get())
      partial.send("GET / HT")
      yield* began.wait
      const refused = yield* connect(port)
      yield* refused.ended
      // One more backend that was never used, one that still drains, one that is current.
      yield* acceptor.backend(plain, text("never."))
      const draining = yield* Effect.forkScoped(backend.drain(Infinity))
      yield* Effect.yieldNow
      yield* replace(acceptor, text("current."))
      const fresh = yield* connect(port)
      fresh.send(get())
      yield* fresh.take("current.")
      assert.isAbove(resources(), before)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.hasInterrupts(yield* ended.wait))
      yield* Fiber.join(draining)
      for (const client of [...clients, fresh]) yield* client.ended
      for (const client of [...clients, fresh, refused]) client.socket.destroy()
      yield* eventually(() => resources() <= before)
    })
  )
})

describe("NodeListener: requests", () => {
  it.live("bodies stream both ways", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(
        Effect.map(HttpServerRequest.HttpServerRequest, (request) => HttpServerResponse.stream(request.stream))
      )
      const client = yield* connect(port)
      client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
      yield* client.take("one")
      client.send("3\r\ntwo\r\n")
      yield* client.take("two")
      client.send("0\r\n\r\n")
      yield* client.take("0\r\n\r\n")
    })
  )

  it.live("HEAD has no body, 204 no length, a multipart form is read", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          if (request.method === "DELETE") return HttpServerResponse.empty()
          if (request.method !== "POST") return HttpServerResponse.text("hello")
          const parts = yield* Stream.runCollect(request.multipartStream)
          return HttpServerResponse.text(
            parts.map((part) => (part._tag === "Field" ? part.value : "")).join() + bodyEnd
          )
        })
      )
      const client = yield* connect(port)
      client.send(get().replace("GET", "HEAD"))
      assert.include(yield* client.take("\r\n\r\n"), "content-length: 5")
      client.send(get().replace("GET", "DELETE"))
      const empty = yield* client.take("\r\n\r\n")
      assert.match(empty, /^HTTP\/1.1 204 /)
      assert.notInclude(empty.toLowerCase(), "content-length")
      const form = '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nsome text\r\n--b--\r\n'
      client.send(post(form).replace("Host: a", "Host: a\r\nContent-Type: multipart/form-data; boundary=b"))
      yield* client.take("some text.")
    })
  )

  it.live("failures: a Respondable answers itself, anything else is an empty 500; both are counted from 500 on", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }): Handler =>
          url === "/busy" ? Effect.fail(new Busy()) : url === "/die" ? Effect.die("bug") : Effect.fail("other")
        )
      )
      const client = yield* connect(port)
      client.send(get("/busy"))
      assert.include(yield* client.take("\r\n\r\n0\r\n\r\n"), "retry-after: 3")
      for (const path of ["/die", "/other"]) {
        client.send(get(path))
        assert.match(yield* client.take("\r\n\r\n0\r\n\r\n"), /^HTTP\/1.1 500 /)
      }
      assert.include<object>(backend.counts(), { accepted: 1, active: 0, connections: 1, failures: 3, requests: 3 })
    })
  )

  it.live("a handler is interrupted when its client leaves", () =>
    Effect.gen(function* () {
      const { began, ended, handler } = watched()
      const { backend, port } = yield* serving(handler)
      const client = yield* connect(port)
      client.send(get())
      yield* began.wait
      assert.strictEqual(backend.counts().active, 1)
      client.socket.destroy()
      assert.isTrue(Exit.hasInterrupts(yield* ended.wait))
      assert.strictEqual(backend.counts().active, 0)
    })
  )

  it.live("so are the handlers of requests that wait for their turn on its connection", () =>
    Effect.gen(function* () {
      let begun = 0
      let interrupted = 0
      const { backend, port } = yield* serving(
        Effect.onInterrupt(
          Effect.suspend(() => {
            begun++
            return Effect.never
          }),
          () => Effect.sync(() => interrupted++)
        )
      )
      const client = yield* connect(port)
      client.send(get() + get() + get())
      yield* eventually(() => begun === 3)
      assert.strictEqual(backend.counts().active, 3)
      client.socket.destroy()
      yield* eventually(() => interrupted === 3)
      yield* eventually(() => backend.counts().active === 0)
    })
  )

  it.live("requests that are sent at once are answered in their order", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(echoAs("x"))
      const client = yield* connect(port)
      client.send(post("a") + post("b") + post("c"))
      const all = yield* client.take("x:c.")
      assert.deepStrictEqual(all.match(/x:.\./g), ["x:a.", "x:b.", "x:c."])
      yield* acceptor.close
      assert.deepStrictEqual(yield* backend.drain(1000), { connections: 0, requests: 0 })
    })
  )

  it.live("so is the stream of a response", () =>
    Effect.gen(function* () {
      const ended = new Later<void>()
      const endless = Stream.forever(Stream.succeed(new Uint8Array(1000))).pipe(
        Stream.ensuring(Effect.sync(() => ended.resolve()))
      )
      const { port } = yield* serving(Effect.succeed(HttpServerResponse.stream(endless)))
      const client = yield* connect(port)
      client.send(get())
      yield* client.until(({ text: received }) => received.length > 10_000)
      client.socket.destroy()
      yield* ended.wait
    })
  )

  it.live(
    "an answer that breaks off is reset for a client of HTTP/1.0, who would take its end for the end of the body",
    () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const begin = Stream.make(new TextEncoder().encode("begin."))
        const broken = Stream.concat(
          begin,
          Stream.fromEffect(Effect.andThen(Deferred.await(gate), Effect.fail("broken")))
        )
        const endless = Stream.concat(begin, Stream.never)
        const handler = Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) => {
          if (url === "/whole") return HttpServerResponse.stream(begin)
          return HttpServerResponse.stream(url === "/endless" ? endless : broken)
        })
        const { backend, port } = yield* serving(handler)
        const ask = (path: string) =>
          Effect.tap(connect(port), (client) => {
            client.send(`GET ${path} HTTP/1.0\r\n\r\n`)
            return client.take("begin.")
          })
        assert.strictEqual(yield* (yield* ask("/whole")).ended, "closed")
        const cut = yield* ask("/broken")
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* cut.ended, "reset")
        const late = yield* ask("/endless")
        yield* backend.drain(0)
        assert.strictEqual(yield* late.ended, "reset")
        const slow = yield* serving(handler, { writeTimeout: 20 })
        const never = yield* connect(slow.port)
        never.send("GET /endless HTTP/1.0\r\n\r\n")
        assert.strictEqual(yield* never.ended, "reset")
      })
  )

  it.live("a new handler holds from the next request on, also on a connection that is open", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { backend, port } = yield* serving(Effect.andThen(Deferred.await(gate), text("one.")))
      const [waiting, idle] = yield* Effect.all([connect(port), connect(port)])
      waiting.send(get())
      yield* eventually(() => backend.counts().active === 1)
      yield* backend.handle(text("two."))
      idle.send(get())
      yield* idle.take("two.")
      yield* Deferred.succeed(gate, undefined)
      yield* waiting.take("one.")
      waiting.send(get())
      yield* waiting.take("two.")
      assert.strictEqual(backend.counts().accepted, 2)
    })
  )

  it.live("Connection: close on every answer without keep-alive", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(text("once."), { keepAlive: false })
      const client = yield* connect(port)
      client.send(get())
      assert.include(yield* client.take("once."), "Connection: close")
      assert.strictEqual(yield* client.ended, "closed")
    })
  )

  it.live("what Node's own server says of bytes that are no good request, it says here", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const reference = yield* listening(
        Http.createServer((request, response) => {
          let body = ""
          request.on("data", (data: Buffer) => (body += data.toString()))
          request.on("end", () => response.end(`${request.method} ${request.url} ${body}.`))
        })
      )
      const { backend, port } = yield* serving(
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          seen.push(request.url)
          return HttpServerResponse.text(`${request.method} ${request.url} ${yield* request.text}.`)
        })
      )
      const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
      const shapes: Record<string, string> = {
        "Content-Length and Transfer-Encoding":
          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        "Transfer-Encoding and Content-Length":
          "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
        "two Content-Length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "a list as Content-Length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        "a sign in Content-Length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "chunked is not last": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "an unknown transfer encoding": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a bare line feed": "GET / HTTP/1.1\nHost: a\n\n",
        "a bare line feed in the head": "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
        "a bare carriage return": "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
        "a folded header": "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "space before a colon": "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n",
        "NUL in a header": "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "a bad chunk size": `${chunked}zz\r\nab\r\n0\r\n\r\n`,
        "a chunk longer than it says": `${chunked}1\r\nab\r\n0\r\n\r\n`,
        "a chunk that ends with a line feed": `${chunked}1\na\r\n0\r\n\r\n`,
        "a huge chunk extension": `${chunked}1;${"e".repeat(17_000)}\r\na\r\n0\r\n\r\n`,
        "no Host": "GET / HTTP/1.1\r\n\r\n",
        "no method": " / HTTP/1.1\r\nHost: a\r\n\r\n",
        "an unknown version": "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a head that is too large": `GET / HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(17_000)}\r\n\r\n`,
        "TLS to a plain server": "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        CONNECT: "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
        "Expect: something": "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nConnection: close\r\n\r\n",
        "good, to show that the rest can fail": "GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
      }
      const answer = (to: number, bytes: string) =>
        Effect.scoped(
          Effect.gen(function* () {
            const client = yield* connect(to)
            client.send(bytes)
            yield* client.ended
            // The status, and the body: headers of a good answer are Effect's.
            return [client.text.split("\r\n")[0], client.text.split("\r\n\r\n").length]
          })
        )
      const statuses: Array<unknown> = []
      for (const [shape, bytes] of Object.entries(shapes)) {
        const ours = yield* answer(port, bytes)
        assert.deepStrictEqual(ours, yield* answer(reference, bytes), shape)
        statuses.push(ours[0])
      }
      assert.strictEqual(statuses.filter((status) => status === "HTTP/1.1 400 Bad Request").length, 21)
      assert.include(statuses, "HTTP/1.1 431 Request Header Fields Too Large")
      assert.deepStrictEqual(
        seen.filter((url) => url !== "/"),
        ["/good"]
      )
      assert.strictEqual(backend.counts().connections, 0)
    })
  )

  it.live("a second Host is a 400 (RFC 9112, 3.2), of an upgrade too; nothing after it is read", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("never"))
      for (const more of ["", "Connection: Upgrade\r\nUpgrade: other\r\n"]) {
        const client = yield* connect(port)
        client.send(`GET / HTTP/1.1\r\nHost: a\r\n${more}hOST: a\r\n\r\n${get("/after")}`)
        assert.strictEqual(yield* client.ended, "closed")
        assert.match(client.text, /^HTTP\/1\.1 400 Bad Request\r\n/)
        assert.lengthOf(client.text.split("HTTP/1.1"), 2)
      }
      assert.include<object>(backend.counts(), { active: 0, requests: 2 })
    })
  )

  it.live("the parser is strict, also in a process with --insecure-http-parser", () =>
    Effect.gen(function* () {
      const child = fileURLToPath(new URL("./fixtures/insecureChild.ts", import.meta.url))
      const { stdout } = yield* Effect.promise(() =>
        promisify(execFile)(process.execPath, ["--insecure-http-parser", child])
      )
      assert.strictEqual(stdout, "ours 400, Node's 200")
    })
  )

  it.live("a body may have maxBodyBytes, and no more: 413, before any handler where its length is told", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const handler = Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        seen.push(request.url)
        return HttpServerResponse.text(`${(yield* request.text).length}.`)
      })
      const { backend, port } = yield* serving(handler, { maxBodyBytes: 10 })
      const status = Effect.fnUntraced(function* (bytes: string, end: string) {
        const client = yield* connect(port)
        client.send(bytes)
        return (yield* client.take(end)).split(" ")[1]
      })
      const chunked = (path: string, body: string) =>
        `POST ${path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
      const [fits, larger] = ["a".repeat(10), "a".repeat(11)] as const
      assert.strictEqual(yield* status(post(fits, "/fits"), "10."), "200")
      assert.strictEqual(yield* status(post(larger, "/told"), "\r\n\r\n"), "413")
      assert.strictEqual(yield* status(chunked("/chunked", fits), "10."), "200")
      assert.strictEqual(yield* status(chunked("/chunked-larger", larger), "\r\n\r\n"), "413")
      assert.deepStrictEqual(seen, ["/fits", "/chunked", "/chunked-larger"])
      // It is read to its end, and its connection serves on.
      const client = yield* connect(port)
      client.send(post(larger))
      assert.match(yield* client.take("\r\n\r\n"), /^HTTP\/1.1 413 /)
      client.send(post(fits))
      yield* client.take("10.")
      assert.strictEqual(backend.counts().requests, 6)
    })
  )

  it.live("a head may have maxHeaderBytes, and no more", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(text("fits."), { maxHeaderBytes: 2000 })
      const client = yield* connect(port)
      client.send(get("/", `X: ${"a".repeat(1900)}`))
      yield* client.take("fits.")
      client.send(get("/", `X: ${"a".repeat(2100)}`))
      assert.match(yield* client.take("\r\n\r\n"), /^HTTP\/1.1 431 /)
      yield* client.ended
    })
  )
})

describe("NodeListener: times and limits", () => {
  it.live(
    "a body that is refused is neither called for nor read to its end, and the connection closes without a reset",
    () =>
      Effect.gen(function* () {
        const { port } = yield* serving(echoAs("read"), { maxBodyBytes: 10 })
        const refused = (expect: string, status: string) =>
          Effect.gen(function* () {
            const client = yield* connect(port)
            client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\nExpect: ${expect}\r\n\r\n`)
            client.send("a".repeat(100_000))
            const head = yield* client.take("\r\n\r\n")
            assert.match(head, new RegExp(`^HTTP/1.1 ${status} `))
            assert.include(head.toLowerCase(), "connection: close")
            assert.strictEqual(yield* client.ended, "closed")
          })
        yield* refused("100-continue", "413")
        yield* refused("tea", "417")
        const client = yield* connect(port)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert.match(yield* client.take("\r\n\r\n"), /^HTTP\/1.1 100 /)
        client.send("body")
        yield* client.take("read:body.")
      })
  )

  it.live("a head that does not end, and a client that says nothing, are cut after readHeaderTimeout: 408", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("never."), { readHeaderTimeout: 40 })
      const [slow, silent] = yield* Effect.all([connect(port), connect(port)])
      slow.send("GET / HTTP/1.1\r\nHost:")
      yield* slow.ended
      assert.match(slow.text, /^HTTP\/1.1 408 /)
      yield* silent.ended
      assert.match(silent.text, /^HTTP\/1.1 408 /)
      assert.strictEqual(backend.counts().requests, 0)
    })
  )

  it.live("a body that does not end is cut after readTimeout, and its handler learns of it", () =>
    Effect.gen(function* () {
      const failed = new Later<Exit.Exit<unknown, unknown>>()
      const { port } = yield* serving(
        Effect.onExit(echoAs("never"), (exit) => Effect.sync(() => failed.resolve(exit))),
        { readTimeout: 40 }
      )
      const client = yield* connect(port)
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
      yield* client.ended
      assert.match(client.text, /^HTTP\/1.1 408 /)
      assert.isTrue(Exit.isFailure(yield* failed.wait))
    })
  )

  it.live("an idle connection is closed after idleTimeout, which its client is told", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("here."), { idleTimeout: 50 })
      const client = yield* connect(port)
      client.send(get())
      assert.match(yield* client.take("here."), /Keep-Alive: timeout=0/)
      yield* client.ended
      assert.strictEqual(backend.counts().requests, 1)
    })
  )

  it.live("a response that lasts longer than writeTimeout is cut, streams too; one in time is not", () =>
    Effect.gen(function* () {
      const { began, ended, handler } = watched()
      const { backend, port } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
          url === "/stream"
            ? Effect.succeed(HttpServerResponse.stream(Stream.concat(Stream.make(new Uint8Array(1)), Stream.never)))
            : url === "/never"
              ? handler
              : text("fast.")
        ),
        { writeTimeout: 60 }
      )
      const [fast, never, stream] = yield* Effect.all([connect(port), connect(port), connect(port)])
      // Still sends its request: that is a matter of readTimeout.
      const upload = yield* connect(port)
      upload.send("POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
      fast.send(get())
      never.send(get("/never"))
      stream.send(get("/stream"))
      yield* fast.take("fast.")
      yield* began.wait
      yield* never.ended
      assert.strictEqual(never.text, "")
      yield* ended.wait
      yield* stream.ended
      assert.match(stream.text, /^HTTP\/1.1 200 /)
      assert.isUndefined(fast.end)
      assert.isUndefined(upload.end)
      assert.include<object>(backend.counts(), { active: 1, requests: 4 })
    })
  )

  it.live("there are at most maxConnections; one more is closed without a reset, and counted", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("here."), { maxConnections: 2 })
      const [one, two] = yield* Effect.all([connect(port), connect(port)])
      one.send(get())
      two.send(get())
      yield* one.take("here.")
      yield* two.take("here.")
      const three = yield* connect(port)
      three.send(get())
      assert.strictEqual(yield* three.ended, "closed")
      assert.strictEqual(three.text, "")
      assert.include<object>(backend.counts(), { accepted: 2, connections: 2, refused: 1, requests: 2 })
      one.socket.destroy()
      yield* eventually(() => backend.counts().connections === 1)
      const four = yield* connect(port)
      four.send(get())
      yield* four.take("here.")
    })
  )

  it.live("one that was refused and does not leave is cut after a moment", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(text("here."), { maxConnections: 0 })
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => Net.connect({ allowHalfOpen: true, host: "127.0.0.1", port })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      client.resume()
      // It goes on sending though it was told goodbye, until that fails.
      const failed = new Later<Error>()
      client.on("error", failed.resolve)
      const timer = setInterval(() => client.write("more"), 20)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(timer)))
      assert.match((yield* failed.wait).message, /ECONNRESET|EPIPE/)
    })
  )

  it.live("who was refused and stays is gone when the scope closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { backend, port } = yield* Scope.provide(serving(text("here."), { maxConnections: 0 }), scope)
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => Net.connect({ allowHalfOpen: true, host: "127.0.0.1", port })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      yield* eventually(() => backend.counts().refused === 1)
      const start = performance.now()
      yield* Scope.close(scope, Exit.void)
      assert.isBelow(performance.now() - start, 250)
      assert.isFalse(client.destroyed)
    })
  )

  it.live("no limit of Settings has to be finite", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(text("here."), {
        readTimeout: Infinity,
        readHeaderTimeout: Infinity,
        idleTimeout: Infinity
      })
      const client = yield* connect(port)
      client.send(get())
      assert.notInclude(yield* client.take("here."), "Keep-Alive: timeout")
    })
  )
})
