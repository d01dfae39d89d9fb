/** What OpenTelemetry wants to know of an origin. */

export interface Server {
  /** Without the brackets of an IPv6 address. */
  readonly address: string
  readonly port: number
  readonly scheme: string
}

export const serverOf = (origin: string): Server => {
  if (!URL.canParse(origin)) return { address: origin, port: 0, scheme: "" }
  const { hostname, port, protocol } = new URL(origin)
  return {
    address: hostname.startsWith("[") ? hostname.slice(1, -1) : hostname,
    port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
    scheme: protocol.slice(0, -1)
  }
}
