import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Redacted } from "effect"
import { HttpClient, HttpClientError, HttpClientRequest, HttpClientResponse, UrlParams } from "effect/http"
import { inspect } from "node:util"
import * as PoolError from "../../src/model/PoolError.ts"
import { onFunction, onWire, tagged } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const request = PoolError.requestInfo("GET", "http://user:s3cret@h:81/a?x=1&access_token=s3cret")
const fields = { request, attempts: 2 }
const wireRequest = HttpClientRequest.get("http://h/a", {
  headers: { authorization: "Bearer s3cret", "x-api-key": "s3cret" }
})
const response = HttpClientResponse.fromWeb(
  wireRequest,
  new Response("b0dy", { status: 503, headers: { "set-cookie": "s3cret" } })
)

const connect = (phase: PoolError.ConnectPhase) =>
  new PoolError.ConnectError({
    ...fields,
    phase,
    sent: false,
    address: "192.0.2.1:80",
    elapsed: Duration.millis(12.4),
    cause: Object.assign(new Error("no"), { code: "ECONNREFUSED" })
  })

const timeout = (phase: PoolError.TimeoutPhase) =>
  new PoolError.TimeoutError({ ...fields, phase, timeout: Duration.seconds(5), address: "192.0.2.1:80" })

const saturated = (reason: PoolError.PoolSaturated["reason"]) =>
  new PoolError.PoolSaturated({ ...fields, reason, limit: 7, waiting: 3 })

const retryAfter = Duration.seconds(2)

/** One of each kind, and what its message must say. */
const all: ReadonlyArray<readonly [PoolError.PoolError, ReadonlyArray<string>]> = [
  [connect("dns"), ["192.0.2.1:80", "dns", "12 ms", "ECONNREFUSED", "check the host name"]],
  [connect("tcp"), ["check that the service listens"]],
  [connect("tls"), ["check the certificate"]],
  [connect("proxy"), ["check the proxy"]],
  [connect("request"), ["Connection broke", "may have been processed"]],
  [connect("response"), ["Connection broke", "may have been processed"]],
  [timeout("dial"), ["dialTimeout of 5000 ms passed", "192.0.2.1:80", "raise the limit"]],
  [timeout("tls"), ["tlsTimeout"]],
  [timeout("headers"), ["responseHeaderTimeout"]],
  [timeout("bodyIdle"), ["bodyIdleTimeout"]],
  [timeout("attempt"), ["attemptTimeout"]],
  [timeout("request"), ["requestTimeout"]],
  [new PoolError.ResponseError({ ...fields, response }), ["Status 503", "`response` of this error"]],
  [
    new PoolError.RetryExhausted({ reason: "maxRetries", ...fields, last: timeout("headers") }),
    ["Gave up after 2 attempts", "responseHeaderTimeout"]
  ],
  [new PoolError.RateLimitExceeded({ ...fields, retryAfter }), ["try again in 2000 ms"]],
  [new PoolError.CircuitOpen({ ...fields, retryAfter }), ["next probe in 2000 ms"]],
  [saturated("maxWaiting"), ["maxWaiting of 7", "3 requests waiting", "raise `size`"]],
  [saturated("acquireTimeout"), ["acquireTimeout of 7 ms"]],
  [saturated("maxHosts"), ["maxHosts of 7", "raise `maxHosts`, or use a pool for each upstream"]],
  [new PoolError.PoolClosed(fields), ["make the request inside it"]],
  [new PoolError.AuthError({ ...fields, reason: "the token was refused" }), ["the token was refused"]],
  [new PoolError.DecodeError({ ...fields, reason: "it is not JSON" }), ["it is not JSON"]],
  [new PoolError.InvalidRequest({ ...fields, reason: "its URL cannot be parsed" }), ["its URL cannot be parsed"]]
]

/** Everything a log may show of a value. */
const shown = (value: unknown): string =>
  [
    String(value),
    JSON.stringify(value),
    inspect(value, { depth: 10 }),
    value instanceof Error ? `${value.message} ${value.stack}` : ""
  ].join("\n")

describe("PoolError", () => {
  for (const [error, says] of all) {
    const name =
      "phase" in error
        ? `${error._tag} (${error.phase})`
        : "reason" in error
          ? `${error._tag} (${error.reason})`
          : error._tag
    describe(name, () => {
      it("says what happened, to which request, and what to do", () => {
        assert.include(error.message, "GET http://")
        for (const text of says) assert.include(error.message, text)
        assert.strictEqual(error.name, error._tag)
      })

      it("shows no secret", () => {
        assert.notInclude(shown(error), "s3cret")
      })

      it("is a PoolError, folds into an HttpClientError, and comes back", () => {
        assert.isTrue(PoolError.isPoolError(error))
        const folded = PoolError.toHttpClientError(error, wireRequest)
        assert.isTrue(HttpClientError.isHttpClientError(folded))
        assert.include(folded.message, error.message)
        assert.strictEqual(Option.getOrThrow(PoolError.fromHttpClientError(folded)), error)
        assert.notInclude(shown(folded), "s3cret")
      })
    })
  }

  it("covers every member", () => {
    // Adding a member to the union without one in `all` does not compile.
    const tags: { readonly [Tag in PoolError.PoolError["_tag"]]: true } = {
      ConnectError: true,
      TimeoutError: true,
      ResponseError: true,
      RetryExhausted: true,
      RateLimitExceeded: true,
      CircuitOpen: true,
      PoolSaturated: true,
      PoolClosed: true,
      AuthError: true,
      DecodeError: true,
      InvalidRequest: true
    }
    assert.deepStrictEqual([...new Set(all.map(([error]) => error._tag))].toSorted(), Object.keys(tags).toSorted())
  })

  it("tells what would help: more hosts are not more slots", () => {
    assert.notInclude(saturated("maxHosts").message, "size")
    assert.notInclude(saturated("maxWaiting").message, "raise `maxHosts`")
  })

  it("does not let a method or a URL forge a line of a log", () => {
    for (const forged of ["GET\nINFO all is well", "GET\r\n", "\u001b[2JGET", "G\u2028ET", "G ET", "G\u0085ET"]) {
      for (const info of [
        PoolError.requestInfo(forged, "http://h/"),
        PoolError.requestInfo("GET", `ftp://h/${forged}`)
      ]) {
        const { message } = new PoolError.PoolClosed({ request: info, attempts: 0 })
        assert.notMatch(message, /[\p{Cc}\u2028\u2029]/u)
        assert.isTrue(info.method.includes(forged) || info.url.includes(forged), "as data it stays")
      }
    }
    const { message } = new PoolError.PoolClosed({ request: PoolError.requestInfo("G ET", "http://h/"), attempts: 0 })
    assert.include(message, "G?ET http://h/:")
  })

  it.effect("does not let a URL that is refused as it came forge one", () =>
    Effect.gen(function* () {
      const pool = yield* onFunction(() => Effect.die("not called"))
      for (const client of [pool.client, HttpClient.mapRequest(pool.client, (_) => _)]) {
        for (const url of ["ftp://h/\nINFO all is well", "http://[\nINFO all is well"]) {
          const error = tagged(yield* Effect.flip(client.get(url)), "InvalidRequest")
          assert.notInclude(error.message, "\n")
        }
      }
    })
  )

  it("advises more slots where most of the time was spent waiting for one", () => {
    const message = (waited: number | undefined, limit = 5000) =>
      new PoolError.TimeoutError({
        ...fields,
        phase: "request",
        timeout: Duration.millis(limit),
        waited: waited === undefined ? undefined : Duration.millis(waited),
        address: "192.0.2.1:80"
      }).message
    for (const waited of [2500, 5000]) {
      assert.include(message(waited), `requestTimeout of 5000 ms passed, ${waited} ms of it without a slot.`)
      assert.include(message(waited), "raise `size`")
      assert.notInclude(message(waited), "raise the limit")
    }
    for (const waited of [undefined, 0, 2499]) {
      assert.include(message(waited), "requestTimeout of 5000 ms passed to 192.0.2.1:80.")
      assert.include(message(waited), "raise the limit")
      assert.notInclude(message(waited), "size")
    }
  })

  it("names a cause that has no code by its message, and one that has neither not at all", () => {
    const message = (cause?: unknown) =>
      new PoolError.ConnectError({ ...fields, phase: "tcp", sent: true, cause }).message
    assert.include(message(new Error("it fell over")), "(tcp): it fell over.")
    assert.include(message(new Error("")), "(tcp): unknown reason.")
    assert.include(message({ code: 7 }), "(tcp): unknown reason.")
    assert.include(message(), "(tcp): unknown reason.")
  })

  describe("folding", () => {
    const reasonOf = (error: PoolError.PoolError, of?: HttpClientResponse.HttpClientResponse) =>
      PoolError.toHttpClientError(error, wireRequest, of).reason

    it("uses the reason that Effect's libraries expect", () => {
      assert.strictEqual(reasonOf(connect("tcp"))._tag, "TransportError")
      assert.strictEqual(reasonOf(timeout("headers"))._tag, "TransportError")
      assert.strictEqual(reasonOf(new PoolError.InvalidRequest({ ...fields, reason: "x" }))._tag, "InvalidUrlError")
      const status = reasonOf(new PoolError.ResponseError({ ...fields, response }))
      assert.strictEqual(status._tag, "StatusCodeError")
      assert.strictEqual("response" in status ? status.response : undefined, response)
      const decode = new PoolError.DecodeError({ ...fields, reason: "x" })
      assert.strictEqual(reasonOf(decode, response)._tag, "DecodeError")
      assert.strictEqual(reasonOf(decode)._tag, "TransportError", "without a response")
    })

    it("finds nothing in errors of others", () => {
      const reason = new HttpClientError.TransportError({ request: wireRequest, cause: new Error("other") })
      assert.deepStrictEqual(
        PoolError.fromHttpClientError(new HttpClientError.HttpClientError({ reason })),
        Option.none()
      )
    })
  })

  it("is told from other values", () => {
    for (const value of [undefined, null, "PoolClosed", { _tag: "PoolClosed" }, new Error("PoolClosed")]) {
      assert.isFalse(PoolError.isPoolError(value))
    }
  })

  describe("requestInfo", () => {
    const urlOf = (url: string, params?: UrlParams.UrlParams) => PoolError.requestInfo("GET", url, params).url

    it("leaves a URL without secrets as it is", () => {
      for (const url of ["http://h/a?x=1&monkey=2#frag", "/relative?page=2", "", "not a url"]) {
        assert.strictEqual(urlOf(url), url)
      }
      assert.deepStrictEqual(PoolError.requestInfo("PUT", "/a"), { method: "PUT", url: "/a" })
    })

    it("replaces user info, also where the URL cannot be parsed", () => {
      for (const url of [
        "http://user:s3cret@h/",
        "https://s3cret@h/",
        "http://user:s3cret@[h",
        "//user:s3cret@h/",
        "ftp://a:s3cret@h:x"
      ]) {
        assert.notInclude(urlOf(url), "s3cret")
      }
    })

    it("replaces the values of parameters that look secret", () => {
      for (const name of [
        "token",
        "access_token",
        "id-token",
        "api_key",
        "apikey",
        "X-Api-Key",
        "key",
        "password",
        "passwd",
        "client_secret",
        "Signature",
        "sig",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "AWSAccessKeyId",
        "auth",
        "authorization",
        "session",
        "jwt",
        "code",
        "p%61ssword"
      ]) {
        assert.notInclude(urlOf(`http://h/a?x=1&${name}=s3cret&y=2`), "s3cret", name)
        assert.notInclude(urlOf(`/a?${name}=s3cret`), "s3cret", name)
      }
    })

    it("replaces those that are Redacted", () => {
      const params = UrlParams.fromInput({ plain: "seen", hidden: Redacted.make("s3cret") })
      assert.strictEqual(urlOf("http://h/?plain=seen&hidden=s3cret", params), "http://h/?plain=seen&hidden=REDACTED")
    })
  })

  describe("secrets of a request through a pool", () => {
    const secret = HttpClientRequest.post("/a?token=s3cret", {
      headers: { authorization: "Bearer s3cret", cookie: "a=s3cret" },
      urlParams: { hidden: Redacted.make("s3cret") }
    }).pipe(HttpClientRequest.bodyText("s3cret"))

    it.effect("are sent", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer())
        const pool = yield* onWire(wire)
        yield* pool.client.execute(secret)
        assert.strictEqual(wire.at(0).path, "/a?token=s3cret&hidden=s3cret")
      })
    )

    it.effect("are not in its errors, on either lane, folded or not", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.refuse())
        const pool = yield* onWire(wire)
        const errors = [
          yield* Effect.flip(pool.client.execute(secret)),
          yield* Effect.flip(HttpClient.mapRequest(pool.client, (_) => _).execute(secret)),
          yield* Effect.flip(pool.httpClient.execute(secret)),
          yield* Effect.flip(HttpClient.mapRequest(pool.httpClient, (_) => _).execute(secret))
        ]
        for (const error of errors) {
          assert.include(error.message, "ECONNREFUSED")
          assert.notInclude(shown(error), "s3cret")
        }
      })
    )

    it.effect("are not in those of a URL that cannot be sent", () =>
      Effect.gen(function* () {
        const pool = yield* onFunction(() => Effect.die("not called"))
        const clients = [pool.client, HttpClient.mapRequest(pool.client, (_) => _)]
        const folded = [pool.httpClient, HttpClient.mapRequest(pool.httpClient, (_) => _)]
        for (const url of ["http://user:s3cret@h/", "http://user:s3cret@[h", "../?token=s3cret"]) {
          for (const client of clients) assert.notInclude(shown(yield* Effect.flip(client.get(url))), "s3cret")
          for (const client of folded) assert.notInclude(shown(yield* Effect.flip(client.get(url))), "s3cret")
        }
      })
    )

    it.effect("are not in those of a response, nor in the response", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("{", 500, { "set-cookie": "a=s3cret" }))
        const pool = yield* onWire(wire, { failOnStatus: true })
        const error = yield* Effect.flip(pool.client.execute(secret))
        assert.notInclude(shown(error), "s3cret")
        const other = yield* onWire(wire)
        const answer = yield* other.client.execute(secret)
        assert.notInclude(shown(answer), "s3cret")
        assert.notInclude(shown(yield* Effect.flip(answer.json)), "s3cret")
      })
    )
  })
})
