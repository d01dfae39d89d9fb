import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Option, Ref, Schedule, Schema, Scope, Stream } from "effect"
import { type Cookies, Headers, HttpBody, HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { HttpApi, HttpApiClient, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { TestClock } from "effect/testing"
import * as PoolError from "../../../src/model/PoolError.ts"
import { onFunction, onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { Wire } from "../../fixtures/wire.ts"

const answering = () => new Wire((sent) => sent.answer("ok"))
const writing = () => new Wire((sent) => sent.write())

/** Makes a client take the slow lane, and nothing else. */
const slow = <E, R>(client: HttpClient.HttpClient.With<E, R>) => HttpClient.mapRequest(client, (request) => request)

class Missing extends Schema.TaggedError<Missing>()("Missing", { id: Schema.Int }, { httpApiStatus: 404 }) {}

class Items extends HttpApiGroup.make("items").add(
  HttpApiEndpoint.get("byId", "/items/:id", {
    params: { id: Schema.FiniteFromString.check(Schema.isInt()) },
    success: Schema.Struct({ id: Schema.Int }),
    error: Missing
  })
) {}

class Api extends HttpApi.make("api").add(Items) {}

describe("clients", () => {
  for (const [lane, transform] of [
    ["the fast lane", (client: HttpClient.HttpClient.With<PoolError.PoolError>) => client],
    ["the slow lane", slow]
  ] as const) {
    describe(lane, () => {
      it.effect("has every verb", () =>
        Effect.gen(function* () {
          const wire = answering()
          const client = transform((yield* onWire(wire)).client)
          const body = HttpBody.text("x")
          yield* client.get("/a")
          yield* client.head("/a")
          yield* client.post("/a", { body })
          yield* client.patch("/a", { body })
          yield* client.put("/a", { body })
          yield* client.del("/a")
          yield* client.options("/a")
          assert.deepStrictEqual(
            wire.sent.map((sent) => sent.exchange.method),
            ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"]
          )
          assert.strictEqual(wire.at(2).exchange.body, body)
        })
      )

      it.effect("sends headers, content type and parameters", () =>
        Effect.gen(function* () {
          const wire = answering()
          const client = transform((yield* onWire(wire, { baseUrl: "http://test.local/api?k=1" })).client)
          yield* client.post("/a?l=2", {
            headers: { "X-A": "1" },
            urlParams: { m: "3 4" },
            body: HttpBody.jsonUnsafe({ a: 1 })
          })
          const sent = wire.at(0)
          assert.strictEqual(sent.path, "/api/a?k=1&l=2&m=3+4")
          assert.strictEqual(sent.header("x-a"), "1")
          assert.strictEqual(sent.header("content-type"), "application/json")
        })
      )

      it.effect("keeps the hash of a request to itself", () =>
        Effect.gen(function* () {
          const wire = answering()
          const client = transform((yield* onWire(wire)).client)
          yield* client.execute(HttpClientRequest.setHash(HttpClientRequest.get("/a"), "part"))
          assert.strictEqual(wire.at(0).path, "/a")
        })
      )

      it.effect("refuses what cannot be sent", () =>
        Effect.gen(function* () {
          const wire = answering()
          const client = transform((yield* onWire(wire, { baseUrl: undefined })).client)
          for (const [url, reason] of [
            ["/relative", "relative"],
            ["http://", "cannot be parsed"],
            ["ftp://h/", "scheme ftp:"],
            ["http://user:pass@h/", "credentials"]
          ] as const) {
            const error = tagged(yield* Effect.flip(client.get(url)), "InvalidRequest")
            assert.include(error.message, reason)
            assert.strictEqual(error.attempts, 0)
          }
          assert.strictEqual(wire.sent.length, 0)
        })
      )

      it.effect("says that a path climbs above the base", () =>
        Effect.gen(function* () {
          const client = transform((yield* onWire(answering(), { baseUrl: "http://h/api" })).client)
          assert.include(tagged(yield* Effect.flip(client.get("../x")), "InvalidRequest").reason, "climbs")
        })
      )

      it.effect("fails with typed errors, also in the body", () =>
        Effect.gen(function* () {
          const wire = writing()
          const client = transform((yield* onWire(wire, { size: 1 })).client)
          const fiber = yield* start(Effect.flip(client.get("/")))
          wire.at(0).lose()
          tagged(yield* Fiber.join(fiber), "ConnectError")
          const reading = yield* start(Effect.flip(Effect.flatMap(Effect.orDie(client.get("/")), (_) => _.text)))
          wire.at(1).head().data("x").lose()
          tagged(Option.getOrThrow(PoolError.fromHttpClientError(yield* Fiber.join(reading))), "ConnectError")
        })
      )

      it.effect("gives the slot back when its caller is interrupted: before the head, and in the body", () =>
        Effect.gen(function* () {
          const wire = writing()
          const pool = yield* onWire(wire, { size: 1 })
          const client = transform(pool.client)
          const before = yield* start(client.get("/"))
          yield* Fiber.interrupt(before)
          assert.isTrue(wire.at(0).aborted)
          const during = yield* start(text(client.get("/")))
          wire.at(1).head().data("x")
          yield* turn
          yield* Fiber.interrupt(during)
          assert.isTrue(wire.at(1).aborted)
          const stats = yield* pool.stats
          assert.deepStrictEqual([stats.active, stats.failures, stats.requests], [0, 0, 2])
        })
      )

      it.effect("runs a streamed body with the services of its caller", () =>
        Effect.gen(function* () {
          class Name extends Context.Service<Name, string>()("test/Name") {}
          const pool = yield* onFunction((request) =>
            Effect.gen(function* () {
              const body =
                request.body._tag === "Stream" ? yield* Stream.mkUint8Array(request.body.stream) : new Uint8Array()
              return HttpClientResponse.fromWeb(request, new Response(body.slice()))
            })
          )
          const stream = Stream.fromEffect(
            Effect.map(Effect.serviceOption(Name), (name) =>
              new TextEncoder().encode(Option.getOrElse(name, () => "nobody"))
            )
          )
          const client = transform(pool.client)
          const sent = text(client.post("/", { body: HttpBody.stream(stream) }))
          assert.strictEqual(yield* Effect.provideService(sent, Name, "caller"), "caller")
          assert.strictEqual(yield* sent, "nobody")
        })
      )

      it.effect("sees the response's request, URL and status", () =>
        Effect.gen(function* () {
          const client = transform((yield* onWire(answering())).client)
          const response = yield* client.get("/a?b=1")
          assert.strictEqual(response.status, 200)
          assert.include(response.request.url, "/a?b=1")
        })
      )
    })
  }

  describe("withScope", () => {
    it.effect("keeps the body until the scope ends, and aborts what is left of it", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, bodyBufferSize: 1024 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head().data(new Uint8Array(2000))
        const response = yield* Fiber.join(fiber)
        assert.isFalse(wire.at(0).aborted)
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(response.text)), "what is gone is not an empty text")
      })
    )

    it.effect("drains a body whose whole length fits into the buffer, and keeps the connection", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head(200, { "content-length": "2" }).data("a")
        const response = yield* Fiber.join(fiber)
        yield* Scope.close(scope, Exit.void)
        assert.isFalse(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 1)
        wire.at(0).data("b").end()
        assert.strictEqual((yield* pool.stats).active, 0)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(response.text)))
        wire.onSend = (sent) => sent.answer()
        yield* pool.client.get("/")
        assert.strictEqual(wire.opened, 1)
      })
    )

    it.effect("drains at most 64 KiB, even when there is more than the header says", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head(200, { "content-length": "65536" })
        yield* Fiber.join(fiber)
        yield* Scope.close(scope, Exit.void)
        wire.at(0).data(new Uint8Array(65_536))
        assert.isFalse(wire.at(0).aborted)
        wire.at(0).data("x")
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    for (const [what, headers] of [
      ["without a length", {}],
      ["in chunks", { "transfer-encoding": "chunked" }],
      ["of events", { "content-type": "text/event-stream" }],
      ["longer than the buffer", { "content-length": "1025" }],
      ["of several lengths", { "content-length": ["1", "1"] }],
      ["of a length that is none", { "content-length": "many" }]
    ] as const) {
      it.effect(`aborts a body ${what} at once`, () =>
        Effect.gen(function* () {
          const wire = writing()
          const pool = yield* onWire(wire, { size: 1, bodyBufferSize: 1024 })
          const scope = yield* Scope.make()
          const fiber = yield* start(
            Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
          )
          const values = Object.entries(headers).map(([name, value]) => [
            name,
            typeof value === "string" ? value : [...value]
          ])
          wire.at(0).head(200, Object.fromEntries(values)).data("a")
          const response = yield* Fiber.join(fiber)
          assert.isFalse(wire.at(0).aborted)
          yield* Scope.close(scope, Exit.void)
          assert.isTrue(wire.at(0).aborted)
          assert.strictEqual((yield* pool.stats).active, 0)
          assert.isTrue(Exit.isFailure(yield* Effect.exit(response.text)))
        })
      )
    }

    it.effect("drains a body exactly as long as the buffer, also one that is collected", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1, bodyBufferSize: 1024 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head(200, { "content-length": "1024" }).data("a")
        const response = yield* Fiber.join(fiber)
        const reading = yield* start(Effect.exit(response.text))
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(Exit.isFailure(yield* Fiber.join(reading)))
        assert.isFalse(wire.at(0).aborted)
        wire.at(0).data(new Uint8Array(1023)).end()
        assert.isFalse(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("aborts a short body that is being streamed", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head(200, { "content-length": "2" }).data("a")
        const response = yield* Fiber.join(fiber)
        const reading = yield* start(Effect.exit(Stream.runDrain(response.stream)))
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(wire.at(0).aborted)
        assert.isTrue(Exit.isFailure(yield* Fiber.join(reading)))
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("ends a reader that is still reading with an error, not with a part of the body", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope)
        )
        wire.at(0).head().data("part")
        const response = yield* Fiber.join(fiber)
        const reading = yield* start(Effect.exit(response.text))
        yield* Scope.close(scope, Exit.void)
        wire.at(0).data("rest").end()
        assert.isTrue(Exit.isFailure(yield* Fiber.join(reading)))
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("leaves a body alone that is complete", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(answering())
        const response = yield* Effect.scoped(HttpClient.withScope(pool.client).get("/"))
        assert.strictEqual(yield* response.text, "ok")
      })
    )

    it.effect("a scope that ends before the head ends the request", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.flip(Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope))
        )
        yield* Scope.close(scope, Exit.void)
        assert.include(tagged(yield* Fiber.join(fiber), "InvalidRequest").reason, "signal was aborted")
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )
  })

  describe("followRedirects", () => {
    const redirecting = (to: (path: string) => string | undefined) =>
      new Wire((sent) => {
        const location = to(sent.path)
        sent.answer(
          `at ${sent.origin}${sent.path}`,
          location === undefined ? 200 : 302,
          location === undefined ? {} : { location }
        )
      })

    it.effect("goes where the server says, relative to where it said so", () =>
      Effect.gen(function* () {
        const wire = redirecting((path) =>
          path === "/api/a/b?x=1" ? "../c?y=2" : path === "/api/c?y=2" ? "/d" : undefined
        )
        const pool = yield* onWire(wire, { baseUrl: "http://test.local/api" })
        const client = HttpClient.followRedirects(pool.client)
        assert.strictEqual(yield* text(client.get("/a/b", { urlParams: { x: "1" } })), "at http://test.local/d")
        assert.deepStrictEqual(wire.paths, ["/api/a/b?x=1", "/api/c?y=2", "/d"])
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("stops at its limit with the last redirect", () =>
      Effect.gen(function* () {
        const wire = redirecting((path) => `${path}x`)
        const client = HttpClient.followRedirects((yield* onWire(wire)).client, 3)
        assert.strictEqual((yield* client.get("/")).status, 302)
        assert.strictEqual(wire.sent.length, 4)
      })
    )

    it.effect("leaves credentials behind at another origin, those of the pool too", () =>
      Effect.gen(function* () {
        const wire = redirecting((path) => (path === "/start" ? "http://other.test/end" : undefined))
        const pool = yield* onWire(wire, { headers: { "x-api-key": "of the pool" } })
        const client = HttpClient.followRedirects(pool.client)
        yield* client.get("/start", { headers: { authorization: "Bearer s3cret", cookie: "a=1", "x-plain": "kept" } })
        assert.strictEqual(wire.at(0).header("authorization"), "Bearer s3cret")
        assert.strictEqual(wire.at(0).header("x-api-key"), "of the pool")
        assert.strictEqual(wire.at(1).origin, "http://other.test")
        for (const name of ["authorization", "cookie", "x-api-key"]) assert.isUndefined(wire.at(1).header(name), name)
        assert.strictEqual(wire.at(1).header("x-plain"), "kept")
      })
    )

    it.effect("keeps them at the same origin", () =>
      Effect.gen(function* () {
        const wire = redirecting((path) => (path === "/start" ? "/end" : undefined))
        const client = HttpClient.followRedirects((yield* onWire(wire)).client)
        yield* client.get("/start", { headers: { authorization: "Bearer x" } })
        assert.strictEqual(wire.at(1).header("authorization"), "Bearer x")
      })
    )

    it.effect("drains the short body of a redirect, and follows on the same connection", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const fiber = yield* start(text(HttpClient.followRedirects(pool.client).get("/start")))
        wire.at(0).head(302, { location: "/end", "content-length": "4" }).data("mo")
        yield* turn
        assert.isFalse(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).waiting, 1, "the slot is busy until the body is here")
        wire.at(0).data("ve").end()
        wire.at(1).reply("end")
        assert.strictEqual(yield* Fiber.join(fiber), "end")
        assert.strictEqual(wire.opened, 1)
      })
    )

    it.effect("does not wait for the body of a redirect that may last", () =>
      Effect.gen(function* () {
        const wire = writing()
        const pool = yield* onWire(wire, { size: 1 })
        const fiber = yield* start(text(HttpClient.followRedirects(pool.client).get("/start")))
        wire.at(0).head(302, { location: "/end", "transfer-encoding": "chunked" }).data("mo")
        yield* turn
        assert.isTrue(wire.at(0).aborted)
        wire.at(1).reply("end")
        assert.strictEqual(yield* Fiber.join(fiber), "end")
        assert.strictEqual(wire.opened, 2)
      })
    )

    it.effect("aborts the large body of a redirect, and so does not hold its slot", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => {
          if (sent.path === "/end") sent.answer("end")
          else sent.write().head(302, { location: "/end" }).data(new Uint8Array(100_000))
        })
        const pool = yield* onWire(wire, { size: 1 })
        assert.strictEqual(yield* text(HttpClient.followRedirects(pool.client).get("/start")), "end")
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )
  })

  describe("Effect's other combinators", () => {
    it.effect("mapRequest sees an absolute URL", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { baseUrl: "http://test.local/api" })
        const seen: Array<string> = []
        const client = HttpClient.mapRequest(pool.client, (request) => {
          seen.push(request.url)
          return HttpClientRequest.setHeader(request, "x-a", "1")
        })
        yield* client.get("/users")
        assert.deepStrictEqual(seen, ["http://test.local/api/users"])
        assert.strictEqual(wire.at(0).header("x-a"), "1")
      })
    )

    it.effect("mapRequest that makes it relative is told so", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(answering())
        const client = HttpClient.mapRequest(pool.client, HttpClientRequest.prependUrl("/v1"))
        assert.include(tagged(yield* Effect.flip(client.get("/users")), "InvalidRequest").message, "mapRequestInput")
      })
    )

    it.effect("mapRequestInput changes a path before it is joined", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { baseUrl: "http://test.local/api" })
        yield* HttpClient.mapRequestInput(pool.client, HttpClientRequest.prependUrl("/v1")).get("/users")
        assert.deepStrictEqual(wire.paths, ["/api/v1/users"])
      })
    )

    it.effect("transform wraps the way to the headers", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(answering())
        const calls = yield* Ref.make(0)
        const client = HttpClient.transform(pool.client, (effect) =>
          Effect.andThen(
            Ref.update(calls, (n) => n + 1),
            effect
          )
        )
        yield* client.get("/")
        yield* client.get("/")
        assert.strictEqual(yield* Ref.get(calls), 2)
      })
    )

    it.effect("retry, and filterStatusOk", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("", wire.sent.length < 3 ? 503 : 200))
        const pool = yield* onWire(wire)
        const client = pool.client.pipe(HttpClient.filterStatusOk, HttpClient.retry(Schedule.recurs(5)))
        assert.strictEqual((yield* client.get("/")).status, 200)
        assert.strictEqual(wire.sent.length, 3)
      })
    )

    it.effect("catchTags on the typed errors", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.refuse())
        const pool = yield* onWire(wire)
        const name = yield* Effect.catchTags(
          Effect.map(pool.client.get("/"), () => "response"),
          {
            ConnectError: (error) => Effect.succeed(error.phase),
            TimeoutError: (error) => Effect.succeed(error.phase)
          }
        )
        assert.strictEqual(name, "tcp")
      })
    )

    it.effect("cookies are kept between requests", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("", 200, { "set-cookie": ["a=1; Path=/", "b=2; Path=/"] }))
        const pool = yield* onWire(wire)
        const jar = yield* Ref.make<ReadonlyArray<Cookies.Cookie>>([])
        const client = HttpClient.withCookiesRef(pool.client, jar)
        yield* client.get("/")
        yield* client.get("/")
        assert.strictEqual(wire.at(1).header("cookie"), "a=1; b=2")
        assert.isUndefined(wire.at(0).header("cookie"))
      })
    )

    it.effect("headers are sent once, under lower-case names", () =>
      Effect.gen(function* () {
        const wire = answering()
        const pool = yield* onWire(wire, { headers: { "X-A": "pool" } })
        const request = HttpClientRequest.get("/", { headers: Headers.fromInput({ "X-A": "request" }) })
        yield* pool.client.execute(request)
        assert.deepStrictEqual(wire.at(0).exchange.headers, ["x-a", "request"])
      })
    )
  })

  describe("as Effect's HttpClient", () => {
    for (const [lane, transform] of [
      ["fast", (client: HttpClient.HttpClient) => client],
      ["slow", slow]
    ] as const) {
      it.effect(`folds every error, and gives it back (${lane} lane)`, () =>
        Effect.gen(function* () {
          const wire = new Wire((sent) => (sent.path === "/404" ? sent.answer("gone", 404) : sent.refuse()))
          const pool = yield* onWire(wire, { failOnStatus: true })
          const client = transform(pool.httpClient)
          const connect = yield* Effect.flip(client.get("/"))
          assert.strictEqual(connect.reason._tag, "TransportError")
          tagged(Option.getOrThrow(PoolError.fromHttpClientError(connect)), "ConnectError")
          const status = yield* Effect.flip(client.get("/404"))
          assert.strictEqual(status.reason._tag, "StatusCodeError")
          assert.strictEqual(status.response?.status, 404)
          const invalid = yield* Effect.flip(client.get("ftp://h/"))
          assert.strictEqual(invalid.reason._tag, "InvalidUrlError")
          tagged(Option.getOrThrow(PoolError.fromHttpClientError(invalid)), "InvalidRequest")
        })
      )
    }

    it.effect("carries a typed API", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) =>
          sent.path === "/v1/items/7"
            ? sent.answer('{"id":7}', 200, { "content-type": "application/json" })
            : sent.answer('{"_tag":"Missing","id":8}', 404, { "content-type": "application/json" })
        )
        const pool = yield* onWire(wire, { baseUrl: "http://test.local/v1" })
        for (const httpClient of [pool.httpClient, slow(pool.httpClient)]) {
          const api = yield* HttpApiClient.makeWith(Api, { httpClient })
          assert.deepStrictEqual(yield* api.items.byId({ params: { id: 7 } }), { id: 7 })
          const error = yield* Effect.flip(api.items.byId({ params: { id: 8 } }))
          assert.strictEqual(error._tag, "Missing")
        }
        const typed = yield* HttpApiClient.makeWith(Api, { httpClient: pool.client })
        assert.deepStrictEqual(yield* typed.items.byId({ params: { id: 7 } }), { id: 7 })
      })
    )
  })

  it.effect("time limits hold on the slow lane too", () =>
    Effect.gen(function* () {
      const wire = writing()
      const pool = yield* onWire(wire, { size: 1, requestTimeout: "1 seconds" })
      const fiber = yield* start(Effect.flip(slow(pool.client).get("/")))
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(tagged(yield* Fiber.join(fiber), "TimeoutError").phase, "request")
    })
  )
})
