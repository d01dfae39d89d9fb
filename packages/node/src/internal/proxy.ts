/**
 * Which HTTP proxy, if any, stands between a pool and an origin.
 *
 * The environment is read as curl, Go and Node read it: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in lower
 * case first and then in upper case. What the environment names never applies to loopback addresses or `localhost` (as
 * in Go's `http.ProxyFromEnvironment`); a proxy given as an option always applies.
 *
 * @since 0.1.0
 */
import type { Target } from "@millrace/core/client/Connector"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"

/**
 * A proxy to use. For an `https` origin `dial` does all that is needed; for an `http` origin the transport sends the
 * absolute form of the URL and, if there is one, `authorization` as `proxy-authorization`.
 *
 * @internal
 */
export interface Proxy {
  /** Scheme, host and port, without credentials. Empty when there is a `problem`. */
  readonly url: string
  /** `Basic …`, from the user info of the proxy's URL. A secret. */
  readonly authorization?: string | undefined
  /** Why the proxy cannot be used; `dial` fails with it. Never holds the URL itself: that may hold a password. */
  readonly problem?: string | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

/**
 * The proxy of a target, or `undefined` to connect directly. A function of the target and the environment: compute it
 * once per transport.
 *
 * @internal
 */
export const proxyFor = (target: Target, environment: Environment = process.env): Proxy | undefined => {
  const { proxy, socketPath } = target.options
  if (proxy === false || socketPath !== undefined) return undefined
  if (proxy !== "environment") return parse(Redacted.value(proxy), "the option `proxy`")
  const origin = new URL(target.origin)
  const named = fromEnvironment(origin.protocol, environment)
  return named === undefined || bypasses(origin, environment) ? undefined : parse(named.value, named.name)
}

const fromEnvironment = (protocol: string, environment: Environment) => {
  const names =
    protocol === "https:"
      ? ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
      : // A CGI server turns the request header `Proxy: …` into HTTP_PROXY, so that any client could choose our proxy:
        // where REQUEST_METHOD says that this is CGI, only the lower-case name counts. CVE-2016-5385, https://httpoxy.org
        environment["REQUEST_METHOD"] !== undefined
        ? ["http_proxy", "all_proxy", "ALL_PROXY"]
        : ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
  for (const name of names) {
    const value = environment[name]?.trim()
    if (value !== undefined && value !== "") return { name, value }
  }
  return undefined
}

const parse = (value: string, source: string): Proxy => {
  // `proxy.test:3128` is usual, and would be a URL with the scheme `proxy.test:`.
  const text = value.includes("://") ? value : `http://${value}`
  if (!URL.canParse(text)) return { url: "", problem: `${source} is not a URL` }
  const url = new URL(text)
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return { url: "", problem: `${source} has the scheme ${url.protocol}//; only http:// and https:// proxies work` }
  }
  if (url.username === "" && url.password === "") return { url: url.origin }
  const user = unescape(url.username)
  const password = unescape(url.password)
  if (user === undefined || password === undefined) {
    return { url: "", problem: `${source} holds credentials that are not valid percent-encoding` }
  }
  return { url: url.origin, authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}` }
}

const unescape = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

const bypasses = (origin: URL, environment: Environment): boolean => {
  const host = bareHost(origin.hostname)
  const family = Net.isIP(host)
  if (host === "localhost" || host.endsWith(".localhost") || isLoopback(host, family)) return true
  const port = origin.port !== "" ? origin.port : origin.protocol === "https:" ? "443" : "80"
  const list = environment["no_proxy"]?.trim() || environment["NO_PROXY"]?.trim() || ""
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => entry !== "" && matches(entry, host, family, port))
}

const loopback = new Net.BlockList()
loopback.addSubnet("127.0.0.0", 8, "ipv4")
loopback.addAddress("::1", "ipv6")

const familyName = (family: number) => (family === 6 ? "ipv6" : "ipv4")

const isLoopback = (host: string, family: number): boolean => family !== 0 && loopback.check(host, familyName(family))

/** One entry of `no_proxy`: `*`, `example.test` (and all below), `.example.test` (only below), an IP, a CIDR; a port narrows it. */
const matches = (entry: string, host: string, family: number, port: string): boolean => {
  if (entry === "*") return true
  const slash = entry.indexOf("/")
  if (slash !== -1) return inSubnet(entry.slice(0, slash), entry.slice(slash + 1), host, family)
  const [name, only] = splitPort(entry)
  if (only !== undefined && only !== port) return false
  if (family !== 0) return Net.isIP(name) === family && sameAddress(name, host, family)
  const suffix = name.startsWith("*.") ? name.slice(1) : name
  if (suffix === "") return false
  return suffix.startsWith(".") ? host.endsWith(suffix) : host === suffix || host.endsWith(`.${suffix}`)
}

const splitPort = (entry: string): readonly [name: string, port: string | undefined] => {
  if (Net.isIPv6(entry)) return [entry, undefined]
  const found = /^(.*?)(?::(\d+))?$/.exec(entry)
  return [bareHost(found?.[1] ?? entry), found?.[2]]
}

const inSubnet = (network: string, bits: string, host: string, family: number): boolean => {
  if (family === 0 || Net.isIP(network) !== family || !/^\d{1,3}$/.test(bits)) return false
  if (Number(bits) > (family === 6 ? 128 : 32)) return false
  const list = new Net.BlockList()
  list.addSubnet(network, Number(bits), familyName(family))
  return list.check(host, familyName(family))
}

/** `::1` and `0:0:0:0:0:0:0:1` are the same. */
const sameAddress = (a: string, b: string, family: number): boolean => {
  const list = new Net.BlockList()
  list.addAddress(a, familyName(family))
  return list.check(b, familyName(family))
}

/**
 * A URL's host name as the socket API wants it: without the brackets of IPv6 and the dot at the end.
 *
 * @internal
 */
export const bareHost = (hostname: string): string =>
  hostname.startsWith("[") && hostname.endsWith("]") ? hostname.slice(1, -1) : hostname.replace(/\.$/, "")
