import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { HttpClientRequest, HttpClientResponse, HttpServerResponse } from "effect/http"
import * as PoolError from "../../../src/model/PoolError.ts"
import { late, ofError, problem } from "../../../src/server/internal/proxyProblem.ts"

const secret = "http://10.1.2.3:9000/internal?token=hunter2"
const at = { request: { method: "GET", url: secret }, attempts: 2 }
const cause = new Error(secret)

const timeout = (phase: PoolError.TimeoutPhase) =>
  new PoolError.TimeoutError({ ...at, phase, timeout: Duration.seconds(1), address: "10.1.2.3:9000" })
const limited = (retryAfter: Duration.Input) =>
  new PoolError.RateLimitExceeded({ ...at, retryAfter: Duration.fromInputUnsafe(retryAfter) })
const open = (retryAfter: Duration.Input) =>
  new PoolError.CircuitOpen({ ...at, retryAfter: Duration.fromInputUnsafe(retryAfter) })
const connect = (phase: PoolError.ConnectPhase) => new PoolError.ConnectError({ ...at, phase, sent: true, cause })
const exhausted = (last: PoolError.PoolError) => new PoolError.RetryExhausted({ ...at, last, reason: "maxRetries" })
const response = HttpClientResponse.fromWeb(HttpClientRequest.get(secret), new Response(secret, { status: 500 }))

const cases: ReadonlyArray<readonly [error: PoolError.PoolError, status: number, retryAfter?: string]> = [
  [connect("dns"), 502],
  [connect("tcp"), 502],
  [connect("tls"), 502],
  [connect("response"), 502],
  [timeout("dial"), 504],
  [timeout("tls"), 504],
  [timeout("headers"), 504],
  [timeout("attempt"), 504],
  [timeout("request"), 504],
  [limited("1500 millis"), 503, "2"],
  [limited(Infinity), 503],
  [open(1), 503, "1"],
  [open(0), 503, "1"],
  [open(Infinity), 503],
  [new PoolError.PoolSaturated({ ...at, reason: "maxWaiting", limit: 1, waiting: 1 }), 503, "1"],
  [new PoolError.PoolClosed(at), 503, "1"],
  [new PoolError.AuthError({ ...at, reason: secret, cause }), 502],
  [new PoolError.DecodeError({ ...at, reason: secret, cause }), 502],
  [new PoolError.InvalidRequest({ ...at, reason: secret, cause }), 502],
  [new PoolError.ResponseError({ ...at, response }), 502],
  [exhausted(timeout("headers")), 504],
  [exhausted(open("3 seconds")), 503, "3"]
]

describe("ofError", () => {
  for (const [error, status, retryAfter] of cases) {
    const what = error._tag === "RetryExhausted" ? `${error._tag} ${error.last._tag}` : error._tag
    const phase = "phase" in error ? ` (${error.phase})` : ""
    it.effect(`${what}${phase} is ${status}${retryAfter === undefined ? "" : `, again after ${retryAfter} s`}`, () =>
      Effect.gen(function* () {
        const answer = ofError(error)
        assert.strictEqual(answer.status, status)
        assert.strictEqual(answer.headers["retry-after"], retryAfter)
        assert.strictEqual(answer.headers["content-type"], "application/problem+json")
        assert.strictEqual(answer.headers["cache-control"], "no-store")
        const text = yield* Effect.promise(() => HttpServerResponse.toWeb(answer).text())
        const { detail, ...rest } = JSON.parse(text)
        const titles: Record<number, string> = {
          502: "Bad Gateway",
          503: "Service Unavailable",
          504: "Gateway Timeout"
        }
        assert.deepStrictEqual(rest, { type: "about:blank", title: titles[status], status })
        assert.isString(detail)
        // Nothing of what is behind.
        assert.notMatch(JSON.stringify([text, answer.headers]), /10\.1|9000|internal|hunter2|Error/)
      })
    )
  }
})

it("late is 504; a status without a name has a title, too", () => {
  assert.strictEqual(late().status, 504)
  assert.strictEqual(problem(418, "x").status, 418)
})
