/**
 * Addresses to bind: `host:port`, `:port`, `[::1]:port`.
 *
 * Two texts that mean the same address have the same `key`. `:80`, `*:80` and `[::]:80` mean all addresses of the machine,
 * IPv4 and IPv6; `0.0.0.0:80` only those of IPv4.
 */

/** An address to bind, understood. */
export interface Bind {
  /** As it was written, without white space around it. */
  readonly text: string
  /** Normalised, and the same for all that mean the same: `127.0.0.1:8080`, `[::1]:8080`, `:8080`. */
  readonly key: string
  /** Without brackets; `undefined`: all addresses of the machine. */
  readonly host: string | undefined
  /** 0: the system chooses. */
  readonly port: number
}

/** What is wrong with a text, as the end of a sentence that begins with the name of an option. */
export interface Malformed {
  readonly message: string
}

const forms = 'an address such as "127.0.0.1:8080", ":8080", "[::1]:8080" or "localhost:8080"'

const malformed = (message: string): Malformed => ({ message })

/** The host as URLs write it, if they can: `[::1]` for `[0:0::1]`, `127.0.0.1` for `127.1`. */
const hostOf = (written: string): string | undefined => {
  // A zone is not part of an address in a URL: `fe80::1%eth0`.
  const [, bare, zone] = /^(\[[^%\]]+)(%[\w.~-]+)?\]$/.exec(written) ?? [undefined, undefined, ""]
  const plain = bare === undefined ? written : `${bare}]`
  if (!/^(\[[\da-f:.]+\]|[\w.-]+)$/i.test(plain) || !URL.canParse(`http://${plain}`)) return undefined
  return `${unmapped(new URL(`http://${plain}`).hostname.replace(/^\[|\]$/g, ""))}${zone ?? ""}`
}

/** `127.0.0.1` for `::ffff:7f00:1`: to the system they are one address. */
const unmapped = (host: string): string => {
  const [, high, low] = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(host) ?? []
  if (high === undefined || low === undefined) return host
  return [high, low]
    .map((half) => Number.parseInt(half, 16))
    .flatMap((half) => [half >> 8, half & 255])
    .join(".")
}

/** Understands a text, or says what is wrong with it. */
export const parse = (value: unknown): Bind | Malformed => {
  if (typeof value !== "string" || value.trim() === "") return malformed(`must be ${forms}`)
  const text = value.trim()
  if (/^\d+$/.test(text)) return malformed(`must be ${forms}; for a port of all addresses write ":${text}"`)
  if (/^[a-z][a-z\d+.-]*:\/\//i.test(text))
    return malformed(`must be ${forms}, without a scheme; URLs belong to expose`)
  const [, written = "", digits] = /^(.*):([^:\]]*)$/.exec(text) ?? []
  if (digits === undefined) return malformed(`must be ${forms}: the port is missing`)
  if (written.includes(":") && !written.startsWith("[")) {
    return malformed(`must be ${forms}: an IPv6 address stands in brackets`)
  }
  if (digits.includes("/")) return malformed(`must be ${forms}, without a path`)
  const port = Number(digits)
  if (!/^\d{1,5}$/.test(digits) || port > 65_535) {
    return malformed(`must be ${forms}: the port is a number from 0 (the system chooses) to 65535`)
  }
  const host = written === "" || written === "*" ? "::" : hostOf(written)
  if (host === undefined) return malformed(`must be ${forms}: the host is neither a name nor an IP address`)
  const everywhere = host === "::"
  const shown = everywhere ? "" : host.includes(":") ? `[${host}]` : host
  return { text, key: `${shown}:${port}`, host: everywhere ? undefined : host, port }
}

export const isBind = (parsed: Bind | Malformed): parsed is Bind => "key" in parsed

/**
 * Whether both cannot be bound at once: the same address, or one of them is all addresses. Linux refuses the second with
 * `EADDRINUSE`; elsewhere one of them would get the connections of the other. Port 0 clashes with nothing.
 */
export const clash = (a: Bind, b: Bind): boolean => {
  if (a.port === 0 || a.port !== b.port) return false
  return a.key === b.key || takesIn(a, b) || takesIn(b, a)
}

const takesIn = (all: Bind, one: Bind): boolean =>
  all.host === undefined || (all.host === "0.0.0.0" && /^[\d.]+$/.test(one.host ?? ""))

/** Where clients on this machine find it: all addresses are `localhost`. With port 0: without the port that will be chosen. */
export const exposed = (bind: Bind, secure: boolean): URL => {
  const { host = "localhost", port } = bind
  const name = host === "0.0.0.0" ? "localhost" : host.includes(":") ? `[${host.replace(/%.*$/, "")}]` : host
  return new URL(`${secure ? "https" : "http"}://${name}:${port}`)
}
