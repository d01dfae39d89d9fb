/**
 * What a transport's failure means to a caller: whether it may be sent again at once, and if not, the error.
 */
import * as Duration from "effect/Duration"
import type { HttpBody } from "effect/http/HttpBody"
import type { Failure } from "../Connector.ts"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as PoolError from "../../model/PoolError.ts"
import { isIdempotent, isReplayable } from "../../policy/internal/replayable.ts"

/** How far an exchange had come when it failed. */
export interface Progress {
  readonly method: string
  readonly body: HttpBody
  readonly info: PoolError.RequestInfo
  readonly attempts: number
  readonly address: string | undefined
  /** The connection that failed had begun to take the request. */
  readonly begun: boolean
  /** It had taken all of it. */
  readonly writtenWhole: boolean
  /** The connection stood idle before. */
  readonly reused: boolean
  readonly responseBegun: boolean
  /** It was sent again already; the connection before may have had it. */
  readonly replayed: boolean
  readonly everBegun: boolean
}

/**
 * A kept-alive connection that dies before the first byte of a response was, nearly always, closed by the server while it
 * was idle. Sending again is allowed where sending twice is (RFC 9112 §9.3.1), or where nothing was sent.
 */
export const mayReplay = (failure: Failure, at: Progress): boolean => {
  if (at.replayed || at.responseBegun) return false
  // Before it is written, even garbage on the connection is no answer to it.
  if (!at.begun) return failure._tag === "Broken" || failure._tag === "Protocol"
  return failure._tag === "Broken" && at.reused && isIdempotent(at.method) && isReplayable(at.body)
}

export const toPoolError = (failure: Failure, at: Progress): PoolError.PoolError => {
  const { attempts, info: request } = at
  switch (failure._tag) {
    case "Connect":
      return new PoolError.ConnectError({
        request,
        attempts,
        phase: failure.phase,
        sent: at.replayed && at.everBegun,
        address: failure.address,
        elapsed: Duration.millis(failure.millis),
        cause: failure.cause
      })
    case "ConnectTimeout":
      return new PoolError.TimeoutError({
        request,
        attempts,
        phase: failure.phase,
        timeout: Duration.millis(failure.millis),
        address: failure.address
      })
    case "Broken":
      return new PoolError.ConnectError({
        request,
        attempts,
        phase: at.writtenWhole ? "response" : "request",
        sent: at.everBegun,
        address: at.address,
        cause: failure.cause
      })
    case "Protocol":
      return new PoolError.DecodeError({ request, attempts, reason: failure.reason, cause: failure.cause })
    case "Rejected":
      return new PoolError.InvalidRequest({ request, attempts, reason: failure.reason, cause: failure.cause })
    case "Given":
      return failure.error({ request, attempts })
  }
}

/** A request that is refused before anything of it is sent. */
export const invalid = (request: HttpClientRequest, reason: string, cause?: unknown): PoolError.PoolError =>
  new PoolError.InvalidRequest({
    request: PoolError.requestInfo(request.method, request.url, request.urlParams),
    attempts: 0,
    reason,
    cause
  })
