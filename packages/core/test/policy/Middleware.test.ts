import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Logger, Metric, References, Result } from "effect"
import { HttpClient, HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { isPoolError, PoolClosed, type PoolError } from "../../src/model/PoolError.ts"
import { run } from "../../src/policy/internal/onion.ts"
import * as Middleware from "../../src/policy/Middleware.ts"
import { onWire } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const closed = new PoolClosed({ request: { method: "GET", url: "/" }, attempts: 2 })

/** A client that answers as told, and keeps what it was sent. */
const client = <E = never>(
  answer: (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<Response, E> = () =>
    Effect.succeed(new Response("ok"))
) => {
  const sent: Array<HttpClientRequest.HttpClientRequest> = []
  const made = HttpClient.makeWith<never, never, E, never>(
    Effect.flatMap((request) => {
      sent.push(request)
      return Effect.map(answer(request), (response) => HttpClientResponse.fromWeb(request, response))
    }),
    Effect.succeed
  )
  return { client: made, sent }
}

/** Writes down when it is asked. */
const spy = (log: Array<string>, name: string): Middleware.Middleware<never> => ({
  name,
  request: (request) => {
    log.push(`${name} request`)
    return Effect.succeed(HttpClientRequest.setHeader(request, name, "1"))
  },
  response: (response, request) => {
    log.push(`${name} response, ${Object.keys(request.headers).join()}`)
    return Effect.succeed(response)
  },
  error: (error, request) => {
    log.push(`${name} error, ${Object.keys(request.headers).join()}`)
    return Effect.fail(error)
  }
})

const failing = client(() => Effect.fail(closed)).client

describe("Middleware", () => {
  describe("order", () => {
    it.effect(
      "requests pass in order, responses in reverse, each with the request as its own middleware sent it on",
      () =>
        Effect.gen(function* () {
          const log: Array<string> = []
          const { client: inner, sent } = client()
          yield* Middleware.wrap([spy(log, "a"), spy(log, "b"), spy(log, "c")])(inner).get("/x")
          assert.deepStrictEqual(log, [
            "a request",
            "b request",
            "c request",
            "c response, a,b,c",
            "b response, a,b",
            "a response, a"
          ])
          assert.deepStrictEqual({ ...sent[0]?.headers }, { a: "1", b: "1", c: "1" })
        })
    )

    it.effect("failures pass in reverse, too", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const error = yield* Effect.flip(Middleware.wrap([spy(log, "a"), spy(log, "b")])(failing).get("/x"))
        assert.strictEqual(error, closed)
        assert.deepStrictEqual(log.slice(2), ["b error, a,b", "a error, a"])
      })
    )

    it.effect("one that recovers gives its response to those outside of it", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const recover: Middleware.Middleware = {
          error: (error, request) =>
            isPoolError(error) && error._tag === "PoolClosed"
              ? Effect.succeed(HttpClientResponse.fromWeb(request, new Response("kept")))
              : Effect.fail(error)
        }
        const wrapped = Middleware.wrap([spy(log, "a"), recover, spy(log, "b")])(failing)
        assert.strictEqual(yield* Effect.flatMap(wrapped.get("/x"), (_) => _.text), "kept")
        assert.deepStrictEqual(log.slice(2), ["b error, a,b", "a response, a"])
      })
    )

    it.effect("one that fails with another error gives that to those outside of it", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const seen: Array<unknown> = []
        const look: Middleware.Middleware<never> = {
          error: (error) => {
            seen.push(error)
            return Effect.fail(error)
          }
        }
        const replace: Middleware.Middleware<"mine"> = { error: () => Effect.fail("mine") }
        const wrapped = Middleware.wrap([look, replace, spy(log, "b")])(failing)
        const error: PoolError | "mine" = yield* Effect.flip(wrapped.get("/x"))
        assert.strictEqual(error, "mine")
        assert.deepStrictEqual(seen, ["mine"])
      })
    )

    it.effect("what a request or response fails with is seen by those outside, not by itself", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const bad: Middleware.Middleware<"bad"> = {
          ...spy(log, "bad"),
          request: () => Effect.fail("bad")
        }
        const worse: Middleware.Middleware<"worse"> = {
          ...spy(log, "worse"),
          response: () => Effect.fail("worse")
        }
        const { client: inner, sent } = client()
        assert.strictEqual(yield* Effect.flip(Middleware.wrap([spy(log, "a"), bad])(inner).get("/x")), "bad")
        assert.strictEqual(sent.length, 0)
        assert.strictEqual(yield* Effect.flip(Middleware.wrap([spy(log, "a"), worse])(inner).get("/x")), "worse")
        assert.deepStrictEqual(log, ["a request", "a error, a", "a request", "worse request", "a error, a"])
      })
    )

    it.effect("no middleware catches a defect or an interruption", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const dies = client(() => Effect.die("bug")).client
        const exit = yield* Effect.exit(Middleware.wrap([spy(log, "a")])(dies).get("/x"))
        assert.deepStrictEqual(Exit.isFailure(exit) && Cause.findDefect(exit.cause), Result.succeed("bug"))
        const never = client(() => Effect.never).client
        const fiber = yield* Effect.forkChild(Middleware.wrap([spy(log, "a")])(never).get("/x"), {
          startImmediately: true
        })
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(log, ["a request", "a request"])
      })
    )

    it.effect("one without any of the three does nothing", () =>
      Effect.gen(function* () {
        const { client: inner, sent } = client()
        yield* Middleware.wrap([{ name: "nothing" }, { response: (response) => Effect.succeed(response) }])(inner).get(
          "/x"
        )
        yield* Effect.flip(Middleware.wrap([{ response: (response) => Effect.succeed(response) }])(failing).get("/x"))
        const recovered = { error: <E>(error: E) => Effect.fail(error) }
        yield* Middleware.wrap([recovered])(inner).get("/x")
        assert.strictEqual(sent.length, 2)
      })
    )

    it.effect("it runs after what transformed the request before", () =>
      Effect.gen(function* () {
        const urls: Array<string> = []
        const look: Middleware.Middleware<never> = {
          request: (request) => Effect.sync(() => (urls.push(request.url), request))
        }
        const inner = HttpClient.mapRequest(client().client, HttpClientRequest.prependUrl("http://a.test"))
        yield* Middleware.wrap([look])(inner).get("/x")
        assert.deepStrictEqual(urls, ["http://a.test/x"])
      })
    )
  })

  it("an empty list costs nothing: it is what it runs", () => {
    const execute = () => Effect.never
    assert.strictEqual(run([], execute), execute)
  })

  it.effect("all middleware of a call have the same object for it, and those of another a different one", () =>
    Effect.gen(function* () {
      const calls: Array<Middleware.Call> = []
      const look: Middleware.Middleware<never> = {
        request: (request, call) => Effect.sync(() => (calls.push(call), request)),
        response: (response, _request, call) => Effect.sync(() => (calls.push(call), response))
      }
      const wrapped = Middleware.wrap([look, look])(
        client(() => Effect.delay(Effect.succeed(new Response()), 30)).client
      )
      const fiber = yield* Effect.forkChild(wrapped.get("/x"))
      yield* TestClock.adjust(30)
      yield* Fiber.join(fiber)
      assert.strictEqual(new Set(calls).size, 1)
      assert.strictEqual(calls[0]?.elapsed, 30)
      const other = yield* Effect.forkChild(wrapped.get("/x"))
      yield* TestClock.adjust(30)
      yield* Fiber.join(other)
      assert.strictEqual(new Set(calls).size, 2)
    })
  )

  describe("a response is discarded, so that its slot is free", () => {
    const around = (response: Middleware.Middleware["response"]) =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.write().head(200).data("the beginning"))
        const pool = yield* onWire(wire, { size: 1 })
        const wrapped = Middleware.wrap([{ response }])(pool.client)
        const fiber = yield* Effect.forkChild(wrapped.get("/x"), { startImmediately: true })
        for (let i = 0; i < 20; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })

    it.effect("when a middleware fails on it", () => around(() => Effect.fail(closed)))
    it.effect("when a middleware dies on it", () => around(() => Effect.die("bug")))
    it.effect("when a middleware throws on it", () =>
      around(() => {
        throw new Error("bug")
      })
    )
    it.effect("when a middleware is interrupted on it", () => around(() => Effect.never))
  })

  describe("logging", () => {
    /** What a logger gets, all of it: message, level, annotations. */
    const collect = () => {
      const lines: Array<{ level: string; message: string; annotations: Record<string, unknown> }> = []
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        const annotations = fiber.getRef(References.CurrentLogAnnotations)
        lines.push({ level: logLevel, message: String(message), annotations: { ...annotations } })
      })
      const logged = <A, E>(effect: Effect.Effect<A, E>) =>
        effect.pipe(Effect.provide(Logger.layer([logger])), Effect.provideService(References.MinimumLogLevel, "Trace"))
      return { lines, logged }
    }

    for (const [status, level] of [
      [200, "Debug"],
      [304, "Debug"],
      [400, "Warn"],
      [499, "Warn"],
      [500, "Error"],
      [503, "Error"]
    ] as const) {
      it.effect(`a ${status} is ${level}`, () =>
        Effect.gen(function* () {
          const { lines, logged } = collect()
          const { client: inner } = client(() => Effect.succeed(new Response(null, { status })))
          yield* logged(Middleware.wrap([Middleware.logging()])(inner).get("http://a.test/x"))
          assert.strictEqual(lines[0]?.level, level)
          assert.strictEqual(lines.length, 1)
        })
      )
    }

    it.effect("annotates method, URL, status and duration", () =>
      Effect.gen(function* () {
        const { lines, logged } = collect()
        const { client: inner } = client(() => Effect.delay(Effect.succeed(new Response()), 12))
        const call = Middleware.wrap([Middleware.logging()])(inner).get("http://a.test/x", { urlParams: { page: "2" } })
        const fiber = yield* Effect.forkChild(logged(call))
        yield* TestClock.adjust(12)
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(lines, [
          {
            level: "Debug",
            message: "GET http://a.test/x?page=2 -> 200 in 12 ms",
            annotations: {
              "http.request.method": "GET",
              "url.full": "http://a.test/x?page=2",
              "http.response.status_code": 200,
              durationMs: 12
            }
          }
        ])
      })
    )

    it.effect("a failure is an Error, with its kind and the attempts it took; it is passed on", () =>
      Effect.gen(function* () {
        const { lines, logged } = collect()
        const error = yield* logged(Effect.flip(Middleware.wrap([Middleware.logging()])(failing).get("/x")))
        assert.strictEqual(error, closed)
        assert.strictEqual(lines[0]?.level, "Error")
        assert.include(lines[0]?.message, "GET /x failed: The pool is closed")
        assert.strictEqual(lines[0]?.annotations["error.type"], "PoolClosed")
        assert.strictEqual(lines[0]?.annotations["attempts"], 2)
      })
    )

    it.effect("levels can be chosen, and None", () =>
      Effect.gen(function* () {
        const { lines, logged } = collect()
        const logging = Middleware.logging({
          success: "Info",
          clientError: "None",
          serverError: "Fatal",
          failure: "Warn"
        })
        for (const status of [200, 404, 500]) {
          const { client: inner } = client(() => Effect.succeed(new Response(null, { status })))
          yield* logged(Middleware.wrap([logging])(inner).get("/x"))
        }
        yield* logged(Effect.flip(Middleware.wrap([logging])(failing).get("/x")))
        assert.deepStrictEqual(
          lines.map((line) => line.level),
          ["Info", "Fatal", "Warn"]
        )
      })
    )

    it.effect("what is below the minimum level is not even put together", () =>
      Effect.gen(function* () {
        const request = HttpClientRequest.get("/x")
        const untouchable = Object.defineProperty(
          HttpClientRequest.makeWith("GET", "/x", request.urlParams, request.hash, request.headers, request.body),
          "urlParams",
          {
            get: () => {
              throw new Error("asked")
            }
          }
        )
        const { lines, logged } = collect()
        const response = HttpClientResponse.fromWeb(request, new Response())
        const call = run([Middleware.logging()], () => Effect.succeed(response))(untouchable)
        yield* Effect.provideService(call, References.MinimumLogLevel, "Info")
        assert.isTrue(Exit.hasDies(yield* Effect.exit(logged(call))), "it is asked when the level is on")
        assert.strictEqual(lines.length, 0)
      })
    )

    it.effect("headers are shown when asked for", () =>
      Effect.gen(function* () {
        const { lines, logged } = collect()
        const { client: inner } = client(() => Effect.succeed(new Response(null, { headers: { "x-b": "2" } })))
        const call = Middleware.wrap([Middleware.logging({ headers: true })])(inner).get("/x", {
          headers: { "x-a": "1" }
        })
        yield* logged(call)
        assert.deepStrictEqual(lines[0]?.annotations["http.request.headers"], { "x-a": "1" })
        assert.deepStrictEqual(lines[0]?.annotations["http.response.headers"], { "x-b": "2" })
      })
    )

    it.effect("never a secret, wherever it stands, and never a body", () =>
      Effect.gen(function* () {
        const { lines, logged } = collect()
        const secret = "hunter2"
        const logging = Middleware.logging({ headers: true, redact: ["x-customer", /^mine/] })
        const request = HttpClientRequest.post(`http://user:${secret}@a.test/?token=${secret}&mine=${secret}`, {
          urlParams: { api_key: secret, "x-customer": secret },
          headers: {
            authorization: secret,
            cookie: secret,
            "x-api-key": secret,
            "proxy-authorization": secret,
            "x-customer": secret
          }
        }).pipe(HttpClientRequest.bodyText(secret))
        const answers = [
          () => Effect.succeed(new Response(secret, { headers: { "set-cookie": secret, "x-customer": secret } })),
          () => Effect.succeed(new Response(secret, { status: 500 })),
          () =>
            Effect.fail(
              new HttpClientError.HttpClientError({
                reason: new HttpClientError.TransportError({ request, cause: new Error(secret), description: secret })
              })
            ),
          () => Effect.fail(new PoolClosed({ request: { method: "POST", url: `/?mine=${secret}` }, attempts: 0 })),
          () => Effect.fail(secret)
        ]
        for (const answer of answers) {
          const { client: inner } = client<unknown>(answer)
          yield* Effect.exit(logged(Middleware.wrap([logging])(inner).execute(request)))
        }
        assert.strictEqual(lines.length, answers.length)
        for (const line of lines) {
          assert.notInclude(JSON.stringify(line), secret)
          assert.include(JSON.stringify(line), "http.request.headers")
        }
      })
    )
  })

  describe("idempotencyKey", () => {
    const keyOf = (request: HttpClientRequest.HttpClientRequest | undefined) => request?.headers["idempotency-key"]

    it.effect("gives POST and PATCH a UUID of version 4, each call its own", () =>
      Effect.gen(function* () {
        const { client: inner, sent } = client()
        const wrapped = Middleware.wrap([Middleware.idempotencyKey()])(inner)
        yield* wrapped.post("/x")
        yield* wrapped.patch("/x")
        const uuid = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/
        for (const request of sent) assert.match(keyOf(request) ?? "", uuid)
        assert.notStrictEqual(keyOf(sent[0]), keyOf(sent[1]))
      })
    )

    it.effect("the attempts of a call have the same", () =>
      Effect.gen(function* () {
        let attempts = 0
        const { client: inner, sent } = client(() =>
          attempts++ < 2 ? Effect.fail("again") : Effect.succeed(new Response())
        )
        const retried = HttpClient.retry(inner, { times: 3 })
        yield* Middleware.wrap([Middleware.idempotencyKey()])(retried).post("/x")
        assert.strictEqual(sent.length, 3)
        assert.strictEqual(new Set(sent.map(keyOf)).size, 1)
        assert.isString(keyOf(sent[0]))
      })
    )

    it.effect("leaves a key that is there, and other methods", () =>
      Effect.gen(function* () {
        const { client: inner, sent } = client()
        const wrapped = Middleware.wrap([Middleware.idempotencyKey()])(inner)
        yield* wrapped.post("/x", { headers: { "Idempotency-Key": "mine" } })
        for (const method of ["get", "put", "del", "head", "options"] as const) yield* wrapped[method]("/x")
        assert.deepStrictEqual(sent.map(keyOf), ["mine", undefined, undefined, undefined, undefined, undefined])
      })
    )

    it.effect("generator and methods can be chosen", () =>
      Effect.gen(function* () {
        let n = 0
        const { client: inner, sent } = client()
        const generate = Effect.sync(() => `key-${++n}`)
        const wrapped = Middleware.wrap([Middleware.idempotencyKey({ generate, methods: ["PUT"] })])(inner)
        yield* wrapped.put("/x")
        yield* wrapped.post("/x")
        assert.deepStrictEqual(sent.map(keyOf), ["key-1", undefined])
      })
    )
  })

  describe("headers and userAgent", () => {
    it.effect("are sent, unless the request has its own", () =>
      Effect.gen(function* () {
        const { client: inner, sent } = client()
        const list = [Middleware.userAgent("billing/1.0"), Middleware.headers({ "X-Tenant": "blue", accept: "*/*" })]
        yield* Middleware.wrap(list)(inner).get("/x", { headers: { accept: "text/plain" } })
        yield* Middleware.wrap(list)(inner).get("/x", { headers: { "user-agent": "mine" } })
        assert.deepStrictEqual(
          { ...sent[0]?.headers },
          {
            accept: "text/plain",
            "user-agent": "billing/1.0",
            "x-tenant": "blue"
          }
        )
        assert.strictEqual(sent[1]?.headers["user-agent"], "mine")
      })
    )
  })

  describe("metrics", () => {
    it.effect("count and time what ended, by method and outcome", () =>
      Effect.gen(function* () {
        const metrics = Middleware.metrics({ name: "billing", attributes: { upstream: "a" } })
        const answered = Middleware.wrap([metrics])(
          client(() => Effect.delay(Effect.succeed(new Response(null, { status: 404 })), 20)).client
        )
        const refused = Middleware.wrap([metrics])(failing)
        const odd = HttpClientRequest.get("/x")
        for (const call of [
          answered.get("/x"),
          answered.get("/x"),
          Effect.flip(refused.post("/x")),
          answered.execute(HttpClientRequest.makeWith("FROB", "/x", odd.urlParams, odd.hash, odd.headers, odd.body))
        ]) {
          const fiber = yield* Effect.forkChild(call)
          yield* TestClock.adjust(20)
          yield* Fiber.join(fiber)
        }
        const all = yield* Metric.snapshot
        const count = (method: string, outcome: string) =>
          all.find(
            ({ attributes, id }) =>
              id === "billing.calls" &&
              attributes?.["method"] === method &&
              attributes["outcome"] === outcome &&
              attributes["upstream"] === "a"
          )?.state
        assert.deepInclude(count("GET", "4xx"), { count: 2 })
        assert.deepInclude(count("POST", "PoolClosed"), { count: 1 })
        assert.deepInclude(count("_OTHER", "4xx"), { count: 1 })
        const duration = all.find(({ attributes, id }) => id === "billing.duration" && attributes?.["method"] === "GET")
        assert.deepInclude(duration?.state, { count: 2, min: 20, max: 20 })
      }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
    )
  })
})
