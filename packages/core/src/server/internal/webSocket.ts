/**
 * What a WebSocket's handshake must be to pass a proxy (RFC 6455, 4; RFC 9110, 7.8), and what is made of it on both sides.
 *
 * A proxy and its upstream must agree on whether the connection is still HTTP, or one client's bytes become another's
 * request. So what is not exactly a handshake is refused, and only a 101 that takes it makes a tunnel.
 */
import * as Headers from "effect/http/Headers"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import { hasProperty } from "effect/Predicate"
import type { RawHeaders } from "../../model/internal/rawHeaders.ts"
import * as ProxyHeaders from "./proxyHeaders.ts"
import { problem } from "./proxyProblem.ts"

const tokens = (value: string | undefined): ReadonlyArray<string> =>
  (value ?? "").split(",").map((token) => token.trim().toLowerCase())

/** Whether it asks for one, well or badly. */
export const isAsked = (headers: Headers.Headers): boolean => /websocket/i.test(headers["upgrade"] ?? "")

/** 16 bytes as base64. */
const key = /^[\w+/]{22}==$/

const version = "13"

const bad = (detail: string) => problem(400, detail, { connection: "close" })

/** Why a request that asks for a WebSocket is no handshake; `undefined` if it is one. */
export const refusalOf = ({
  headers,
  method,
  source
}: HttpServerRequest): HttpServerResponse.HttpServerResponse | undefined => {
  if (method !== "GET") return bad("A WebSocket begins with a GET.")
  if (hasProperty(source, "httpVersion") && source.httpVersion !== "1.1") return bad("A WebSocket needs HTTP/1.1.")
  if ((headers["upgrade"] ?? "").trim().toLowerCase() !== "websocket") return bad("Upgrade must be websocket alone.")
  if (!tokens(headers["connection"]).includes("upgrade")) return bad("Connection must name Upgrade.")
  if (ProxyHeaders.framingOf(headers)._tag !== "None") return bad("A handshake has no body.")
  if (!key.test(headers["sec-websocket-key"] ?? "")) return bad("Sec-WebSocket-Key is not a key.")
  if (headers["sec-websocket-version"] === version) return undefined
  return problem(426, `Only version ${version} of the protocol is spoken.`, {
    connection: "upgrade, close",
    upgrade: "websocket",
    "sec-websocket-version": version
  })
}

/** The headers of a request as they are about to be sent, and what makes them a handshake. */
export const asking = (headers: Headers.Headers, from: HttpServerRequest): Headers.Headers =>
  Headers.setAll(headers, {
    connection: "Upgrade",
    upgrade: "websocket",
    // `Connection` may have named them.
    "sec-websocket-key": from.headers["sec-websocket-key"] ?? "",
    "sec-websocket-version": version
  })

/** Whether a 101 takes the handshake. Whether it takes this very one is for the client to see, who made the key. */
export const isTaken = (headers: RawHeaders): boolean =>
  String(headers["upgrade"] ?? "")
    .trim()
    .toLowerCase() === "websocket" &&
  tokens([headers["connection"] ?? []].flat().join()).includes("upgrade") &&
  typeof headers["sec-websocket-accept"] === "string"

/** The headers of the 101 that the client gets, line by line. */
export const taking = (
  headers: Headers.Headers,
  raw: RawHeaders
): ReadonlyArray<readonly [name: string, value: string]> => [
  ["Connection", "Upgrade"],
  ["Upgrade", "websocket"],
  ...Object.entries(headers),
  ...[raw["set-cookie"] ?? []].flat().map((line) => ["set-cookie", line] as const)
]
