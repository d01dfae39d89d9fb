/**
 * What a request becomes before it is sent on, or why it is not sent on at all: without a network, without a wait.
 */
import * as Headers from "effect/http/Headers"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import * as Result from "effect/Result"
import * as ProxyHeaders from "./proxyHeaders.ts"
import type { Resolved } from "./proxyOptions.ts"
import * as ProxyPath from "./proxyPath.ts"
import { problem } from "./proxyProblem.ts"
import * as WebSocket from "./webSocket.ts"

type Answer = HttpServerResponse.HttpServerResponse

/** A request as it will be sent, but for where. */
export interface Prepared {
  readonly method: string
  readonly target: ProxyPath.Target
  readonly headers: Headers.Headers
  readonly framing: ProxyHeaders.Framing
}

export const isPrepared = (prepared: Prepared | Answer): prepared is Prepared => "framing" in prepared

export const tooLarge = (): Answer => problem(413, "The body of the request is too large.")

/** A socket that accepts both families calls an IPv4 peer `::ffff:192.0.2.1`; a zone means nothing elsewhere. */
const plainAddress = (address: string): string => address.replace(/^::ffff:(?=[\d.]+$)/i, "").replace(/%.*$/, "")

const isTrusted = (peer: string | undefined, networks: ReadonlyArray<IpNetwork.IpNetwork>): boolean => {
  if (peer === undefined || networks.length === 0) return false
  const address = Result.getOrUndefined(NetAddress.ipFromString(peer))
  return address !== undefined && networks.some((network) => IpNetwork.contains(network, address))
}

/** What a request in absolute form says of its scheme is the client's word; the socket knows. */
const isSecure = (request: HttpServerRequest): boolean => {
  if (request.protocol !== undefined) return request.protocol === "https"
  const { source } = request
  if (hasProperty(source, "socket")) return hasProperty(source.socket, "encrypted") && source.socket.encrypted === true
  return request.originalUrl.startsWith("https:")
}

const receivedOf = (request: HttpServerRequest, settings: Resolved): ProxyHeaders.Received => {
  const { source } = request
  const peer = Option.getOrUndefined(Option.map(request.peerAddress, plainAddress))
  return {
    peer,
    host: request.headers["host"],
    proto: isSecure(request) ? "https" : "http",
    version: hasProperty(source, "httpVersion") && source.httpVersion === "1.0" ? "1.0" : "1.1",
    trusted: isTrusted(peer, settings.trustForwarded)
  }
}

/** RFC 9112, 3.2: servers on Node tell of the first only; somebody on the way may have gone by the other. */
const hasTwoHosts = ({ source }: HttpServerRequest): boolean => {
  if (!hasProperty(source, "rawHeaders") || !Array.isArray(source.rawHeaders)) return false
  let hosts = 0
  for (let index = 0; index < source.rawHeaders.length; index += 2) {
    const name: unknown = source.rawHeaders[index]
    if (typeof name === "string" && name.length === 4 && name.toLowerCase() === "host") hosts++
  }
  return hosts > 1
}

/** What must not be forwarded, whatever the upstream thinks of it. */
const refusalOf = (request: HttpServerRequest, settings: Resolved): Answer | undefined => {
  const { headers, method } = request
  // TRACE shows a client what proxies have added to its request; a tunnel has no place here.
  if (method === "TRACE" || method === "CONNECT") return problem(501, `${method} is not forwarded.`)
  if (WebSocket.isAsked(headers)) {
    const refusal = settings.webSockets ? WebSocket.refusalOf(request) : problem(501, "WebSockets are not forwarded.")
    if (refusal !== undefined) return refusal
  }
  const expect = headers["expect"]
  if (expect !== undefined && expect.toLowerCase() !== "100-continue") {
    return problem(417, "The only expectation that is met is 100-continue.")
  }
  const { host } = headers
  if (hasTwoHosts(request)) return problem(400, "The request has several Hosts.", { connection: "close" })
  if (host !== undefined && host !== "" && !ProxyHeaders.isHost(host)) return problem(400, "Host is not a host.")
  // RFC 9110, 7.6.2
  if (method === "OPTIONS" && headers["max-forwards"]?.trim() === "0") return HttpServerResponse.empty({ status: 204 })
  return undefined
}

export const prepare = (request: HttpServerRequest, settings: Resolved): Prepared | Answer => {
  const { method } = request
  const refusal = refusalOf(request, settings)
  if (refusal !== undefined) return refusal
  const received = receivedOf(request, settings)
  const framing = ProxyHeaders.framingOf(request.headers, received.version)
  if (framing._tag === "Refused") return problem(framing.status, framing.detail, { connection: "close" })
  if (framing._tag === "Length" && framing.length > settings.maxBodySize) return tooLarge()
  const target = ProxyPath.resolve(request.url, settings.stripPrefix, settings.rewrite)
  if (ProxyPath.isRefusal(target)) return problem(target.status, target.detail)
  const headers = ProxyHeaders.ofRequest(request.headers, received, {
    ...settings,
    prefix: settings.stripPrefix
  })
  const left = headers["max-forwards"]?.trim() ?? ""
  const counted = method === "OPTIONS" && /^\d{1,9}$/.test(left)
  return {
    method,
    target,
    framing,
    headers: counted ? Headers.set(headers, "max-forwards", String(Number(left) - 1)) : headers
  }
}
