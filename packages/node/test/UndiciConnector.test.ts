/**
 * What goes over the wire: a pool on undici against servers that are correct, odd, broken or malicious.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Control, Target } from "@millrace/core/client/Connector"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Redacted, Ref, Stream } from "effect"
import { HttpClientRequest } from "effect/http"
import * as HttpBody from "effect/http/HttpBody"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Zlib from "node:zlib"
import * as UndiciConnector from "../src/UndiciConnector.ts"
import { connectorContract, exchanged, failureOf as transportFailureOf, open, Recorder } from "./connectorContract.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { closedPort, Later, listening, loopback, tcpServer } from "./fixtures/net.ts"
import { eventually, failsWith, failureOf, poolOn, turn } from "./fixtures/pool.ts"
import { targetOf } from "./fixtures/target.ts"

connectorContract("UndiciConnector", UndiciConnector.layer)

const times = (count: number) => Array.from({ length: count }, (_, i) => i)

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const text = <E1, E2, A extends { readonly text: Effect.Effect<string, E1> }>(response: Effect.Effect<A, E2>) =>
  Effect.flatMap(response, (_) => _.text)

const mebi = 1024 * 1024

/** Answers `/` correctly and all else with these bytes. */
const raw = (bytes: string | Uint8Array, then: (request: HostileServer.Received) => void = () => {}) =>
  HostileServer.make((request) => {
    if (request.path === "/") return request.answer()
    request.connection.socket.write(bytes, () => then(request))
  })

const fin = (request: HostileServer.Received) => request.connection.end()
const rst = (request: HostileServer.Received) => request.connection.reset()

const opened = (target: Target) => Effect.provide(open(target), UndiciConnector.layer)

describe("UndiciConnector: transport", () => {
  it.live("what undici refuses when the connection is there reaches the exchange, and is not thrown", () =>
    Effect.gen(function* () {
      const port = yield* tcpServer(() => {})
      const transport = yield* opened(targetOf(`http://${loopback}:${port}`, { maxHeaderSize: 0 }))
      for (let i = 0; i < 2; i++) {
        const exchange = yield* exchanged(transport, {})
        assert.deepStrictEqual(exchange.calls, ["error"])
        assert.strictEqual(transportFailureOf(transport, exchange)._tag, "Rejected")
      }
    })
  )

  for (const [what, head] of [
    ["with a length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"],
    ["that ends with its connection", "HTTP/1.1 200 OK\r\n\r\n"],
    ["that ends with this piece", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"]
  ] as const) {
    it.live(`abort inside a body ${what}: the exchange is told at once, and nothing after that`, () =>
      Effect.gen(function* () {
        const port = yield* tcpServer((socket) => {
          socket.once("data", () => socket.write(`${head}piece`))
        })
        const reason = new Error("enough")
        class Aborting extends Recorder {
          override onRequestSent(): void {
            if (this.calls.at(-1) !== "start") this.calls.push("sent")
          }
          override onResponseData(control: Control, chunk: Uint8Array): void {
            super.onResponseData(control, chunk)
            control.abort(reason)
            this.calls.push("aborted")
          }
        }
        const endless = Stream.concat(Stream.make(new Uint8Array(10)), Stream.never)
        for (const body of [HttpBody.empty, HttpBody.stream(endless)]) {
          const disconnected = new Later<string>()
          const observer = { connected: () => {}, disconnected: disconnected.resolve }
          const transport = yield* opened(targetOf(`http://${loopback}:${port}`, {}, { observer }))
          const exchange = new Aborting({ method: "POST", body })
          transport.send(exchange)
          yield* disconnected.wait
          yield* turn
          assert.deepStrictEqual(exchange.calls, ["start", "first", "head", "data", "error", "aborted"])
          assert.strictEqual(exchange.error, reason)
        }
      })
    )
  }

  it.live("what leaves of a body after its answer is not reported", () =>
    Effect.gen(function* () {
      const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
      // More than the buffers of a connection hold.
      const size = 64 * mebi
      const connection = new Later<Net.Socket>()
      const port = yield* tcpServer((socket) => {
        let received = 0
        let head = 0
        socket.on("data", (chunk: Buffer) => {
          if (received === 0) {
            head = chunk.indexOf("\r\n\r\n") + 4
            socket.pause().write(answer)
            connection.resolve(socket)
          }
          received += chunk.length
          if (received > head + size && chunk.includes("/second")) socket.write(answer)
        })
      })
      const transport = yield* opened(targetOf(`http://${loopback}:${port}`))
      class Upload extends Recorder {
        override onRequestSent(): void {
          this.calls.push("sent")
        }
      }
      const first = new Upload({ method: "POST", body: HttpBody.uint8Array(new Uint8Array(size)) })
      transport.send(first)
      yield* first.over
      const second = new Recorder({ path: "/second" })
      transport.send(second)
      const socket = yield* connection.wait
      socket.resume()
      yield* second.over
      assert.strictEqual(second.text, "ok")
      assert.deepStrictEqual(first.calls, ["start", "first", "head", "data", "end"])
    })
  )
})

describe("UndiciConnector: responses", () => {
  for (const [what, method, head] of [
    ["204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"],
    ["304 with the length of what it does not send", "GET", "HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n"],
    ["HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n"],
    [
      "HEAD of what would be chunked",
      "HEAD",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
    ],
    ["HEAD without a length", "HEAD", "HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\n\r\n"],
    ["an empty body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    ["an empty chunked body", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
  ] as const) {
    it.live(`${what}: no body, and the connection is kept`, () =>
      Effect.gen(function* () {
        const server = yield* raw(head)
        const { client, stats } = yield* poolOn(server, { size: 1 })
        for (let i = 0; i < 3; i++) {
          const response = yield* client.execute(HttpClientRequest.make(method)("/it"))
          assert.strictEqual(yield* response.text, "")
          assert.strictEqual(yield* text(client.get("/")), "ok")
        }
        assert.strictEqual(server.connections.length, 1)
        assert.include(yield* stats, { failures: 0, active: 0 })
      })
    )
  }

  for (const head of ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified"]) {
    it.live(`${head} with a body: it is no body, and never the next answer`, () =>
      Effect.gen(function* () {
        const server = yield* raw(
          `${head}\r\nContent-Length: 50\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen`
        )
        const { client } = yield* poolOn(server, { size: 1 })
        assert.strictEqual(yield* text(client.get("/it")), "")
        assert.strictEqual(yield* text(client.get("/")), "ok")
        assert.strictEqual(server.connections.length, 2)
      })
    )
  }

  it.live("trailers: read, and the connection is kept", () =>
    Effect.gen(function* () {
      const server = yield* raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n"
      )
      const { client } = yield* poolOn(server, { size: 1 })
      const response = yield* client.get("/it")
      assert.strictEqual(yield* response.text, "body")
      assert.notProperty(response.headers, "x-sum")
      assert.strictEqual(yield* text(client.get("/")), "ok")
      assert.strictEqual(server.connections.length, 1)
    })
  )

  for (const [what, head] of [
    ["HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\n"],
    ["HTTP/1.1 that says close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"],
    ["HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n"]
  ] as const) {
    it.live(`${what}, no length: the end of the connection is the end of the body, however long and slowly read`, () =>
      Effect.gen(function* () {
        const body = Buffer.alloc(mebi / 2, "x")
        const server = yield* raw(Buffer.concat([Buffer.from(head), body]), fin)
        const { client, stats } = yield* poolOn(server, { size: 1, bodyBufferSize: 1024 })
        assert.strictEqual((yield* (yield* client.get("/it")).arrayBuffer).byteLength, body.length)
        const response = yield* client.get("/it")
        // The server has long closed when the rest is asked for.
        yield* server.until(() => server.connections[1]?.socket.writableFinished === true)
        const length = yield* Stream.runFold(
          response.stream,
          () => 0,
          (sum, chunk) => sum + chunk.length
        )
        assert.strictEqual(length, body.length)
        assert.strictEqual(yield* text(client.get("/")), "ok")
        assert.strictEqual(server.connections.length, 3)
        assert.include(yield* stats, { failures: 0, staleRetries: 0 })
      })
    )
  }

  it.live("HTTP/1.0 with keep-alive is kept, without is not", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.write(
          `HTTP/1.0 200 OK\r\nContent-Length: 2\r\n${request.path === "/keep" ? "Connection: keep-alive\r\n" : ""}\r\nok`
        )
      )
      const { client } = yield* poolOn(server, { size: 1 })
      for (let i = 0; i < 3; i++) yield* client.get("/keep")
      assert.strictEqual(server.connections.length, 1)
      for (let i = 0; i < 3; i++) yield* client.get("/")
      assert.strictEqual(server.connections.length, 3)
    })
  )

  it.live("byte by byte", () =>
    Effect.gen(function* () {
      const bytes = Buffer.from(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n"
      )
      const server = yield* HostileServer.make((request) => {
        const next = (i: number) => {
          if (i < bytes.length)
            request.connection.socket.write(bytes.subarray(i, i + 1), () => setImmediate(next, i + 1))
        }
        next(0)
      })
      const { client } = yield* poolOn(server, { size: 1 })
      for (let i = 0; i < 2; i++) {
        const response = yield* client.get("/")
        assert.strictEqual(response.headers["x"], "y")
        assert.strictEqual(yield* response.text, "abcde")
      }
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.live("100 processing, 103 early hints before 200: not the answer", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        setImmediate(() => request.answer("real"))
      })
      const { client } = yield* poolOn(server, { size: 1 })
      for (let i = 0; i < 3; i++) {
        const response = yield* client.get("/")
        assert.deepStrictEqual([response.status, yield* response.text], [200, "real"])
        assert.notProperty(response.headers, "link")
      }
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.live("Upgrade as an offer is only a header", () =>
    Effect.gen(function* () {
      const server = yield* raw(
        "HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok"
      )
      const { client } = yield* poolOn(server, { size: 1 })
      const response = yield* client.get("/it")
      assert.strictEqual(yield* response.text, "ok")
      const error = yield* Effect.flip(response.upgrade)
      assert.strictEqual(error.reason._tag, "StatusCodeError")
    })
  )

  it.live("headers: repeated, cookies, bytes above ASCII, many", () =>
    Effect.gen(function* () {
      const many = times(200)
        .map((i) => `X-${i}: ${i}\r\n`)
        .join("")
      const server = yield* raw(
        Buffer.from(
          `HTTP/1.1 200 \r\nVary: a\r\nVary: b\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nX-Latin: \xe9\r\n${many}Content-Length: 0\r\n\r\n`,
          "latin1"
        )
      )
      const { client } = yield* poolOn(server)
      const { cookies, headers } = yield* client.get("/it")
      assert.include(headers, { vary: "a, b", "x-199": "199" })
      assert.deepStrictEqual(Object.keys(cookies.cookies), ["a", "b"])
    })
  )

  it.live("says which request it answers, and prints without its body", () =>
    Effect.gen(function* () {
      const server = yield* raw(HostileServer.response("secret"))
      const { client } = yield* poolOn(server)
      const response = yield* client.get("/it?a=b")
      assert.strictEqual(response.url, `${server.origin}/it?a=b`)
      assert.strictEqual(response.request.url, "/it?a=b")
      assert.notInclude(JSON.stringify(response), "secret")
    })
  )

  for (const [what, bytes, then, tag, reason] of [
    ["a malformed status line", "HTTP/1.1 abc OK\r\n\r\n", undefined, "DecodeError", /not HTTP\/1\.1/],
    ["another protocol", "SSH-2.0-OpenSSH_9.6\r\n", undefined, "DecodeError", /not HTTP\/1\.1/],
    ["HTTP/2", "\0\0\u0012\u0004\0\0\0\0\0", undefined, "DecodeError", /not HTTP\/1\.1/],
    ["a malformed header", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", undefined, "DecodeError", /not HTTP\/1\.1/],
    [
      "a length that is none",
      "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
      undefined,
      "DecodeError",
      /not HTTP\/1\.1/
    ],
    [
      "two lengths",
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      undefined,
      "DecodeError",
      /./
    ],
    [
      "a length and chunks",
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
      undefined,
      "DecodeError",
      /./
    ],
    [
      "garbage where a chunk should be",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      undefined,
      "DecodeError",
      /not HTTP\/1\.1/
    ],
    ["an endless head", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(40_000)}`, undefined, "DecodeError", /maxHeaderSize/],
    ["a large head", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(20_000)}\r\n\r\n`, undefined, "DecodeError", /maxHeaderSize/],
    ["100 that was not asked for", "HTTP/1.1 100 Continue\r\n\r\n", undefined, "DecodeError", /100 Continue/],
    [
      "101 that was not asked for",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
      undefined,
      "DecodeError",
      /upgrade/
    ],
    ["no answer, but FIN", "", fin, "ConnectError", /before the response was complete/],
    ["no answer, but RST", "", rst, "ConnectError", /before the response was complete/],
    ["FIN in the head", "HTTP/1.1 200 OK\r\nConte", fin, "ConnectError", /before the response was complete/],
    ["RST in the head", "HTTP/1.1 200 OK\r\nConte", rst, "ConnectError", /before the response was complete/],
    [
      "FIN in the body",
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart",
      fin,
      "ConnectError",
      /before the response/
    ],
    [
      "RST in the body",
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart",
      rst,
      "ConnectError",
      /before the response/
    ],
    [
      "FIN in a body that is the last of its connection",
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\npart",
      fin,
      "DecodeError",
      /content-length/
    ],
    ["FIN in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npart", fin, "ConnectError", /before/],
    [
      "RST in a body that ends with the connection",
      "HTTP/1.1 200 OK\r\n\r\npart",
      rst,
      "ConnectError",
      /before the response/
    ]
  ] as const) {
    it.live(`${what}: a typed error, and the slot goes on`, () =>
      Effect.gen(function* () {
        const server = yield* raw(bytes, then)
        const { client, stats } = yield* poolOn(server, { size: 1 })
        for (let i = 0; i < 2; i++) {
          const error = yield* failureOf(text(client.get("/it")))
          assert.strictEqual(error._tag, tag)
          assert.match(error.message, reason)
          assert.include(error.message, `GET ${server.origin}/it`)
          assert.strictEqual(yield* text(client.get("/")), "ok")
        }
        assert.include(yield* stats, { active: 0, waiting: 0 })
        yield* server.until(() => server.open === 1)
        assert.strictEqual(
          server.requests.filter((request) => request.path === "/it").length,
          then === undefined || bytes !== "" ? 2 : 3
        )
      })
    )
  }

  it.live("a body longer than its length: cut there, and the connection is not used again", () =>
    Effect.gen(function* () {
      const server = yield* raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest")
      const { client, stats } = yield* poolOn(server, { size: 1 })
      assert.strictEqual(yield* text(client.get("/it")), "body")
      assert.strictEqual(yield* text(client.get("/")), "ok")
      assert.strictEqual(server.connections.length, 2)
      assert.include(yield* stats, { failures: 0 })
    })
  )

  it.live("maxHeaderSize", () =>
    Effect.gen(function* () {
      const server = yield* raw(`HTTP/1.1 200 OK\r\nX: ${"x".repeat(3000)}\r\nContent-Length: 0\r\n\r\n`)
      const small = yield* poolOn(server, { maxHeaderSize: 2048 })
      yield* failsWith(small.client.get("/it"), "DecodeError")
      const large = yield* poolOn(server, { maxHeaderSize: 4096 })
      assert.strictEqual((yield* large.client.get("/it")).headers["x"]?.length, 3000)
    })
  )

  it.live("not JSON, not a form: DecodeError, with the text still there", () =>
    Effect.gen(function* () {
      const server = yield* raw(HostileServer.response("<html>"))
      const { client } = yield* poolOn(server)
      const response = yield* client.get("/it")
      yield* failsWith(response.json, "DecodeError")
      yield* failsWith(response.formData, "DecodeError")
      assert.strictEqual(yield* response.text, "<html>")
      assert.strictEqual((yield* client.get("/empty").pipe(Effect.andThen(client.get("/it")))).status, 200)
    })
  )

  it.live("JSON, form data, URL parameters", () =>
    Effect.gen(function* () {
      const form = '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/form") request.answer(form, "Content-Type: multipart/form-data; boundary=x\r\n")
        else request.answer(request.path === "/json" ? "[1]" : request.path === "/empty" ? "" : "?a=b&c=d+e")
      })
      const { client } = yield* poolOn(server)
      assert.deepStrictEqual(yield* Effect.flatMap(client.get("/json"), (_) => _.json), [1])
      assert.isNull(yield* Effect.flatMap(client.get("/empty"), (_) => _.json))
      assert.strictEqual((yield* Effect.flatMap(client.get("/form"), (_) => _.formData)).get("a"), "b")
      const params = yield* Effect.flatMap(client.get("/params"), (_) => _.urlParamsBody)
      assert.deepStrictEqual(params.params, [
        ["?a", "b"],
        ["c", "d e"]
      ])
    })
  )
})

describe("UndiciConnector: requests", () => {
  const mirror = (request: HostileServer.Received) => request.whole(() => request.answer(request.body))

  it.live("the head: method, path, host, agreed encodings, the caller's headers over the pool's", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(mirror)
      const { client } = yield* poolOn(server, { headers: { "x-a": "pool", "x-b": "pool" } })
      yield* client.get("/a b?c=d", { headers: { "X-B": "own", "x-c": "own" } })
      const [request] = server.requests
      assert.include(request, { method: "GET", path: "/a%20b?c=d" })
      assert.deepInclude(request?.headers, {
        host: `${loopback}:${server.port}`,
        connection: "keep-alive",
        "accept-encoding": "gzip, deflate, br, zstd",
        "x-a": "pool",
        "x-b": "own",
        "x-c": "own"
      })
      assert.notProperty(request?.headers, "content-length")
      assert.notProperty(request?.headers, "transfer-encoding")
    })
  )

  const bytes = new Uint8Array([0, 1, 254, 255])
  for (const [what, body, sent, type] of [
    ["text", HttpBody.text("hé", "text/plain"), Buffer.from("hé"), "text/plain"],
    ["JSON", HttpBody.jsonUnsafe({ a: [1, "é"] }), Buffer.from('{"a":[1,"é"]}'), "application/json"],
    ["bytes", HttpBody.uint8Array(bytes, "x/y"), Buffer.from(bytes), "x/y"],
    ["many bytes", HttpBody.uint8Array(Buffer.alloc(mebi, "ab"), "x/y"), Buffer.alloc(mebi, "ab"), "x/y"],
    ["much text", HttpBody.text("é".repeat(mebi), "x/y"), Buffer.from("é".repeat(mebi)), "x/y"],
    [
      "a form",
      HttpBody.urlParams([
        ["a", "b c"],
        ["d", "é"]
      ]),
      Buffer.from("a=b+c&d=%C3%A9"),
      "application/x-www-form-urlencoded"
    ],
    ["nothing", HttpBody.empty, Buffer.alloc(0), undefined]
  ] as const) {
    it.live(`POST ${what}`, () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(mirror)
        const { client } = yield* poolOn(server, { size: 1 })
        for (let i = 0; i < 2; i++) {
          const response = yield* client.post("/", { body })
          assert.isTrue(Buffer.from(yield* response.arrayBuffer).equals(sent))
        }
        const headers = server.requests[0]?.headers
        assert.strictEqual(headers?.["content-type"]?.split(";")[0], type)
        assert.strictEqual(headers?.["content-length"], String(sent.length))
        assert.strictEqual(server.connections.length, 1)
      })
    )
  }

  it.live("POST multipart, with a file", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.whole(() => request.answer(request.body, `Content-Type: ${request.headers["content-type"]}\r\n`))
      )
      const { client } = yield* poolOn(server, { size: 1 })
      const form = new FormData()
      form.append("name", "välue")
      form.append("file", new File(["content"], "f.txt", { type: "text/x" }))
      const parsed = yield* Effect.flatMap(client.post("/", { body: HttpBody.formData(form) }), (_) => _.formData)
      assert.strictEqual(parsed.get("name"), "välue")
      const file = parsed.get("file")
      if (!(file instanceof File)) return assert.fail("no file")
      assert.deepStrictEqual(
        [file.name, file.type, yield* Effect.promise(() => file.text())],
        ["f.txt", "text/x", "content"]
      )
      assert.match(server.requests[0]?.headers["content-type"] ?? "", /^multipart\/form-data; boundary=/)
    })
  )

  it.live("POST a stream: chunked, with the caller's services; with a length: not chunked", () =>
    Effect.gen(function* () {
      class Source extends Context.Service<Source, string>()("test/Source") {}
      const server = yield* HostileServer.make(mirror)
      const { client } = yield* poolOn(server, { size: 1 })
      const source = Stream.fromEffect(Effect.map(Effect.service(Source), (text) => Buffer.from(text)))
      const services = yield* Layer.build(Layer.succeed(Source, "served"))
      const body = (length?: number) => HttpBody.stream(Stream.provideContext(source, services), "x/y", length)
      assert.strictEqual(yield* text(client.post("/", { body: body() })), "served")
      assert.strictEqual(yield* text(client.post("/", { body: body(6) })), "served")
      const [chunked, counted] = server.requests.map((request) => request.headers)
      assert.include(chunked, { "transfer-encoding": "chunked", "content-type": "x/y" })
      assert.notProperty(chunked, "content-length")
      assert.include(counted, { "content-length": "6" })
      assert.notProperty(counted, "transfer-encoding")
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.live("a stream is pulled no faster than the server reads", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.path === "/warm") return request.answer()
        request.connection.socket.pause()
        request.whole(() => request.answer(String(request.length)))
      })
      const { client } = yield* poolOn(server, { size: 1 })
      yield* client.get("/warm")
      const pulled = yield* Ref.make(0)
      const piece = new Uint8Array(64 * 1024)
      const count = 1024
      const body = HttpBody.stream(
        Stream.range(1, count).pipe(
          Stream.rechunk(1),
          Stream.mapEffect((n) => Effect.as(Ref.set(pulled, n), piece))
        )
      )
      const upload = yield* fork(text(client.post("/", { body })))
      yield* server.received(2)
      // The kernel's buffers are full when nothing is pulled for many turns of the event loop.
      let still = 0
      for (let last = -1; still < 50;) {
        const now = yield* Ref.get(pulled)
        still = now === last ? still + 1 : 0
        last = now
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      }
      assert.isBelow(yield* Ref.get(pulled), count / 2)
      server.connections[0]?.socket.resume()
      assert.strictEqual(yield* Fiber.join(upload), String(count * piece.length))
    })
  )

  it.live("a stream that fails: InvalidRequest with its error, and the server gets no complete request", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(mirror)
      const { client, stats } = yield* poolOn(server, { size: 1 })
      for (const start of [Stream.empty, Stream.make(new Uint8Array(10))]) {
        const cause = { disk: "full" }
        const body = HttpBody.stream(Stream.concat(start, Stream.fail(cause)))
        const error = yield* failsWith(client.post("/", { body }), "InvalidRequest")
        assert.strictEqual(error.cause, cause)
      }
      assert.strictEqual(yield* text(client.post("/", { body: HttpBody.text("next") })), "next")
      assert.isTrue(server.requests.slice(0, -1).every((request) => !request.complete))
      assert.include(yield* stats, { active: 0, staleRetries: 0 })
    })
  )

  it.live("a stream longer or shorter than it says: InvalidRequest", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(mirror)
      const { client } = yield* poolOn(server, { size: 1 })
      for (const length of [1, 100]) {
        const body = HttpBody.stream(Stream.make(new Uint8Array(10)), "x/y", length)
        yield* failsWith(client.post("/", { body }), "InvalidRequest")
      }
      assert.strictEqual(yield* text(client.post("/", { body: HttpBody.text("next") })), "next")
    })
  )

  it.live("an interrupted upload: its stream is interrupted, its finalizer runs, the connection is gone", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(mirror)
      const { client, stats } = yield* poolOn(server, { size: 1 })
      const stopped = yield* Deferred.make<void>()
      const body = HttpBody.stream(
        Stream.make(new Uint8Array(10)).pipe(
          Stream.concat(Stream.never),
          Stream.ensuring(Deferred.succeed(stopped, undefined))
        )
      )
      const upload = yield* fork(client.post("/", { body }))
      yield* server.until(() => server.requests[0]?.length === 10)
      yield* Fiber.interrupt(upload)
      yield* Deferred.await(stopped)
      assert.strictEqual(yield* text(client.post("/", { body: HttpBody.text("next") })), "next")
      assert.include(yield* stats, { active: 0, connectionsOpened: 2 })
      assert.isFalse(server.requests[0]?.complete)
    })
  )

  for (const headers of ["", "Connection: close\r\n"]) {
    it.live(
      `an answer before the upload ends (${headers.trim() || "keep-alive"}): it counts, the upload is interrupted`,
      () =>
        Effect.gen(function* () {
          const server = yield* HostileServer.make((request) => {
            if (request.path === "/early") request.answer("too large", headers, 413)
            else mirror(request)
          })
          const { client, stats } = yield* poolOn(server, { size: 1 })
          for (let i = 0; i < 2; i++) {
            const stopped = yield* Deferred.make<void>()
            const body = HttpBody.stream(
              Stream.make(new Uint8Array(10)).pipe(
                Stream.concat(Stream.never),
                Stream.ensuring(Deferred.succeed(stopped, undefined))
              )
            )
            const response = yield* client.post("/early", { body })
            assert.deepStrictEqual([response.status, yield* response.text], [413, "too large"])
            yield* Deferred.await(stopped)
            assert.strictEqual(yield* text(client.post("/", { body: HttpBody.text("next") })), "next")
          }
          assert.include(yield* stats, { failures: 0, active: 0, staleRetries: 0 })
        })
    )
  }

  it.live("the head of an answer before the upload ends: both go on", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        request.whole(() => request.write(`${request.length.toString(16)}\r\n${request.text}\r\n0\r\n\r\n`))
      })
      const { client } = yield* poolOn(server, { size: 1, responseHeaderTimeout: 5000 })
      const answered = yield* Deferred.make<void>()
      const body = HttpBody.stream(
        Stream.make(Buffer.from("first ")).pipe(
          Stream.concat(Stream.fromEffect(Effect.as(Deferred.await(answered), Buffer.from("second"))))
        )
      )
      const response = yield* client.post("/", { body })
      yield* Deferred.succeed(answered, undefined)
      assert.strictEqual(yield* response.text, "first second")
      assert.strictEqual((yield* client.post("/", { body: HttpBody.text("x") })).status, 200)
    })
  )

  for (const method of ["GET", "DELETE"] as const) {
    it.live(`${method} with a body: sent, and the connection is not used again`, () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(mirror)
        const { client } = yield* poolOn(server, { size: 1 })
        const request = HttpClientRequest.make(method)("/").pipe(HttpClientRequest.setBody(HttpBody.text("body")))
        assert.strictEqual(yield* text(client.execute(request)), "body")
        assert.strictEqual(yield* text(client.execute(request)), "body")
        assert.strictEqual(yield* text(client.get("/")), "")
        assert.strictEqual(server.connections.length, 3)
        assert.strictEqual(server.requests[0]?.method, method)
      })
    )
  }

  for (const [name, value] of [
    ["transfer-encoding", "chunked"],
    ["upgrade", "websocket"],
    ["expect", "100-continue"],
    ["keep-alive", "timeout=5"],
    ["content-length", "many"],
    ["x-break", "a\r\nx-injected: b"],
    ["x-nul", "a\0b"],
    ["x y", "a"]
  ] as const) {
    it.live(
      `the header ${name}: ${JSON.stringify(value)} cannot be sent: InvalidRequest, nothing reaches the server`,
      () =>
        Effect.gen(function* () {
          const server = yield* HostileServer.make(mirror)
          const { client, stats } = yield* poolOn(server, { size: 1 })
          const error = yield* failsWith(client.get("/", { headers: { [name]: value } }), "InvalidRequest")
          assert.notInclude(error.message, `: ${value}`)
          assert.strictEqual((yield* client.get("/")).status, 200)
          assert.deepStrictEqual([server.connections.length, server.requests.length], [1, 1])
          assert.include(yield* stats, { active: 0 })
        })
    )
  }

  it.live("a caller's Connection: close is honoured", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(mirror)
      const { client } = yield* poolOn(server, { size: 1 })
      yield* client.get("/", { headers: { connection: "close" } })
      yield* client.get("/")
      assert.deepStrictEqual(
        server.requests.map((request) => request.headers["connection"]),
        ["close", "keep-alive"]
      )
      assert.strictEqual(server.connections.length, 2)
    })
  )

  it.live("what cannot be a body: InvalidRequest", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(mirror)
      const { client } = yield* poolOn(server, { size: 1 })
      const error = yield* failsWith(client.post("/", { body: HttpBody.raw({ a: 1 }) }), "InvalidRequest")
      assert.include(error.message, "an object")
      assert.strictEqual((yield* client.get("/")).status, 200)
    })
  )
})

describe("UndiciConnector: compressed bodies", () => {
  const plain = JSON.stringify({ a: "é".repeat(5000) })
  const codings = {
    gzip: Zlib.gzipSync,
    deflate: Zlib.deflateSync,
    br: Zlib.brotliCompressSync,
    zstd: Zlib.zstdCompressSync
  }
  const encoded = (bytes: Uint8Array, coding: string) =>
    HostileServer.make((request) => request.answer(bytes, `Content-Encoding: ${coding}\r\nX: y\r\n`))

  const cases: ReadonlyArray<readonly [name: string, coding: string, bytes: Uint8Array]> = [
    ...Object.entries(codings).map(([name, compress]) => [name, name, compress(plain)] as const),
    ["raw deflate", "deflate", Zlib.deflateRawSync(plain)],
    ["GZip, written oddly", " GZip ,identity", Zlib.gzipSync(plain)],
    ["stacked", "gzip, br", Zlib.brotliCompressSync(Zlib.gzipSync(plain))]
  ]
  for (const [name, coding, bytes] of cases) {
    it.live(`${name}: as text, JSON, bytes and stream`, () =>
      Effect.gen(function* () {
        const server = yield* encoded(bytes, coding)
        const { client } = yield* poolOn(server, { size: 1 })
        const response = yield* client.get("/")
        assert.notProperty(response.headers, "content-encoding")
        assert.notProperty(response.headers, "content-length")
        assert.strictEqual(response.headers["x"], "y")
        assert.strictEqual(yield* response.text, plain)
        assert.deepStrictEqual(yield* Effect.flatMap(client.get("/"), (_) => _.json), JSON.parse(plain))
        assert.strictEqual(
          (yield* Effect.flatMap(client.get("/"), (_) => _.arrayBuffer)).byteLength,
          Buffer.byteLength(plain)
        )
        const { stream } = yield* client.get("/")
        assert.strictEqual(yield* Stream.mkString(Stream.decodeText(stream)), plain)
        assert.strictEqual(server.connections.length, 1)
      })
    )
  }

  it.live("what the server flushes comes out at once", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        const gzip = Zlib.createGzip()
        request.write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        gzip.on("data", (chunk: Buffer) => request.write(chunk))
        gzip.on("end", () => request.connection.end())
        gzip.write("first")
        gzip.flush()
        gzips.push(gzip)
      })
      const gzips: Array<Zlib.Gzip> = []
      const { client } = yield* poolOn(server)
      const chunks: Array<string> = []
      const { stream } = yield* client.get("/")
      yield* Stream.runForEach(Stream.decodeText(stream), (chunk) =>
        Effect.sync(() => {
          chunks.push(chunk)
          gzips[0]?.end("second")
        })
      )
      assert.deepStrictEqual(chunks, ["first", "second"])
    })
  )

  it.live("a bomb: DecodeError at maxDecompressedSize, read in any way", () =>
    Effect.gen(function* () {
      const server = yield* encoded(Zlib.gzipSync(Buffer.alloc(64 * mebi)), "gzip")
      const { client, stats } = yield* poolOn(server, { size: 1, maxDecompressedSize: mebi })
      let taken = 0
      for (const read of [
        text(client.get("/")),
        Effect.flatMap(client.get("/"), (_) => _.json),
        Effect.flatMap(client.get("/"), (_) =>
          Stream.runForEach(_.stream, (chunk) => Effect.sync(() => void (taken += chunk.length)))
        )
      ]) {
        const error = yield* failsWith<"DecodeError", unknown, unknown, never>(read, "DecodeError")
        assert.include(error.message, `more than ${mebi} bytes`)
      }
      assert.isAtMost(taken, mebi)
      yield* eventually(stats, { active: 0 })
    })
  )

  for (const [name, coding, bytes] of [
    ["truncated gzip", "gzip", Zlib.gzipSync(plain).subarray(0, -10)],
    ["truncated br", "br", Zlib.brotliCompressSync(plain).subarray(0, -2)],
    ["truncated zstd", "zstd", Zlib.zstdCompressSync(plain).subarray(0, -5)],
    ["damaged gzip", "gzip", Buffer.from("this is not gzip")],
    ["too many codings", "gzip,gzip,gzip,gzip,gzip,gzip", Zlib.gzipSync(plain)]
  ] as const) {
    it.live(`${name}: DecodeError, and the slot goes on`, () =>
      Effect.gen(function* () {
        const server = yield* encoded(bytes, coding)
        const { client, stats } = yield* poolOn(server, { size: 1 })
        for (let i = 0; i < 2; i++) yield* failsWith(text(client.get("/")), "DecodeError")
        yield* eventually(stats, { active: 0, waiting: 0 })
      })
    )
  }

  it.live("who asks for a coding gets the body as it is; so does who wants none, or meets an unknown one", () =>
    Effect.gen(function* () {
      const bytes = Zlib.gzipSync(plain)
      const server = yield* HostileServer.make((request) =>
        request.answer(bytes, `Content-Encoding: ${request.path === "/odd" ? "odd" : "gzip"}\r\n`)
      )
      const own = yield* poolOn(server)
      const off = yield* poolOn(server, { decompress: false })
      for (const response of [
        yield* own.client.get("/", { headers: { "accept-encoding": "gzip" } }),
        yield* own.client.get("/odd"),
        yield* off.client.get("/")
      ]) {
        assert.isTrue(Buffer.from(yield* response.arrayBuffer).equals(bytes))
        assert.property(response.headers, "content-encoding")
        assert.strictEqual(response.headers["content-length"], String(bytes.length))
      }
      const asked = server.requests.map((request) => request.headers["accept-encoding"])
      assert.deepStrictEqual(asked, ["gzip", "gzip, deflate, br, zstd", undefined])
    })
  )

  it.live("no body to decompress", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.write(
          request.method === "HEAD"
            ? "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\nConnection: keep-alive\r\n\r\n"
            : "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
        )
      )
      const { client } = yield* poolOn(server, { size: 1 })
      assert.strictEqual(yield* text(client.head("/")), "")
      assert.strictEqual(yield* text(client.get("/")), "")
      assert.strictEqual(server.connections.length, 1)
    })
  )
})

describe("UndiciConnector: connecting", () => {
  it.live("refused: phase, address, time, and that nothing was sent", () =>
    Effect.gen(function* () {
      const port = yield* closedPort
      const { client } = yield* poolOn({ origin: `http://${loopback}:${port}` })
      const error = yield* failsWith(client.post("/", { body: HttpBody.text("x") }), "ConnectError")
      assert.include(error, { phase: "tcp", sent: false, address: `${loopback}:${port}`, attempts: 1 })
      assert.isDefined(error.elapsed)
      assert.match(error.message, /ECONNREFUSED.*check that the service listens/)
    })
  )

  it.live("a name that does not exist", () =>
    Effect.gen(function* () {
      const { client } = yield* poolOn({ origin: "http://does-not-exist.invalid" })
      const error = yield* failsWith(client.get("/"), "ConnectError")
      assert.include(error, { phase: "dns", sent: false })
    })
  )

  const certificate = selfSigned(loopback)
  const tls = { ca: certificate.cert }
  const ok = (request: HostileServer.Received) => request.answer()

  it.live("tlsTimeout: phase, address and limit", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, { tls: { handshake: ({ socket }) => socket.resume() } })
      const { client, stats } = yield* poolOn(server, { size: 1, tls, tlsTimeout: 60 })
      const error = yield* failsWith(client.get("/"), "TimeoutError")
      assert.include(error, { phase: "tls", address: `${loopback}:${server.port}` })
      assert.strictEqual(Duration.toMillis(error.timeout), 60)
      yield* server.allClosed
      assert.include(yield* stats, { timeouts: 1, failures: 1, connectionsOpened: 0 })
    })
  )

  it.live("dialTimeout: a proxy that does not answer CONNECT", () =>
    Effect.gen(function* () {
      const proxy = yield* HostileServer.make(() => {})
      const { client } = yield* poolOn(
        { origin: "https://example.test" },
        { proxy: Redacted.make(proxy.origin), dialTimeout: 60 }
      )
      const error = yield* failsWith(client.get("/"), "TimeoutError")
      assert.include(error, { phase: "dial", address: `${loopback}:${proxy.port}` })
      assert.strictEqual(Duration.toMillis(error.timeout), 60)
      yield* proxy.allClosed
    })
  )

  it.live("a request's own end comes before that of connecting", () =>
    Effect.gen(function* () {
      let proceed = () => {}
      const server = yield* HostileServer.make(ok, { tls: { ...certificate, handshake: (_, go) => (proceed = go) } })
      const { client } = yield* poolOn(server, { size: 1, tls, requestTimeout: 60 })
      const error = yield* failsWith(client.get("/"), "TimeoutError")
      assert.strictEqual(error.phase, "request")
      // The connection goes on without it, for the next.
      proceed()
      assert.strictEqual((yield* client.get("/")).status, 200)
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.live("TLS: a trusted authority; the connection is kept", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, { tls: { ...certificate, ALPNProtocols: ["h2", "http/1.1"] } })
      const { client } = yield* poolOn(server, { size: 2, tls })
      for (let i = 0; i < 6; i++) assert.strictEqual(yield* text(client.get("/")), "ok")
      assert.strictEqual(server.connections.length, 2)
    })
  )

  it.live("TLS: an authority that is not trusted, a wrong name: ConnectError, nothing is sent", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, { tls: certificate })
      const untrusting = yield* poolOn(server)
      const error = yield* failsWith(untrusting.client.get("/"), "ConnectError")
      assert.include(error, { phase: "tls", sent: false })
      assert.include(error.message, "DEPTH_ZERO_SELF_SIGNED_CERT")
      const other = selfSigned("other.test")
      const misnamed = yield* HostileServer.make(ok, { tls: other })
      const trusting = yield* poolOn(misnamed, { tls: { ca: other.cert } })
      const wrong = yield* failsWith(trusting.client.get("/"), "ConnectError")
      assert.include(wrong.message, "ERR_TLS_CERT_ALTNAME_INVALID")
      // The name to ask for can be given.
      const named = yield* poolOn(misnamed, { tls: { ca: other.cert, servername: "other.test" } })
      assert.strictEqual((yield* named.client.get("/")).status, 200)
      assert.deepStrictEqual([server.requests.length, misnamed.requests.length], [0, 1])
    })
  )

  it.live("TLS: insecureSkipVerify", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, { tls: selfSigned("other.test") })
      const { client } = yield* poolOn(server, { tls: { insecureSkipVerify: true } })
      assert.strictEqual((yield* client.get("/")).status, 200)
    })
  )

  it.live("TLS: the client's own certificate", () =>
    Effect.gen(function* () {
      const own = selfSigned("client.test")
      const server = yield* HostileServer.make(ok, {
        tls: { ...certificate, requestCert: true, rejectUnauthorized: true, ca: [own.cert] }
      })
      const known = yield* poolOn(server, { tls: { ...tls, cert: own.cert, key: Redacted.make(own.key) } })
      assert.strictEqual((yield* known.client.get("/")).status, 200)
      const unknown = yield* poolOn(server, { tls })
      yield* failsWith(unknown.client.post("/"), "ConnectError")
      assert.strictEqual(server.requests.length, 1)
    })
  )

  it.live("a Unix socket", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "pool-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
      )
      const path = Path.join(folder, "s")
      const server = yield* HostileServer.make((request) => request.answer(request.headers["host"]), { path })
      const { client } = yield* poolOn({ origin: "http://service.test" }, { size: 2, socketPath: path })
      for (let i = 0; i < 4; i++) assert.strictEqual(yield* text(client.get("/")), "service.test")
      assert.strictEqual(server.connections.length, 2)
      const nobody = yield* poolOn({ origin: "http://service.test" }, { socketPath: Path.join(folder, "none") })
      const error = yield* failsWith(nobody.client.get("/"), "ConnectError")
      assert.strictEqual(error.address, Path.join(folder, "none"))
    })
  )

  it.live("an HTTP proxy for an http origin: absolute form, credentials for the proxy only", () =>
    Effect.gen(function* () {
      const proxy = yield* HostileServer.make((request) => request.answer(request.path))
      const url = Redacted.make(proxy.origin.replace("//", "//user:pass@"))
      const { client } = yield* poolOn({ origin: "http://origin.test/base" }, { size: 2, proxy: url })
      for (let i = 0; i < 4; i++) assert.strictEqual(yield* text(client.get("/a?b=c")), "http://origin.test/base/a?b=c")
      assert.include(proxy.requests[0]?.headers, {
        host: "origin.test",
        "proxy-authorization": `Basic ${Buffer.from("user:pass").toString("base64")}`
      })
      assert.strictEqual(proxy.connections.length, 2)
      const open = yield* poolOn({ origin: "http://origin.test" }, { proxy: Redacted.make(proxy.origin) })
      yield* open.client.get("/")
      assert.notProperty(proxy.requests.at(-1)?.headers, "proxy-authorization")
    })
  )

  it.live("an HTTP proxy for an https origin: CONNECT, then TLS with the origin", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make(ok, { tls: certificate })
      const asked: Array<string> = []
      const port = yield* listening(
        Net.createServer((socket) => {
          socket.once("data", (head: Buffer) => {
            asked.push(head.toString("latin1"))
            const behind = Net.connect(server.port, loopback, () => {
              socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
              socket.pipe(behind).pipe(socket)
            })
            for (const end of [socket, behind]) {
              end.on("error", () => {})
              end.on("close", () => (end === socket ? behind : socket).destroy())
            }
          })
        })
      )
      const proxy = Redacted.make(`http://user:pass@${loopback}:${port}`)
      const { client } = yield* poolOn(server, { size: 2, tls, proxy })
      for (let i = 0; i < 4; i++) assert.strictEqual(yield* text(client.get("/")), "ok")
      assert.strictEqual(asked.length, 2)
      assert.match(asked[0] ?? "", new RegExp(`^CONNECT ${loopback}:${server.port} HTTP/1.1\r\n`))
      assert.include(asked[0], "proxy-authorization: Basic")
      assert.strictEqual(server.requests[0]?.path, "/")
      assert.notProperty(server.requests[0]?.headers, "proxy-authorization")
    })
  )

  it.live("a proxy that refuses: ConnectError of the proxy", () =>
    Effect.gen(function* () {
      const proxy = yield* HostileServer.make((request) => request.answer("", "", 407))
      const { client } = yield* poolOn({ origin: "https://origin.test" }, { proxy: Redacted.make(proxy.origin) })
      const error = yield* failsWith(client.get("/"), "ConnectError")
      assert.include(error, { phase: "proxy", sent: false })
      assert.include(error.message, "407")
    })
  )
})
