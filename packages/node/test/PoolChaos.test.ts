/**
 * Everything at once, by chance: what a pool promises must hold whatever servers and callers do in whatever order. The
 * seed of a round that fails is in its name.
 */
import { assert, describe, it } from "@effect/vitest"
import { isPoolError } from "@millrace/core/model/PoolError"
import { Cause, Effect, Exit, Fiber, Option, Stream } from "effect"
import { HttpClient, type HttpClientResponse } from "effect/http"
import * as HttpBody from "effect/http/HttpBody"
import * as Zlib from "node:zlib"
import { selfSigned } from "./fixtures/certificate.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { eventually, poolOn, turn } from "./fixtures/pool.ts"

/** mulberry32: small, and good enough to be unpredictable. */
const chance = (seed: number) => {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }
  const below = (n: number) => Math.floor(next() * n)
  const one = <A>(values: ReadonlyArray<A>): A => values[below(values.length)]!
  return { below, one }
}

const filler = "x".repeat(300_000)

/** What a body is, by the path that asks for it. */
const bodyOf = (path: string) => (path.endsWith("large") ? path + filler : path)

const head = (length: number, extra = "") => `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n${extra}\r\n`

/** What a server may do with a request; a correct answer, if it gives one, is `bodyOf(path)`. */
const behaviours: ReadonlyArray<(request: HostileServer.Received) => void> = [
  (request) => request.whole(() => request.answer(bodyOf(request.path))),
  (request) => request.whole(() => request.answer(bodyOf(request.path))),
  (request) => request.whole(() => request.answer(bodyOf(request.path))),
  (request) => request.answer(bodyOf(request.path)),
  (request) => request.answer(Zlib.gzipSync(bodyOf(request.path)), "Content-Encoding: gzip\r\n"),
  (request) => request.whole(() => request.answer(bodyOf(request.path), "Connection: close\r\n")),
  (request) => request.whole(() => request.connection.end(HostileServer.response(bodyOf(request.path)))),
  (request) => setImmediate(() => request.answer(bodyOf(request.path))),
  (request) => {
    const body = bodyOf(request.path)
    request.write(head(body.length) + body.slice(0, 3))
    setImmediate(() => request.write(body.slice(3)))
  },
  (request) => {
    const body = bodyOf(request.path)
    request.write(
      "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n" +
        `${body.length.toString(16)}\r\n${body}\r\n`
    )
    setImmediate(() => request.write("0\r\nX: y\r\n\r\n"))
  },
  (request) => request.connection.end(`HTTP/1.1 200 OK\r\n\r\n${bodyOf(request.path)}`),
  (request) => request.write(Buffer.concat([HostileServer.response(bodyOf(request.path)), Buffer.from("garbage")])),
  (request) => request.connection.end(),
  (request) => request.connection.reset(),
  (request) => request.connection.end("HTTP/1.1 200"),
  (request) => request.connection.end(head(1_000_000) + request.path),
  (request) => void request.connection.socket.write(head(1_000_000) + request.path, () => request.connection.reset()),
  (request) => request.write("nonsense\r\n\r\n"),
  (request) => request.write("HTTP/1.1 100 Continue\r\n\r\n"),
  // Nothing, or nothing more: a deadline must end it.
  () => {},
  (request) => request.write(head(1_000_000) + request.path)
]

const certificate = selfSigned("127.0.0.1")

type Outcome = Exit.Exit<unknown, unknown>

/** A success has the right body; a failure is one that the types name, or an interruption. */
const check = (outcome: Outcome): void => {
  if (Exit.isSuccess(outcome) || Cause.hasInterruptsOnly(outcome.cause)) return
  const error = Cause.squash(outcome.cause)
  if (isPoolError(error) || (error instanceof Error && isPoolError(error.cause))) return
  assert.fail(Cause.pretty(outcome.cause))
}

/** A server whose answers are the chance's, and how often it saw each POST. */
const serve = Effect.fnUntraced(function* ({ one }: ReturnType<typeof chance>, tls: boolean) {
  const posts = new Map<string, number>()
  const server = yield* HostileServer.make(
    (request) => {
      if (request.path === "/calm") return request.answer()
      if (request.method === "POST") posts.set(request.path, (posts.get(request.path) ?? 0) + 1)
      one(behaviours)(request)
    },
    tls ? { tls: certificate } : {}
  )
  return { server, posts }
})

const round = Effect.fnUntraced(function* (
  { below, one }: ReturnType<typeof chance>,
  { posts, server }: Effect.Success<ReturnType<typeof serve>>
) {
  const size = 1 + below(8)
  const { client, slots, stats } = yield* poolOn(server, {
    size,
    tls: { ca: certificate.cert },
    selection: one(["roundRobin", "strict", "leastPending", "powerOfTwoChoices"]),
    responseHeaderTimeout: 100,
    bodyIdleTimeout: 100,
    requestTimeout: 2000,
    maxRequestsPerConnection: one([1, 3, Infinity]),
    bodyBufferSize: 4096,
    ejection: one([false, { failures: 2, base: 20, max: 20 }])
  })
  const scoped = HttpClient.withScope(client)
  const right = (path: string) => (text: string) => assert.strictEqual(text, bodyOf(path))
  const whole = (path: string, response: HttpClientResponse.HttpClientResponse) =>
    Effect.map(response.text, right(path))

  const upload = (pieces: number) =>
    HttpBody.stream(
      Stream.range(1, pieces).pipe(
        Stream.rechunk(1),
        Stream.map(() => Buffer.alloc(20_000))
      )
    )
  const callers: ReadonlyArray<(path: string) => Effect.Effect<unknown, unknown>> = [
    (path) => Effect.flatMap(client.get(path), (response) => whole(path, response)),
    (path) => Effect.flatMap(client.get(path), (response) => whole(path, response)),
    (path) => Effect.flatMap(client.post(path, { body: HttpBody.text(filler) }), (response) => whole(path, response)),
    (path) => Effect.flatMap(client.post(path, { body: upload(20) }), (response) => whole(path, response)),
    (path) =>
      Effect.flatMap(client.get(path), (response) =>
        Effect.map(Stream.mkString(Stream.decodeText(response.stream)), right(path))
      ),
    (path) => Effect.flatMap(client.get(path), (response) => Stream.runDrain(Stream.take(response.stream, 1))),
    (path) => Effect.scoped(scoped.get(path)),
    (path) => Effect.scoped(Effect.flatMap(scoped.get(path), (response) => whole(path, response))),
    (path) => client.post(path, { body: HttpBody.stream(Stream.fail("no body")) }),
    (path) => client.get(path, { headers: { upgrade: "websocket" } })
  ]

  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let i = 0; i < 400; i++) {
    const path = `/${i}/${one(["small", "large"])}`
    fibers.push(yield* Effect.forkChild(one(callers)(path), { startImmediately: true }))
    if (below(3) === 0) one(fibers).interruptUnsafe()
    if (below(6) === 0) yield* turn
    if (below(40) === 0) one(server.connections.length === 0 ? [undefined] : server.connections)?.reset()
  }
  for (const fiber of fibers) check(yield* Fiber.await(fiber))

  // Whatever happened, everything is free again.
  yield* eventually(stats, { active: 0, waiting: 0, ejected: 0 })
  for (const slot of slots) {
    assert.strictEqual((yield* slot.stats).state, "free")
    const response = yield* Effect.option(slot.client.get("/calm"))
    // A connection that the server closes in this very moment may fail it, but not twice.
    const again = Option.isNone(response) ? yield* slot.client.get("/calm") : response.value
    assert.strictEqual(yield* again.text, "ok")
  }
  yield* eventually(
    Effect.sync(() => ({ few: server.open <= size })),
    { few: true }
  )
  for (const [path, count] of posts) assert.isAtMost(count, 1, `POST ${path} was sent more than once`)
  const { connectionsClosed, connectionsOpen, connectionsOpened } = yield* stats
  assert.strictEqual(connectionsOpened - connectionsClosed, connectionsOpen)
  assert.isAtMost(connectionsOpen, size)
})

const seeds = (process.env["CHAOS_SEEDS"] ?? "1,2,3,4").split(",").map(Number)

describe("Pool: chaos", () => {
  for (const seed of seeds) {
    it.live(
      `seed ${seed}`,
      () =>
        Effect.gen(function* () {
          const luck = chance(seed)
          const served = yield* serve(luck, seed % 4 === 0)
          yield* Effect.scoped(round(luck, served))
          yield* served.server.allClosed
        }),
      30_000
    )
  }
})
