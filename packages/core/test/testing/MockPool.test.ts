import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Context, Duration, Effect, Exit, Fiber, Layer, Schedule, Scope, Stream } from "effect"
import { HttpBody, HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Connector from "../../src/client/Connector.ts"
import * as Pool from "../../src/client/Pool.ts"
import * as PoolError from "../../src/model/PoolError.ts"
import * as MockPool from "../../src/testing/MockPool.ts"
import { start, tagged, text } from "../fixtures/pools.ts"

const baseUrl = "https://billing.test"

/** What a test would see whose body is `use`: its scope is closed with its own end. */
const ending = <A, E>(
  routes: ReadonlyArray<MockPool.Route>,
  use: (mock: MockPool.MockPool) => Effect.Effect<A, E>
): Effect.Effect<Exit.Exit<A, unknown>> =>
  Effect.exit(Effect.scoped(Effect.flatMap(MockPool.make({ baseUrl }, routes), use)))

const mismatchOf = <A>(exit: Exit.Exit<A, unknown>): MockPool.MockMismatch => {
  const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  return defect instanceof MockPool.MockMismatch ? defect : assert.fail(`no mismatch: ${String(exit)}`)
}

const ok = MockPool.text("ok")

describe("MockPool", () => {
  describe("routes", () => {
    it.effect("by method", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.get("/a", MockPool.text("get")),
          MockPool.post("/a", MockPool.text("post")),
          MockPool.put("/a", MockPool.text("put")),
          MockPool.patch("/a", MockPool.text("patch")),
          MockPool.del("/a", MockPool.text("delete")),
          MockPool.route("*", "/a", MockPool.text("any"))
        ])
        const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const
        const seen = yield* Effect.forEach(methods, (method) =>
          text(pool.client.execute(HttpClientRequest.make(method)("/a")))
        )
        assert.deepStrictEqual(seen, ["get", "post", "put", "patch", "delete", "any"])
      })
    )

    it.effect("by URL pattern, whose names are typed", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl: `${baseUrl}/api` }, [
          MockPool.get("/invoices/:id/lines/:line", ({ params }) => MockPool.text(`${params.id} ${params.line}`)),
          MockPool.get("/files/*", ({ path }) => MockPool.text(path)),
          MockPool.get("/search?page=2", MockPool.text("second")),
          MockPool.get(/^\/api\/v(?<version>\d+)$/g, ({ params }) => MockPool.text(params["version"] ?? "")),
          MockPool.get("https://other.test:8443/x/:id", ({ origin, params }) => MockPool.text(`${origin} ${params.id}`))
        ])
        const seen = yield* Effect.forEach(
          [
            "/invoices/a%20b/lines/7",
            "/files/a/b",
            "/search?page=2&size=5",
            "/v3",
            "/v4",
            "https://other.test:8443/x/9"
          ],
          (url) => text(pool.client.get(url))
        )
        assert.deepStrictEqual(seen, ["a b 7", "/api/files/a/b", "second", "3", "4", "https://other.test:8443 9"])
      })
    )

    it.effect("by header, query and body", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.post(
            { path: "/", headers: { "X-Tenant": "a", "idempotency-key": /^\d+$/ } },
            MockPool.text("header")
          ),
          MockPool.post({ path: "/", query: { tag: "b" } }, MockPool.text("query")),
          MockPool.post({ path: "/", body: "plain" }, MockPool.text("text")),
          MockPool.post({ path: "/", body: /^pl/g }, MockPool.text("pattern")),
          MockPool.post({ path: "/", body: { amount: 5, to: { name: "x" }, tags: [1] } }, MockPool.text("json")),
          MockPool.post({ path: "/", body: (request) => request.body.length === 3 }, MockPool.text("function")),
          MockPool.post(
            { path: "/", body: { field: "value", upload: { file: "a.txt", size: 2 } } },
            MockPool.text("form")
          )
        ])
        const form = new FormData()
        form.append("field", "value")
        form.append("upload", new File(["hi"], "a.txt"))
        const json = HttpBody.jsonUnsafe({ id: 1, amount: 5, to: { name: "x", more: true }, tags: [1] })
        const seen = yield* Effect.forEach(
          [
            { headers: { "x-tenant": "a", "idempotency-key": "12" } },
            { urlParams: { tag: ["a", "b"] } },
            { body: HttpBody.text("plain") },
            { body: HttpBody.text("plus") },
            { body: json },
            { body: HttpBody.stream(Stream.make(new Uint8Array(1), new Uint8Array(2))) },
            { body: HttpBody.formData(form) }
          ],
          (options) => text(pool.client.post("/", options))
        )
        assert.deepStrictEqual(seen, ["header", "query", "text", "pattern", "json", "function", "form"])
      })
    )

    it.effect("without `baseUrl` answer for any origin", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({}, [MockPool.get("/x", ({ origin }) => MockPool.text(origin))])
        assert.strictEqual(yield* text(pool.client.get("http://one.test/x")), "http://one.test")
        assert.strictEqual(yield* text(pool.client.get("http://two.test/x")), "http://two.test")
      })
    )

    it.effect("that have answered as often as they may are passed over", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.times(MockPool.get("/", MockPool.text("first")), 2),
          MockPool.get("/", MockPool.text("then"))
        ])
        const seen = yield* Effect.forEach([1, 2, 3, 4], () => text(pool.client.get("/")))
        assert.deepStrictEqual(seen, ["first", "first", "then", "then"])
      })
    )
  })

  describe("answers", () => {
    it.effect("fixed: status, headers, body", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.get(
            "/json",
            MockPool.json({ a: 1 }, { status: 201, headers: { "x-a": "1", "set-cookie": ["a=1", "b=2"] } })
          ),
          MockPool.get("/bytes", MockPool.bytes(Uint8Array.of(0, 255))),
          MockPool.get("/busy", MockPool.status(503, { "retry-after": "2" })),
          MockPool.head("/json", MockPool.json({ a: 1 })),
          MockPool.get("/none", MockPool.text("never seen", { status: 204 }))
        ])
        const made = yield* pool.client.get("/json")
        assert.deepStrictEqual(
          [made.status, made.headers["x-a"], made.headers["content-type"], yield* made.json],
          [201, "1", "application/json", { a: 1 }]
        )
        assert.deepStrictEqual(Object.keys(made.cookies.cookies), ["a", "b"])
        assert.deepStrictEqual(
          new Uint8Array(yield* Effect.flatMap(pool.client.get("/bytes"), (_) => _.arrayBuffer)),
          Uint8Array.of(0, 255)
        )
        const busy = yield* pool.client.get("/busy")
        assert.deepStrictEqual([busy.status, busy.headers["retry-after"], yield* busy.text], [503, "2", ""])
        const head = yield* pool.client.head("/json")
        assert.deepStrictEqual([head.headers["content-length"], yield* head.text], ["7", ""])
        assert.strictEqual(yield* text(pool.client.get("/none")), "")
      })
    )

    it.effect("in sequence", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.get(
            "/:id",
            MockPool.sequence(MockPool.status(503), ({ params }) => MockPool.text(params.id), MockPool.status(404))
          )
        ])
        const seen = yield* Effect.forEach([1, 2, 3], () => Effect.map(pool.client.get("/a"), (_) => _.status))
        assert.deepStrictEqual(seen, [503, 200, 404])
      })
    )

    it.effect("by a function of the request, that may be an effect", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.post("/echo", ({ json }) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => MockPool.json([now, json ?? null]))
          )
        ])
        yield* TestClock.adjust("1 second")
        const response = yield* pool.client.post("/echo", { body: HttpBody.jsonUnsafe({ a: 1 }) })
        assert.deepStrictEqual(yield* response.json, [1000, { a: 1 }])
      })
    )

    it.effect("delayed, on the TestClock", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [MockPool.get("/", Effect.delay(ok, "2 seconds"))])
        const fiber = yield* start(text(pool.client.get("/")))
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Fiber.join(fiber), "ok")
      })
    )

    it.effect("never: the pool's own time limits end it", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl, responseHeaderTimeout: "3 seconds" }, [
          MockPool.get("/", Effect.never)
        ])
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(tagged(yield* Fiber.join(fiber), "TimeoutError").phase, "headers")
      })
    )

    const retryAfter = Duration.seconds(1)
    const errors: Record<
      PoolError.PoolError["_tag"],
      (at: Pick<PoolError.PoolError, "request" | "attempts">) => PoolError.PoolError
    > = {
      ConnectError: (at) => new PoolError.ConnectError({ ...at, phase: "dns", sent: false }),
      TimeoutError: (at) => new PoolError.TimeoutError({ ...at, phase: "attempt", timeout: retryAfter }),
      ResponseError: (at) =>
        new PoolError.ResponseError({
          ...at,
          response: HttpClientResponse.fromWeb(HttpClientRequest.get("/"), new Response(""))
        }),
      RetryExhausted: (at) =>
        new PoolError.RetryExhausted({ ...at, reason: "maxRetries", last: new PoolError.PoolClosed(at) }),
      RateLimitExceeded: (at) => new PoolError.RateLimitExceeded({ ...at, retryAfter }),
      CircuitOpen: (at) => new PoolError.CircuitOpen({ ...at, retryAfter }),
      PoolSaturated: (at) => new PoolError.PoolSaturated({ ...at, reason: "maxWaiting", limit: 1, waiting: 1 }),
      PoolClosed: (at) => new PoolError.PoolClosed(at),
      AuthError: (at) => new PoolError.AuthError({ ...at, reason: "test" }),
      DecodeError: (at) => new PoolError.DecodeError({ ...at, reason: "test" }),
      InvalidRequest: (at) => new PoolError.InvalidRequest({ ...at, reason: "test" })
    }
    for (const [tag, make] of Object.entries(errors)) {
      it.effect(`failing with ${tag}, as it is`, () =>
        Effect.gen(function* () {
          const given = make({ request: { method: "GET", url: "here" }, attempts: 7 })
          const { pool } = yield* MockPool.make({ baseUrl }, [
            MockPool.get("/", MockPool.sequence(MockPool.fail(make), Effect.fail(given))),
            MockPool.get("/", ok)
          ])
          const error = yield* Effect.flip(pool.client.get("/?token=t"))
          assert.strictEqual(error._tag, tag)
          assert.deepStrictEqual(
            [error.request.method, error.request.url, error.attempts],
            ["GET", `${baseUrl}/?token=REDACTED`, 1]
          )
          assert.strictEqual(yield* Effect.flip(pool.client.get("/")), given)
          assert.strictEqual(yield* text(pool.client.get("/")), "ok")
        })
      )
    }

    it.effect("refused, and reset before the head", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.get("/refuse", MockPool.refuse),
          MockPool.post("/reset", MockPool.reset)
        ])
        const refused = tagged(yield* Effect.flip(pool.client.get("/refuse")), "ConnectError")
        assert.deepStrictEqual([refused.phase, refused.sent], ["tcp", false])
        assert.include(refused.message, "ECONNREFUSED")
        const broken = tagged(yield* Effect.flip(pool.client.post("/reset")), "ConnectError")
        assert.deepStrictEqual([broken.phase, broken.sent], ["response", true])
      })
    )

    it.effect("a reset of a used connection is no news to the caller, as in reality", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make({ baseUrl, size: 1 }, [
          MockPool.get("/", MockPool.sequence(ok, MockPool.reset, MockPool.text("again")))
        ])
        assert.strictEqual(yield* text(pool.client.get("/")), "ok")
        assert.strictEqual(yield* text(pool.client.get("/")), "again")
        assert.lengthOf(yield* sent, 3)
      })
    )

    it.effect("streaming, in pieces on the TestClock", () =>
      Effect.gen(function* () {
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.get(
            "/",
            MockPool.stream(Stream.make("a", "b", "c").pipe(Stream.schedule(Schedule.spaced("1 second"))))
          )
        ])
        const seen: Array<string> = []
        const response = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 millis")
        const { stream } = yield* Fiber.join(response)
        const fiber = yield* start(
          Stream.runForEach(Stream.decodeText(stream), (piece) => Effect.sync(() => seen.push(piece)))
        )
        yield* TestClock.adjust("1 second")
        const early = seen.join("")
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual([early.length < 3, seen.join("")], [true, "abc"])
      })
    )

    it.effect("broken in the middle of the body, or failing there with an error of choice", () =>
      Effect.gen(function* () {
        const closed = new PoolError.PoolClosed({ request: { method: "GET", url: "x" }, attempts: 1 })
        const { pool } = yield* MockPool.make({ baseUrl }, [
          MockPool.get("/cut", MockPool.stream(Stream.concat(Stream.make("half"), Stream.fail("reset")))),
          MockPool.get("/own", MockPool.stream(Stream.concat(Stream.make("half"), Stream.fail(closed))))
        ])
        const cut = yield* Effect.flip(text(pool.client.get("/cut")))
        assert.strictEqual(PoolError.find(cut)?._tag, "ConnectError")
        const own = yield* Effect.flip(text(pool.client.get("/own")))
        assert.strictEqual(PoolError.find(own), closed)
      })
    )
  })

  describe("records what was sent", () => {
    it.effect("each attempt, with its time, headers, query and body", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make({ baseUrl, headers: { authorization: "Bearer x" } }, [
          MockPool.post("/a/:id", ok)
        ])
        yield* text(pool.client.post("/a/7?tag=1&tag=2&q=z", { body: HttpBody.jsonUnsafe({ n: 1 }) }))
        yield* TestClock.adjust("3 seconds")
        yield* text(pool.client.post("/a/8", { body: HttpBody.text("plain") }))
        const [first, second] = yield* sent
        assert.isDefined(first)
        assert.deepStrictEqual(
          [first.method, first.url, first.origin, first.path, first.query, first.at, first.slot, first.params],
          ["POST", `${baseUrl}/a/7?tag=1&tag=2&q=z`, baseUrl, "/a/7", { tag: ["1", "2"], q: "z" }, 0, 0, { id: "7" }]
        )
        assert.deepStrictEqual([first.json, first.headers["authorization"]], [{ n: 1 }, "Bearer x"])
        assert.deepStrictEqual([second?.at, second?.slot, second?.text, second?.json], [3000, 1, "plain", undefined])
      })
    )

    it.effect("bodies of any kind", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make({ baseUrl }, [MockPool.post("/", ok)])
        const raw = (body: unknown) => HttpBody.raw(body, { contentType: "text/plain" })
        yield* Effect.forEach(
          [
            HttpBody.empty,
            raw("text"),
            raw(new TextEncoder().encode("bytes")),
            raw(new TextEncoder().encode("buffer").buffer),
            raw(new URLSearchParams({ a: "1" })),
            raw(new Blob(["blob"])),
            raw({ an: "object" }),
            raw(undefined)
          ],
          (body) => text(pool.client.post("/", { body }))
        )
        assert.deepStrictEqual(
          (yield* sent).map((request) => request.text),
          ["", "text", "bytes", "buffer", "a=1", "blob", '{"an":"object"}', ""]
        )
      })
    )

    it.effect("a body stream that fails is the caller's error, and no request", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make({ baseUrl }, [MockPool.optional(MockPool.post("/", ok))])
        const body = HttpBody.stream(Stream.fail("broken"))
        const error = yield* Effect.flip(pool.client.post("/", { body }))
        assert.strictEqual(error._tag, "InvalidRequest")
        assert.lengthOf(yield* sent, 0)
      })
    )
  })

  describe("unexpected requests", () => {
    it.effect("fail with the nearest route and what differs", () =>
      Effect.gen(function* () {
        const mock = yield* MockPool.make({ baseUrl }, [
          MockPool.optional(MockPool.get("/invoices/:id", ok)),
          MockPool.optional(
            MockPool.post(
              {
                path: "/invoices",
                query: { page: "1" },
                headers: { "x-tenant": "a", authorization: "Bearer right" },
                body: { amount: 7, lines: [{ sku: "a" }], to: { name: "x" } }
              },
              ok
            )
          )
        ])
        const error = yield* Effect.flip(
          mock.pool.client.post("/invoices?page=2&token=hidden", {
            headers: { authorization: "Bearer wrong" },
            body: HttpBody.jsonUnsafe({ amount: 5, lines: [{ sku: "a" }, { sku: "b" }], to: null })
          })
        )
        const lines = [
          "nearest route: POST /invoices",
          '  query page: expected "1", got "2"',
          '  header x-tenant: expected "a", got nothing',
          "  header authorization: expected REDACTED, got REDACTED",
          "  body.amount: expected 7, got 5",
          '  body.lines: expected "1 items", got "2 items"',
          '  body.to: expected {"name":"x"}, got null'
        ]
        assert.strictEqual(
          tagged(error, "InvalidRequest").reason,
          `the mock has no answer to it\n  ${lines.join("\n  ")}`
        )
        const mismatch = yield* Effect.flip(mock.verify)
        assert.strictEqual(
          mismatch.message,
          [
            "What was sent is not what the mock expects.",
            `Unexpected: POST ${baseUrl}/invoices?page=2&token=REDACTED (request 1, at 0 ms)`,
            ...lines.map((line) => `  ${line}`)
          ].join("\n")
        )
      })
    )

    it.effect("say which method, path or origin would have been right, or that the route is spent", () =>
      Effect.gen(function* () {
        const reason = (routes: ReadonlyArray<MockPool.Route>, url: string) =>
          Effect.gen(function* () {
            const mock = yield* MockPool.make({ baseUrl }, routes.map(MockPool.optional))
            const error = tagged(yield* Effect.flip(mock.pool.client.get(url)), "InvalidRequest")
            yield* Effect.ignore(mock.verify)
            return error.reason
          })
        assert.include(yield* reason([MockPool.post("/a", ok)], "/a"), "method: expected POST, got GET")
        assert.include(yield* reason([MockPool.get("/a/:id", ok)], "/b/1"), "path: expected /a/:id, got /b/1")
        assert.include(yield* reason([MockPool.get("/a", ok)], "/a/b"), "path: expected /a, got /a/b")
        assert.include(yield* reason([MockPool.get("/a/b", ok)], "/a"), "path: expected /a/b, got /a")
        assert.include(yield* reason([MockPool.get(/^\/x/, ok)], "/a%"), "path: expected /^\\/x/, got /a%")
        assert.include(
          yield* reason([MockPool.get("/a", ok)], "http://b.test/a"),
          `origin: expected ${baseUrl}, got http://b.test`
        )
        assert.include(yield* reason([MockPool.times(MockPool.get("/a", ok), 0)], "/a"), "it has answered 0 times of 0")
        assert.include(yield* reason([], "/a"), "there is no route at all")
        assert.include(
          yield* reason([MockPool.route("GET", { path: "/a", body: { a: 1 } }, ok)], "/a"),
          'body: expected {"a":1}, got no JSON but ""'
        )
        assert.include(
          yield* reason([MockPool.get({ path: "/a", body: "x".repeat(200) }, ok)], "/a"),
          "… (202 characters)"
        )
        assert.include(yield* reason([MockPool.get({ path: "/a", body: /x/ }, ok)], "/a"), 'body: expected /x/, got ""')
        assert.include(
          yield* reason([MockPool.get({ path: "/a", body: () => false }, ok)], "/a"),
          "what its function accepts"
        )
      })
    )

    it.effect("compare JSON member by member", () =>
      Effect.gen(function* () {
        const mock = yield* MockPool.make({ baseUrl }, [
          MockPool.optional(MockPool.post({ path: "/", body: { a: { b: 1 }, c: [1], d: "x", toString: 1 } }, ok))
        ])
        const send = (body: unknown) =>
          Effect.map(
            Effect.flip(mock.pool.client.post("/", { body: HttpBody.jsonUnsafe(body) })),
            (error) => error.message
          )
        const message = yield* send({ a: [1], c: { 0: 1 } })
        for (const line of [
          "body.a: expected",
          "body.c: expected [1], got {",
          'body.d: expected "x", got nothing',
          "body.toString: expected 1, got nothing"
        ]) {
          assert.include(message, line)
        }
        yield* Effect.ignore(mock.verify)
      })
    )
  })

  describe("when the scope ends", () => {
    it.effect("an unexpected request fails the test, even where the application has swallowed its error", () =>
      Effect.gen(function* () {
        const exit = yield* ending([], (mock) => Effect.ignore(mock.pool.client.get("/nobody")))
        assert.include(mismatchOf(exit).message, `Unexpected: GET ${baseUrl}/nobody (request 1, at 0 ms)`)
      })
    )

    it.effect("a route that was not used fails the test, with how often it was", () =>
      Effect.gen(function* () {
        const exit = yield* ending(
          [
            MockPool.get("/used", ok),
            MockPool.get("/unused", ok),
            MockPool.optional(MockPool.get("/optional", ok)),
            MockPool.post("/twice", MockPool.sequence(ok, ok))
          ],
          (mock) => Effect.andThen(mock.pool.client.get("/used"), mock.pool.client.post("/twice"))
        )
        assert.deepStrictEqual(mismatchOf(exit).unused, [
          "GET /unused was answered 0 times of at least 1",
          "POST /twice was answered 1 times of 2"
        ])
        assert.include(
          mismatchOf(exit).message,
          "\nUnused: GET /unused was answered 0 times of at least 1\nUnused: POST /twice"
        )
      })
    )

    it.effect("an assertion that fails inside a route fails the test", () =>
      Effect.gen(function* () {
        const throwing = (value: unknown): MockPool.Route =>
          MockPool.get("/", () => {
            throw value
          })
        for (const value of [new Error("wrong amount"), "wrong amount"]) {
          const exit = yield* ending([throwing(value)], (mock) => Effect.ignore(mock.pool.client.get("/")))
          assert.deepStrictEqual(mismatchOf(exit).broken, ["GET /: wrong amount"])
          assert.include(mismatchOf(exit).message, "Threw: GET /: wrong amount")
        }
      })
    )

    it.effect("a test that has failed keeps its own failure", () =>
      Effect.gen(function* () {
        const exit = yield* ending([MockPool.get("/unused", ok)], () => Effect.fail("its own"))
        assert.deepStrictEqual(exit, Exit.fail("its own"))
      })
    )

    it.effect("what `verify` has told is not told again; what comes later is", () =>
      Effect.gen(function* () {
        const routes = [MockPool.get("/unused", ok)]
        const look = (mock: MockPool.MockPool) =>
          Effect.andThen(Effect.ignore(mock.pool.client.get("/a")), Effect.flip(mock.verify))
        assert.isTrue(Exit.isSuccess(yield* ending(routes, look)))
        const exit = yield* ending(routes, (mock) =>
          Effect.andThen(look(mock), Effect.ignore(mock.pool.client.get("/b")))
        )
        const { unexpected } = mismatchOf(exit)
        assert.lengthOf(unexpected, 1)
        assert.include(unexpected[0], "/b")
      })
    )

    it.effect("a mock that was used as expected says nothing", () =>
      Effect.gen(function* () {
        const exit = yield* ending([MockPool.get("/", ok)], (mock) =>
          Effect.andThen(mock.pool.client.get("/"), mock.verify)
        )
        assert.isTrue(Exit.isSuccess(exit))
      })
    )

    it.effect("a request under way does not hold it: nobody moves the clock", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const { pool } = yield* Scope.provide(MockPool.make({ baseUrl }, [MockPool.get("/", Effect.never)]), scope)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "PoolClosed")
      })
    )
  })

  describe("runs the real policies if asked", () => {
    it.effect("retry: the attempts and their waits are those of the pool", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make({ baseUrl, retry: { maxRetries: 2, jitter: "none" } }, [
          MockPool.get("/", MockPool.sequence(MockPool.status(503), MockPool.refuse, ok))
        ])
        const fiber = yield* start(text(pool.client.get("/")))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), "ok")
        assert.deepStrictEqual(
          (yield* sent).map(({ at }) => at),
          [0, 1000, 3000]
        )
      })
    )

    it.effect(
      "circuit breaker: an error of choice counts as it does in reality, and nothing is sent while it is open",
      () =>
        Effect.gen(function* () {
          const timeout = MockPool.fail(
            (at) => new PoolError.TimeoutError({ ...at, phase: "headers", timeout: Duration.seconds(60) })
          )
          const { pool, sent } = yield* MockPool.make(
            { baseUrl, circuitBreaker: { consecutiveFailures: 2, openFor: "10 seconds" } },
            [MockPool.get("/", MockPool.sequence(timeout, MockPool.status(500), ok))]
          )
          assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "TimeoutError")
          assert.strictEqual((yield* pool.client.get("/")).status, 500)
          assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "CircuitOpen")
          assert.lengthOf(yield* sent, 2)
          yield* TestClock.adjust("10 seconds")
          assert.strictEqual(yield* text(pool.client.get("/")), "ok")
        })
    )

    it.effect("rate limit, and what the server says of it", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make({ baseUrl, rateLimit: { limit: 2, interval: "1 second" } }, [
          MockPool.get("/", MockPool.sequence(ok, MockPool.status(429, { "retry-after": "20" }), ok))
        ])
        for (let i = 0; i < 2; i++) yield* pool.client.get("/")
        const fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          (yield* sent).map(({ at }) => at),
          [0, 0, 20_000]
        )
      })
    )

    it.effect("hedge, bulkhead, auth and time limits", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* MockPool.make(
          {
            baseUrl,
            hedge: { delay: "1 second", maxRatio: 1 },
            bulkhead: { maxConcurrent: 2 },
            attemptTimeout: "5 seconds",
            auth: (request) => HttpClientRequest.setHeader(request, "authorization", "mine")
          },
          [
            MockPool.get(
              { path: "/", headers: { authorization: "mine" } },
              MockPool.sequence(Effect.never, Effect.never)
            )
          ]
        )
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("1 second")
        assert.lengthOf(yield* sent, 2)
        assert.strictEqual((yield* Effect.flip(pool.client.get("/")))._tag, "PoolSaturated")
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TimeoutError")
      })
    )

    it.effect("an unexpected request is not retried, and does not trip a circuit", () =>
      Effect.gen(function* () {
        const mock = yield* MockPool.make({ baseUrl, retry: true, circuitBreaker: { consecutiveFailures: 1 } }, [
          MockPool.get("/right", ok)
        ])
        assert.strictEqual((yield* Effect.flip(mock.pool.client.get("/wrong")))._tag, "InvalidRequest")
        assert.strictEqual(yield* text(mock.pool.client.get("/right")), "ok")
        assert.lengthOf((yield* Effect.flip(mock.verify)).unexpected, 1)
      })
    )
  })

  describe("layers", () => {
    class Billing extends Context.Service<Billing, Pool.Pool>()("test/Billing") {}

    it.effect("provide the default tag, Effect's HttpClient and the mock", () =>
      Effect.gen(function* () {
        const { client } = yield* Pool.Pool
        const http = yield* HttpClient.HttpClient
        const mock = yield* MockPool.MockPool
        assert.strictEqual(yield* text(client.get("/")), "ok")
        assert.strictEqual(yield* text(http.get("/")), "ok")
        assert.lengthOf(yield* mock.sent, 2)
      }).pipe(Effect.provide(MockPool.layer({ baseUrl }, [MockPool.get("/", ok)])))
    )

    it.effect("provide the application's own tag", () =>
      Effect.gen(function* () {
        const { client } = yield* Billing
        assert.strictEqual(yield* text(client.get("/")), "ok")
        yield* (yield* MockPool.MockPool).verify
      }).pipe(Effect.provide(MockPool.layerFor(Billing, { baseUrl }, [MockPool.get("/", ok)])))
    )

    it.effect("provide only the server, for whatever is to stand between", () =>
      Effect.gen(function* () {
        const { client } = yield* Pool.make({ baseUrl, drainTimeout: 0 })
        assert.strictEqual(yield* text(client.get("/")), "ok")
        assert.lengthOf(yield* (yield* MockPool.Server).sent, 1)
      }).pipe(Effect.provide(MockPool.layerConnector([MockPool.get("/", ok)], { baseUrl })))
    )

    it.effect("fail the test that provides them", () =>
      Effect.gen(function* () {
        const layer = MockPool.layerFor(Billing, { baseUrl }, [MockPool.get("/unused", ok)])
        const exit = yield* Effect.exit(Effect.provide(Effect.asVoid(Billing), layer))
        assert.lengthOf(mismatchOf(exit).unused, 1)
        const server = Layer.build(MockPool.layerConnector([MockPool.get("/unused", ok)]))
        assert.lengthOf(mismatchOf(yield* Effect.exit(Effect.scoped(server))).unused, 1)
      })
    )

    it.effect("refuse invalid options as a pool does", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.scoped(MockPool.make({ baseUrl: "nonsense", size: 0 }, [])))
        assert.deepStrictEqual(
          error.problems.map(({ path }) => path),
          ["baseUrl", "size"]
        )
      })
    )
  })

  it.effect("a transport may still be told a failure of its own kind", () =>
    Effect.gen(function* () {
      const dial = new Connector.TransportError({
        failure: { _tag: "ConnectTimeout", phase: "dial", address: undefined, millis: 5 }
      })
      const { pool } = yield* MockPool.make({ baseUrl }, [MockPool.get("/", Effect.fail(dial))])
      assert.strictEqual(tagged(yield* Effect.flip(pool.client.get("/")), "TimeoutError").phase, "dial")
    })
  )
})
