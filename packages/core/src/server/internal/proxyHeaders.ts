/**
 * Which headers a proxy passes on, and which it writes.
 *
 * Never passed on, in either direction: what belongs to one connection (RFC 9110, 7.6.1), whatever `Connection` names, and
 * what says how long a body is; both sides say that anew, of the body that they send. What only a proxy can know of a
 * request (`Forwarded` and its like, and the path that it had) is passed on only when it comes from a peer that is trusted.
 * Names are compared as CGI would read them: `X_Forwarded_For` is `X-Forwarded-For` to an application behind it.
 */
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import type { RawHeaders } from "../../model/internal/rawHeaders.ts"

/** RFC 9110, 7.6.1 and 11.7; RFC 9112, C.2.2; RFC 7540, 3.2.1. */
const hopByHop: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings"
])

/** Written anew by whoever sends the body. */
const framing = "content-length"

/** What the peer of a connection answers for itself, or what its proxy writes anew. */
const ownOfRequest: ReadonlySet<string> = new Set(["expect", "host", framing])

/** Who the client is, and which path it has asked for, as proxies, delivery networks and IIS tell it. */
const ofProxies: ReadonlySet<string> = new Set([
  "forwarded",
  "client-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "x-real-ip",
  "true-client-ip",
  "cf-connecting-ip",
  "cf-connecting-ipv6",
  "fastly-client-ip",
  "x-envoy-external-address",
  "x-envoy-original-path",
  "x-rewrite-url",
  "x-scheme"
])

const asRead = (name: string): string => (name.includes("_") ? name.replaceAll("_", "-") : name)

/** Whether a header tells what only a proxy can know: an application that believes it would serve another path, say. */
const isOfProxy = (name: string): boolean =>
  name.startsWith("x-forwarded") || name.startsWith("x-original-") || ofProxies.has(name)

/** The names that `Connection` makes belong to it. */
const nominated = (connection: string | ReadonlyArray<string> | undefined): ReadonlySet<string> | undefined => {
  if (connection === undefined) return undefined
  const value = typeof connection === "string" ? connection : connection.join(",")
  const names = value.split(",").map((name) => asRead(name.trim().toLowerCase()))
  return names.length === 1 && (names[0] === "keep-alive" || names[0] === "close") ? undefined : new Set(names)
}

const pass = (
  headers: RawHeaders,
  to: Record<string, string>,
  refused: (name: string) => boolean
): Record<string, string> => {
  const named = nominated(headers["connection"])
  for (const name in headers) {
    const read = asRead(name)
    if (hopByHop.has(read) || named?.has(read) === true || refused(read)) continue
    const value = headers[name]
    if (value !== undefined) to[name] = typeof value === "string" ? value : value.join(", ")
  }
  return to
}

/** Who sent a request, and how it reached the proxy. */
export interface Received {
  /** The address of the peer, without a port; `undefined` on a socket without addresses. */
  readonly peer: string | undefined
  readonly host: string | undefined
  readonly proto: "http" | "https"
  /** `1.1` */
  readonly version: string
  /** Whether what the peer says of earlier hops is believed. */
  readonly trusted: boolean
}

/** What is told to the upstream. */
export interface Telling {
  readonly forwarded: boolean
  readonly xForwarded: boolean
  readonly via: string | false
  readonly host: "upstream" | "preserve"
  /** What was taken off the path. */
  readonly prefix: string
}

const token = /^[\w!#$%&'*+.^`|~-]+$/

const quoted = (value: string): string => (token.test(value) ? value : `"${value.replaceAll(/["\\]/g, "\\$&")}"`)

/** RFC 7239, section 6: an IPv6 address stands in brackets, and so in quotes. */
const node = (peer: string | undefined): string =>
  peer === undefined ? "unknown" : peer.includes(":") ? `"[${peer}]"` : peer

const append = (headers: Record<string, string>, name: string, value: string): void => {
  const before = headers[name]
  headers[name] = before === undefined || before.trim() === "" ? value : `${before}, ${value}`
}

const tell = (headers: Record<string, string>, received: Received, telling: Telling): void => {
  const { host, peer, proto } = received
  if (telling.forwarded) {
    const element = `for=${node(peer)}${host === undefined ? "" : `;host=${quoted(host)}`};proto=${proto}`
    append(headers, "forwarded", element)
  }
  if (telling.xForwarded) {
    append(headers, "x-forwarded-for", peer ?? "unknown")
    // These have one value: that of the first proxy.
    headers["x-forwarded-proto"] ??= proto
    if (host !== undefined) headers["x-forwarded-host"] ??= host
    if (telling.prefix !== "") headers["x-forwarded-prefix"] = `${headers["x-forwarded-prefix"] ?? ""}${telling.prefix}`
  }
}

/** The headers of a request as the upstream gets them. */
export const ofRequest = (headers: Headers.Headers, received: Received, telling: Telling): Headers.Headers => {
  const { host, trusted } = received
  const out = pass(headers, {}, (name) => ownOfRequest.has(name) || (!trusted && isOfProxy(name)))
  tell(out, received, telling)
  if (telling.via !== false) append(out, "via", `${received.version} ${telling.via}`)
  if (telling.host === "preserve" && host !== undefined) out["host"] = host
  // Without it a pool would ask for a coding and decode; what the client has not asked for is not for it to get.
  out["accept-encoding"] ??= "identity"
  return Headers.fromRecordUnsafe(out)
}

/** What a hook may not bring back: the proxy alone says where a message ends. */
export const withoutFraming = (headers: Headers.Headers): Headers.Headers =>
  Headers.fromRecordUnsafe(pass(headers, {}, (name) => name === framing || name === "expect"))

/** What stands for a cookie in a collection whose texts are written as they came. */
const blank = Cookies.makeCookieUnsafe("a", "")

/** RFC 6265, 4.1.1: the name of a cookie is a token. Servers set others, and browsers take them. */
const cookieLine = /^([\w!#$%&'*+.^`|~-]+)=([^]*)$/

/**
 * Every `Set-Cookie` as it came. A response keeps its cookies apart only as a collection; one that is keyed by place, not
 * by name, and whose values include what follows them, loses nothing.
 *
 * `undefined` when a line cannot be in one, as its name is no token: Effect would refuse to write it.
 */
const cookiesOf = (lines: ReadonlyArray<string>): Cookies.Cookies | undefined => {
  if (lines.length === 0) return Cookies.empty
  const cookies: Record<string, Cookies.Cookie> = {}
  for (const [index, line] of lines.entries()) {
    const [, name, value] = cookieLine.exec(line) ?? []
    if (name === undefined) return undefined
    cookies[index] = Object.create(blank, {
      name: { value: name },
      value: { value },
      valueEncoded: { value },
      options: { value: undefined }
    })
  }
  return Cookies.fromReadonlyRecord(cookies)
}

/** What a response says of itself, but where its body ends. */
export interface Head {
  readonly headers: Headers.Headers
  readonly cookies: Cookies.Cookies
  /** The lines of `Set-Cookie`, where they cannot be `cookies`. */
  readonly lines: ReadonlyArray<string> | undefined
}

/** The head of a response as the client gets it. */
export const ofResponse = (headers: RawHeaders): Head => {
  const given = headers["set-cookie"] ?? []
  const lines = typeof given === "string" ? [given] : given
  const cookies = cookiesOf(lines)
  return {
    headers: Headers.fromRecordUnsafe(pass(headers, {}, (name) => name === framing || name === "set-cookie")),
    cookies: cookies ?? Cookies.empty,
    lines: cookies === undefined ? lines : undefined
  }
}

/** Whether a body comes without a coding that belongs to its message: all but `chunked` are left in what a pool gives. */
export const isDecoded = (headers: RawHeaders): boolean => {
  const coding = headers["transfer-encoding"]
  return coding === undefined || (typeof coding === "string" && /^\s*(chunked|identity)\s*$/i.test(coding))
}

/** How long a body is, as its message says. */
export type Framing =
  | { readonly _tag: "None" }
  | { readonly _tag: "Length"; readonly length: number }
  | { readonly _tag: "Chunked" }
  | { readonly _tag: "Refused"; readonly status: 400 | 501; readonly detail: string }

const none: Framing = { _tag: "None" }
const chunked: Framing = { _tag: "Chunked" }

/**
 * The body of a request (RFC 9112, 6.3). A message that two servers could read differently is refused, whatever was in
 * front has thought of it.
 */
export const framingOf = (headers: Headers.Headers, version: Received["version"] = "1.1"): Framing => {
  const coding = headers["transfer-encoding"]
  const length = headers[framing]
  if (coding !== undefined) {
    if (version === "1.0") return { _tag: "Refused", status: 400, detail: "HTTP/1.0 has no Transfer-Encoding." }
    if (length !== undefined) {
      return { _tag: "Refused", status: 400, detail: "The request has both Transfer-Encoding and Content-Length." }
    }
    return coding.trim().toLowerCase() === "chunked"
      ? chunked
      : { _tag: "Refused", status: 501, detail: "The request has a Transfer-Encoding other than chunked." }
  }
  if (length === undefined) return none
  if (!/^\d{1,15}$/.test(length)) {
    return { _tag: "Refused", status: 400, detail: "The request's Content-Length is not a length." }
  }
  return Number(length) === 0 ? none : { _tag: "Length", length: Number(length) }
}

/** The length of a response's body, where it is said. */
export const lengthOf = (headers: RawHeaders): number | undefined => {
  const length = headers[framing]
  if (headers["transfer-encoding"] !== undefined || typeof length !== "string") return undefined
  return /^\d{1,15}$/.test(length) ? Number(length) : undefined
}

/** RFC 3986, 3.2.2, with a port; nothing else may come into a header that applications build links from. */
export const isHost = (host: string): boolean => /^(\[[\da-f:.]+\]|[\w.~!$&'()*+,;=%-]+)(:\d*)?$/i.test(host)
