import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FileSystem, Layer, PlatformError, type Schema, type Scope, Stream } from "effect"
import { HttpBody } from "effect/http"
import { TestClock } from "effect/testing"
import * as Connector from "../../src/client/Connector.ts"
import * as Pool from "../../src/client/Pool.ts"
import type { Options } from "../../src/client/PoolConfig.ts"
import { find } from "../../src/model/PoolError.ts"
import * as MockPool from "../../src/testing/MockPool.ts"
import * as Recording from "../../src/testing/Recording.ts"
import { start, tagged, text, turn } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const baseUrl = "http://test.local"
const file = "recording.json"

/** One file in memory. */
const disk = (content?: string) => {
  const state = { content, broken: false }
  const missing = PlatformError.systemError({ _tag: "NotFound", module: "FileSystem", method: "readFileString" })
  const layer = FileSystem.layerNoop({
    readFileString: () => (state.content === undefined ? Effect.fail(missing) : Effect.succeed(state.content)),
    writeFileString: (_path, data) =>
      state.broken
        ? Effect.fail(missing)
        : Effect.sync(() => {
            state.content = data
          })
  })
  return { state, layer }
}

type Disk = ReturnType<typeof disk>

const poolOn = <E>(connector: Layer.Layer<Connector.Connector, E>, options: Options = {}) =>
  Effect.flatMap(Layer.build(connector), (context) =>
    Effect.provideContext(Pool.make({ baseUrl, drainTimeout: 0, ...options }), context)
  )

/** What `use` does to a pool while it is recorded. */
const recording = <A, E>(
  { layer }: Disk,
  upstream: Layer.Layer<Connector.Connector>,
  use: (pool: Pool.Pool) => Effect.Effect<A, E, Scope.Scope>,
  options: Partial<Recording.RecordOptions> = {}
) =>
  Effect.scoped(
    Effect.flatMap(poolOn(Recording.record({ file, ...options }).pipe(Layer.provide([upstream, layer]))), use)
  )

const replaying = ({ layer }: Disk, options: Partial<Recording.ReplayOptions> = {}, pool: Options = {}) =>
  poolOn(Recording.replay({ file, ...options }).pipe(Layer.provide(layer)), pool)

const served = (...routes: ReadonlyArray<MockPool.Route>): Layer.Layer<Connector.Connector> =>
  MockPool.layerConnector(routes.map(MockPool.optional))

const exchangesOf = ({ state }: Disk): ReadonlyArray<Schema.Json> => {
  const parsed: { readonly exchanges: ReadonlyArray<Schema.Json> } = JSON.parse(state.content ?? "")
  return parsed.exchanges
}

describe("Recording", () => {
  it.effect("records each attempt to one file that a person can read", () =>
    Effect.gen(function* () {
      const one = disk()
      const upstream = served(
        MockPool.post("/invoices", MockPool.sequence(MockPool.status(503), MockPool.json({ id: 1 }, { status: 201 })))
      )
      yield* recording(one, upstream, ({ client }) =>
        Effect.gen(function* () {
          const body = HttpBody.jsonUnsafe({ amount: 5 })
          yield* text(client.post("/invoices?dry=1", { body }))
          yield* text(client.post("/invoices", { body }))
        })
      )
      assert.include(one.state.content, '"format": "millrace-recording",\n  "version": 1,')
      const request = {
        headers: { "content-type": "application/json", "content-length": "12" },
        body: { json: { amount: 5 } }
      }
      assert.deepStrictEqual(exchangesOf(one), [
        {
          request: { method: "POST", url: `${baseUrl}/invoices?dry=1`, ...request },
          response: { status: 503, headers: { "content-length": "0" } }
        },
        {
          request: { method: "POST", url: `${baseUrl}/invoices`, ...request },
          response: {
            status: 201,
            headers: { "content-type": "application/json", "content-length": "8" },
            body: { json: { id: 1 } }
          }
        }
      ])
    })
  )

  it.effect("replaces secrets before anything is written, and finds the request again without them", () =>
    Effect.gen(function* () {
      const one = disk()
      const upstream = served(
        MockPool.post(
          "/token",
          MockPool.json(
            {
              access_token: "S3CRET-1",
              expires_in: 60,
              nested: [{ pin: "S3CRET-2", iban: 7 }],
              nextPageToken: "page-2"
            },
            { headers: { "set-cookie": ["sid=S3CRET-3", "b=S3CRET-4"], location: "/x?token=S3CRET-5" } }
          )
        ),
        MockPool.get("/data", MockPool.text("fine"))
      )
      const send = ({ client }: Pool.Pool, secret: string) =>
        Effect.gen(function* () {
          const token = yield* client.post(`/token?api_key=${secret}&nextPageToken=page-1#x`, {
            headers: {
              authorization: `Bearer ${secret}`,
              cookie: secret,
              "x-api-key": secret,
              "proxy-authorization": secret,
              "x-mine": secret
            },
            body: HttpBody.text(`grant=x&client_secret=${secret}&flag`, "application/x-www-form-urlencoded")
          })
          const json = yield* token.json
          yield* text(client.get(`/data?signature=${secret}`))
          return json
        })
      const secrets = { headers: ["X-Mine"], members: ["nested.*.pin", "nested.0.iban"], keep: ["nextPageToken"] }
      yield* recording(one, upstream, (pool) => send(pool, "S3CRET"), { secrets })
      assert.notInclude(one.state.content, "S3CRET")
      for (const kept of ["page-1", "page-2", "grant=x", "flag"]) assert.include(one.state.content, kept)
      const replayed = yield* replaying(one)
      assert.deepStrictEqual(yield* send(replayed, "another"), {
        access_token: "REDACTED",
        expires_in: 60,
        nested: [{ pin: "REDACTED", iban: "REDACTED" }],
        nextPageToken: "page-2"
      })
    })
  )

  it.effect("what was recorded is replayed byte by byte (property)", () =>
    Effect.gen(function* () {
      // A small generator of its own: bodies of text, JSON and arbitrary bytes, in one piece or several.
      let seed = 7
      const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below
      const bytes = () => Uint8Array.from({ length: random(40) }, () => random(random(2) === 0 ? 128 : 256))
      const exchanges = Array.from({ length: 120 }, (_, i) => ({
        method: (["POST", "PUT", "PATCH"] as const)[random(3)] ?? "POST",
        path: `/p${i % 40}/%20${random(3)}?q=${random(3)}`,
        sent: bytes(),
        streamed: random(2) === 0,
        status: 200 + random(300),
        body: random(3) === 0 ? new TextEncoder().encode(JSON.stringify([random(9), { a: "ä\u2028" }])) : bytes()
      })).map((exchange) =>
        exchange.status === 204 || exchange.status === 304 ? { ...exchange, status: 200 } : exchange
      )
      let n = 0
      const upstream = served(
        MockPool.route("*", "/*", () => {
          const { body, status } = exchanges[n++] ?? assert.fail("too many")
          return n % 2 === 0
            ? MockPool.bytes(body, { status, headers: { "x-n": String(n) } })
            : MockPool.stream(Stream.make(body.subarray(0, 3), body.subarray(3)), { status })
        })
      )
      const sendAll = ({ client }: Pool.Pool) =>
        Effect.forEach(exchanges, ({ method, path, sent, streamed }) =>
          Effect.gen(function* () {
            const body = streamed ? HttpBody.stream(Stream.make(sent)) : HttpBody.uint8Array(sent)
            const options = { body }
            const response = yield* method === "POST"
              ? client.post(path, options)
              : method === "PUT"
                ? client.put(path, options)
                : client.patch(path, options)
            return {
              status: response.status,
              n: response.headers["x-n"],
              bytes: new Uint8Array(yield* response.arrayBuffer)
            }
          })
        )
      const one = disk()
      const original = yield* recording(one, upstream, sendAll)
      assert.deepStrictEqual(
        original.map(({ bytes, status }) => ({ bytes, status })),
        exchanges.map(({ body, status }) => ({ bytes: body, status }))
      )
      for (const order of ["recorded", "any"] as const) {
        assert.deepStrictEqual(yield* sendAll(yield* replaying(one, { order })), original)
      }
    })
  )

  describe("replays", () => {
    const recorded = Effect.gen(function* () {
      const one = disk()
      const upstream = served(
        MockPool.get("/a", MockPool.sequence(MockPool.text("first"), MockPool.text("second"))),
        MockPool.post("/b", MockPool.text("b"))
      )
      yield* recording(one, upstream, ({ client }) =>
        Effect.gen(function* () {
          yield* text(client.get("/a"))
          yield* text(client.post("/b?x=1", { body: HttpBody.jsonUnsafe({ amount: 5, more: 1 }) }))
          yield* text(client.get("/a"))
        })
      )
      return one
    })

    it.effect("in any order, each once, equal requests in their order", () =>
      Effect.gen(function* () {
        const { client } = yield* replaying(yield* recorded)
        const body = HttpBody.jsonUnsafe({ amount: 5, more: 1 })
        assert.strictEqual(yield* text(client.get("/a")), "first")
        assert.strictEqual(yield* text(client.get("/a")), "second")
        assert.strictEqual(yield* text(client.post("/b?x=1", { body })), "b")
        const error = tagged(yield* Effect.flip(client.get("/a")), "InvalidRequest")
        assert.include(error.reason, "it is not in the recording, or not any more")
        assert.include(error.reason, `1 of 3, GET ${baseUrl}/a\n    it has been replayed already`)
      })
    )

    it.effect("in the recorded order only, if asked", () =>
      Effect.gen(function* () {
        const { client } = yield* replaying(yield* recorded, { order: "recorded" })
        assert.strictEqual(yield* text(client.get("/a")), "first")
        const early = tagged(yield* Effect.flip(client.get("/a")), "InvalidRequest")
        assert.include(early.reason, `next recorded request: 2 of 3, POST ${baseUrl}/b?x=1`)
        yield* text(client.post("/b?x=1", { body: HttpBody.jsonUnsafe({ amount: 5, more: 1 }) }))
        yield* text(client.get("/a"))
        const late = tagged(yield* Effect.flip(client.get("/a")), "InvalidRequest")
        assert.include(late.reason, "it has been replayed already")
      })
    )

    it.effect("says what differs from the nearest recorded request", () =>
      Effect.gen(function* () {
        const { client } = yield* replaying(yield* recorded)
        const reason = (error: { readonly message: string }) => error.message
        const json = (value: unknown) => ({ body: HttpBody.jsonUnsafe(value) })
        const amount = reason(yield* Effect.flip(client.post("/b?x=1", json({ amount: 6, more: 1 }))))
        assert.include(
          amount,
          `nearest recorded request: 2 of 3, POST ${baseUrl}/b?x=1\n    body.amount: expected 5, got 6`
        )
        const more = reason(yield* Effect.flip(client.post("/b?x=1", json({ amount: 5, more: 1, new: 2 }))))
        assert.include(more, 'body: expected {"amount":5,"more":1}, got {"amount":5,"more":1,"new":2}')
        const plain = reason(yield* Effect.flip(client.post("/b?x=2", { body: HttpBody.text("x") })))
        assert.include(plain, 'query: expected "x=1", got "x=2"')
        assert.include(plain, 'body: expected {"amount":5,"more":1}, got "x"')
        assert.include(
          reason(yield* Effect.flip(client.post("/b?x=1", { body: HttpBody.uint8Array(Uint8Array.of(255)) }))),
          'got "/w=="'
        )
        assert.include(reason(yield* Effect.flip(client.post("/b?x=1"))), "got nothing")
        const url = reason(yield* Effect.flip(client.del("/c")))
        assert.include(url, "method: expected GET, got DELETE")
        assert.include(url, `URL: expected ${baseUrl}/a, got ${baseUrl}/c`)
      })
    )

    it.effect("is refused when the file is missing, is no recording, or is one of another version", () =>
      Effect.gen(function* () {
        const refused = (content?: string) => Effect.flip(Effect.scoped(replaying(disk(content))))
        assert.strictEqual((yield* refused())._tag, "PlatformError")
        for (const content of [
          "not JSON",
          "{}",
          '{"format":"millrace-recording","version":2,"secrets":{"headers":[],"members":[],"keep":[]},"exchanges":[]}'
        ]) {
          const error = yield* refused(content)
          assert.strictEqual(error._tag, "RecordingError")
          assert.include(error.message, `${file} is not a recording of version 1`)
        }
      })
    )
  })

  it.effect("records and replays failures of the connection, by kind", () =>
    Effect.gen(function* () {
      const failures: ReadonlyArray<Connector.Failure> = [
        {
          _tag: "Connect",
          phase: "dns",
          address: undefined,
          millis: 3,
          cause: Object.assign(new Error(), { code: "ENOTFOUND" })
        },
        { _tag: "ConnectTimeout", phase: "dial", address: undefined, millis: 5 },
        { _tag: "ConnectTimeout", phase: "tls", address: undefined, millis: 5 },
        { _tag: "Broken", cause: new Error("ECONNRESET") },
        { _tag: "Protocol", reason: "malformed head", cause: undefined },
        { _tag: "Rejected", reason: "bad header", cause: undefined }
      ]
      const upstream = served(
        ...failures.map((failure, i) => MockPool.post(`/${i}`, Effect.fail(new Connector.TransportError({ failure })))),
        MockPool.post("/half", MockPool.stream(Stream.concat(Stream.make("half"), Stream.fail("reset"))))
      )
      const one = disk()
      const sendAll = ({ client }: Pool.Pool) =>
        Effect.gen(function* () {
          const errors = yield* Effect.forEach(failures, (_, i) => Effect.flip(client.post(`/${i}`)))
          const half = yield* Effect.flip(text(client.post("/half")))
          return [...errors, find(half) ?? assert.fail("no PoolError")].map(({ message }) => message)
        })
      const original = yield* recording(one, upstream, sendAll)
      assert.deepStrictEqual(yield* sendAll(yield* replaying(one)), original)
      assert.include(original[0], "ENOTFOUND")
    })
  )

  it.effect("a connection that fails before anything is written is recorded too", () =>
    Effect.gen(function* () {
      const one = disk()
      const wire = new Wire((sent) => void sent.refuse())
      const error = yield* recording(one, wire.layer, ({ client }) => Effect.flip(client.get("/")))
      assert.strictEqual(error._tag, "ConnectError")
      const again = yield* Effect.flip((yield* replaying(one)).client.get("/"))
      assert.strictEqual(again.message.replace(/ to [\d.:]+/, ""), error.message.replace(/ to [\d.:]+/, ""))
    })
  )

  it.effect("a request that the caller gave up has no answer in the replay either", () =>
    Effect.gen(function* () {
      const one = disk()
      const upstream = served(
        MockPool.get("/silent", Effect.never),
        MockPool.get("/endless", MockPool.stream(Stream.concat(Stream.make("tick"), Stream.never)))
      )
      const options = { responseHeaderTimeout: "1 second" } as const
      const firstPiece = (pool: Pool.Pool) =>
        Effect.flatMap(pool.client.get("/endless"), ({ stream }) =>
          Stream.runCollect(Stream.take(Stream.decodeText(stream), 1))
        )
      const silent = (pool: Pool.Pool) =>
        Effect.gen(function* () {
          const fiber = yield* start(pool.client.get("/silent"))
          yield* TestClock.adjust("5 seconds")
          const pending = fiber.pollUnsafe()
          assert.isUndefined(pending)
          yield* Fiber.interrupt(fiber)
        })
      yield* recording(one, upstream, (pool) => Effect.andThen(silent(pool), firstPiece(pool)))
      assert.lengthOf(exchangesOf(one), 2)
      assert.deepStrictEqual(yield* firstPiece(yield* replaying(one)), ["tick"])
      const pool = yield* replaying(one, {}, options)
      const fiber = yield* start(Effect.flip(pool.client.get("/silent")))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimeoutError")
    })
  )

  it.effect("a request that was never sent, or sent again on a fresh connection, is not in it twice", () =>
    Effect.gen(function* () {
      const one = disk()
      const wire = new Wire()
      yield* recording(one, wire.layer, (pool) =>
        Effect.gen(function* () {
          const slot = pool.slots[0]?.client ?? assert.fail("no slot")
          const cancelled = yield* start(slot.get("/cancelled"))
          yield* Fiber.interrupt(cancelled)
          const first = yield* start(text(slot.get("/first")))
          wire.at(1).answer("1")
          yield* Fiber.join(first)
          const stale = yield* start(text(slot.get("/stale")))
          wire.at(2).write().lose()
          yield* turn
          wire.at(3).answer("2")
          assert.strictEqual(yield* Fiber.join(stale), "2")
        })
      )
      assert.deepStrictEqual(JSON.stringify(exchangesOf(one)).match(/\/(first|stale|cancelled)/g), ["/first", "/stale"])
    })
  )

  it.effect("a body above `maxBodySize` reaches the caller, not the file, and its replay says so", () =>
    Effect.gen(function* () {
      const one = disk()
      const upstream = served(MockPool.post("/", MockPool.text("0123456789")), MockPool.put("/", MockPool.text("ok")))
      const big = { body: HttpBody.text("0123456789") }
      yield* recording(
        one,
        upstream,
        ({ client }) =>
          Effect.gen(function* () {
            assert.strictEqual(yield* text(client.post("/")), "0123456789")
            yield* text(client.put("/", big))
          }),
        { maxBodySize: 9 }
      )
      assert.include(one.state.content, "10 bytes, more than maxBodySize of 9")
      assert.notInclude(one.state.content, "0123456789")
      const { client } = yield* replaying(one)
      assert.include((yield* Effect.flip(client.post("/"))).message, "its response was not recorded: 10 bytes")
      // What was not recorded cannot be compared.
      assert.strictEqual(yield* text(client.put("/", big)), "ok")
    })
  )

  it.effect("a stream of the platform is sent untouched, and not recorded", () =>
    Effect.gen(function* () {
      const one = disk()
      const upstream = served(MockPool.post("/", ({ text }) => MockPool.text(text)))
      const body = () => HttpBody.raw(new Blob(["blob"]).stream())
      const seen = yield* recording(one, upstream, ({ client }) => text(client.post("/", { body: body() })))
      assert.strictEqual(seen, "blob")
      assert.include(one.state.content, '"notRecorded": "a stream of the platform"')
      assert.strictEqual(yield* text((yield* replaying(one)).client.post("/", { body: body() })), "blob")
    })
  )

  it.effect("asks for nothing compressed while it records", () =>
    Effect.gen(function* () {
      const wire = new Wire(
        (sent) => void sent.answer(sent.header("accept-encoding") ?? "plain"),
        () => undefined
      )
      assert.strictEqual(yield* recording(disk(), wire.layer, ({ client }) => text(client.get("/"))), "plain")
    })
  )

  it.effect("a place that cannot be written is told when it begins; later it is logged, and ends nothing", () =>
    Effect.gen(function* () {
      const broken = disk()
      broken.state.broken = true
      const early = yield* Effect.exit(recording(broken, served(), () => Effect.void))
      assert.isTrue(Exit.isFailure(early))
      const late = disk()
      const exit = yield* Effect.exit(
        recording(late, served(), () =>
          Effect.sync(() => {
            late.state.broken = true
          })
        )
      )
      assert.isTrue(Exit.isSuccess(exit))
    })
  )

  it.effect("a connection that is to be renewed is renewed below", () =>
    Effect.gen(function* () {
      const wire = new Wire((sent) => void sent.answer("ok"))
      const recorder = Recording.record({ file }).pipe(Layer.provide([wire.layer, disk().layer]))
      const pool = yield* poolOn(recorder, { size: 1, maxRequestsPerConnection: 1 })
      yield* text(pool.client.get("/"))
      yield* text(pool.client.get("/"))
      assert.strictEqual(wire.opened, 2)
    })
  )

  it.effect("a body that the platform cannot read is the caller's error in a replay too", () =>
    Effect.gen(function* () {
      const one = disk()
      const upstream = served(MockPool.post("/", MockPool.text("ok")))
      const broken = () =>
        HttpBody.raw(new ReadableStream({ start: (controller) => controller.error(new Error("gone")) }))
      const error = yield* recording(one, upstream, ({ client }) => Effect.flip(client.post("/", { body: broken() })))
      assert.strictEqual(error._tag, "InvalidRequest")
      const again = yield* Effect.flip((yield* replaying(one)).client.post("/", { body: broken() }))
      assert.strictEqual(again.message, error.message)
    })
  )

  it.effect("interim responses, and what a transport says of its connection, go through", () =>
    Effect.gen(function* () {
      const one = disk()
      const wire = new Wire()
      const exit = yield* recording(one, wire.layer, (pool) =>
        Effect.gen(function* () {
          const fiber = yield* start(Effect.exit(text(pool.client.get("/"))))
          wire.connections[0]!.hidden = new Error("reset")
          wire.at(0).write().head(103).head(200).data("half").end()
          return yield* Fiber.join(fiber)
        })
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.include(one.state.content, '"status": 200')
    })
  )
})
