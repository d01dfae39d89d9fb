/**
 * What every connector owes the pool, tried on real loopback servers by driving its `Transport` directly.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Connector,
  type Control,
  type Exchange,
  type Failure,
  type RawHeaders,
  type Target,
  type Transport
} from "@millrace/core/client/Connector"
import { Context, Deferred, Effect, type Layer, type Scope, Stream } from "effect"
import * as HttpBody from "effect/http/HttpBody"
import { execFile } from "node:child_process"
import * as Http from "node:http"
import type * as Net from "node:net"
import { Readable } from "node:stream"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { closedPort, Later, listening, loopback, tcpServer } from "./fixtures/net.ts"
import { ManualTimers, targetOf } from "./fixtures/target.ts"

/** What a connector cannot do by its nature, as `fetch`. */
export interface Abilities {
  /** It has one connection, which it reports, keeps, retires and closes. */
  readonly ownsConnection: boolean
  /** It shows responses below 200. */
  readonly interim: boolean
}

/** An exchange that writes down what happens to it. */
export class Recorder implements Exchange {
  readonly method: string
  readonly path: string
  readonly headers: Array<string>
  readonly body: HttpBody.HttpBody
  readonly services: Context.Context<never> = Context.empty()

  /** The names of the callbacks, in order; runs of `data` count as one. */
  readonly calls: Array<string> = []
  readonly interim: Array<number> = []
  readonly chunks: Array<Uint8Array> = []
  status = 0
  responseHeaders: RawHeaders = {}
  control: Control | undefined = undefined
  received = 0
  error: Error | undefined = undefined
  readonly started = new Later<Control>()
  readonly head = new Later<void>()
  readonly data = new Later<void>()
  readonly #over = new Later<void>()
  readonly over = this.#over.wait

  readonly onHead: (control: Control) => void
  readonly onStart: (control: Control) => void

  constructor(options: {
    readonly method?: string
    readonly path?: string
    readonly headers?: Array<string>
    readonly body?: HttpBody.HttpBody
    readonly onStart?: (control: Control) => void
    readonly onHead?: (control: Control) => void
  }) {
    this.method = options.method ?? "GET"
    this.path = options.path ?? "/"
    this.headers = options.headers ?? []
    this.body = options.body ?? HttpBody.empty
    this.onHead = options.onHead ?? (() => {})
    this.onStart = options.onStart ?? (() => {})
  }

  #call(name: string): void {
    if (this.calls.at(-1) !== name) this.calls.push(name)
  }
  onRequestStart(control: Control): void {
    this.#call("start")
    this.control = control
    this.onStart(control)
    this.started.resolve(control)
  }
  onRequestSent(): void {}
  onResponseStarted(): void {
    this.#call("first")
  }
  onResponseStart(control: Control, status: number, headers: RawHeaders): void {
    if (status < 200) {
      this.interim.push(status)
      return
    }
    this.#call("head")
    this.status = status
    this.responseHeaders = headers
    this.onHead(control)
    this.head.resolve()
  }
  onResponseData(_control: Control, chunk: Uint8Array): void {
    this.#call("data")
    this.chunks.push(Uint8Array.from(chunk))
    this.received += chunk.length
    this.data.resolve()
  }
  onResponseEnd(): void {
    this.calls.push("end")
    this.#over.resolve()
  }
  onResponseError(_control: Control | null, error: Error): void {
    this.calls.push("error")
    this.error = error
    this.#over.resolve()
  }
  get text(): string {
    return Buffer.concat(this.chunks).toString()
  }
}

/** A transport that the test's scope closes. */
export const open = (target: Target): Effect.Effect<Transport, never, Connector | Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(Connector, (connector) => connector.open(target)),
    (transport) => transport.close
  )

/** Sends an exchange and waits for its end. */
export const exchanged = Effect.fnUntraced(function* (
  transport: Transport,
  options: ConstructorParameters<typeof Recorder>[0]
) {
  const exchange = new Recorder(options)
  transport.send(exchange)
  yield* exchange.over
  return exchange
})

const complete = ["start", "first", "head", "data", "end"]
const withoutBody = ["start", "first", "head", "end"]

interface Seen {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

/** Answers with what it got, as JSON; `connections` counts. */
export const echo = Effect.fnUntraced(function* (
  answer: (request: Http.IncomingMessage, response: Http.ServerResponse) => boolean = () => false
) {
  const server = Http.createServer((request, response) => {
    if (answer(request, response)) return
    const chunks: Array<Uint8Array> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("error", () => {})
    request.on("end", () => {
      const { headers, method, url } = request
      response.end(JSON.stringify({ method, url, headers, body: Buffer.concat(chunks).toString() }))
    })
  })
  const count = { connections: 0 }
  server.on("connection", () => count.connections++)
  const port = yield* listening(server)
  return { origin: `http://${loopback}:${port}`, count, server }
})

export const seenBy = (exchange: Recorder): Seen => JSON.parse(exchange.text)

/** Answers each request head of a connection with `f(index of the connection)`, as it is. */
export const scripted = (f: (socket: Net.Socket, connection: number) => void) =>
  Effect.map(
    tcpServer((socket, connection) => {
      let head = ""
      socket.on("data", (chunk: Buffer) => {
        head += chunk.toString("latin1")
        if (!head.includes("\r\n\r\n")) return
        head = ""
        f(socket, connection)
      })
    }),
    (port) => `http://${loopback}:${port}`
  )

export const failureOf = (transport: Transport, exchange: Recorder): Failure => {
  if (exchange.error === undefined) throw new Error(`no error, but ${exchange.calls.join()}`)
  return transport.classify(exchange.error)
}

const idleProcess = fileURLToPath(new URL("./fixtures/idle.ts", import.meta.url))

/** What a process wrote, once it has ended by itself. */
const run = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const child = execFile(process.execPath, [file, ...args], (error, stdout, stderr) =>
      resume(error === null ? Effect.succeed(stdout) : Effect.die(new Error(stderr, { cause: error })))
    )
    return Effect.sync(() => child.kill())
  })

/** A form of another realm, as far as it can be told from a real one. */
const foreignForm = (value: unknown) =>
  HttpBody.formData({ entries: () => [["file", value]].values() } as unknown as FormData)

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/**
 * Defines the tests of the contract for the connector that `layer` provides.
 */
export const connectorContract = (
  name: string,
  layer: Layer.Layer<Connector>,
  { interim, ownsConnection }: Abilities = { interim: true, ownsConnection: true }
): void => {
  const test = (title: string, body: () => Effect.Effect<void, never, Connector | Scope.Scope>) =>
    it.live(title, () => Effect.provide(body(), layer))
  // What cannot be promised is no case of that connector; a skipped test would look like one that is missing.
  const testOwn: typeof test = (title, body) => {
    if (ownsConnection) test(title, body)
  }

  describe(`${name}: contract`, () => {
    describe("requests", () => {
      test("GET: callbacks in order, once each", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, { path: "/a?b=c", headers: ["x-a", "1", "X-B", "2"] })
          assert.deepStrictEqual(exchange.calls, complete)
          assert.strictEqual(exchange.status, 200)
          const seen = seenBy(exchange)
          assert.include(seen, { method: "GET", url: "/a?b=c", body: "" })
          assert.include(seen.headers, { "x-a": "1", "x-b": "2", host: new URL(origin).host })
          assert.notProperty(seen.headers, "transfer-encoding")
        }))

      const bodies: ReadonlyArray<
        readonly [title: string, body: () => HttpBody.HttpBody, sent: string, length: boolean]
      > = [
        ["text", () => HttpBody.text("hé"), "hé", true],
        ["bytes", () => HttpBody.uint8Array(Buffer.from("bytes")), "bytes", true],
        ["no body", () => HttpBody.empty, "", true],
        ["a blob", () => HttpBody.raw(new Blob(["blob"], { type: "text/blob" })), "blob", ownsConnection],
        [
          "a stream",
          () => HttpBody.stream(Stream.make("a", "b", "c").pipe(Stream.encodeText, Stream.rechunk(1)), "text/plain"),
          "abc",
          false
        ],
        [
          "a stream of known length",
          () => HttpBody.stream(Stream.make("a", "b").pipe(Stream.encodeText), "text/plain", 2),
          "ab",
          ownsConnection
        ]
      ]
      for (const [title, body, sent, length] of bodies) {
        test(`POST ${title}`, () =>
          Effect.gen(function* () {
            const { origin } = yield* echo()
            const transport = yield* open(targetOf(origin))
            const exchange = yield* exchanged(transport, { method: "POST", body: body() })
            const seen = seenBy(exchange)
            assert.strictEqual(seen.body, sent)
            assert.strictEqual(seen.headers["content-length"], length ? String(Buffer.byteLength(sent)) : undefined)
            assert.strictEqual(seen.headers["transfer-encoding"], length ? undefined : "chunked")
          }))
      }

      test("POST a form: multipart with names, file names and types", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          const form = new FormData()
          form.append("field", "value")
          form.append("file", new File(["content"], "name.txt", { type: "text/x" }))
          for (const body of [HttpBody.formData(form), HttpBody.raw(form)]) {
            const { body: sent, headers } = seenBy(yield* exchanged(transport, { method: "POST", body }))
            const type = String(headers["content-type"])
            assert.match(type, /^multipart\/form-data; boundary=/)
            const parsed = yield* Effect.promise(() =>
              new Response(sent, { headers: { "content-type": type } }).formData()
            )
            assert.strictEqual(parsed.get("field"), "value")
            const file = parsed.get("file")
            if (file === null || typeof file === "string") return assert.fail("no file")
            assert.deepStrictEqual([file.name, file.type], ["name.txt", "text/x"])
          }
        }))

      test("a stream that fails: rejected, with the original as cause, and no complete request arrives", () =>
        Effect.gen(function* () {
          const aborted = new Later<boolean>()
          const { origin } = yield* echo((request) => {
            request.on("close", () => aborted.resolve(request.complete))
            request.on("error", () => {})
            request.resume()
            return true
          })
          const transport = yield* open(targetOf(origin))
          const cause = new Error("disk")
          const body = HttpBody.stream(
            Stream.make("x".repeat(100_000)).pipe(Stream.encodeText, Stream.concat(Stream.fail(cause)))
          )
          const exchange = yield* exchanged(transport, { method: "POST", body })
          assert.strictEqual(exchange.calls.at(-1), "error")
          assert.include(failureOf(transport, exchange), { _tag: "Rejected", cause })
          assert.isFalse(yield* aborted.wait)
        }))

      test("a body or a header that cannot be sent: rejected, and the next request works", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          for (const options of [
            { method: "POST", body: HttpBody.raw({ a: 1 }) },
            { headers: ["x", "a\nb"] },
            { headers: ["x y", "z"] }
          ]) {
            const exchange = yield* exchanged(transport, options)
            assert.strictEqual(exchange.calls.at(-1), "error")
            assert.strictEqual(failureOf(transport, exchange)._tag, "Rejected")
          }
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
        }))

      test("a body of another realm, or one that throws when it is looked at: rejected, and nothing is thrown", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const { proxy, revoke } = Proxy.revocable({}, {})
          revoke()
          for (const body of [foreignForm({ name: "f.txt", size: 1, type: "" }), HttpBody.raw(proxy)]) {
            // Once when the connection is made, once when it is there.
            const transport = yield* open(targetOf(origin))
            for (let i = 0; i < 2; i++) {
              const exchange = yield* exchanged(transport, { method: "POST", body })
              assert.strictEqual(failureOf(transport, exchange)._tag, "Rejected")
              assert.strictEqual((yield* exchanged(transport, {})).status, 200)
            }
          }
        }))

      test("a stream that fails with what is no error: the exchange gets one", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          for (const thrown of ["full", Object.create(null)]) {
            const body = HttpBody.raw(
              new Readable({
                read() {
                  this.destroy(thrown)
                }
              })
            )
            const exchange = yield* exchanged(transport, { method: "POST", body })
            assert.strictEqual(exchange.calls.at(-1), "error")
            assert.instanceOf(exchange.error, Error)
            assert.strictEqual((yield* exchanged(transport, {})).status, 200)
          }
        }))

      testOwn("a stream longer or shorter than its length says: rejected, and the connection is not used again", () =>
        Effect.gen(function* () {
          const { count, origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          for (const length of [1, 3]) {
            const body = HttpBody.stream(Stream.make("ab").pipe(Stream.encodeText), "text/plain", length)
            const exchange = yield* exchanged(transport, { method: "POST", body })
            assert.strictEqual(failureOf(transport, exchange)._tag, "Rejected")
          }
          const { connections } = count
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
          assert.strictEqual(count.connections, connections + 1)
        })
      )
    })

    describe("responses", () => {
      test("HEAD, 204 and 304 have no body, whatever their headers say", () =>
        Effect.gen(function* () {
          const { count, origin } = yield* echo((request, response) => {
            const status = Number(request.url?.slice(1))
            response.writeHead(status, status === 204 ? {} : { "content-length": "5" })
            response.end(request.method === "HEAD" || status !== 200 ? undefined : "12345")
            return true
          })
          const transport = yield* open(targetOf(origin))
          for (const [method, status] of [
            ["HEAD", 200],
            ["GET", 204],
            ["HEAD", 404],
            ["HEAD", 304]
          ] as const) {
            const exchange = yield* exchanged(transport, { method, path: `/${status}` })
            assert.deepStrictEqual(exchange.calls, withoutBody, `${method} ${status}`)
            assert.strictEqual(exchange.status, status)
            if (status !== 204) assert.strictEqual(exchange.responseHeaders["content-length"], "5")
          }
          assert.strictEqual((yield* exchanged(transport, { path: "/200" })).text, "12345")
          if (ownsConnection) assert.strictEqual(count.connections, 1)
          // A 304 may name a length (RFC 9110, section 8.6). A connector may mistrust the connection after that.
          const unmodified = yield* exchanged(transport, { path: "/304" })
          assert.deepStrictEqual(unmodified.calls, withoutBody)
          assert.strictEqual((yield* exchanged(transport, { path: "/200" })).text, "12345")
        }))

      test("chunked, with trailers and repeated headers", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket) =>
            socket.write(
              "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n" +
                "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nx-t: late\r\n\r\n"
            )
          )
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, {})
          assert.deepStrictEqual(exchange.calls, complete)
          assert.strictEqual(exchange.text, "abcde")
          assert.deepInclude(exchange.responseHeaders, { "set-cookie": ["a=1", "b=2"], "x-one": "1" })
        }))

      test("without a length the body ends with the connection", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\nuntil the end"))
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, {})
          assert.deepStrictEqual(exchange.calls, complete)
          assert.strictEqual(exchange.text, "until the end")
          assert.strictEqual((yield* exchanged(transport, {})).text, "until the end")
        }))

      test("`Connection: close`: the next request has a new connection", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket, connection) =>
            socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n${connection}`)
          )
          const transport = yield* open(targetOf(origin))
          assert.strictEqual((yield* exchanged(transport, {})).text, "0")
          assert.strictEqual((yield* exchanged(transport, {})).text, "1")
        }))

      test("103 before the answer is not the answer", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket) =>
            socket.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
          )
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, {})
          assert.deepStrictEqual(exchange.calls, complete)
          assert.deepStrictEqual(exchange.interim, interim ? [103] : [])
          assert.strictEqual(exchange.text, "ok")
        }))

      test("redirects are answers", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo((_, response) => {
            response.writeHead(302, { location: "/elsewhere" }).end()
            return true
          })
          const exchange = yield* exchanged(yield* open(targetOf(origin)), {})
          assert.strictEqual(exchange.status, 302)
          assert.strictEqual(exchange.responseHeaders["location"], "/elsewhere")
        }))
    })

    describe("failures", () => {
      test("reset before the first byte, in the head and in the body: broken, and told how far it came", () =>
        Effect.gen(function* () {
          const cases: ReadonlyArray<readonly [answer: string, calls: ReadonlyArray<string>]> = [
            ["", ["start", "error"]],
            ["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", ["start", "first", "head", "data", "error"]],
            [
              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
              ["start", "first", "head", "data", "error"]
            ]
          ]
          for (const [answer, calls] of cases) {
            const received = new Later<void>()
            const origin = yield* scripted((socket) => {
              if (answer === "") return void socket.resetAndDestroy()
              socket.write(answer)
              // The bytes must have been seen before the reset overtakes them.
              void received.promise.then(() => socket.resetAndDestroy())
            })
            const transport = yield* open(targetOf(origin))
            const exchange = new Recorder({})
            transport.send(exchange)
            void exchange.data.promise.then(received.resolve)
            yield* exchange.over
            assert.deepStrictEqual(exchange.calls, calls)
            assert.strictEqual(failureOf(transport, exchange)._tag, "Broken")
          }
        }))

      test("a body cut short by an orderly close is broken, not complete", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, {})
          assert.strictEqual(exchange.calls.at(-1), "error")
          assert.include(["Broken", "Protocol"], failureOf(transport, exchange)._tag)
        }))

      test("a malformed status line: a protocol failure", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket) => socket.end("SSH-2.0-OpenSSH\r\n\r\n"))
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, {})
          assert.strictEqual(exchange.calls.at(-1), "error")
          assert.strictEqual(failureOf(transport, exchange)._tag, "Protocol")
        }))

      test("a header that is too large: a protocol failure", () =>
        Effect.gen(function* () {
          const origin = yield* scripted((socket) =>
            socket.write(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(64 * 1024)}\r\nContent-Length: 0\r\n\r\n`)
          )
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, {})
          assert.strictEqual(failureOf(transport, exchange)._tag, "Protocol")
          assert.notInclude(exchange.calls, "head")
        }))

      test("the cause of a protocol failure shows nothing that the server sent", () =>
        Effect.gen(function* () {
          const cookie = "Set-Cookie: session=s3cret\r\n"
          for (const answer of [
            `HTTP/1.1 200 OK\r\n${cookie}no colon\r\n\r\n${cookie}`,
            `HTTP/1.1 200 OK\r\n${cookie}x: ${"y".repeat(64 * 1024)}\r\n\r\n${cookie}`,
            `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ns3cret\r\n`
          ]) {
            const transport = yield* open(targetOf(yield* scripted((socket) => socket.write(answer))))
            const failure = failureOf(transport, yield* exchanged(transport, {}))
            if (failure._tag !== "Protocol") return assert.fail(failure._tag)
            assert.instanceOf(failure.cause, Error)
            // What node:http keeps of it are bytes, which `inspect` does not show as text.
            assert.notProperty(failure.cause, "rawPacket")
            assert.notInclude(inspect(failure, { depth: 9, showHidden: true }), "s3cret")
          }
        }))

      test("nobody listens: a connect failure of phase tcp; nothing has started", () =>
        Effect.gen(function* () {
          const transport = yield* open(targetOf(`http://${loopback}:${yield* closedPort}`))
          const exchange = yield* exchanged(transport, {})
          assert.include(failureOf(transport, exchange), { _tag: "Connect", phase: "tcp" })
          if (ownsConnection) assert.deepStrictEqual(exchange.calls, ["error"])
        }))
    })

    describe("uploads", () => {
      test("an early answer counts; what still produces the body is stopped", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo((request, response) => {
            if (request.method !== "POST") return false
            response.writeHead(413, { "content-length": "3" }).end("big")
            return true
          })
          const stopped = yield* Deferred.make<void>()
          const body = HttpBody.stream(
            Stream.make("first").pipe(
              Stream.encodeText,
              Stream.concat(Stream.fromEffect(Effect.never)),
              Stream.ensuring(Deferred.succeed(stopped, undefined))
            )
          )
          const transport = yield* open(targetOf(origin))
          const exchange = yield* exchanged(transport, { method: "POST", body })
          assert.deepStrictEqual(exchange.calls, complete)
          assert.deepStrictEqual([exchange.status, exchange.text], [413, "big"])
          yield* Deferred.await(stopped)
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
        }))

      test("abort during an upload that waits for its source: the source is stopped", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const waiting = yield* Deferred.make<void>()
          const stopped = yield* Deferred.make<void>()
          const body = HttpBody.stream(
            Stream.make("first").pipe(
              Stream.encodeText,
              Stream.concat(Stream.fromEffect(Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never))),
              Stream.ensuring(Deferred.succeed(stopped, undefined))
            )
          )
          const transport = yield* open(targetOf(origin))
          const exchange = new Recorder({ method: "POST", body })
          transport.send(exchange)
          const control = yield* exchange.started.wait
          yield* Deferred.await(waiting)
          control.abort(new Error("enough"))
          yield* Deferred.await(stopped)
          yield* turn
          assert.notInclude(exchange.calls, "end")
        }))
    })

    describe("control", () => {
      test("abort while headers are awaited: the server sees the end, and no answer comes after it", () =>
        Effect.gen(function* () {
          const asked = new Later<void>()
          const gone = new Later<void>()
          const { origin } = yield* echo((request, response) => {
            if (request.url !== "/slow") return false
            response.on("close", () => gone.resolve())
            asked.resolve()
            return true
          })
          const transport = yield* open(targetOf(origin))
          const exchange = new Recorder({ path: "/slow" })
          transport.send(exchange)
          yield* asked.wait
          exchange.control?.abort(new Error("enough"))
          yield* gone.wait
          yield* turn
          assert.notInclude(exchange.calls, "head")
          assert.notInclude(exchange.calls, "end")
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
        }))

      test("abort in the middle of a body, even a paused one: the connection is gone, the next request works", () =>
        Effect.gen(function* () {
          const gone = new Later<void>()
          const { origin } = yield* echo((request, response) => {
            if (request.url !== "/endless") return false
            response.on("close", () => gone.resolve())
            response.write("x".repeat(1000))
            return true
          })
          const transport = yield* open(targetOf(origin))
          const exchange = new Recorder({ path: "/endless" })
          transport.send(exchange)
          yield* exchange.data.wait
          exchange.control?.pause()
          exchange.control?.abort(new Error("enough"))
          yield* gone.wait
          yield* turn
          assert.notInclude(exchange.calls, "end")
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
        }))

      test("abort when the request is about to be written: nothing comes of it", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          const exchange = new Recorder({ onStart: (control) => control.abort(new Error("enough")) })
          transport.send(exchange)
          yield* exchange.started.wait
          yield* turn
          assert.notInclude(exchange.calls, "first")
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
        }))

      test("an exchange that throws when it is about to be written is not written", () =>
        Effect.gen(function* () {
          const seen: Array<string | undefined> = []
          const { origin } = yield* echo((request) => {
            seen.push(request.url)
            return false
          })
          const transport = yield* open(targetOf(origin))
          const exchange = new Recorder({
            path: "/never",
            onStart: () => {
              throw new Error("cancelled")
            }
          })
          transport.send(exchange)
          yield* exchange.over
          assert.deepStrictEqual(exchange.calls, ["start", "error"])
          assert.strictEqual((yield* exchanged(transport, { path: "/next" })).status, 200)
          assert.deepStrictEqual(seen, ["/next"])
        }))

      test("pause bounds memory, resume brings the rest", () =>
        Effect.gen(function* () {
          const size = 64 * 1024 * 1024
          const block = Buffer.alloc(64 * 1024)
          let written = 0
          const { origin } = yield* echo((_, response) => {
            response.writeHead(200, { "content-length": String(size) })
            const push = () => {
              while (written < size) {
                written += block.length
                if (response.write(block)) continue
                response.once("drain", push)
                return
              }
              response.end()
            }
            push()
            return true
          })
          const transport = yield* open(targetOf(origin))
          const exchange = new Recorder({ onHead: (control) => control.pause() })
          transport.send(exchange)
          yield* exchange.head.wait
          // Until the server can write no more: all the buffers between are full, or everything has been sent.
          for (let before = -1, still = 0; still < 100 && written < size;) {
            yield* turn
            still = written === before ? still + 1 : 0
            before = written
          }
          const paused = exchange.received
          assert.isBelow(paused, 1024 * 1024)
          assert.isBelow(written, size)
          exchange.chunks.length = 0
          exchange.control?.resume()
          yield* exchange.over
          assert.strictEqual(exchange.received, size)
          assert.strictEqual(exchange.calls.at(-1), "end")
        }))
    })

    describe.runIf(ownsConnection)("the connection", () => {
      testOwn("one connection serves request after request, and is reported once", () =>
        Effect.gen(function* () {
          const { count, origin } = yield* echo()
          const connected: Array<string | undefined> = []
          const observer = {
            connected: (info: { readonly address: string | undefined }) => void connected.push(info.address),
            disconnected: () => {}
          }
          const transport = yield* open(targetOf(origin, {}, { observer }))
          for (let i = 0; i < 20; i++) {
            const method = i % 2 === 0 ? "GET" : "POST"
            const body = method === "POST" ? HttpBody.text(String(i)) : HttpBody.empty
            assert.strictEqual((yield* exchanged(transport, { method, body })).status, 200)
          }
          assert.strictEqual(count.connections, 1)
          assert.deepStrictEqual(connected, [new URL(origin).host])
        })
      )

      testOwn("the next request may be sent from inside `onResponseEnd`", () =>
        Effect.gen(function* () {
          const { count, origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          const second = new Recorder({ path: "/second" })
          class First extends Recorder {
            override onResponseEnd(): void {
              transport.send(second)
            }
          }
          transport.send(new First({}))
          yield* second.over
          assert.strictEqual(seenBy(second).url, "/second")
          assert.strictEqual(count.connections, 1)
        })
      )

      testOwn("the server closes the idle connection: reported, and the next request has a new one", () =>
        Effect.gen(function* () {
          const { count, origin, server } = yield* echo()
          const disconnected = new Later<string>()
          const observer = { connected: () => {}, disconnected: disconnected.resolve }
          const transport = yield* open(targetOf(origin, {}, { observer }))
          yield* exchanged(transport, {})
          server.closeIdleConnections()
          assert.isAbove((yield* disconnected.wait).length, 0)
          assert.strictEqual((yield* exchanged(transport, {})).status, 200)
          assert.strictEqual(count.connections, 2)
        })
      )

      testOwn("bytes that nobody asked for on an idle connection close it: they are never taken for an answer", () =>
        Effect.gen(function* () {
          const connection = new Later<Net.Socket>()
          const origin = yield* scripted((socket, index) => {
            connection.resolve(socket)
            socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${index}`)
          })
          const disconnected = new Later<string>()
          const observer = { connected: () => {}, disconnected: disconnected.resolve }
          const transport = yield* open(targetOf(origin, {}, { observer }))
          assert.strictEqual((yield* exchanged(transport, {})).text, "0")
          const socket = yield* connection.wait
          socket.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
          yield* disconnected.wait
          assert.strictEqual((yield* exchanged(transport, {})).text, "1")
        })
      )

      testOwn("`retire` closes the idle connection", () =>
        Effect.gen(function* () {
          const { count, origin } = yield* echo()
          const disconnected = new Later<string>()
          const transport = yield* open(
            targetOf(origin, {}, { observer: { connected: () => {}, disconnected: disconnected.resolve } })
          )
          yield* exchanged(transport, {})
          transport.retire()
          yield* disconnected.wait
          yield* exchanged(transport, {})
          assert.strictEqual(count.connections, 2)
        })
      )

      testOwn("an exchange taken back while the connection is made is not sent; the next takes the connection", () =>
        Effect.gen(function* () {
          const seen: Array<string | undefined> = []
          const { count, origin } = yield* echo((request) => {
            seen.push(request.url)
            return false
          })
          const transport = yield* open(targetOf(origin))
          const first = new Recorder({ path: "/first" })
          transport.send(first)
          transport.cancel(first)
          yield* exchanged(transport, { path: "/second" })
          assert.deepStrictEqual(first.calls, [])
          assert.deepStrictEqual(seen, ["/second"])
          assert.strictEqual(count.connections, 1)
        })
      )

      testOwn("`close` closes the connection, running or idle, and says so when it is done", () =>
        Effect.gen(function* () {
          const asked = new Later<void>()
          const { origin, server } = yield* echo((request) => {
            if (request.url === "/slow") asked.resolve()
            return request.url === "/slow"
          })
          const idle = yield* open(targetOf(origin))
          yield* exchanged(idle, {})
          const running = yield* open(targetOf(origin))
          const exchange = new Recorder({ path: "/slow" })
          running.send(exchange)
          yield* asked.wait
          yield* idle.close
          yield* running.close
          yield* running.close
          yield* exchange.over
          assert.strictEqual(exchange.calls.at(-1), "error")
          yield* Effect.promise(() => new Promise((resolve) => server.close(resolve)))
        })
      )

      testOwn("idle, it keeps no process alive, whoever it was made for; used, it does", () =>
        Effect.gen(function* () {
          const { origin } = yield* echo()
          assert.strictEqual(yield* run(idleProcess, name, origin), "[0,0,0,1]")
        })
      )

      testOwn("`close` while an exchange waits for its connection: it is told, and so is one that comes later", () =>
        Effect.gen(function* () {
          const { count, origin } = yield* echo()
          const transport = yield* open(targetOf(origin))
          const later = new Recorder({})
          class Waiting extends Recorder {
            override onResponseError(control: Control | null, error: Error): void {
              super.onResponseError(control, error)
              transport.send(later)
            }
          }
          const waiting = new Waiting({})
          transport.send(waiting)
          yield* transport.close
          for (const exchange of [waiting, later]) {
            yield* exchange.over
            assert.deepStrictEqual(exchange.calls, ["error"])
            assert.strictEqual(failureOf(transport, exchange)._tag, "Broken")
          }
          assert.strictEqual(count.connections, 0)
        })
      )

      testOwn("`close` while the connection is made", () =>
        Effect.gen(function* () {
          const timers = new ManualTimers()
          const { origin } = yield* echo()
          const transport = yield* open(targetOf(origin, {}, { timers }))
          transport.send(new Recorder({}))
          yield* transport.close
          assert.strictEqual(timers.size, 0)
        })
      )
    })
  })
}
