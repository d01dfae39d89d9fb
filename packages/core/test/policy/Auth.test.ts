import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Redacted, Schema, Stream } from "effect"
import { Headers, HttpClient, HttpClientRequest, HttpClientResponse, UrlParams } from "effect/http"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import type { ConfigError } from "../../src/model/ConfigError.ts"
import { AuthError, ResponseError } from "../../src/model/PoolError.ts"
import type { Problem } from "../../src/model/internal/field.ts"
import * as Auth from "../../src/policy/Auth.ts"
import { fields } from "../../src/policy/internal/authOptions.ts"
import { onWire, start, tagged } from "../fixtures/pools.ts"
import { formOf, grant, json, options as oauth2, secret, TokenEndpoint } from "../fixtures/tokenEndpoint.ts"
import { Wire } from "../fixtures/wire.ts"

type Request = HttpClientRequest.HttpClientRequest

const api = "https://api.test"
const request = HttpClientRequest.get(`${api}/x`)
const token = Redacted.make("t0ken")

const authorize = (auth: Auth.Auth, sent: Request = request): Effect.Effect<Request, AuthError> =>
  Effect.suspend(() => {
    const answer = auth.authorize(sent)
    return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
  })

const header = (auth: Auth.Auth, sent?: Request) =>
  Effect.map(authorize(auth, sent), ({ headers }) => headers["authorization"])

const problems = <A, R>(effect: Effect.Effect<A, ConfigError, R>) =>
  Effect.map(Effect.flip(effect), (error) => Object.fromEntries(error.problems.map((_) => [_.path, _.message])))

/** A client that notes what is sent, and answers it as it is told. */
const recording = (answer: (sent: Request, count: number) => Response = () => new Response("ok")) => {
  const sent: Array<Request> = []
  const client = HttpClient.makeWith<never, never, never, never>(
    Effect.map((one) => {
      sent.push(one)
      return HttpClientResponse.fromWeb(one, answer(one, sent.length))
    }),
    Effect.succeed
  )
  return { client, sent }
}

const carried = (sent: ReadonlyArray<Request>) => sent.map(({ headers }) => headers["authorization"])

const around = (auth: Auth.Input, client: HttpClient.HttpClient.With<never>, origins: ReadonlyArray<string> = [api]) =>
  Effect.map(Auth.policy({ auth, origins }), ({ wrap }) => wrap(client))

const unauthorized = () => new Response("no", { status: 401 })

/** An `Auth` whose n-th answer is n, and that takes any 401 for a reason to try again. */
const counting = () => {
  const rejected: Array<string | undefined> = []
  let count = 0
  const auth: Auth.Auth = {
    authorize: (sent) => HttpClientRequest.setHeader(sent, "authorization", `${++count}`),
    rejected: (sent) => rejected.push(sent.headers["authorization"]) > 0
  }
  return { auth, rejected }
}

const shown = (value: unknown): string => `${inspect(value, { depth: 9 })}${String(value)}${JSON.stringify(value)}`

describe("Auth", () => {
  describe("bearer", () => {
    it.effect("sends the token, at once", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.bearer(token)
        assert.isFalse(Effect.isEffect(auth.authorize(request)))
        assert.strictEqual(yield* header(auth), "Bearer t0ken")
      })
    )

    it.effect("the header reads like any other: it is found, copied and compared", () =>
      Effect.gen(function* () {
        const { headers } = yield* authorize(yield* Auth.bearer(token))
        assert.isTrue(Headers.has(headers, "Authorization"))
        assert.deepStrictEqual(
          { ...Headers.set(headers, "accept", "*/*") },
          {
            authorization: "Bearer t0ken",
            accept: "*/*"
          }
        )
        assert.deepStrictEqual(headers, Headers.fromInput({ authorization: "Bearer t0ken" }))
      })
    )

    it.effect("an empty token is refused at construction, and so is one that is no token, without showing it", () =>
      Effect.gen(function* () {
        assert.include((yield* problems(Auth.bearer(Redacted.make(""))))["token"], "must not be empty")
        for (const text of ["s3cr3t\n", "two words s3cr3t", "s3cr3tü", " s3cr3t"]) {
          const error = yield* Effect.flip(Auth.bearer(Redacted.make(text)))
          assert.include(error.message, "a line break at its end is the usual reason")
          assert.notInclude(shown(error), "s3cr3t")
        }
      })
    )

    it.effect("a secret that was wiped is an empty one", () =>
      Effect.gen(function* () {
        const wiped = Redacted.make("x")
        Redacted.wipeUnsafe(wiped)
        assert.include((yield* problems(Auth.bearer(wiped)))["token"], "must not be empty")
      })
    )

    it.effect("an effect is asked for each attempt", () =>
      Effect.gen(function* () {
        let count = 0
        const auth = yield* Auth.bearer(Effect.sync(() => Redacted.make(`t${++count}`)))
        assert.strictEqual(yield* header(auth), "Bearer t1")
        assert.strictEqual(yield* header(auth), "Bearer t2")
      })
    )

    it.effect("what the effect needs comes from where the Auth is made", () =>
      Effect.gen(function* () {
        class Vault extends Context.Service<Vault, Redacted.Redacted>()("test/Vault") {}
        const auth = yield* Effect.provideService(Auth.bearer(Vault), Vault, token)
        assert.strictEqual(yield* header(auth), "Bearer t0ken")
      })
    )

    it.effect("a failure of the effect, or an empty token, is an AuthError with the request", () =>
      Effect.gen(function* () {
        class Sealed extends Schema.TaggedError<Sealed>()("Sealed", { key: Schema.String }) {}
        const failing = yield* Auth.bearer(Effect.fail(new Sealed({ key: "s3cr3t" })))
        const failure = yield* Effect.flip(authorize(failing))
        assert.strictEqual(failure._tag, "AuthError")
        assert.instanceOf(failure.cause, Sealed)
        assert.strictEqual(failure.message, "Authentication failed: no bearer token (Sealed). GET https://api.test/x")
        const empty = yield* Auth.bearer(Effect.sync(() => Redacted.make("")))
        assert.include((yield* Effect.flip(authorize(empty))).reason, "is empty")
      })
    )

    it.effect("a request that already has an authorization header keeps its own", () =>
      Effect.gen(function* () {
        const own = HttpClientRequest.setHeader(request, "authorization", "own")
        for (const auth of [
          yield* Auth.bearer(token),
          yield* Auth.bearer(Effect.sync(() => token)),
          yield* Auth.basic({ username: "a", password: token }),
          Auth.from(() => Effect.die("it is not asked"))
        ]) {
          assert.strictEqual(yield* authorize(auth, own), own)
          assert.isFalse(auth.rejected?.(own) ?? false)
        }
      })
    )
  })

  describe("basic", () => {
    it.effect("is UTF-8 in base64 (RFC 7617, 2.1)", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.basic({ username: "test", password: Redacted.make("123£") })
        assert.strictEqual(yield* header(auth), "Basic dGVzdDoxMjPCow==")
      })
    )

    it.effect("a password may hold colons, a user name must not", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.basic({ username: "u", password: Redacted.make("a:b") })
        assert.strictEqual(yield* header(auth), `Basic ${btoa("u:a:b")}`)
        assert.include(
          (yield* problems(Auth.basic({ username: "a:b", password: token })))["username"],
          "without a colon"
        )
      })
    )

    it.effect("all that is wrong is listed at once", () =>
      Effect.gen(function* () {
        const found = yield* problems(Auth.basic({ username: "a\u0000", password: Redacted.make("") }))
        assert.deepStrictEqual(Object.keys(found), ["username", "password"])
      })
    )
  })

  describe("apiKey", () => {
    it.effect("in a header, whose name is in lower case, and which spans and logs are told to hide", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.apiKey({ name: "X-Tenant-Key", value: token })
        assert.strictEqual((yield* authorize(auth)).headers["x-tenant-key"], "t0ken")
        assert.deepStrictEqual(auth.secretHeaders, ["x-tenant-key"])
        const own = HttpClientRequest.setHeader(request, "x-tenant-key", "own")
        assert.strictEqual(yield* authorize(auth, own), own)
      })
    )

    it.effect("in the query it is Redacted, and a parameter of that name is left as it is", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.apiKey({ name: "k", value: token, in: "query" })
        const { headers, url, urlParams } = yield* authorize(auth)
        assert.strictEqual(UrlParams.toString(urlParams), "k=t0ken")
        assert.notInclude(shown({ url, urlParams, headers }), "t0ken")
        for (const own of [
          HttpClientRequest.setUrlParam(request, "k", "own"),
          HttpClientRequest.get(`${api}/x?a=1&k=own#k`)
        ]) {
          assert.strictEqual(yield* authorize(auth, own), own)
        }
        for (const url of [`${api}/x?kk=1`, `${api}/x?a=1#&k=2`, `${api}/x#?k=2`]) {
          const other = HttpClientRequest.get(url)
          assert.notStrictEqual(yield* authorize(auth, other), other, url)
        }
      })
    )

    it.effect("a pool's error and its own hide a key in the query", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.apiKey({ name: "k", value: token, in: "query" })
        const wire = new Wire((sent) => void sent.refuse())
        const pool = yield* onWire(wire, { size: 1 })
        const { wrap } = yield* Auth.policy({ auth, origins: ["http://test.local"] })
        const error = yield* Effect.flip(wrap(pool.client).get("http://test.local/x"))
        assert.strictEqual(wire.at(0).path, "/x?k=t0ken")
        assert.strictEqual(error._tag, "ConnectError")
        assert.notInclude(shown(error), "t0ken")
      })
    )

    it.effect("a header that a request must not set, and a value that no header can hold, are refused", () =>
      Effect.gen(function* () {
        const found = yield* problems(Auth.apiKey({ name: "Host", value: Redacted.make("ü s3cr3t") }))
        assert.include(found["name"], "must not be set")
        assert.include(found["value"], "ASCII")
        assert.notInclude(JSON.stringify(found), "s3cr3t")
        const query = yield* Auth.apiKey({ name: "host", value: Redacted.make("ü"), in: "query" })
        assert.strictEqual(UrlParams.toString((yield* authorize(query)).urlParams), "host=%C3%BC")
      })
    )
  })

  describe("constructors", () => {
    it.effect("an environment variable that is not set is a typed error, whatever the constructor", () =>
      Effect.gen(function* () {
        // What plain JavaScript would hand over.
        const unset = Redacted.make(process.env["MILLRACE_IS_NOT_SET"]) as Redacted.Redacted
        const naked = "s3cr3t" as unknown as Redacted.Redacted
        const endpoint = new TokenEndpoint()
        for (const [given, message] of [
          [unset, "must not be empty"],
          [naked, "must be wrapped"],
          [undefined, "is required"]
        ] as ReadonlyArray<[Redacted.Redacted, string]>) {
          for (const made of [
            Auth.basic({ username: "u", password: given }),
            Auth.apiKey({ name: "n", value: given }),
            Auth.bearer(given),
            Auth.oauth2With(endpoint.client, { ...oauth2, clientSecret: given })
          ]) {
            const error = yield* Effect.flip(made)
            assert.strictEqual(error._tag, "ConfigError")
            assert.include(error.message, message)
            assert.notInclude(shown(error), "s3cr3t")
          }
        }
      })
    )

    it.effect("secrets that come as text, from an environment or a file, become Redacted", () =>
      Effect.sync(() => {
        for (const field of [
          fields.bearer.token,
          fields.basic.password,
          fields.apiKey.value,
          fields.oauth2.clientSecret
        ]) {
          const value = field.fromText("s3cr3t")
          assert.notInclude(shown(value), "s3cr3t")
          const found: Array<Problem> = []
          assert.strictEqual(Redacted.value(field.read(value, "x", found) ?? token), "s3cr3t")
          assert.deepStrictEqual(found, [])
          assert.strictEqual(field.fromText(7), 7)
        }
      })
    )

    it.effect("oauth2 lists all that is wrong at once, without secrets", () =>
      Effect.gen(function* () {
        const found = yield* problems(
          Auth.oauth2With(new TokenEndpoint().client, {
            tokenUrl: "https://user:s3cr3t@login.test/token",
            clientId: "",
            clientSecret: Redacted.make("s3cr3t\n"),
            // @ts-expect-error: no such method
            method: "private_key_jwt",
            skew: -1,
            timeout: "Infinity",
            maxRetries: 11,
            scopes: "a"
          })
        )
        assert.deepStrictEqual(Object.keys(found).toSorted(), [
          "clientId",
          "clientSecret",
          "maxRetries",
          "method",
          "scopes",
          "skew",
          "timeout",
          "tokenUrl"
        ])
        assert.include(found["scopes"], 'did you mean "scope"')
        assert.notInclude(JSON.stringify(found), "s3cr3t")
      })
    )

    it.effect.each(["login.test/token", "ftp://login.test", "https://login.test/#token", "", 7])(
      "a token endpoint %j is refused",
      (tokenUrl) =>
        Effect.gen(function* () {
          const made = Auth.oauth2With(new TokenEndpoint().client, { ...oauth2, tokenUrl: tokenUrl as string })
          assert.include((yield* problems(made))["tokenUrl"], "absolute http or https URL")
        })
    )

    it.effect("oauth2 gets its tokens with the HttpClient of the context", () =>
      Effect.gen(function* () {
        const forms: Array<Record<string, string>> = []
        const client = HttpClient.make((sent) =>
          Effect.sync(() => {
            forms.push(formOf(sent))
            return HttpClientResponse.fromWeb(sent, grant("t"))
          })
        )
        const made = Auth.oauth2({ ...oauth2, tokenUrl: new URL("https://login.test/token"), scope: "a b" })
        const auth = yield* Effect.provideService(made, HttpClient.HttpClient, client)
        assert.strictEqual(yield* header(auth), "Bearer t")
        assert.deepStrictEqual(forms, [{ grant_type: "client_credentials", scope: "a b" }])
      })
    )
  })

  describe("from", () => {
    it.effect("an Auth is what it is; a function that answers a request is one", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.bearer(token)
        assert.strictEqual(Auth.from(auth), auth)
        const custom = Auth.from(HttpClientRequest.setHeader("authorization", "mine"))
        assert.isFalse(Effect.isEffect(custom.authorize(request)))
        assert.strictEqual(yield* header(custom), "mine")
      })
    )

    it.effect(
      "a function may be effectful; its failure is an AuthError with the request, and without its message",
      () =>
        Effect.gen(function* () {
          class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
          const fine = Auth.from((sent) => Effect.succeed(HttpClientRequest.setHeader(sent, "authorization", "mine")))
          assert.strictEqual(yield* header(fine), "mine")
          for (const [cause, kind] of [
            [new Denied(), "Denied"],
            [new TypeError("s3cr3t"), "TypeError"],
            ["s3cr3t", "string"]
          ] as const) {
            const secretly = HttpClientRequest.get(`${api}/x?token=s3cr3t`)
            const error = yield* Effect.flip(
              authorize(
                Auth.from(() => Effect.fail(cause)),
                secretly
              )
            )
            assert.strictEqual(error._tag, "AuthError")
            assert.strictEqual(error.cause, cause)
            assert.include(error.message, `the function for it failed (${kind}). GET https://api.test/x?token=`)
            assert.notInclude(error.message, "s3cr3t")
          }
        })
    )

    it.effect("an AuthError of a function stays as it is", () =>
      Effect.gen(function* () {
        const own = new AuthError({ request: { method: "GET", url: "/" }, attempts: 0, reason: "mine" })
        assert.strictEqual(yield* Effect.flip(authorize(Auth.from(() => Effect.fail(own)))), own)
      })
    )

    it.effect("a function can read the body, to sign it", () =>
      Effect.gen(function* () {
        const { client, sent } = recording()
        const signing = (unsigned: Request) =>
          Effect.sync(() => {
            const { body } = unsigned
            const length = body._tag === "Uint8Array" ? body.body.byteLength : 0
            return HttpClientRequest.setHeader(unsigned, "authorization", `Signed ${length}`)
          })
        yield* (yield* around(signing, client)).execute(
          HttpClientRequest.post(`${api}/x`).pipe(HttpClientRequest.bodyText("12345"))
        )
        assert.deepStrictEqual(carried(sent), ["Signed 5"])
      })
    )
  })

  describe("origins", () => {
    it.effect("credentials go to the given origins only, however these are written", () =>
      Effect.gen(function* () {
        const { client, sent } = recording()
        const mine = yield* around(yield* Auth.bearer(token), client, ["HTTPS://API.test:443", "http://b.test:8080"])
        for (const url of [
          "https://api.test/x",
          "https://api.test",
          "https://API.TEST:443/x",
          "https://api.test?q=1",
          "http://b.test:8080/"
        ]) {
          yield* mine.get(url)
        }
        assert.deepStrictEqual([...new Set(carried(sent))], ["Bearer t0ken"])
        sent.length = 0
        for (const url of [
          "http://api.test/x",
          "https://api.test:8443/x",
          "https://api.test.evil.test/x",
          "https://api.test@evil.test/x",
          "https://evil.test/https://api.test/",
          "https://evil.test/?https://api.test/",
          "https://sub.api.test/",
          "http://b.test/",
          "/x"
        ]) {
          yield* mine.get(url)
        }
        assert.strictEqual(sent.length, 9)
        assert.deepStrictEqual([...new Set(carried(sent))], [undefined])
      })
    )

    it.effect("must be given: at least one, and nothing but origins", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.bearer(token)
        for (const origins of [[], ["api.test"], ["https://api.test/v1"], ["https://u:s3cr3t@api.test"], [7], "x"]) {
          const error = yield* Effect.flip(Auth.policy({ auth, origins: origins as ReadonlyArray<string> }))
          assert.deepStrictEqual(
            error.problems.map(({ path }) => path),
            ["origins"]
          )
          assert.notInclude(shown(error), "s3cr3t")
        }
        // @ts-expect-error: both are required
        const nothing: Auth.Options = {}
        assert.deepStrictEqual(Object.keys(yield* problems(Auth.policy(nothing))), ["auth", "origins"])
        const noAuth = token as unknown as Auth.Auth
        assert.include(
          (yield* problems(Auth.policy({ auth: noAuth, origins: [api] })))["auth"],
          "an Auth, or a function"
        )
      })
    )

    it.effect.each(["bearer", "key"])("a redirect to another origin does not carry them on (%s)", (kind) =>
      Effect.gen(function* () {
        const { client, sent } = recording((one) => {
          const to: Record<string, string> = {
            "https://api.test/a": "https://api.test/b",
            "https://api.test/b": "https://evil.test/c",
            "https://evil.test/c": "https://api.test/d"
          }
          const location = to[one.url]
          return location === undefined
            ? new Response("end")
            : new Response(null, { status: 302, headers: { location } })
        })
        const auth = kind === "key" ? yield* Auth.apiKey({ name: "x-key", value: token }) : yield* Auth.bearer(token)
        const mine = HttpClient.followRedirects(yield* around(auth, client))
        assert.strictEqual(yield* (yield* mine.get("https://api.test/a")).text, "end")
        const name = kind === "key" ? "x-key" : "authorization"
        assert.deepStrictEqual(
          sent.map(({ headers, url }) => [url, headers[name] !== undefined]),
          [
            ["https://api.test/a", true],
            ["https://api.test/b", true],
            ["https://evil.test/c", false],
            ["https://api.test/d", true]
          ]
        )
      })
    )

    it.effect("other origins do not even wait for a token", () =>
      Effect.gen(function* () {
        const { client, sent } = recording()
        yield* (yield* around(() => Effect.never, client)).get("https://other.test/")
        assert.strictEqual(sent.length, 1)
      })
    )
  })

  describe("401", () => {
    it.effect("one re-auth and one re-send: the second answer counts", () =>
      Effect.gen(function* () {
        const { client, sent } = recording((_, count) => (count === 1 ? unauthorized() : new Response("ok")))
        const { auth, rejected } = counting()
        const response = yield* (yield* around(auth, client)).get(`${api}/x`)
        assert.strictEqual(response.status, 200)
        assert.deepStrictEqual(carried(sent), ["1", "2"])
        assert.deepStrictEqual(rejected, ["1"])
      })
    )

    it.effect("never a loop: a second 401 is the answer, and can be read", () =>
      Effect.gen(function* () {
        const { client, sent } = recording(unauthorized)
        const response = yield* (yield* around(counting().auth, client)).get(`${api}/x`)
        assert.strictEqual(response.status, 401)
        assert.strictEqual(yield* response.text, "no")
        assert.strictEqual(sent.length, 2)
      })
    )

    it.effect("credentials that cannot change are not sent again", () =>
      Effect.gen(function* () {
        const { client, sent } = recording(unauthorized)
        for (const auth of [
          yield* Auth.bearer(token),
          yield* Auth.basic({ username: "u", password: token }),
          yield* Auth.apiKey({ name: "k", value: token }),
          HttpClientRequest.setHeader("authorization", "mine")
        ]) {
          sent.length = 0
          assert.strictEqual((yield* (yield* around(auth, client)).get(`${api}/x`)).status, 401)
          assert.strictEqual(sent.length, 1)
        }
      })
    )

    it.effect("a 401 to a bearer token of long ago is left alone: what is remembered is bounded", () =>
      Effect.gen(function* () {
        let count = 0
        const auth = yield* Auth.bearer(Effect.sync(() => Redacted.make(`t${++count}`)))
        for (let i = 0; i < 65; i++) yield* authorize(auth)
        const rejected = (n: number) =>
          auth.rejected?.(HttpClientRequest.setHeader(request, "authorization", `Bearer t${n}`))
        assert.deepStrictEqual([rejected(1), rejected(2), rejected(65), rejected(66)], [false, true, true, false])
      })
    )

    it.effect("an effectful bearer that keeps its token is remembered once, however often it is asked", () =>
      Effect.gen(function* () {
        const auth = yield* Auth.bearer(Effect.sync(() => token))
        const first = yield* authorize(auth)
        for (let i = 0; i < 100; i++) yield* authorize(auth)
        assert.isTrue(auth.rejected?.(first))
      })
    )

    it.effect("an effectful bearer is asked once more", () =>
      Effect.gen(function* () {
        let count = 0
        const auth = yield* Auth.bearer(Effect.sync(() => Redacted.make(`t${++count}`)))
        const { client, sent } = recording(unauthorized)
        yield* (yield* around(auth, client)).get(`${api}/x`)
        assert.deepStrictEqual(carried(sent), ["Bearer t1", "Bearer t2"])
      })
    )

    it.effect("a request that carried credentials of its own, or none of ours, is left alone", () =>
      Effect.gen(function* () {
        const { client, sent } = recording(unauthorized)
        const asked: Array<Request> = []
        const same: Auth.Auth = { authorize: (one) => one, rejected: (one) => asked.push(one) > 0 }
        yield* (yield* around(same, client)).get(`${api}/x`)
        const bearer = yield* Auth.oauth2With(new TokenEndpoint().client, oauth2)
        yield* (yield* around(bearer, client)).get(`${api}/x`, { headers: { authorization: "own" } })
        assert.strictEqual(sent.length, 2)
        assert.strictEqual(asked.length, 0)
      })
    )

    it.effect("a body that cannot be sent twice is not, but the refused token is dropped", () =>
      Effect.gen(function* () {
        const { client, sent } = recording(unauthorized)
        const { auth, rejected } = counting()
        const body = Stream.make(new Uint8Array([1]))
        const upload = HttpClientRequest.post(`${api}/x`).pipe(HttpClientRequest.bodyStream(body))
        assert.strictEqual((yield* (yield* around(auth, client)).execute(upload)).status, 401)
        assert.strictEqual(sent.length, 1)
        assert.deepStrictEqual(rejected, ["1"])
      })
    )

    it.effect("the discarded 401 is read to its end before the request is sent again", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const { client } = recording((_, count) => {
          log.push(`request ${count}`)
          if (count === 2) return new Response("ok")
          const chunks = ["n", "o"]
          const body = new ReadableStream<Uint8Array>(
            {
              pull: (controller) => {
                const chunk = chunks.shift()
                log.push(chunk ?? "end")
                if (chunk === undefined) controller.close()
                else controller.enqueue(new TextEncoder().encode(chunk))
              }
            },
            { highWaterMark: 0 }
          )
          return new Response(body, { status: 401 })
        })
        yield* (yield* around(counting().auth, client)).get(`${api}/x`)
        assert.deepStrictEqual(log, ["request 1", "n", "o", "end", "request 2"])
      })
    )

    it.effect("the discarded 401 is drained, so that a pool of one connection is free while the next token comes", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => {
          if (wire.sent.length === 1) sent.write().head(401, {}).data("n").data("o").end()
          else sent.answer("ok")
        })
        const pool = yield* onWire(wire, { size: 1 })
        const tokens = new TokenEndpoint()
        tokens.answer = (_, count) =>
          // The token request goes through the same pool.
          Effect.map(pool.client.get("/token"), () => grant(`t${count}`))
        const auth = yield* Auth.oauth2With(tokens.client, { ...oauth2, maxRetries: 0 })
        yield* authorize(auth)
        wire.sent.length = 0
        const { wrap } = yield* Auth.policy({ auth, origins: ["http://test.local"] })
        const response = yield* wrap(pool.client).get("http://test.local/x")
        assert.strictEqual(response.status, 200)
        assert.deepStrictEqual(wire.paths, ["/x", "/token", "/x"])
        assert.strictEqual(wire.opened, 1)
        assert.strictEqual(wire.at(2).header("authorization"), "Bearer t2")
      })
    )

    it.effect("a 401 that a client takes for a failure is one all the same", () =>
      Effect.gen(function* () {
        const { client, sent } = recording((_, count) => (count === 1 ? unauthorized() : new Response("ok")))
        const failing = HttpClient.transform(client, (response) =>
          Effect.flatMap(response, (one): Effect.Effect<HttpClientResponse.HttpClientResponse, ResponseError> => {
            const info = { method: "GET", url: `${api}/x` }
            return one.status === 200
              ? Effect.succeed(one)
              : Effect.fail(new ResponseError({ request: info, attempts: 1, response: one }))
          })
        )
        const { wrap } = yield* Auth.policy({ auth: counting().auth, origins: [api] })
        assert.strictEqual((yield* wrap(failing).get(`${api}/x`)).status, 200)
        assert.strictEqual(sent.length, 2)
        const { wrap: fixed } = yield* Auth.policy({ auth: yield* Auth.bearer(token), origins: [api] })
        const refusing = recording(unauthorized)
        const error = yield* Effect.flip(fixed(HttpClient.filterStatusOk(refusing.client)).get(`${api}/x`))
        assert.strictEqual(tagged(error, "HttpClientError").response?.status, 401)
        assert.strictEqual(refusing.sent.length, 1)
      })
    )

    it.effect("when there are no new credentials the failure says so, and that one attempt was sent", () =>
      Effect.gen(function* () {
        const { client, sent } = recording(unauthorized)
        const tokens = new TokenEndpoint()
        tokens.answer = (_, count) => Effect.succeed(count === 1 ? grant("t") : json({ error: "invalid_client" }, 401))
        const auth = yield* Auth.oauth2With(tokens.client, oauth2)
        const error = yield* Effect.flip((yield* around(auth, client)).get(`${api}/x`))
        assert.strictEqual(error.attempts, 1)
        assert.include(error.reason, "https://login.test/token answered 401 invalid_client")
        assert.notInclude(shown(error), secret)
        assert.strictEqual(sent.length, 1)
      })
    )

    it.effect("a thousand concurrent requests with a revoked token: each is sent twice, one token is asked for", () =>
      Effect.gen(function* () {
        const tokens = new TokenEndpoint()
        const auth = yield* Auth.oauth2With(tokens.client, oauth2)
        yield* authorize(auth)
        const { client, sent } = recording(({ headers }) =>
          headers["authorization"] === "Bearer t1" ? unauthorized() : new Response("ok")
        )
        const mine = yield* around(auth, client)
        const responses = yield* Effect.all(
          Array.from({ length: 1_000 }, () => mine.get(`${api}/x`)),
          { concurrency: 1_000 }
        )
        assert.isTrue(responses.every(({ status }) => status === 200))
        assert.strictEqual(sent.filter(({ headers }) => headers["authorization"] === "Bearer t2").length, 1_000)
        assert.strictEqual(tokens.requests.length, 2)
      })
    )
  })

  describe("around a client", () => {
    it.effect("while a token is fetched nothing is sent, and an interrupted caller sends nothing later", () =>
      Effect.gen(function* () {
        const tokens = new TokenEndpoint()
        tokens.answer = () => Effect.delay(Effect.succeed(grant("t")), "1 second")
        const auth = yield* Auth.oauth2With(tokens.client, oauth2)
        const { client, sent } = recording()
        const mine = yield* around(auth, client)
        const gone = yield* start(mine.get(`${api}/gone`))
        const stays = yield* start(mine.get(`${api}/stays`))
        assert.strictEqual(sent.length, 0)
        yield* Fiber.interrupt(gone)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(stays)
        assert.deepStrictEqual(
          sent.map(({ url }) => url),
          [`${api}/stays`]
        )
      })
    )

    it.effect("the name of an API key's header is hidden in what runs inside", () =>
      Effect.gen(function* () {
        const seen: Array<unknown> = []
        const client = HttpClient.make((sent) =>
          Effect.map(Effect.service(Headers.CurrentRedactedNames), (names) => {
            seen.push(Headers.redact(sent.headers, names))
            return HttpClientResponse.fromWeb(sent, new Response())
          })
        )
        const { wrap } = yield* Auth.policy({
          auth: yield* Auth.apiKey({ name: "x-tenant-key", value: token }),
          origins: [api]
        })
        yield* wrap(client).get(`${api}/x`)
        assert.strictEqual(seen.length, 1)
        assert.notInclude(shown(seen), "t0ken")
      })
    )
  })
})
