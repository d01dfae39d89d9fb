import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Option, References, Tracer } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse, HttpTraceContext } from "effect/http"
import { TestClock } from "effect/testing"
import { ConnectError, PoolClosed, type PoolError, ResponseError, RetryExhausted } from "../../src/model/PoolError.ts"
import * as ClientSpan from "../../src/observe/ClientSpan.ts"

const api = ClientSpan.origin("https://api.test:8443")
const users = HttpClientRequest.get("/users", { headers: { accept: "text/plain" } })

type Execute = (
  request: HttpClientRequest.HttpClientRequest,
  span: Tracer.Span | undefined
) => Effect.Effect<HttpClientResponse.HttpClientResponse, PoolError>

const answer =
  (status: number): Execute =>
  (request) =>
    Effect.succeed(HttpClientResponse.fromWeb(request, new Response(null, { status })))

const info = { request: { method: "GET", url: "/" }, attempts: 1 }

/** A tracer that keeps what it made. */
class Recorder implements Tracer.Tracer {
  readonly spans: Array<Tracer.NativeSpan> = []
  readonly layer = Layer.succeed(Tracer.Tracer, this)
  span(options: ConstructorParameters<typeof Tracer.NativeSpan>[0]): Tracer.Span {
    const span = new Tracer.NativeSpan(options)
    this.spans.push(span)
    return span
  }
  get last(): Tracer.NativeSpan {
    const span = this.spans.at(-1)
    if (span === undefined) throw new Error("there is no span")
    return span
  }
}

const run = Effect.fnUntraced(function* (
  execute: Execute,
  options: Partial<ClientSpan.Options> = {},
  request: HttpClientRequest.HttpClientRequest = users
) {
  const recorder = new Recorder()
  const target = (one: HttpClientRequest.HttpClientRequest) => ({ origin: api, path: one.url })
  const send = ClientSpan.traced(execute, { target, ...options })
  const exit = yield* Effect.exit(send(request)).pipe(Effect.provideService(Tracer.Tracer, recorder))
  return { exit, recorder, span: recorder.spans[0] }
})

/** The request that is sent, as it is when it is. */
const sent =
  (execute: Execute, seen: Array<HttpClientRequest.HttpClientRequest>): Execute =>
  (request, span) => {
    seen.push(request)
    return execute(request, span)
  }

const ended = (span: Tracer.Span | undefined) => {
  if (span?.status._tag !== "Ended") throw new Error("the span has not ended")
  return span.status
}

const attributes = (span: Tracer.NativeSpan | undefined) => Object.fromEntries(span?.attributes ?? [])

describe("ClientSpan", () => {
  it.effect("has the name, kind and attributes of the conventions", () =>
    Effect.gen(function* () {
      const { span } = yield* run(answer(200))
      assert.strictEqual(span?.name, "GET")
      assert.strictEqual(span?.kind, "client")
      assert.deepStrictEqual(attributes(span), {
        "http.request.method": "GET",
        "server.address": "api.test",
        "server.port": 8443,
        "url.scheme": "https",
        "url.full": "https://api.test:8443/users",
        "http.response.status_code": 200
      })
      assert.isTrue(Exit.isSuccess(ended(span).exit))
    })
  )

  it("ports and addresses that an origin does not spell out", () => {
    assert.deepStrictEqual(ClientSpan.origin("https://[::1]"), {
      url: "https://[::1]",
      address: "::1",
      port: 443,
      scheme: "https"
    })
    assert.strictEqual(ClientSpan.origin("http://a.test").port, 80)
    assert.strictEqual(ClientSpan.origin("nonsense").address, "nonsense")
  })

  it.effect("credentials in the URL are not shown", () =>
    Effect.gen(function* () {
      const query = yield* run(answer(200), {}, HttpClientRequest.get("/users?page=2&access_token=s3cret"))
      const full = String(attributes(query.span)["url.full"])
      assert.include(full, "page=2")
      assert.notInclude(full, "s3cret")
      const user = { url: "https://me:s3cret@api.test", address: "api.test", port: 443, scheme: "https" }
      const { span } = yield* run(answer(200), { target: () => ({ origin: user, path: "/" }) })
      assert.notInclude(String(attributes(span)["url.full"]), "s3cret")
    })
  )

  it.effect("a template is in the name, a path never is", () =>
    Effect.gen(function* () {
      const { span } = yield* run(answer(200), { template: () => "/users/{id}" })
      assert.strictEqual(span?.name, "GET /users/{id}")
      assert.strictEqual(attributes(span)["url.template"], "/users/{id}")
    })
  )

  it.effect("a method that nobody knows is `_OTHER`, and HTTP in the name", () =>
    Effect.gen(function* () {
      const purge = Object.assign(HttpClientRequest.get("/users"), { method: "PURGE" })
      const { span } = yield* run(answer(200), {}, purge)
      assert.strictEqual(span?.name, "HTTP")
      assert.strictEqual(attributes(span)["http.request.method"], "_OTHER")
      assert.strictEqual(attributes(span)["http.request.method_original"], "PURGE")
    })
  )

  it.effect("a name by `HttpClient.SpanNameGenerator` counts", () =>
    Effect.gen(function* () {
      const { span } = yield* Effect.provideService(run(answer(200)), HttpClient.SpanNameGenerator, () => "users")
      assert.strictEqual(span?.name, "users")
    })
  )

  it.effect("4xx and 5xx leave the span as an error and the effect as a success, 3xx does not", () =>
    Effect.gen(function* () {
      for (const status of [400, 404, 500, 503]) {
        const { exit, span } = yield* run(answer(status))
        assert.isTrue(Exit.isSuccess(exit))
        assert.isTrue(Exit.isFailure(ended(span).exit))
        assert.strictEqual(attributes(span)["http.response.status_code"], status)
        assert.strictEqual(attributes(span)["error.type"], String(status))
      }
      const { span } = yield* run(answer(304))
      assert.isTrue(Exit.isSuccess(ended(span).exit))
      assert.notProperty(attributes(span), "error.type")
    })
  )

  it.effect("an error ends it with its tag, and says how often it was sent again", () =>
    Effect.gen(function* () {
      const broken = new ConnectError({ ...info, attempts: 3, phase: "tcp", sent: false })
      const exhausted = new RetryExhausted({ ...info, attempts: 3, last: broken, reason: "maxRetries" })
      for (const error of [broken, exhausted]) {
        const { exit, span } = yield* run(() => Effect.fail(error))
        assert.deepStrictEqual(exit, Exit.fail<PoolError>(error))
        assert.deepStrictEqual(ended(span).exit, exit)
        assert.strictEqual(attributes(span)["error.type"], "ConnectError")
        assert.strictEqual(attributes(span)["http.request.resend_count"], 2)
        assert.notProperty(attributes(span), "http.response.status_code")
      }
      const closed = yield* run(() => Effect.fail(new PoolClosed({ ...info, attempts: 0 })))
      assert.notProperty(attributes(closed.span), "http.request.resend_count")
    })
  )

  it.effect("a status that `failOnStatus` refused is there, also behind RetryExhausted", () =>
    Effect.gen(function* () {
      const response = HttpClientResponse.fromWeb(users, new Response(null, { status: 503 }))
      const refused = new ResponseError({ ...info, response })
      for (const error of [refused, new RetryExhausted({ ...info, last: refused, reason: "deadline" })]) {
        const { span } = yield* run(() => Effect.fail(error))
        assert.strictEqual(attributes(span)["error.type"], "503")
        assert.strictEqual(attributes(span)["http.response.status_code"], 503)
      }
    })
  )

  it.effect("an interruption ends it, and so does a defect", () =>
    Effect.gen(function* () {
      const recorder = new Recorder()
      const send = ClientSpan.traced(() => Effect.never, { target: () => ({ origin: api, path: "/" }) })
      const fiber = yield* Effect.forkChild(Effect.provideService(send(users), Tracer.Tracer, recorder), {
        startImmediately: true
      })
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(attributes(recorder.last)["error.type"], "Interrupted")
      ended(recorder.last)
      const { exit, span } = yield* run(() => Effect.die("bug"))
      assert.deepStrictEqual(exit, Exit.die("bug"))
      assert.strictEqual(attributes(span)["error.type"], "Defect")
    })
  )

  it.effect("an executor tells resends of a success, by the span that it gets or at the end", () =>
    Effect.gen(function* () {
      const { span } = yield* run((request, current) => {
        current?.attribute("http.request.resend_count", 2)
        return answer(200)(request, current)
      })
      assert.strictEqual(attributes(span)["http.request.resend_count"], 2)
      const own = new Recorder()
      yield* Effect.withFiber((fiber) => {
        const begun = ClientSpan.begin(fiber, users, { origin: api, path: "/" })
        const response = HttpClientResponse.fromWeb(users, new Response())
        ClientSpan.end(fiber, begun, Exit.succeed(response), 1)
        return Effect.void
      }).pipe(Effect.provideService(Tracer.Tracer, own))
      assert.strictEqual(attributes(own.last)["http.request.resend_count"], 1)
    })
  )

  it.effect("begins and ends on the clock", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 second")
      const { span } = yield* run((request, current) =>
        Effect.andThen(TestClock.adjust("3 seconds"), answer(200)(request, current))
      )
      assert.strictEqual(span?.startTime, 1_000_000_000n)
      assert.strictEqual(ended(span).endTime, 4_000_000_000n)
      assert.strictEqual(yield* Clock.currentTimeMillis, Duration.toMillis("4 seconds"))
    })
  )

  it.effect("no time is read when `TracerTimingEnabled` is off", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 second")
      const { span } = yield* Effect.provideService(run(answer(200)), References.TracerTimingEnabled, false)
      assert.strictEqual(span?.startTime, 0n)
    })
  )

  describe("the trace context", () => {
    it.effect("goes to the server as Effect writes it, and Effect's server reads it", () =>
      Effect.gen(function* () {
        const seen: Array<HttpClientRequest.HttpClientRequest> = []
        const { span } = yield* run(sent(answer(200), seen)).pipe(Effect.withSpan("outer"))
        if (span === undefined || seen[0] === undefined) return assert.fail("no span")
        assert.deepStrictEqual({ ...seen[0].headers }, { accept: "text/plain", ...HttpTraceContext.toHeaders(span) })
        const read = HttpTraceContext.fromHeaders(seen[0].headers)
        assert.strictEqual(Option.getOrUndefined(read)?.spanId, span.spanId)
        assert.strictEqual(Option.getOrUndefined(read)?.traceId, span.traceId)
        assert.notProperty(users.headers, "traceparent")
      })
    )

    it.effect("of a root span names no parent", () =>
      Effect.gen(function* () {
        const seen: Array<HttpClientRequest.HttpClientRequest> = []
        const { span } = yield* run(sent(answer(200), seen))
        if (span === undefined) return assert.fail("no span")
        assert.deepStrictEqual({ ...seen[0]?.headers }, { accept: "text/plain", ...HttpTraceContext.toHeaders(span) })
      })
    )

    it.effect("stays at home when propagation is off", () =>
      Effect.gen(function* () {
        const seen: Array<HttpClientRequest.HttpClientRequest> = []
        yield* Effect.provideService(run(sent(answer(200), seen)), HttpClient.TracerPropagationEnabled, false)
        assert.strictEqual(seen[0], users)
      })
    )
  })

  describe("the parent", () => {
    it.effect("is the fiber's span; its trace and sampling hold", () =>
      Effect.gen(function* () {
        const outer = Tracer.externalSpan({ traceId: "a".repeat(32), spanId: "b".repeat(16), sampled: false })
        const { span } = yield* run(answer(200)).pipe(Effect.withParentSpan(outer))
        assert.strictEqual(span?.traceId, outer.traceId)
        assert.deepStrictEqual(
          Option.map(span?.parent ?? Option.none(), (_) => _.spanId),
          Option.some(outer.spanId)
        )
        assert.isFalse(span?.sampled)
      })
    )

    it.effect("is the next one above, where Effect made a span to be skipped", () =>
      Effect.gen(function* () {
        const outer = yield* Effect.makeSpan("outer")
        const hidden = new Tracer.NativeSpan({
          name: "hidden",
          parent: Option.some(outer),
          annotations: Tracer.DisablePropagation.context(true),
          links: [],
          startTime: 0n,
          kind: "internal",
          sampled: true
        })
        const { span } = yield* run(answer(200)).pipe(Effect.withParentSpan(hidden))
        assert.deepStrictEqual(
          Option.map(span?.parent ?? Option.none(), (_) => _.spanId),
          Option.some(outer.spanId)
        )
        const far = Tracer.externalSpan({
          traceId: "a".repeat(32),
          spanId: "b".repeat(16),
          annotations: Tracer.DisablePropagation.context(true)
        })
        const alone = yield* run(answer(200), { spans: true }).pipe(Effect.withParentSpan(far))
        assert.deepStrictEqual(alone.span?.parent, Option.none())
      })
    )

    it.effect("links and annotations of the fiber are on it; `MinimumTraceLevel` decides sampling", () =>
      Effect.gen(function* () {
        const other = yield* Effect.makeSpan("other")
        const { span } = yield* run(answer(200)).pipe(
          Effect.linkSpans(other),
          Effect.annotateSpans("team", "blue"),
          Effect.provideService(References.MinimumTraceLevel, "Error")
        )
        assert.strictEqual(attributes(span)["team"], "blue")
        assert.strictEqual(span?.links[0]?.span, other)
        assert.isFalse(span?.sampled)
      })
    )
  })

  describe("off", () => {
    const off = (name: string, around: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) =>
      it.effect(`${name}: no span, and the request as it was`, () =>
        Effect.gen(function* () {
          const seen: Array<HttpClientRequest.HttpClientRequest> = []
          const { exit, recorder } = yield* around(run(sent(answer(200), seen)))
          assert.isTrue(Exit.isSuccess(exit))
          assert.strictEqual(recorder.spans.length, 0)
          assert.strictEqual(seen[0], users)
        })
      )
    off("TracerEnabled", Effect.withTracerEnabled(false))
    off("DisablePropagation", Effect.provideService(Tracer.DisablePropagation, true))
    off(
      "TracerDisabledWhen",
      Effect.provideService(HttpClient.TracerDisabledWhen, (request) => request.url === "/users")
    )

    it.effect("by `spans: false`, and without a target", () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* run(answer(200), { spans: false })).recorder.spans.length, 0)
        assert.strictEqual((yield* run(answer(200), { target: () => undefined })).recorder.spans.length, 0)
      })
    )

    it.effect("auto: with Effect's own tracer only inside a span", () =>
      Effect.gen(function* () {
        const given: Array<Tracer.Span | undefined> = []
        const send = ClientSpan.traced(
          (request, span) => {
            given.push(span)
            return answer(200)(request, span)
          },
          { target: () => ({ origin: api, path: "/" }) }
        )
        yield* send(users)
        yield* send(users).pipe(Effect.withSpan("outer"))
        assert.isUndefined(given[0])
        assert.strictEqual(Option.getOrUndefined(given[1]?.parent ?? Option.none())?._tag, "Span")
      })
    )

    it.effect("true: also with Effect's own tracer and no span above", () =>
      Effect.gen(function* () {
        let given: Tracer.Span | undefined
        const send = ClientSpan.traced(
          (request, span) => {
            given = span
            return answer(200)(request, span)
          },
          { target: () => ({ origin: api, path: "/" }), spans: true }
        )
        yield* send(users)
        assert.isTrue(given !== undefined && Exit.isSuccess(ended(given).exit))
      })
    )
  })

  it("the name of an error in `error.type`", () => {
    const closed = new PoolClosed(info)
    assert.strictEqual(ClientSpan.errorType(closed), "PoolClosed")
    const nested = new RetryExhausted({ ...info, last: closed, reason: "maxRetries" })
    assert.strictEqual(
      ClientSpan.errorType(new RetryExhausted({ ...info, last: nested, reason: "maxRetries" })),
      "PoolClosed"
    )
  })
})
