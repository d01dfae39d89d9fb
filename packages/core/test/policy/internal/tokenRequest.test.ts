import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Schema, Stream } from "effect"
import { HttpClient, HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { ConnectError, ResponseError, RetryExhausted } from "../../../src/model/PoolError.ts"
import * as Auth from "../../../src/policy/Auth.ts"
import { fields, type OAuth2 } from "../../../src/policy/internal/authOptions.ts"
import { requestToken, type TokenFailure } from "../../../src/policy/internal/tokenRequest.ts"
import { start } from "../../fixtures/pools.ts"
import { formOf, grant, json, options as given, secret, TokenEndpoint } from "../../fixtures/tokenEndpoint.ts"

const options: OAuth2 = {
  tokenUrl: new URL("https://login.test/token?tenant=t&key=querysecret"),
  clientId: "app:1 ü",
  clientSecret: Redacted.make(secret),
  method: "client_secret_basic",
  scope: undefined,
  audience: undefined,
  skew: fields.oauth2.skew.default,
  timeout: fields.oauth2.timeout.default,
  maxRetries: fields.oauth2.maxRetries.default
}

const ask = (endpoint: TokenEndpoint, more: Partial<OAuth2> = {}) =>
  requestToken({ ...options, ...more }, endpoint.client.execute, () => 0)

const answering = (response: () => Response): TokenEndpoint => {
  const endpoint = new TokenEndpoint()
  endpoint.answer = () => Effect.sync(response)
  return endpoint
}

/** What one answer leads to, without retries. */
const failure = (response: () => Response): Effect.Effect<TokenFailure, unknown> =>
  Effect.flip(ask(answering(response), { maxRetries: 0 }))

const failing = (error: unknown): TokenEndpoint => {
  const endpoint = new TokenEndpoint()
  endpoint.answer = () => Effect.fail(error)
  return endpoint
}

const first = (endpoint: TokenEndpoint): HttpClientRequest.HttpClientRequest => {
  const request = endpoint.requests[0]
  if (request === undefined) throw new Error("nothing was asked")
  return request
}

/** All that an error shows, in whatever way. */
const shown = (error: unknown): string =>
  [inspect(error, { depth: 12, showHidden: true }), String(error), JSON.stringify(error)].join("\n")

const get = HttpClientRequest.get("https://api.test/x")

const info = { method: "POST", url: "https://login.test/token" }

describe("tokenRequest", () => {
  describe("the request", () => {
    it.effect("client_secret_basic: both are form-encoded before they are joined (RFC 6749, 2.3.1)", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        yield* ask(endpoint)
        const { headers, method, url } = first(endpoint)
        const [scheme, credentials] = (headers["authorization"] ?? "").split(" ")
        assert.strictEqual(scheme, "Basic")
        assert.strictEqual(atob(credentials ?? ""), "app%3A1+%C3%BC:s3cr3t%3A%2B%C3%BC%2F")
        assert.strictEqual(method, "POST")
        assert.strictEqual(url, options.tokenUrl.href)
        assert.strictEqual(headers["content-type"], "application/x-www-form-urlencoded")
        assert.strictEqual(headers["accept"], "application/json")
        assert.deepStrictEqual(formOf(first(endpoint)), { grant_type: "client_credentials" })
      })
    )

    it.effect("client_secret_post: both are in the form, and nowhere else", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        yield* ask(endpoint, { method: "client_secret_post" })
        assert.strictEqual(first(endpoint).headers["authorization"], undefined)
        assert.deepStrictEqual(formOf(first(endpoint)), {
          grant_type: "client_credentials",
          client_id: options.clientId,
          client_secret: secret
        })
      })
    )

    it.effect("scope and audience are sent when they are given", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        yield* ask(endpoint, { scope: "a b", audience: "https://api.test" })
        assert.deepStrictEqual(formOf(first(endpoint)), {
          grant_type: "client_credentials",
          scope: "a b",
          audience: "https://api.test"
        })
      })
    )
  })

  describe("the answer", () => {
    it.effect.each([
      { expires: 60, lifetime: 60_000 },
      { expires: "60", lifetime: 60_000 },
      { expires: 0.5, lifetime: 500 },
      { expires: undefined, lifetime: Infinity },
      { expires: null, lifetime: Infinity },
      { expires: 1e300, lifetime: 1e303 }
    ])("expires_in $expires is a life of $lifetime ms", ({ expires, lifetime }) =>
      Effect.gen(function* () {
        const body = { access_token: "t", token_type: "Bearer", expires_in: expires }
        const token = yield* ask(answering(() => json(body)))
        assert.deepStrictEqual(token, { value: "t", lifetime, askedAt: 0 })
      })
    )

    it.effect("a number that is too large for JavaScript is a life without end", () =>
      Effect.gen(function* () {
        const text = '{"access_token":"t","token_type":"bearer","expires_in":1e999}'
        assert.strictEqual((yield* ask(answering(() => new Response(text)))).lifetime, Infinity)
      })
    )

    it.effect.each([0, -1, "0", "-5", "soon", "", true, {}, []])("expires_in %j is refused", (expires) =>
      Effect.gen(function* () {
        const error = yield* failure(() => grant("t", expires))
        assert.include(error.reason, "answered 200, but `expires_in` is not a positive number of seconds")
        assert.isFalse(error.transient)
      })
    )

    it.effect.each(["bearer", "Bearer", "BEARER", undefined])("token_type %s is bearer", (type) =>
      Effect.gen(function* () {
        const token = yield* ask(answering(() => json({ access_token: "t", token_type: type })))
        assert.strictEqual(token.value, "t")
      })
    )

    it.effect.each(["mac", "DPoP", "", 7, null])("token_type %j is refused", (type) =>
      Effect.gen(function* () {
        const error = yield* failure(() => json({ access_token: "t", token_type: type }))
        assert.include(error.reason, '`token_type` is not "bearer"')
      })
    )

    it.effect.each([undefined, "", null, 7, "a b", "a\r\nx: y", "ü"])("access_token %j is refused", (value) =>
      Effect.gen(function* () {
        const error = yield* failure(() => json({ access_token: value, token_type: "Bearer" }))
        assert.include(error.reason, "`access_token` is missing, or is no token")
      })
    )

    it.effect.each(["<html>Login</html>", "", "null", "[]", '"t"', "{"])("200 with %j is no JSON object", (text) =>
      Effect.gen(function* () {
        const error = yield* failure(() => new Response(text, { headers: { "content-type": "text/html" } }))
        assert.include(error.reason, "https://login.test/token answered 200 with what is no JSON object")
        assert.isFalse(error.transient)
      })
    )

    it.effect("an answer that does not end is cut", () =>
      Effect.gen(function* () {
        let pulled = 0
        const endless = new ReadableStream<Uint8Array>({
          pull: (controller) => {
            pulled++
            controller.enqueue(new Uint8Array(64 * 1024).fill(32))
          }
        })
        const error = yield* failure(() => new Response(endless))
        assert.include(error.reason, "answered more than 262144 bytes")
        assert.isBelow(pulled, 10)
      })
    )

    it.effect("an answer in small pieces, with letters cut in two, is read whole", () =>
      Effect.gen(function* () {
        const bytes = new TextEncoder().encode('\ufeff{"access_token":"t","note":"üü"}')
        const pieces = ReadableStream.from([...bytes].map((byte) => Uint8Array.of(byte)))
        assert.strictEqual((yield* ask(answering(() => new Response(pieces)))).value, "t")
      })
    )

    it.effect("an answer that breaks off says so", () =>
      Effect.gen(function* () {
        const broken = new ReadableStream({ start: (controller) => controller.error(new TypeError("terminated")) })
        const error = yield* failure(() => new Response(broken))
        assert.include(error.reason, "broke off its answer (TypeError)")
        assert.isTrue(error.transient)
      })
    )

    it.effect("a redirect is not followed: the secret is for this endpoint only", () =>
      Effect.gen(function* () {
        const endpoint = answering(() => json({}, 307, { location: "https://evil.test/token" }))
        const error = yield* Effect.flip(ask(endpoint))
        assert.include(error.reason, "answered 307")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )
  })

  describe("errors of RFC 6749, 5.2", () => {
    it.effect("say what the endpoint said", () =>
      Effect.gen(function* () {
        const body = { error: "invalid_client", error_description: "Unknown client" }
        const endpoint = answering(() => json(body, 400))
        const error = yield* Effect.flip(ask(endpoint))
        assert.strictEqual(
          error.reason,
          "the token endpoint https://login.test/token answered 400 invalid_client: Unknown client"
        )
        assert.strictEqual(endpoint.requests.length, 1, "it would say the same again")
      })
    )

    it.effect("a description is one line of 200 characters at most", () =>
      Effect.gen(function* () {
        const body = {
          error: "invalid_client",
          error_description: `a\r\nFAKE LOG\u001b[31m\u2028${"x".repeat(10_000)}`
        }
        const { reason } = yield* failure(() => json(body, 401))
        assert.include(reason, "invalid_client: aFAKE LOG[31mxxx")
        assert.isBelow(reason.length, 300)
        assert.notMatch(reason, /[\p{Cc}\u2028]/u)
      })
    )

    it.effect("a description that repeats a secret does not get it into the error", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        endpoint.answer = (request) =>
          Effect.succeed(
            json(
              {
                error: "invalid_client",
                error_description: `not ${secret}, ${request.headers["authorization"]} ${encodeURIComponent(secret)} ${secret.slice(0, 4)}\u0000${secret.slice(4)}`
              },
              400
            )
          )
        const { reason } = yield* Effect.flip(ask(endpoint))
        assert.include(reason, "not <redacted>, Basic <redacted> <redacted> <redacted>")
        assert.notInclude(reason, secret)
      })
    )

    it.effect("words that are no text are left out", () =>
      Effect.gen(function* () {
        const { reason } = yield* failure(() => json({ error: { code: 7 }, error_description: 3 }, 403))
        assert.isTrue(reason.endsWith("answered 403"))
      })
    )
  })

  describe("its own retry and timeout", () => {
    it.effect.each([408, 429, 500, 502, 503, 504])("%i is asked again, `maxRetries` times", (status) =>
      Effect.gen(function* () {
        const endpoint = answering(() => json({}, status))
        const fiber = yield* start(Effect.flip(ask(endpoint)))
        yield* TestClock.adjust("2 seconds")
        assert.include((yield* Fiber.join(fiber)).reason, `answered ${status}`)
        assert.strictEqual(endpoint.requests.length, 3)
      })
    )

    it.effect("a retry that gets a token is a success", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        endpoint.answer = (_, number) => Effect.succeed(number < 3 ? json({}, 503) : grant("t"))
        const fiber = yield* start(ask(endpoint))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(fiber)).value, "t")
      })
    )

    it.effect("the timeout includes the answer, and is for one request", () =>
      Effect.gen(function* () {
        const endpoint = answering(() => new Response(new ReadableStream()))
        const fiber = yield* start(Effect.flip(ask(endpoint, { timeout: 1_000, maxRetries: 1 })))
        yield* TestClock.adjust("3 seconds")
        assert.include((yield* Fiber.join(fiber)).reason, "https://login.test/token did not answer within 1000 ms")
        assert.strictEqual(endpoint.requests.length, 2)
      })
    )

    it.effect("no more than `maxRetries` + 1 requests, whatever fails", () =>
      Effect.gen(function* () {
        const outcomes = [
          Effect.succeed(json({}, 500)),
          Effect.fail("reset"),
          Effect.never,
          Effect.succeed(json({}, 429))
        ]
        for (let maxRetries = 0; maxRetries <= 4; maxRetries++) {
          const endpoint = new TokenEndpoint()
          endpoint.answer = (_, number) => outcomes[(number * 7) % 4] ?? Effect.never
          const fiber = yield* start(Effect.flip(ask(endpoint, { maxRetries, timeout: 1_000 })))
          yield* TestClock.adjust("1 minute")
          yield* Fiber.join(fiber)
          assert.strictEqual(endpoint.requests.length, maxRetries + 1)
        }
      })
    )
  })

  describe("an endpoint that cannot be reached", () => {
    const refused = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:9"), { code: "ECONNREFUSED" })
    const connect = new ConnectError({ request: info, attempts: 1, phase: "tcp", sent: false, cause: refused })

    it.effect("through a pool: names the endpoint and the system's code", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(ask(failing(connect), { maxRetries: 0 }))
        assert.strictEqual(error.reason, "the token endpoint https://login.test/token cannot be reached (ECONNREFUSED)")
        assert.strictEqual(error.cause, connect)
      })
    )

    it.effect("through Effect's clients: the same, and their request is not in the error", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        endpoint.answer = (request) =>
          Effect.fail(
            new HttpClientError.HttpClientError({
              reason: new HttpClientError.TransportError({
                request,
                cause: new TypeError("failed", { cause: refused })
              })
            })
          )
        const error = yield* Effect.flip(ask(endpoint, { maxRetries: 0 }))
        assert.include(error.reason, "cannot be reached (ECONNREFUSED)")
        assert.instanceOf(error.cause, TypeError)
      })
    )

    it.effect.each([
      { error: new RangeError("x"), kind: "RangeError" },
      { error: { _tag: "Odd" }, kind: "Odd" },
      { error: "text", kind: "for no known reason" }
    ])("of unknown kind: only the kind is named ($kind)", ({ error, kind }) =>
      Effect.gen(function* () {
        const { reason } = yield* Effect.flip(ask(failing(error), { maxRetries: 0 }))
        assert.include(reason, `cannot be reached (${kind})`)
      })
    )

    it.effect("a cause that is its own cause ends", () =>
      Effect.gen(function* () {
        const circle = new Error("a")
        circle.cause = circle
        assert.include((yield* Effect.flip(ask(failing(circle), { maxRetries: 0 }))).reason, "(Error)")
      })
    )

    it.effect("a client that takes a status for a failure does not hide what the endpoint said", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        const refusing = answering(() => json({ error: "invalid_scope" }, 400))
        const bySchema = HttpClient.filterStatusOk(refusing.client)
        const response = yield* refusing.client.post("https://login.test/token")
        const status = new ResponseError({ request: info, attempts: 1, response })
        const exhausted = new RetryExhausted({ request: info, attempts: 1, last: status, reason: "maxRetries" })
        endpoint.answer = () => Effect.fail(exhausted)
        const errors = [
          yield* Effect.flip(ask(endpoint, { maxRetries: 0 })),
          yield* Effect.flip(requestToken({ ...options, maxRetries: 0 }, bySchema.execute, () => 0))
        ]
        for (const { reason } of errors) assert.include(reason, "answered 400 invalid_scope")
      })
    )
  })

  describe("secrets", () => {
    const nasty: ReadonlyArray<readonly [string, TokenEndpoint["answer"]]> = [
      ["no answer", () => Effect.never],
      ["an echo", (request) => Effect.succeed(json({ error: `${secret} ${JSON.stringify(formOf(request))}` }, 400))],
      ["a token and nonsense", () => Effect.succeed(json({ access_token: "t0psecret", token_type: "mac" }))],
      [
        "the client's error",
        (request) =>
          Effect.fail(
            new HttpClientError.HttpClientError({
              reason: new HttpClientError.TransportError({ request, cause: new Error("reset") })
            })
          )
      ],
      [
        "a status error",
        (request) => {
          const response = HttpClientResponse.fromWeb(request, json({ error: secret }, 500))
          const reason = new HttpClientError.StatusCodeError({ request, response })
          return Effect.fail(new HttpClientError.HttpClientError({ reason }))
        }
      ]
    ]

    it.effect.each(
      nasty.flatMap(([name, answer]) =>
        (["client_secret_basic", "client_secret_post"] as const).map((method) => ({ name, answer, method }))
      )
    )("are in no way of showing the error: $name, $method", ({ answer, method }) =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        endpoint.answer = answer
        const auth = yield* Auth.oauth2With(endpoint.client, { ...given, tokenUrl: options.tokenUrl, method })
        const answered = auth.authorize(get)
        const fiber = yield* start(Effect.flip(Effect.isEffect(answered) ? answered : Effect.die("it does not wait")))
        yield* TestClock.adjust("1 minute")
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error._tag, "AuthError")
        assert.include(error.message, "https://login.test/token")
        const text = shown(error)
        const basic = btoa("app:s3cr3t%3A%2B%C3%BC%2F")
        for (const hidden of [secret, encodeURIComponent(secret), basic, "t0psecret", "querysecret"]) {
          assert.notInclude(text, hidden)
        }
      })
    )
  })

  it.effect.prop(
    "whatever an endpoint answers, the result is a token or a failure that names the endpoint, on one line",
    {
      status: Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 })),
      body: Schema.Union([
        Schema.String,
        Schema.Struct({
          access_token: Schema.optionalKey(Schema.Json),
          token_type: Schema.optionalKey(Schema.Json),
          expires_in: Schema.optionalKey(Schema.Json),
          error: Schema.optionalKey(Schema.String),
          error_description: Schema.optionalKey(Schema.String)
        })
      ])
    },
    ({ body, status }) =>
      Effect.gen(function* () {
        const text = typeof body === "string" ? body : JSON.stringify(body)
        const empty = status === 204 || status === 205 || status === 304
        const endpoint = answering(() => new Response(empty ? null : text, { status }))
        const result = yield* Effect.match(ask(endpoint, { maxRetries: 0 }), {
          onSuccess: ({ lifetime, value }) => lifetime > 0 && /^[\x21-\x7e]+$/.test(value),
          onFailure: ({ reason }) =>
            reason.includes("https://login.test/token") && !/[\p{Cc}\u2028\u2029]/u.test(reason)
        })
        assert.isTrue(result)
      }),
    { arbitrary: { runs: 100 } }
  )

  it.effect("a body stream that never ends is given up with the timeout, and interrupted", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const body = Stream.onExit(Stream.never, () => Effect.sync(() => void interrupted++))
      const response = HttpClientResponse.fromWeb(get, new Response())
      const stuck = new Proxy(response, { get: (target, key) => (key === "stream" ? body : Reflect.get(target, key)) })
      const fiber = yield* start(
        Effect.flip(
          requestToken(
            { ...options, maxRetries: 0, timeout: 50 },
            () => Effect.succeed(stuck),
            () => 0
          )
        )
      )
      yield* TestClock.adjust("50 millis")
      assert.include((yield* Fiber.join(fiber)).reason, "did not answer within 50 ms")
      assert.strictEqual(interrupted, 1)
    })
  )
})
