/** What the end of a call says about the upstream. */
import * as HttpClientError from "effect/http/HttpClientError"
import * as PoolError from "../../model/PoolError.ts"
import type { Outcome } from "../Gate.ts"

const ofStatus = (status: number): boolean | undefined => (status === 429 ? undefined : status >= 500 || status === 408)

const ofPoolError = (error: PoolError.PoolError): boolean | undefined => {
  switch (error._tag) {
    case "ResponseError":
      return ofStatus(error.response.status)
    case "RetryExhausted":
      return ofPoolError(error.last)
    case "TimeoutError":
      // Without an attempt there was never a slot: it is we who are slow.
      return error.attempts === 0 ? undefined : true
    case "ConnectError":
    case "DecodeError":
      return true
    case "RateLimitExceeded":
    case "CircuitOpen":
    case "PoolSaturated":
    case "PoolClosed":
    case "AuthError":
    case "InvalidRequest":
      return undefined
  }
}

const ofError = (error: unknown): boolean | undefined => {
  const known = PoolError.find(error)
  if (known !== undefined) return ofPoolError(known)
  if (!HttpClientError.isHttpClientError(error)) return true
  switch (error.reason._tag) {
    case "StatusCodeError":
      return ofStatus(error.reason.response.status)
    case "InvalidUrlError":
    case "EncodeError":
      return undefined
    default:
      return true
  }
}

/** True: a failure; false: a success; undefined: it says nothing. */
export const verdictOf = (outcome: Outcome): boolean | undefined => {
  switch (outcome._tag) {
    case "Response":
      return ofStatus(outcome.response.status)
    case "Success":
      return false
    case "Failure":
      return ofError(outcome.error)
    case "Interrupted":
    case "Defect":
      return undefined
  }
}
