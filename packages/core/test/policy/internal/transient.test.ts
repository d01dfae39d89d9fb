import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration } from "effect"
import { HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"
import * as PoolError from "../../../src/model/PoolError.ts"
import { isFinal, isTransient, isUnsent } from "../../../src/policy/internal/transient.ts"

const at = { request: { method: "GET", url: "http://test.local/" }, attempts: 1 }
const request = HttpClientRequest.get("http://test.local/")
const second = Duration.seconds(1)

const response = (status: number) => HttpClientResponse.fromWeb(request, new Response(null, { status }))
const connect = (phase: PoolError.ConnectPhase, sent: boolean) => new PoolError.ConnectError({ ...at, phase, sent })
const timeout = (phase: PoolError.TimeoutPhase) => new PoolError.TimeoutError({ ...at, phase, timeout: second })
const status = (status: number) => new PoolError.ResponseError({ ...at, response: response(status) })

const refused = connect("tcp", false)
const limited = new PoolError.RateLimitExceeded({ ...at, retryAfter: second })
const others: ReadonlyArray<PoolError.PoolError> = [
  new PoolError.AuthError({ ...at, reason: "no token" }),
  new PoolError.DecodeError({ ...at, reason: "not JSON" }),
  new PoolError.InvalidRequest({ ...at, reason: "no URL" })
]
const final: ReadonlyArray<PoolError.PoolError> = [
  new PoolError.CircuitOpen({ ...at, retryAfter: second }),
  new PoolError.PoolSaturated({ ...at, reason: "maxWaiting", limit: 1, waiting: 1 }),
  new PoolError.PoolClosed(at),
  new PoolError.RetryExhausted({ ...at, last: refused, reason: "maxRetries" }),
  timeout("request")
]

const statuses = new Set([429, 503])

describe("isFinal", () => {
  it("is true for CircuitOpen, PoolSaturated, PoolClosed, RetryExhausted and requestTimeout", () => {
    for (const error of final) assert.isTrue(isFinal(error), error._tag)
  })

  it("is false for all others, also those that are not known", () => {
    for (const error of [undefined, refused, limited, timeout("attempt"), status(503), ...others]) {
      assert.isFalse(isFinal(error), error?._tag)
    }
  })
})

describe("isUnsent", () => {
  it("is true when the connection could not be made, and when the request was not let through", () => {
    for (const error of [refused, connect("dns", false), timeout("dial"), timeout("tls"), limited]) {
      assert.isTrue(isUnsent(error), error.message)
    }
  })

  it("is false when a server may have seen a byte of it", () => {
    for (const error of [
      undefined,
      connect("request", true),
      connect("response", true),
      timeout("headers"),
      timeout("attempt"),
      timeout("bodyIdle"),
      status(503),
      ...others
    ]) {
      assert.isFalse(isUnsent(error), error?.message)
    }
  })
})

describe("isTransient", () => {
  it("is true for every connect error, sent or not", () => {
    for (const phase of ["dns", "tcp", "tls", "proxy", "request", "response"] as const) {
      assert.isTrue(isTransient(connect(phase, phase === "request"), statuses, false), phase)
    }
  })

  it("is true for the time limits of an attempt, false for `request` and `bodyIdle`", () => {
    for (const phase of ["dial", "tls", "headers", "attempt"] as const) {
      assert.isTrue(isTransient(timeout(phase), statuses, false), phase)
    }
    for (const phase of ["request", "bodyIdle"] as const) {
      assert.isFalse(isTransient(timeout(phase), statuses, true), phase)
    }
  })

  it("is true for a ResponseError whose status is retryable", () => {
    assert.isTrue(isTransient(status(503), statuses, false))
    assert.isFalse(isTransient(status(501), statuses, true))
  })

  it("is false for RateLimitExceeded, AuthError, DecodeError, InvalidRequest and all that is final", () => {
    for (const error of [limited, ...others, ...final]) assert.isFalse(isTransient(error, statuses, true), error._tag)
  })

  it("sees the PoolError in an error that it was folded into", () => {
    assert.isTrue(isTransient(PoolError.toHttpClientError(refused, request), statuses, false))
    for (const error of others) {
      assert.isFalse(isTransient(PoolError.toHttpClientError(error, request), statuses, true), error._tag)
    }
  })

  it("of other clients' errors: transport errors, timeouts, and retryable statuses", () => {
    const from = (reason: HttpClientError.HttpClientErrorReason) => new HttpClientError.HttpClientError({ reason })
    const is = (error: unknown) => isTransient(error, statuses, false)
    assert.isTrue(is(from(new HttpClientError.TransportError({ request }))))
    assert.isTrue(is(from(new HttpClientError.StatusCodeError({ request, response: response(503) }))))
    assert.isTrue(is(new Cause.TimeoutError("late")))
    assert.isFalse(is(from(new HttpClientError.StatusCodeError({ request, response: response(404) }))))
    assert.isFalse(is(from(new HttpClientError.DecodeError({ request, response: response(200) }))))
    assert.isFalse(is(from(new HttpClientError.InvalidUrlError({ request }))))
  })

  it("of what it does not know at all: as it is told", () => {
    assert.isTrue(isTransient("no idea", statuses, true))
    assert.isFalse(isTransient("no idea", statuses, false))
  })
})
