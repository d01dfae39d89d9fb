/** What a failure tells about sending again. */
import { isTimeoutError } from "effect/Cause"
import { isHttpClientError } from "effect/http/HttpClientError"
import { find, type PoolError } from "../../model/PoolError.ts"

/** What another attempt cannot help, whoever says so. */
export const isFinal = (error: PoolError | undefined): boolean => {
  switch (error?._tag) {
    // Retries would hammer on a host that is known to be ill, and on a pool that is full already.
    case "CircuitOpen":
    case "PoolSaturated":
    // It stays closed.
    case "PoolClosed":
    // Somebody further inside has retried already: retries of retries multiply.
    case "RetryExhausted":
      return true
    case "TimeoutError":
      // The time of all attempts together.
      return error.phase === "request"
    default:
      return false
  }
}

/** No byte of this attempt has reached a server, so to send it again is to send it once. */
export const isUnsent = (error: PoolError | undefined): boolean => {
  switch (error?._tag) {
    case "ConnectError":
      return !error.sent
    case "TimeoutError":
      return error.phase === "dial" || error.phase === "tls"
    case "RateLimitExceeded":
      return true
    default:
      return false
  }
}

/**
 * Whether another attempt may do better, by default. Of errors that are not of this library: transport errors and
 * timeouts; of those that say nothing at all: `unknown`.
 */
export const isTransient = (error: unknown, statuses: ReadonlySet<number>, unknown: boolean): boolean => {
  const known = find(error)
  switch (known?._tag) {
    case undefined:
      break
    case "ConnectError":
      return true
    case "TimeoutError":
      // While the body idles, the head has been answered: the caller has it.
      return known.phase !== "request" && known.phase !== "bodyIdle"
    case "ResponseError":
      return statuses.has(known.response.status)
    // RateLimitExceeded: it has waited as long as its caller allows. AuthError: the credentials have retries of their own.
    // InvalidRequest, DecodeError: the same request, and most likely the same answer, again.
    default:
      return false
  }
  if (isTimeoutError(error)) return true
  if (!isHttpClientError(error)) return unknown
  const { reason } = error
  return reason._tag === "TransportError" || (reason._tag === "StatusCodeError" && statuses.has(reason.response.status))
}
