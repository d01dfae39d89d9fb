/**
 * What a client is told when its request cannot be forwarded, or its answer cannot be had: problem details (RFC 9457) that
 * name no address, no path of the upstream and no reason that would help an attacker.
 */
import * as Duration from "effect/Duration"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Response from "effect/http/HttpServerResponse"
import type { PoolError } from "../../model/PoolError.ts"

/** RFC 9457, 4.2.1: the title of `about:blank` is the phrase of the status. */
const titles: { readonly [status: number]: string } = {
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  413: "Content Too Large",
  417: "Expectation Failed",
  426: "Upgrade Required",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout"
}

export const problem = (
  status: number,
  detail: string,
  headers: { readonly [name: string]: string } = {}
): HttpServerResponse =>
  Response.text(JSON.stringify({ type: "about:blank", title: titles[status] ?? "Error", status, detail }), {
    status,
    contentType: "application/problem+json",
    // A failure of the way there says nothing of the resource.
    headers: { "cache-control": "no-store", ...headers }
  })

const unavailable = (retryAfter: Duration.Duration): HttpServerResponse =>
  problem(
    503,
    "The service has no room for the request at the moment.",
    Duration.isFinite(retryAfter)
      ? { "retry-after": String(Math.max(1, Math.ceil(Duration.toSeconds(retryAfter)))) }
      : undefined
  )

/** Nobody knows when there is a place; nobody should ask at once. */
const soon = Duration.seconds(1)

export const late = (): HttpServerResponse => problem(504, "The service did not answer in time.")

/**
 * Refused and broken connections and answers that cannot be read are a 502, and so is what the gateway itself got wrong; a
 * time limit is a 504 wherever it passed, that of connecting too (RFC 9110, 15.6.3 and 15.6.5; nginx answers the same).
 */
export const ofError = (error: PoolError): HttpServerResponse => {
  switch (error._tag) {
    case "ConnectError":
      return problem(502, "The service cannot be reached.")
    case "TimeoutError":
      return late()
    case "RateLimitExceeded":
    case "CircuitOpen":
      return unavailable(error.retryAfter)
    case "PoolSaturated":
    case "PoolClosed":
      return unavailable(soon)
    case "RetryExhausted":
      return ofError(error.last)
    case "DecodeError":
    case "ResponseError":
      return problem(502, "The service gave an answer that cannot be passed on.")
    case "AuthError":
    case "InvalidRequest":
      return problem(502, "The request cannot be forwarded.")
  }
}
