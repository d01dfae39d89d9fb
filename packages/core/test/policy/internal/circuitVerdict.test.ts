import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { HttpClientError } from "effect/http"
import * as PoolError from "../../../src/model/PoolError.ts"
import * as CircuitBreaker from "../../../src/policy/CircuitBreaker.ts"
import type { Outcome } from "../../../src/policy/Policy.ts"
import {
  answer,
  bad,
  calls,
  circuit,
  ended,
  failed,
  ignored,
  info,
  interrupted,
  ok,
  request
} from "../../fixtures/circuits.ts"
import { tagged } from "../../fixtures/pools.ts"

describe("verdictOf", () => {
  const fields = { request: info, attempts: 1 }
  const timeout = (attempts: number) =>
    new PoolError.TimeoutError({ request: info, attempts, phase: "request", timeout: Duration.seconds(1) })
  const refusedBy = new PoolError.ConnectError({ ...fields, phase: "tcp", sent: false })
  const httpError = (reason: HttpClientError.HttpClientErrorReason) => new HttpClientError.HttpClientError({ reason })
  const cases: ReadonlyArray<readonly [string, Outcome, boolean | undefined]> = [
    ["a 200 is a success", ok, false],
    ["a redirect is a success", ended(302), false],
    ["a 4xx is none of its failures: the host answers", ended(404), false],
    ["a 400 is a success", ended(400), false],
    ["a 408 is a failure", ended(408), true],
    ["a 429 is ignored", ignored, undefined],
    ["a 500 is a failure", ended(500), true],
    ["a 501 is a failure", ended(501), true],
    ["a 599 is a failure", ended(599), true],
    ["a value of an effect is a success", { _tag: "Success", value: 1 }, false],
    ["an unknown error of an effect is a failure", failed(new Error("no")), true],
    ["a connect error is a failure", failed(refusedBy), true],
    ["a timeout is a failure", failed(timeout(1)), true],
    ["a timeout that never had a slot is ignored", failed(timeout(0)), undefined],
    [
      "an answer that cannot be decoded is a failure",
      failed(new PoolError.DecodeError({ ...fields, reason: "" })),
      true
    ],
    [
      "a status that became an error counts as the status",
      failed(new PoolError.ResponseError({ ...fields, response: answer(404) })),
      false
    ],
    [
      "a 503 that became an error is a failure",
      failed(new PoolError.ResponseError({ ...fields, response: answer(503) })),
      true
    ],
    [
      "exhausted retries count as the last attempt",
      failed(new PoolError.RetryExhausted({ ...fields, reason: "maxRetries", last: refusedBy })),
      true
    ],
    [
      "another open circuit is ignored",
      failed(new PoolError.CircuitOpen({ ...fields, retryAfter: Duration.zero })),
      undefined
    ],
    [
      "a rate limit is ignored",
      failed(new PoolError.RateLimitExceeded({ ...fields, retryAfter: Duration.zero })),
      undefined
    ],
    [
      "a full pool is ignored",
      failed(new PoolError.PoolSaturated({ ...fields, reason: "maxWaiting", limit: 1, waiting: 1 })),
      undefined
    ],
    ["a closed pool is ignored", failed(new PoolError.PoolClosed(fields)), undefined],
    ["failed authentication is ignored", failed(new PoolError.AuthError({ ...fields, reason: "" })), undefined],
    ["an invalid request is ignored", failed(new PoolError.InvalidRequest({ ...fields, reason: "" })), undefined],
    ["an interruption is ignored", interrupted, undefined],
    ["a defect is ignored", { _tag: "Defect", defect: new Error("bug") }, undefined],
    [
      "a PoolError folded into an HttpClientError counts as itself",
      failed(PoolError.toHttpClientError(timeout(0), request)),
      undefined
    ],
    ["a transport error is a failure", failed(httpError(new HttpClientError.TransportError({ request }))), true],
    [
      "a status error counts as the status",
      failed(httpError(new HttpClientError.StatusCodeError({ request, response: answer(400) }))),
      false
    ],
    ["an invalid URL is ignored", failed(httpError(new HttpClientError.InvalidUrlError({ request }))), undefined],
    [
      "a body that cannot be encoded is ignored",
      failed(httpError(new HttpClientError.EncodeError({ request }))),
      undefined
    ]
  ]
  it.each(cases)("%s", (_name, outcome, verdict) => {
    assert.strictEqual(CircuitBreaker.isFailure(outcome), verdict)
    const { breaker } = circuit({ consecutiveFailures: 2 })
    calls(breaker, bad, outcome)
    const { state } = breaker.snapshot()
    if (verdict === true) return assert.strictEqual(state._tag, "Open")
    const { calls: counted, consecutiveFailures } = tagged(state, "Closed")
    assert.deepStrictEqual([counted, consecutiveFailures], verdict === undefined ? [1, 1] : [2, 0])
  })
})
