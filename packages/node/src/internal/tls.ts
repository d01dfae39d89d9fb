/**
 * How a TLS session is asked for, and the sessions that can be taken up again.
 *
 * @since 0.1.0
 */
import type { TlsOptions } from "@millrace/core/client/PoolConfig"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import type * as Tls from "node:tls"
import { bareHost } from "./proxy.ts"

let warned = false

const warnOnce = (): void => {
  if (warned) return
  warned = true
  process.emitWarning(
    "`tls.insecureSkipVerify` is on: certificates are not checked, and anyone on the network can read and change what is sent",
    { code: "MILLRACE_INSECURE_TLS" }
  )
}

/**
 * What `tls.connect` needs for a session with `peer` over `socket`.
 *
 * @internal
 */
export const handshake = (
  socket: Net.Socket,
  peer: URL,
  options: TlsOptions,
  session: Buffer | undefined
): Tls.ConnectionOptions => {
  const insecure = options.insecureSkipVerify === true
  if (insecure) warnOnce()
  const host = bareHost(peer.hostname)
  return {
    socket,
    // With `socket`, only the check of the certificate looks at it: it is what an IP address is checked against.
    host,
    // An IP address is not allowed in SNI (RFC 6066, section 3).
    servername: options.servername ?? (Net.isIP(host) === 0 ? host : ""),
    // One h2 connection would carry what the pool spreads over many.
    ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: !insecure,
    ...(options.ca === undefined ? undefined : { ca: typeof options.ca === "string" ? options.ca : [...options.ca] }),
    ...(options.cert === undefined ? undefined : { cert: options.cert }),
    ...(options.key === undefined ? undefined : { key: Redacted.value(options.key) }),
    ...(session === undefined ? undefined : { session })
  }
}

/**
 * TLS sessions by origin, apart for each `TlsOptions`: a resumed session is not checked against the host name again, so
 * that one made without verification must not serve a pool that verifies.
 */
class Sessions {
  readonly #limit = 100
  readonly #byOptions = new WeakMap<TlsOptions, Map<string, Buffer>>()

  get(options: TlsOptions, key: string): Buffer | undefined {
    return this.#byOptions.get(options)?.get(key)
  }

  set(options: TlsOptions, key: string, session: Buffer): void {
    let byKey = this.#byOptions.get(options)
    if (byKey === undefined) this.#byOptions.set(options, (byKey = new Map()))
    byKey.delete(key)
    byKey.set(key, session)
    if (byKey.size <= this.#limit) return
    for (const oldest of byKey.keys()) {
      byKey.delete(oldest)
      return
    }
  }

  delete(options: TlsOptions, key: string): void {
    this.#byOptions.get(options)?.delete(key)
  }
}

/** @internal */
export const sessions = new Sessions()
