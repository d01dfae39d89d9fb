/** The options of a proxy and of a balancer, each once: kind, default, meaning. */
import type * as Effect from "effect/Effect"
import type { Headers } from "effect/http/Headers"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Field from "../../model/internal/field.ts"
import type { PoolError } from "../../model/PoolError.ts"

/** Looks at headers, changes them, or refuses. */
export type HeaderHook = (headers: Headers) => Effect.Effect<Headers, unknown, HttpServerRequest | Scope.Scope>

/** A path as it stands in a request line, to another. */
export type Rewrite = (path: string) => string

export type OnError = (error: PoolError) => Effect.Effect<void>

/** One address, or a network. */
const networkOf = (text: unknown): IpNetwork.IpNetwork | undefined => {
  if (typeof text !== "string") return undefined
  const network = Result.getOrUndefined(IpNetwork.fromString(text))
  if (network !== undefined) return network
  const address = Result.getOrUndefined(NetAddress.ipFromString(text))
  return address === undefined ? undefined : Result.getOrUndefined(IpNetwork.make(address, NetAddress.width(address)))
}

const networks: Field.FieldWithDefault<ReadonlyArray<IpNetwork.IpNetwork>> = {
  description:
    "Peers whose `Forwarded` and `X-Forwarded-*` are kept and continued: addresses and networks; `false`: nobody's.",
  unit: "networks",
  defaultText: "false",
  default: [],
  read: (value, path, problems) => {
    if (value === false) return []
    if (!Array.isArray(value)) {
      problems.push({ path, message: 'must be false, or a list such as ["10.0.0.0/8", "::1"]' })
      return undefined
    }
    const out: Array<IpNetwork.IpNetwork> = []
    value.forEach((item, index) => {
      const network = networkOf(item)
      if (network !== undefined) out.push(network)
      else {
        problems.push({
          path: `${path}[${index}]`,
          message: 'must be an IP address or a network without host bits, such as "192.0.2.7" or "10.0.0.0/8"'
        })
      }
    })
    return out
  },
  fromText: (raw) => {
    if (typeof raw !== "string") return raw
    if (Field.booleanFromText(raw) === false) return false
    return raw
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== "")
  }
}

const isFunction = <A>(value: unknown): value is A => typeof value === "function"

/** RFC 9110, 7.6.3: a pseudonym is a token; a host with its port is allowed, too. */
const via = Field.withDefault<string | false>(
  {
    ...Field.field<string | false>(
      "The name that `Via` gives to this proxy; `false`: no `Via`.",
      {
        unit: "token",
        allowed: 'a token such as "gateway-1", or false',
        show: true,
        parse: (value) =>
          value === false || (typeof value === "string" && /^[\w!#$%&'*+.^`|~-]+(:\d+)?$/.test(value))
            ? value
            : undefined,
        fromText: (text) => (text === "false" ? false : text)
      },
      "millrace"
    )
  },
  "millrace"
)

export const fields = {
  stripPrefix: Field.field<string>("Must begin the path, and is taken from it; other paths are not found.", {
    unit: "path",
    allowed: 'a path such as "/api", as it stands in a request line',
    parse: (value) =>
      typeof value === "string" && /^(\/[\w!$%&'()*+,.:;=@~-]+)+\/?$/.test(value) ? value.replace(/\/$/, "") : undefined
  }),
  rewrite: Field.code<Rewrite>("The path that is asked of the upstream instead.", "a function", isFunction<Rewrite>),
  timeout: Field.duration(
    "From the begin of a request to the head of its response, its body's way up included; `Infinity`: as the pool says.",
    { default: "Infinity" }
  ),
  trustForwarded: networks,
  forwarded: Field.choice("How the upstream is told of the client.", ["both", "forwarded", "x-forwarded"]),
  via,
  host: Field.choice("Whose `Host` is sent: the upstream's, or the client's.", ["upstream", "preserve"]),
  maxBodySize: Field.bytes("The largest body of a request; `Infinity`: no limit.", {
    min: 0,
    max: Infinity,
    default: Infinity
  }),
  webSockets: Field.boolean("Whether WebSockets are forwarded.", true),
  webSocketIdleTimeout: Field.duration(
    "The longest silence, of both sides, on a WebSocket that is forwarded; `Infinity`: no limit.",
    { default: "5 minutes" }
  ),
  requestHeaders: Field.code<HeaderHook>(
    "Sees the headers before they are sent.",
    "a function",
    isFunction<HeaderHook>
  ),
  responseHeaders: Field.code<HeaderHook>(
    "Sees the headers of an answer before they are passed on.",
    "a function",
    isFunction<HeaderHook>
  ),
  onError: Field.code<OnError>("Is told what the pool has failed with.", "a function", isFunction<OnError>)
}

/** What a user has given and may. */
export interface Given {
  stripPrefix: string
  rewrite: Rewrite
  timeout: number
  trustForwarded: ReadonlyArray<IpNetwork.IpNetwork>
  forwarded: "both" | "forwarded" | "x-forwarded"
  via: string | false
  host: "upstream" | "preserve"
  maxBodySize: number
  webSockets: boolean
  webSocketIdleTimeout: number
  requestHeaders: HeaderHook
  responseHeaders: HeaderHook
  onError: OnError
}

/** Durations in milliseconds. */
export interface Resolved {
  readonly stripPrefix: string
  readonly rewrite: Rewrite | undefined
  readonly timeout: number
  readonly trustForwarded: ReadonlyArray<IpNetwork.IpNetwork>
  readonly forwarded: boolean
  readonly xForwarded: boolean
  readonly via: string | false
  readonly host: "upstream" | "preserve"
  readonly maxBodySize: number
  readonly webSockets: boolean
  readonly webSocketIdleTimeout: number
  readonly requestHeaders: HeaderHook | undefined
  readonly responseHeaders: HeaderHook | undefined
  readonly onError: OnError | undefined
}

export const resolve = (given: Partial<Given>): Resolved => {
  const forwarded = given.forwarded ?? fields.forwarded.default
  return {
    stripPrefix: given.stripPrefix ?? "",
    rewrite: given.rewrite,
    timeout: given.timeout ?? fields.timeout.default,
    trustForwarded: given.trustForwarded ?? fields.trustForwarded.default,
    forwarded: forwarded !== "x-forwarded",
    xForwarded: forwarded !== "forwarded",
    via: given.via ?? fields.via.default,
    host: given.host ?? fields.host.default,
    maxBodySize: given.maxBodySize ?? fields.maxBodySize.default,
    webSockets: given.webSockets ?? fields.webSockets.default,
    webSocketIdleTimeout: given.webSocketIdleTimeout ?? fields.webSocketIdleTimeout.default,
    requestHeaders: given.requestHeaders,
    responseHeaders: given.responseHeaders,
    onError: given.onError
  }
}

export const balanceFields = {
  strategy: Field.choice("Which target gets a request.", ["roundRobin", "leastPending"]),
  failTimeout: Field.duration("How long a target that could not be connected to is passed over.", {
    default: "10 seconds",
    finite: true
  })
}

export interface GivenBalance {
  strategy: "roundRobin" | "leastPending"
  failTimeout: number
}
