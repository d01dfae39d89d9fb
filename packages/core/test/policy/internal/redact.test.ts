import { assert, describe, it } from "@effect/vitest"
import { Duration, Redacted } from "effect"
import { Headers, HttpClientError, HttpClientRequest } from "effect/http"
import { ConnectError, RetryExhausted, TimeoutError, toHttpClientError } from "../../../src/model/PoolError.ts"
import { kindOf, showError, showHeaders, showRequest } from "../../../src/policy/internal/redact.ts"

const get = HttpClientRequest.get

describe("redact", () => {
  describe("a request", () => {
    it("is shown with its query, and without its fragment", () => {
      const request = get("http://a.test/x?a=1#part", { urlParams: { b: "2" } })
      assert.deepStrictEqual(showRequest(request, []), { method: "GET", url: "http://a.test/x?a=1&b=2" })
      assert.strictEqual(showRequest(get("/x", { urlParams: { b: "2" } }), []).url, "/x?b=2")
      assert.strictEqual(showRequest(get("/x"), []).url, "/x")
    })

    for (const [what, request] of Object.entries({
      "user info": get("http://user:hunter2@a.test/"),
      "a secret-looking parameter of the URL": get("http://a.test/?access_token=hunter2"),
      "a secret-looking parameter": get("http://a.test/", { urlParams: { api_key: "hunter2" } }),
      "a Redacted parameter": get("http://a.test/").pipe(
        HttpClientRequest.setUrlParam("tenant", Redacted.make("hunter2"))
      ),
      "a parameter of a given name, whatever its case": get("http://a.test/", { urlParams: { Customer: "hunter2" } }),
      "a parameter of a given pattern": get("http://a.test/?x-mine-1=hunter2")
    })) {
      it(`is shown without ${what}`, () => {
        const { url } = showRequest(request, ["customer", /^x-mine/])
        assert.notInclude(url, "hunter2")
        assert.include(url, "REDACTED")
      })
    }

    it("cannot forge a line of a log", () => {
      assert.notMatch(showRequest(get("/x\nGET /fine 200\u2028"), []).url, /[\n\u2028]/)
    })
  })

  describe("headers", () => {
    it("are shown, but not the values of secret ones", () => {
      const shown = showHeaders(
        Headers.fromInput({
          accept: "text/plain",
          authorization: "hunter2",
          cookie: "hunter2",
          "set-cookie": "hunter2",
          "x-api-key": "hunter2",
          "proxy-authorization": "hunter2",
          "x-vault-token": "hunter2",
          "x-customer": "hunter2"
        }),
        ["X-Customer"]
      )
      assert.notInclude(JSON.stringify(shown), "hunter2")
      assert.strictEqual(shown.accept, "text/plain")
      assert.strictEqual(shown.authorization, "<redacted>")
    })

    it("cannot forge a line of a log", () => {
      assert.deepStrictEqual(showHeaders(Headers.fromInput({ "x-a": "1\n2" }), []), { "x-a": "1?2" })
    })
  })

  describe("an error", () => {
    const request = { method: "GET", url: "http://a.test/?customer=hunter2" }
    const last = new ConnectError({
      request,
      attempts: 1,
      phase: "tcp",
      sent: false,
      cause: Object.assign(new Error("refused"), { code: "ECONNREFUSED" })
    })

    it("of a pool says what it says, without what is secret by option, in its last attempt too", () => {
      const exhausted = new RetryExhausted({ request, attempts: 3, last, reason: "maxRetries" })
      const shown = showError(exhausted, ["customer"])
      assert.include(shown, "ECONNREFUSED")
      assert.notInclude(shown, "hunter2")
      assert.strictEqual(kindOf(exhausted), "RetryExhausted")
    })

    it("is found where it was folded", () => {
      const folded = toHttpClientError(last, get("http://a.test/?customer=hunter2"))
      assert.strictEqual(kindOf(folded), "ConnectError")
      assert.notInclude(showError(folded, ["customer"]), "hunter2")
    })

    it("of another kind shows only that", () => {
      const transport = new HttpClientError.HttpClientError({
        reason: new HttpClientError.TransportError({ request: get("/hunter2"), description: "hunter2" })
      })
      for (const [error, kind] of [
        [transport, "TransportError"],
        [{ _tag: "Mine", message: "hunter2" }, "Mine"],
        [new RangeError("hunter2"), "RangeError"],
        ["hunter2", "string"],
        [undefined, "undefined"]
      ] as const) {
        assert.strictEqual(kindOf(error), kind)
        assert.strictEqual(showError(error, []), kind)
      }
    })

    it("stays on one line", () => {
      const error = new TimeoutError({
        request: { method: "GET", url: "/x\n200" },
        attempts: 1,
        phase: "request",
        timeout: Duration.seconds(1)
      })
      assert.notInclude(showError(error, []), "\n")
    })
  })
})
