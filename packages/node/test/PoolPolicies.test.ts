/** Policies of a pool on real sockets: what a server sees of them. */
import { assert, describe, it } from "@effect/vitest"
import type { PoolError } from "@millrace/core/model/PoolError"
import { Effect, Option, Stream, Tracer } from "effect"
import { HttpClient, HttpClientRequest, HttpTraceContext } from "effect/http"
import * as Headers from "effect/http/Headers"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { eventually, failsWith, poolOn } from "./fixtures/pool.ts"

const quick = { initialDelay: 1, multiplier: 1, jitter: "none" } as const

/** Answers requests, whole, with these statuses in turn; the last for all that follow. */
const statuses = (...all: ReadonlyArray<number>) =>
  HostileServer.make((request) =>
    request.whole(() => {
      request.answer(`answer ${request.index}`, "", all[Math.min(request.index, all.length - 1)])
    })
  )

describe("Pool: policies on sockets", () => {
  for (const [lane, get] of [
    ["the client itself", (client: HttpClient.HttpClient.With<PoolError>) => client.get("/x")],
    ["a transformed one", (client) => HttpClient.followRedirects(client, 1).get("/x")]
  ] satisfies ReadonlyArray<
    readonly [string, (client: HttpClient.HttpClient.With<PoolError>) => Effect.Effect<unknown, unknown>]
  >) {
    it.live(`the trace of the caller reaches the server, with every attempt (${lane})`, () =>
      Effect.gen(function* () {
        const server = yield* statuses(503, 200)
        const pool = yield* poolOn(server, { retry: quick })
        const caller = yield* Effect.andThen(get(pool.client), Effect.currentSpan).pipe(Effect.withSpan("caller"))
        assert.strictEqual(server.requests.length, 2)
        for (const { headers } of server.requests) {
          const parent = Option.getOrThrow(HttpTraceContext.fromHeaders(Headers.fromInput(headers)))
          assert.strictEqual(parent.traceId, caller.traceId)
          assert.notStrictEqual(parent.spanId, caller.spanId)
          assert.match(headers["traceparent"] ?? "", /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
        }
        const [first, second] = server.requests
        assert.strictEqual(first?.headers["traceparent"], second?.headers["traceparent"])
      })
    )

    it.live(`observe: false sends nothing of it (${lane})`, () =>
      Effect.gen(function* () {
        const server = yield* statuses(200)
        const pool = yield* poolOn(server, { observe: false })
        const spans: Array<string> = []
        const tracer = Tracer.make({
          span: (options) => {
            spans.push(options.name)
            return new Tracer.NativeSpan(options)
          }
        })
        yield* get(pool.client).pipe(Effect.withSpan("caller"), Effect.provideService(Tracer.Tracer, tracer))
        assert.deepStrictEqual(spans, ["caller"])
        assert.isUndefined(server.requests[0]?.headers["traceparent"])
        assert.isUndefined(server.requests[0]?.headers["b3"])
      })
    )
  }

  it.live("a body of bytes is sent again whole, on another connection", () =>
    Effect.gen(function* () {
      const server = yield* statuses(503, 503, 200)
      const pool = yield* poolOn(server, { size: 4, retry: quick })
      const request = HttpClientRequest.put("/x").pipe(HttpClientRequest.bodyText("the whole body"))
      const response = yield* pool.client.execute(request)
      assert.strictEqual(yield* response.text, "answer 2")
      assert.deepStrictEqual(
        server.requests.map(({ text }) => text),
        ["the whole body", "the whole body", "the whole body"]
      )
      assert.strictEqual(new Set(server.requests.map(({ connection }) => connection.index)).size, 3)
    })
  )

  it.live("a body that is a stream is sent once: the first answer is the answer, unread", () =>
    Effect.gen(function* () {
      const server = yield* statuses(503, 200)
      const pool = yield* poolOn(server, { retry: { ...quick, retryNonIdempotent: true, while: () => true } })
      const body = Stream.make(new TextEncoder().encode("once"))
      const request = HttpClientRequest.put("/x").pipe(HttpClientRequest.bodyStream(body))
      const response = yield* pool.client.execute(request)
      assert.deepStrictEqual([response.status, yield* response.text], [503, "answer 0"])
      assert.deepStrictEqual(
        server.requests.map(({ text }) => text),
        ["once"]
      )
    })
  )

  it.live("1 MB that a retry discards does not block the one connection", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.index > 0) return request.answer("ok")
        request.write("HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\n")
        request.write(new Uint8Array(500_000))
      })
      const pool = yield* poolOn(server, { size: 1, retry: quick })
      assert.strictEqual(yield* Effect.flatMap(pool.client.get("/x"), (_) => _.text), "ok")
      yield* eventually(pool.stats, { active: 0, waiting: 0 })
    })
  )

  it.live("a POST that met a reset after it was written is sent once; with a key, again", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.whole(() => {
          if (request.index < 2) request.connection.reset()
          else request.answer("ok")
        })
      )
      const pool = yield* poolOn(server, { retry: quick })
      const post = HttpClientRequest.post("/x").pipe(HttpClientRequest.bodyText("order"))
      yield* failsWith(pool.client.execute(post), "ConnectError")
      assert.strictEqual(server.requests.length, 1)
      const keyed = HttpClientRequest.setHeader(post, "idempotency-key", "k")
      assert.strictEqual((yield* pool.client.execute(keyed)).status, 200)
      assert.deepStrictEqual(
        server.requests.map(({ text }) => text),
        ["order", "order", "order"]
      )
    })
  )
})
