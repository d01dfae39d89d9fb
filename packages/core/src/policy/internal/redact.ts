/** Requests and headers as a log may show them. */
import * as Headers from "effect/http/Headers"
import * as HttpClientError from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as UrlParams from "effect/http/UrlParams"
import { hasProperty } from "effect/Predicate"
import { find, type PoolError, type RequestInfo, requestInfo } from "../../model/PoolError.ts"

/** What is secret: a name, whatever its case, or a pattern. */
export type Names = ReadonlyArray<string | RegExp>

const redacted = "<redacted>"

/** Headers that hold credentials. */
const secretHeaders: Names = [
  "authorization",
  "cookie",
  "proxy-authorization",
  "set-cookie",
  "x-api-key",
  // Names of which nobody has thought yet; a false alarm costs little.
  /token|secret|passw|api-?key|credential|signature|session/i
]

/** A caller's text must not forge a line of a log. */
const oneLine = (text: string): string => text.replaceAll(/[\p{Cc}\u2028\u2029]/gu, "?")

/** Method and URL with its query, without user info and secret values; `names` are secret in the query, too. */
export const showRequest = (request: HttpClientRequest, names: Names): RequestInfo => {
  const query = UrlParams.toString(request.urlParams)
  const hash = request.url.indexOf("#")
  const bare = hash === -1 ? request.url : request.url.slice(0, hash)
  const full = query === "" ? bare : `${bare}${bare.includes("?") ? "&" : "?"}${query}`
  const { method, url } = requestInfo(request.method, full, request.urlParams)
  return { method: oneLine(method), url: oneLine(UrlParams.redactUrl(url, names)) }
}

export const showHeaders = (headers: Headers.Headers, names: Names): Record<string, string> => {
  const out: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    const secret = Headers.isRedactedName(name, secretHeaders) || Headers.isRedactedName(name, names)
    out[name] = secret ? redacted : oneLine(value)
  }
  return out
}

/** What kind of error it is: one of few words. */
export const kindOf = (error: unknown): string => {
  const known = find(error)
  if (known !== undefined) return known._tag
  if (HttpClientError.isHttpClientError(error)) return error.reason._tag
  if (hasProperty(error, "_tag") && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : typeof error
}

/** What an error says, if that is known to hold no secret: any other may quote a URL or a header. */
export const showError = (error: unknown, names: Names): string => {
  const known = find(error)
  if (known === undefined) return kindOf(error)
  let { message } = known
  // One that is the end of several attempts quotes the last of them.
  for (let one: PoolError | undefined = known; one !== undefined; one = "last" in one ? one.last : undefined) {
    const { url } = one.request
    message = message.replaceAll(url, UrlParams.redactUrl(url, names))
  }
  return oneLine(message)
}
