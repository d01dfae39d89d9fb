/** What a listener tells a log of its requests: each once, with how it ended. */
import { assert, describe, it } from "@effect/vitest"
import { ServerMetrics, ServerPool } from "@millrace/core"
import type { Handler, LoggedRequest, RequestLog } from "@millrace/core/server/Listener"
import { Context, Effect, Metric, Redacted, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { PrometheusMetrics } from "effect/observability"
import * as NodeListener from "../src/NodeListener.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { eventually, open, plain, text } from "./fixtures/listener.ts"
import { Later } from "./fixtures/net.ts"
import { connect, connectTls, get, post } from "./fixtures/rawClient.ts"

/** Writes down what it is told; `sane`: that no duration was negative or no number. */
class Written implements RequestLog {
  readonly lines: Array<string> = []
  active = 0
  sane = true

  begin(method: string): LoggedRequest {
    this.active++
    const end = (how: string) => {
      this.active--
      this.lines.push(`${method} ${how}`)
    }
    return {
      ended: (status, millis) => {
        this.sane &&= millis >= 0 && millis < Infinity
        end(String(status))
      },
      left: () => end("left")
    }
  }
}

const serving = (handler: Handler) =>
  Effect.gen(function* () {
    const log = new Written()
    const acceptor = yield* open()
    const backend = yield* acceptor.backend(plain, handler, log)
    yield* acceptor.use(backend)
    const written = (...lines: ReadonlyArray<string>) =>
      Effect.andThen(
        eventually(() => log.lines.length >= lines.length && log.active === 0),
        Effect.sync(() => {
          assert.deepStrictEqual(log.lines, lines)
          assert.isTrue(log.sane)
        })
      )
    return { acceptor, backend, log, port: acceptor.address.port, written }
  })

const byPath: Handler = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
  url === "/broken"
    ? Effect.fail("broken")
    : Effect.succeed(HttpServerResponse.text("here.", { status: url === "/gone" ? 410 : 200 }))
)

describe("NodeListener, its log", () => {
  it.live("has each request with its method and status, those of one connection too", () =>
    Effect.gen(function* () {
      const { port, written } = yield* serving(byPath)
      const client = yield* connect(port)
      client.send(get() + get("/gone") + post("a"))
      for (let i = 0; i < 3; i++) yield* client.take("here.")
      client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
      yield* client.take("\r\n\r\n")
      client.send(get("/broken"))
      yield* client.take("\r\n\r\n")
      yield* written("GET 200", "GET 410", "POST 200", "HEAD 200", "GET 500")
    })
  )

  it.live("one whose client leaves has no status before its head, and that of its head after", () =>
    Effect.gen(function* () {
      const began = new Later<void>()
      const { log, port, written } = yield* serving(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) => {
          if (url !== "/stream") return Effect.andThen(Effect.sync(began.resolve), Effect.never)
          const body = Stream.concat(Stream.make(new TextEncoder().encode("begun.")), Stream.never)
          return Effect.succeed(HttpServerResponse.stream(body))
        })
      )
      const first = yield* connect(port)
      first.send(get())
      yield* began.wait
      assert.strictEqual(log.active, 1)
      first.socket.destroy()
      yield* eventually(() => log.lines.length === 1)
      const second = yield* connect(port)
      second.send(get("/stream"))
      yield* second.take("begun.")
      second.socket.destroy()
      yield* written("GET undefined", "GET 200")
    })
  )

  it.live("one that a drain cuts is there; what the parser refuses is none", () =>
    Effect.gen(function* () {
      const began = new Later<void>()
      const { backend, log, port, written } = yield* serving(
        Effect.andThen(Effect.sync(began.resolve), Effect.uninterruptible(Effect.never))
      )
      const refused = yield* connect(port)
      refused.send("NONSENSE\r\n\r\n")
      yield* refused.ended
      const client = yield* connect(port)
      client.send(get())
      yield* began.wait
      yield* Effect.forkScoped(backend.drain(1))
      yield* client.ended
      yield* written("GET undefined")
      assert.strictEqual(log.active, 0)
    })
  )

  it.live("a WebSocket leaves it when it ends", () =>
    Effect.gen(function* () {
      const open = new Later<unknown>()
      const { log, port, written } = yield* serving(
        Effect.scoped(
          Effect.gen(function* () {
            const { upgrade } = yield* HttpServerRequest.HttpServerRequest
            const { pull } = yield* (yield* upgrade).reader
            return yield* Effect.forever(pull)
          })
        )
      )
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocket(`ws://127.0.0.1:${port}`)),
        (opened) => Effect.sync(() => opened.close())
      )
      socket.addEventListener("open", open.resolve)
      yield* open.wait
      assert.strictEqual(log.active, 1)
      socket.close()
      yield* written("GET left")
    })
  )

  it.live("is that of the backend that answers, also where a connection has moved to it", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port, written } = yield* serving(text("old."))
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("old.")
      const log = new Written()
      yield* acceptor.use(yield* acceptor.backend(plain, text("new."), log))
      yield* Effect.forkScoped(backend.drain(10_000))
      yield* eventually(() => backend.counts().connections === 0)
      client.send(get())
      yield* client.take("new.")
      yield* eventually(() => log.active === 0)
      assert.deepStrictEqual(log.lines, ["GET 200"])
      yield* written("GET 200")
    })
  )
})

describe("requests of a pool in Prometheus' text", () => {
  it.live("each is in the histogram of its method and status, over HTTP and HTTPS, over replacements", () =>
    Effect.gen(function* () {
      const { cert, key } = selfSigned("localhost")
      const pool = yield* ServerPool.make({
        name: "edge",
        servers: [
          { name: "plain", bind: "127.0.0.1:0" },
          { name: "secure", bind: "127.0.0.1:0", tls: { cert, key: Redacted.make(key) } }
        ],
        handlers: byPath
      })
      const services = Context.make(Metric.MetricRegistry, new Map())
      yield* Effect.provide(ServerMetrics.register(pool), services)
      yield* pool.start
      const port = (index: number) => Effect.map(pool.servers, (servers) => servers[index]?.address?.port ?? 0)
      const plainClient = yield* connect(yield* port(0))
      const secureClient = yield* connectTls(yield* port(1), { ca: cert })
      for (const client of [plainClient, secureClient]) {
        client.send(get())
        yield* client.take("here.")
      }
      yield* pool.update({ name: "plain", bind: "127.0.0.1:0", maxConnections: 100 })
      plainClient.send(get())
      yield* plainClient.take("here.")
      const fresh = yield* connect(yield* port(0))
      fresh.send(get("/broken"))
      yield* fresh.take(" 500 ")
      const text = () =>
        PrometheusMetrics.formatUnsafe(services, { metricNameMapper: ServerMetrics.prometheusNames }).split("\n")
      const count = (server: string, scheme: string, status: number) =>
        text().find(
          (line) =>
            line.startsWith("http_server_request_duration_seconds_count{") &&
            [`"${server}"`, `url_scheme="${scheme}"`, `status_code="${status}"`].every((part) => line.includes(part))
        )
      // An answer is counted when it has been sent, which its client may know first.
      yield* eventually(() => count("plain", "http", 200)?.endsWith(" 2") === true)
      assert.match(count("secure", "https", 200) ?? "", / 1$/)
      yield* eventually(() => count("plain", "http", 500) !== undefined)
      assert.match(count("plain", "http", 500) ?? "", /http_request_method="GET".*error_type="500"\} 1$/)
      yield* eventually(() =>
        text()
          .filter((line) => line.startsWith("http_server_active_requests{"))
          .every((line) => line.endsWith(" 0"))
      )
    }).pipe(Effect.provide(NodeListener.layer))
  )
})
