/**
 * The proxy between real sockets: a client that sends bytes, a listener, a pool, and an upstream that does what it is told.
 * What can be told without sockets is in core's tests of the same name.
 */
import { assert, describe, it } from "@effect/vitest"
import { Pool, Proxy } from "@millrace/core"
import type { Options as PoolOptions } from "@millrace/core/client/PoolConfig"
import { Effect } from "effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Http from "node:http"
import * as Net from "node:net"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { gunzipSync, gzipSync } from "node:zlib"
import * as UndiciConnector from "../src/UndiciConnector.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { serving, tlsOf } from "./fixtures/listener.ts"
import { closedPort, listening, loopback } from "./fixtures/net.ts"
import { eventually, poolOn } from "./fixtures/pool.ts"
import { connect, connectTls, get, post } from "./fixtures/rawClient.ts"

const certificate = selfSigned("localhost")

type Upstream = { readonly origin: string }

/** A pool as a proxy's should be, that waits for nobody at the end. */
const upstreamPool = (upstream: Upstream, options: PoolOptions = {}) =>
  poolOn(upstream, { ...Proxy.poolOptions, proxy: false, ...options })

const quiet: Proxy.Options = { onError: () => Effect.void }

/** A proxy in front of `upstream`, and a client of it. */
const between = (upstream: Upstream, options: Proxy.Options = {}, poolOptions: PoolOptions = {}) =>
  Effect.gen(function* () {
    const pool = yield* upstreamPool(upstream, poolOptions)
    const { backend, port } = yield* serving(yield* Proxy.make(pool, { ...quiet, ...options }))
    const client = yield* connect(port)
    return { backend, client, pool, port }
  })

/** Answers with what the upstream saw, line by line. */
const mirror = (request: HostileServer.Received) =>
  request.whole(() => request.answer(`${request.head}\r\n\r\n${request.text}\r\n.`))

const headOf = (answer: string) => answer.slice(0, answer.indexOf("\r\n\r\n")).split("\r\n")

/** Lower-case names; of equal ones all. */
const headersOf = (answer: string) =>
  headOf(answer)
    .slice(1)
    .map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 2)] as const)

const header = (answer: string, name: string) => headersOf(answer).find(([other]) => other === name)?.[1]

const statusOf = (answer: string) => Number(answer.split(" ")[1])

describe("Proxy", () => {
  describe("the way up", () => {
    it.live("a request arrives with its method, path, query, headers and body", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send(
          "PATCH /a/b%2Fc/%E2%82%AC?q='1'&r=%2f&x[]=a+b%20c HTTP/1.1\r\nHost: shop.test\r\n" +
            "X-One: 1\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello"
        )
        const answer = yield* client.take("\r\n.")
        const seen = upstream.requests[0]!
        assert.strictEqual(seen.method, "PATCH")
        assert.strictEqual(seen.path, "/a/b%2Fc/%E2%82%AC?q='1'&r=%2f&x[]=a+b%20c")
        assert.strictEqual(seen.text, "hello")
        assert.include(seen.headers, {
          "x-one": "1",
          "content-type": "text/x",
          "content-length": "5",
          host: `127.0.0.1:${upstream.port}`,
          via: "1.1 millrace",
          forwarded: "for=127.0.0.1;host=shop.test;proto=http",
          "x-forwarded-for": "127.0.0.1",
          "x-forwarded-proto": "http",
          "x-forwarded-host": "shop.test"
        })
        assert.strictEqual(statusOf(answer), 200)
      })
    )

    it.live("a request without a body has none upstream, and no type", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send(get("/"))
        yield* client.take("\r\n.")
        client.send("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n")
        yield* client.take("\r\n.")
        for (const { headers } of upstream.requests) {
          assert.notProperty(headers, "content-length")
          assert.notProperty(headers, "transfer-encoding")
          assert.notProperty(headers, "content-type")
        }
      })
    )

    it.live("a body without a type has none upstream", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send(post("hello"))
        yield* client.take("\r\n.")
        assert.notProperty(upstream.requests[0]!.headers, "content-type")
      })
    )

    it.live("a chunked body goes on chunked, without length and trailers", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nTE: trailers\r\n\r\n")
        client.send("3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: secret\r\n\r\n")
        yield* client.take("\r\n.")
        const { headers, text } = upstream.requests[0]!
        assert.strictEqual(text, "abcde")
        assert.strictEqual(headers["transfer-encoding"], "chunked")
        for (const name of ["content-length", "trailer", "te", "x-t"]) assert.notProperty(headers, name)
      })
    )

    it.live("the bytes of headers stay the bytes that they were", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) => request.answer("ok.", "X-Answer: caf\u00e9\r\n"))
        const { client } = yield* between(upstream)
        client.send(get("/", "X-Name: caf\u00e9"))
        const answer = yield* client.take("ok.")
        assert.strictEqual(upstream.requests[0]!.headers["x-name"], "caf\u00e9")
        assert.strictEqual(header(answer, "x-answer"), "caf\u00e9")
      })
    )

    it.live("Expect: 100-continue is met here, and not passed on", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        yield* client.take("HTTP/1.1 100 Continue\r\n\r\n")
        client.send("hello")
        assert.strictEqual(statusOf(yield* client.take("\r\n.")), 200)
        assert.notProperty(upstream.requests[0]!.headers, "expect")
        assert.strictEqual(upstream.requests[0]!.text, "hello")
      })
    )

    it.live("a body is on its way before it is complete", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        yield* upstream.until(() => upstream.requests[0]?.length === 5)
        client.send("other")
        yield* client.take("\r\n.")
        assert.strictEqual(upstream.requests[0]!.text, "firstother")
      })
    )

    it.live("over TLS the upstream is told so, whatever the client says in its target", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const pool = yield* upstreamPool(upstream)
        const handler = yield* Proxy.make(pool, quiet)
        const secure = yield* serving(handler, { tls: tlsOf(certificate) })
        const tls = yield* connectTls(secure.port, { ca: certificate.cert })
        tls.send(get())
        yield* tls.take("\r\n.")
        const open = yield* serving(handler)
        const plain = yield* connect(open.port)
        plain.send("GET https://shop.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n")
        yield* plain.take("\r\n.")
        assert.strictEqual(upstream.requests[0]!.headers["x-forwarded-proto"], "https")
        assert.strictEqual(upstream.requests[1]!.headers["x-forwarded-proto"], "http")
        assert.strictEqual(upstream.requests[1]!.headers["x-forwarded-host"], "shop.test")
        assert.strictEqual(upstream.requests[1]!.path, "/x")
      })
    )

    it.live("host: preserve sends the client's, on kept connections too, and over TLS", () =>
      Effect.gen(function* () {
        for (const tls of [undefined, certificate]) {
          const upstream = yield* HostileServer.make(
            mirror,
            tls === undefined ? {} : { tls: { cert: tls.cert, key: tls.key } }
          )
          const { client, pool } = yield* between(
            upstream,
            { host: "preserve" },
            { size: 1, tls: { ca: certificate.cert, servername: "localhost" } }
          )
          for (const host of ["a.test", "b.test:81", "a.test"]) {
            client.send(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
            assert.strictEqual(statusOf(yield* client.take("\r\n.")), 200)
          }
          assert.deepStrictEqual(
            upstream.requests.map(({ headers }) => headers["host"]),
            ["a.test", "b.test:81", "a.test"]
          )
          const { connectionsFailed, connectionsOpened } = yield* pool.stats
          // To undici another host is another server name, for which it needs another TLS connection.
          assert.deepStrictEqual([connectionsFailed, connectionsOpened], [0, tls === undefined ? 1 : 3])
        }
      })
    )
  })

  describe("request smuggling shapes are refused behind the acceptor and the proxy", () => {
    const shapes: ReadonlyArray<readonly [name: string, request: string]> = [
      [
        "a length beside chunks",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
      ],
      ["two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"],
      ["a length that is none", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"],
      ["chunked that is not last", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"],
      [
        "a coding that looks like chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
      ],
      [
        "chunks in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n"
      ],
      ["a space before the colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"],
      ["a folded header", "POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
      ["a bare line feed", "POST / HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
    ]
    for (const [name, request] of shapes) {
      it.live(name, () =>
        Effect.gen(function* () {
          const upstream = yield* HostileServer.make(mirror)
          const { client } = yield* between(upstream)
          client.send(`${request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`)
          const end = yield* client.ended
          assert.include(["closed", "reset"], end)
          assert.include([400, 501], statusOf(client.text))
          assert.deepStrictEqual(
            upstream.requests.map(({ path }) => path),
            []
          )
        })
      )
    }

    it.live("a second coding that hides behind chunked: nothing goes on", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        yield* client.until(({ text }) => text.includes("\r\n\r\n"))
        assert.strictEqual(statusOf(client.text), 501)
        assert.strictEqual(upstream.requests.length, 0)
      })
    )

    it.live("h2c is not offered to the upstream", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(mirror)
        const { client } = yield* between(upstream)
        client.send(
          get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
        )
        assert.strictEqual(statusOf(yield* client.take("\r\n.")), 200)
        for (const name of ["upgrade", "http2-settings"]) assert.notProperty(upstream.requests[0]!.headers, name)
        assert.notInclude(upstream.requests[0]!.headers["connection"] ?? "", "pgrade")
      })
    )
  })

  describe("the way down", () => {
    it.live("status, headers and body come as they are; what belongs to the connection does not", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) =>
          request.write(
            "HTTP/1.1 203 Whatever\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=61\r\nX-Hop: 1\r\nX-End: 2\r\n" +
              "Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n" +
              "3\r\nabc\r\n1\r\n.\r\n0\r\nX-T: 1\r\n\r\n"
          )
        )
        const { client } = yield* between(upstream)
        client.send(get())
        const answer = yield* client.take("0\r\n\r\n")
        assert.strictEqual(statusOf(answer), 203)
        assert.strictEqual(header(answer, "x-end"), "2")
        assert.strictEqual(header(answer, "transfer-encoding"), "chunked")
        assert.strictEqual(header(answer, "content-type"), undefined)
        for (const name of ["x-hop", "proxy-authenticate", "upgrade", "trailer", "x-t", "content-length"]) {
          assert.strictEqual(header(answer, name), undefined, name)
        }
        // That of our own server, for this connection.
        assert.notStrictEqual(header(answer, "keep-alive"), "timeout=61")
      })
    )

    it.live("every Set-Cookie comes apart and as it was, those of one name too", () =>
      Effect.gen(function* () {
        const cookies = [
          "a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly",
          "a=2; Path=/x; SameSite=Lax; Partitioned; Future=thing",
          'b="q, r"; Secure',
          "c="
        ]
        for (const lines of [cookies, [...cookies, "names[0]=1; Path=/", "nameless"]]) {
          const upstream = yield* HostileServer.make((request) =>
            request.answer("ok.", lines.map((cookie) => `Set-Cookie: ${cookie}\r\n`).join(""))
          )
          const { client } = yield* between(upstream)
          client.send(get())
          const answer = yield* client.take("ok.")
          assert.deepStrictEqual(
            headersOf(answer).flatMap(([name, value]) => (name === "set-cookie" ? [value] : [])),
            lines
          )
        }
      })
    )

    it.live("a compressed body passes as it is, asked for or not, whatever the pool's `decompress` says", () =>
      Effect.gen(function* () {
        const body = gzipSync("hello, hello, hello")
        const upstream = yield* HostileServer.make((request) => request.answer(body, "Content-Encoding: gzip\r\n"))
        for (const decompress of [true, false]) {
          const { port } = yield* between(upstream, {}, { decompress })
          for (const headers of [{ "accept-encoding": "gzip;q=0.5" }, {}]) {
            const answer = yield* request(port, { headers })
            assert.strictEqual(answer.headers["content-encoding"], "gzip")
            assert.strictEqual(answer.headers["content-length"], String(body.length))
            assert.strictEqual(gunzipSync(answer.body).toString(), "hello, hello, hello")
          }
        }
        assert.deepStrictEqual(
          upstream.requests.map(({ headers }) => headers["accept-encoding"]),
          ["gzip;q=0.5", "identity", "gzip;q=0.5", "identity"]
        )
      })
    )

    it.live("HEAD, 204 and 304 have no body, and the connections stay", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) => {
          if (request.method === "HEAD") request.write("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: x\r\n\r\n")
          else if (request.path === "/204") request.write("HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n")
          else request.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n")
        })
        const { client, pool } = yield* between(upstream, {}, { size: 1 })
        const ask = (text: string) => {
          client.send(text)
          return client.take("\r\n\r\n")
        }
        const head = yield* ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert.deepStrictEqual(
          [statusOf(head), header(head, "content-length"), header(head, "etag")],
          [200, "1234", "x"]
        )
        const empty = yield* ask(get("/204"))
        assert.deepStrictEqual([statusOf(empty), header(empty, "content-length")], [204, undefined])
        const unchanged = yield* ask(get("/304"))
        assert.deepStrictEqual([statusOf(unchanged), header(unchanged, "content-length")], [304, "77"])
        assert.strictEqual(client.text, "")
        assert.strictEqual(upstream.connections.length, 1)
        yield* eventually(pool.stats, { active: 0 })
      })
    )

    it.live("interim answers are dropped, the final one comes", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) => {
          request.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
          request.answer("done.")
        })
        const { client } = yield* between(upstream)
        client.send(get())
        assert.strictEqual(statusOf(yield* client.take("done.")), 200)
      })
    )

    it.live("a body is on its way before it is complete", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) =>
          request.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        )
        const { client } = yield* between(upstream)
        client.send(get())
        yield* client.take("first")
        upstream.requests[0]!.write("5\r\nother\r\n0\r\n\r\n")
        yield* client.take("other")
      })
    )

    it.live("an answer that comes before the body is complete is passed on, and ends the upload", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) => request.answer("no.", "Connection: close\r\n", 413))
        const { client, pool } = yield* between(upstream)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart")
        const answer = yield* client.take("no.")
        assert.strictEqual(statusOf(answer), 413)
        yield* eventually(pool.stats, { active: 0, connectionsOpen: 0 })
      })
    )
  })

  describe("when somebody leaves", () => {
    it.live("a client that leaves before the answer aborts the request at the upstream", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(() => {})
        const { client, pool } = yield* between(upstream)
        client.send(get())
        yield* upstream.received(1)
        client.socket.destroy()
        yield* upstream.allClosed
        yield* eventually(pool.stats, { active: 0, waiting: 0, connectionsOpen: 0 })
      })
    )

    it.live("a client that leaves in the middle of its body: the upstream never takes it for complete", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(() => {})
        for (const framing of ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 10\r\n\r\nhello"]) {
          const { client, pool } = yield* between(upstream)
          client.send(`POST / HTTP/1.1\r\nHost: a\r\n${framing}`)
          yield* upstream.until(() => upstream.requests.at(-1)?.length === 5)
          client.socket.destroy()
          yield* upstream.allClosed
          assert.isFalse(upstream.requests.at(-1)!.complete)
          yield* eventually(pool.stats, { active: 0, connectionsOpen: 0 })
        }
      })
    )

    it.live("a client that leaves in the middle of an answer aborts it", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) =>
          request.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        )
        const { client, pool } = yield* between(upstream)
        client.send(get())
        yield* client.take("hello")
        client.socket.destroy()
        yield* upstream.allClosed
        yield* eventually(pool.stats, { active: 0, connectionsOpen: 0 })
      })
    )

    const cuts: ReadonlyArray<readonly [string, string]> = [
      ["with a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"],
      ["in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    ]
    for (const [how, bytes] of cuts) {
      it.live(`an upstream that breaks in the middle of an answer ${how} breaks the client's connection`, () =>
        Effect.gen(function* () {
          const upstream = yield* HostileServer.make((request) => request.write(bytes))
          const seen: Array<string> = []
          const { client } = yield* between(upstream, {
            onError: (error) => Effect.sync(() => seen.push(error._tag))
          })
          client.send(get())
          yield* client.take("hello")
          upstream.connections[0]!.reset()
          yield* client.ended
          // No last chunk: nobody can take it for complete.
          assert.notInclude(client.text, "0\r\n")
          assert.strictEqual(seen.length, 1)
        })
      )
    }

    it.live("a body without length that ends by a reset is not taken for complete", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) => request.write("HTTP/1.1 200 OK\r\n\r\nhello"))
        const { client } = yield* between(upstream)
        client.send(get())
        yield* client.take("hello")
        upstream.connections[0]!.reset()
        yield* client.ended
        assert.notInclude(client.text, "0\r\n\r\n")
      })
    )
  })

  describe("failures of the upstream", () => {
    it.live("nobody listens: 502 as problem details, which tell nothing of what is behind", () =>
      Effect.gen(function* () {
        const closed = yield* closedPort
        const { port } = yield* between({ origin: `http://127.0.0.1:${closed}` })
        const answer = yield* request(port, { path: "/secret?token=1" })
        assert.strictEqual(answer.status, 502)
        assert.strictEqual(answer.headers["content-type"], "application/problem+json")
        const problem = JSON.parse(answer.body.toString())
        assert.include(problem, { type: "about:blank", title: "Bad Gateway", status: 502 })
        assert.notMatch(answer.body.toString(), /127\.0\.0\.1|ECONN|secret|token/)
      })
    )

    it.live("it closes early, switches protocols, says two lengths or a coding of its own: 502; silence: 504", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((request) => {
          if (request.path === "/close") request.connection.end()
          else if (request.path === "/garbage") request.write("SSH-2.0-OpenSSH_9.6\r\n")
          else if (request.path === "/101")
            request.write("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
          else if (request.path === "/two")
            request.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
          else if (request.path === "/both") {
            request.write(
              "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            )
          } else if (request.path === "/coded") {
            request.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
          }
        })
        const { port } = yield* between(upstream, {}, { responseHeaderTimeout: 100 })
        assert.strictEqual((yield* request(port, { path: "/close" })).status, 502)
        assert.strictEqual((yield* request(port, { path: "/garbage" })).status, 502)
        assert.strictEqual((yield* request(port, { path: "/101" })).status, 502)
        assert.strictEqual((yield* request(port, { path: "/two" })).status, 502)
        assert.strictEqual((yield* request(port, { path: "/both" })).status, 502)
        assert.strictEqual((yield* request(port, { path: "/coded" })).status, 502, "nobody has taken that coding off")
        assert.strictEqual((yield* request(port, { path: "/silence" })).status, 504)
      })
    )

    it.live("the proxy's own timeout: 504, and the request is aborted", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make(() => {})
        const { port } = yield* between(upstream, { timeout: 50 })
        assert.strictEqual((yield* request(port)).status, 504)
        yield* upstream.allClosed
      })
    )

    it.live("a status that the pool takes for an error is the upstream's answer", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => received.answer("mine", "X: 1\r\n", 503))
        const { port } = yield* between(upstream, {}, { failOnStatus: true })
        const answer = yield* request(port)
        assert.deepStrictEqual([answer.status, answer.body.toString(), answer.headers["x"]], [503, "mine", "1"])
      })
    )

    it.live("a chunked body beyond maxBodySize: 413, and the upstream never gets all of it", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => received.whole(() => received.answer()))
        const { client } = yield* between(upstream, { maxBodySize: 8 })
        client.send(
          "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        yield* client.until(({ text }) => text.includes("}"))
        assert.strictEqual(statusOf(client.text), 413)
        assert.isFalse(upstream.requests.some(({ complete }) => complete))
      })
    )

    it.live("a declared body beyond maxBodySize: 413 before anybody is asked", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => received.answer())
        const { client } = yield* between(upstream, { maxBodySize: 8 })
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        yield* client.until(({ text }) => text.includes("}"))
        assert.strictEqual(statusOf(client.text), 413)
        assert.strictEqual(upstream.connections.length, 0)
      })
    )
  })

  describe("the pool's policies", () => {
    it.live("a GET is retried, a streamed body is not", () =>
      Effect.gen(function* () {
        let failures = 1
        const upstream = yield* HostileServer.make((received) =>
          received.whole(() => (failures-- > 0 ? received.answer("no", "", 503) : received.answer("yes")))
        )
        const { port } = yield* between(upstream, {}, { retry: { initialDelay: 1 } })
        assert.strictEqual((yield* request(port)).status, 200)
        assert.strictEqual(upstream.requests.length, 2)
        failures = 1
        assert.strictEqual((yield* request(port, { method: "PUT", body: "x" })).status, 503)
        assert.strictEqual(upstream.requests.length, 3)
      })
    )
  })

  describe("balance", () => {
    const three = (script: (name: string) => HostileServer.Script) =>
      Effect.forEach(["a", "b", "c"], (name) => HostileServer.make(script(name)))

    it.live("one pool, three origins, in turn", () =>
      Effect.gen(function* () {
        const upstreams = yield* three((name) => (received) => received.answer(`${name}${received.path}`))
        const pool = yield* Pool.make({ drainTimeout: 0 }).pipe(Effect.provide(UndiciConnector.layer))
        const targets = upstreams.map(({ origin }, index) => ({ pool, baseUrl: `${origin}/${index}` }))
        const { port } = yield* serving(yield* Proxy.make(yield* Proxy.balance(targets), quiet))
        const bodies: Array<string> = []
        for (let i = 0; i < 6; i++) bodies.push((yield* request(port, { path: "/x" })).body.toString())
        assert.deepStrictEqual(bodies, ["a/0/x", "b/1/x", "c/2/x", "a/0/x", "b/1/x", "c/2/x"])
      })
    )

    it.live("an origin that nobody listens on costs no request, a POST neither, and is passed over", () =>
      Effect.gen(function* () {
        const upstream = yield* HostileServer.make((received) => received.whole(() => received.answer(received.text)))
        const dead = yield* closedPort
        const pool = yield* Pool.make({ drainTimeout: 0 }).pipe(Effect.provide(UndiciConnector.layer))
        const balanced = yield* Proxy.balance([
          { pool, baseUrl: `http://127.0.0.1:${dead}` },
          { pool, baseUrl: upstream.origin }
        ])
        const { port } = yield* serving(yield* Proxy.make(balanced, quiet))
        for (let i = 0; i < 6; i++) {
          const answer = yield* request(port, { method: "POST", body: `body ${i}` })
          assert.deepStrictEqual([answer.status, answer.body.toString()], [200, `body ${i}`])
        }
        const [first, second] = yield* balanced.targets
        assert.include(first, { requests: 1, out: true, pending: 0 })
        assert.include(second, { requests: 6, out: false, pending: 0 })
      })
    )

    it.live("what was sent is not sent to another", () =>
      Effect.gen(function* () {
        const upstreams = yield* three(() => (received) => received.connection.reset())
        const pool = yield* Pool.make({ drainTimeout: 0 }).pipe(Effect.provide(UndiciConnector.layer))
        const targets = upstreams.map(({ origin }) => ({ pool, baseUrl: origin }))
        const { port } = yield* serving(yield* Proxy.make(yield* Proxy.balance(targets), quiet))
        assert.strictEqual((yield* request(port, { method: "POST", body: "x" })).status, 502)
        assert.strictEqual(
          upstreams.reduce((sum, { requests }) => sum + requests.length, 0),
          1
        )
      })
    )
  })

  describe("memory", () => {
    const MiB = 1024 * 1024
    const size = 256 * MiB
    /** Collects garbage. */
    setFlagsFromString("--expose-gc")
    const collect: () => void = runInNewContext("gc")
    const piece = Buffer.alloc(256 * 1024, "x")

    /** Takes what it is sent, and sends as much back, as fast as it is taken. */
    const echo = Http.createServer((incoming, response) => {
      response.writeHead(200, { "content-length": size })
      incoming.pipe(response)
    })

    it.live(
      "256 MiB up and down at once stay flat, with a reader that is slow at first",
      () =>
        Effect.gen(function* () {
          const port = yield* listening(echo)
          const { port: front } = yield* between({ origin: `http://${loopback}:${port}` })
          const used = () => {
            collect()
            const { arrayBuffers, heapUsed } = process.memoryUsage()
            return (arrayBuffers + heapUsed) / MiB
          }
          const before = used()
          let most = 0
          let received = 0
          yield* Effect.callback<void, Error>((resume) => {
            const outgoing = Http.request({
              port: front,
              host: loopback,
              method: "POST",
              headers: { "content-length": size }
            })
            let sent = 0
            const write = () => {
              while (sent < size) {
                sent += piece.length
                if (!outgoing.write(piece)) {
                  outgoing.once("drain", write)
                  return
                }
              }
              outgoing.end()
            }
            outgoing.on("error", (error) => resume(Effect.fail(error)))
            outgoing.on("response", (response) => {
              response.pause()
              setTimeout(() => response.resume(), 200)
              response.on("data", (chunk: Buffer) => {
                // At every 16th MiB.
                if (Math.floor(received / (16 * MiB)) !== Math.floor((received + chunk.length) / (16 * MiB))) {
                  most = Math.max(most, used() - before)
                }
                received += chunk.length
              })
              response.on("end", () => resume(Effect.void))
              response.on("error", (error) => resume(Effect.fail(error)))
            })
            write()
          })
          assert.strictEqual(received, size)
          // What is under way in four sockets, and what the system has not taken back yet.
          assert.isBelow(most, 64)
        }),
      60_000
    )

    it.live("a client that does not read holds up the upstream", () =>
      Effect.gen(function* () {
        let written = 0
        const port = yield* listening(
          Http.createServer((_, response) => {
            const write = () => {
              do written += piece.length
              while (response.write(piece))
              response.once("drain", write)
            }
            write()
          })
        )
        const { client } = yield* between({ origin: `http://${loopback}:${port}` })
        client.socket.pause()
        client.send(get())
        // It stands still when nothing comes for a while.
        let before = -1
        while (before !== written || written === 0) {
          before = written
          yield* Effect.sleep(300)
        }
        assert.isBelow(written, 24 * MiB)
      })
    )

    it.live("an upstream that does not read holds up the client", () =>
      Effect.gen(function* () {
        const port = yield* listening(Net.createServer((socket) => socket.pause()))
        const { client } = yield* between({ origin: `http://${loopback}:${port}` })
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        let written = 0
        const chunk = `40000\r\n${piece.toString("latin1")}\r\n`
        const write = () => {
          do written += piece.length
          while (client.socket.write(chunk, "latin1"))
          client.socket.once("drain", write)
        }
        write()
        let before = -1
        while (before !== written) {
          before = written
          yield* Effect.sleep(300)
        }
        assert.isBelow(written, 24 * MiB)
      })
    )
  })

  it.live("a hook that fails with a response refuses", () =>
    Effect.gen(function* () {
      const upstream = yield* HostileServer.make(mirror)
      const { port } = yield* between(upstream, {
        requestHeaders: (headers) =>
          headers["x-key"] === "right"
            ? Effect.succeed(headers)
            : Effect.fail(HttpServerResponse.empty({ status: 403 }))
      })
      assert.strictEqual((yield* request(port)).status, 403)
      assert.strictEqual((yield* request(port, { headers: { "x-key": "right" } })).status, 200)
      assert.strictEqual(upstream.requests.length, 1)
    })
  )
})

interface Answer {
  readonly status: number | undefined
  readonly headers: Http.IncomingHttpHeaders
  readonly body: Buffer
}

/** A request of Node's client, on a connection of its own. */
const request = (
  port: number,
  {
    body,
    headers,
    method,
    path
  }: { body?: string; headers?: Http.OutgoingHttpHeaders; method?: string; path?: string } = {}
): Effect.Effect<Answer, Error> =>
  Effect.callback((resume) => {
    const outgoing = Http.request(
      { host: loopback, port, method: method ?? "GET", path: path ?? "/", headers: headers ?? {}, agent: false },
      (response) => {
        const pieces: Array<Buffer> = []
        response.on("data", (piece: Buffer) => pieces.push(piece))
        response.on("end", () =>
          resume(
            Effect.succeed({ status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces) })
          )
        )
        response.on("error", (error) => resume(Effect.fail(error)))
      }
    )
    outgoing.on("error", (error) => resume(Effect.fail(error)))
    outgoing.end(body)
  })
