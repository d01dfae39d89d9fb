/** Which requests may be sent a second time. Pure, and allocation-free. */
import type { HttpBody } from "effect/http/HttpBody"
import { hasProperty } from "effect/Predicate"

/** RFC 9110, 9.2.2; QUERY: draft-ietf-httpbis-safe-method-w-body. */
const idempotent: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"])

/** To do it twice has the effect of doing it once. A method that is not known is not. */
export const isIdempotent = (method: string): boolean => idempotent.has(method)

/**
 * A second send would have all of the body. What can be read once only may have been read already, and a `Stream` does
 * not tell whether it can be run twice.
 */
export const isReplayable = (body: HttpBody): boolean => {
  if (body._tag === "Stream") return false
  if (body._tag !== "Raw" || typeof body.body !== "object" || body.body === null) return true
  return !(
    Symbol.asyncIterator in body.body ||
    hasProperty(body.body, "getReader") ||
    // A generator is its own iterator; an array makes a new one each time.
    (Symbol.iterator in body.body && hasProperty(body.body, "next"))
  )
}
