/**
 * Makes one connection: resolves the name, connects, asks the proxy for a tunnel, shakes hands.
 *
 * States, left only forwards: `connecting` (name and TCP, limit `dialTimeout`) → `tunnelling` (CONNECT, same limit) →
 * `securing` (TLS, limit `tlsTimeout`) → `finished`. A proxy that speaks TLS itself is one more `securing` before
 * `tunnelling`, which then has a `dialTimeout` of its own. Every way out passes `finish`, which stops the timer and takes all
 * listeners off the socket but the one that keeps a late `error` from ending the process.
 *
 * @since 0.1.0
 */
import type { Failure, Target } from "@millrace/core/client/Connector"
import type { TlsOptions } from "@millrace/core/client/PoolConfig"
import type { ConnectPhase } from "@millrace/core/model/PoolError"
import * as Dns from "node:dns"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { bareHost, type Proxy, proxyFor } from "./proxy.ts"
import { handshake, sessions } from "./tls.ts"

/** @internal */
export interface Dialed {
  readonly socket: Net.Socket | Tls.TLSSocket
  /** `ip:port` of the other end (the proxy, if there is one), or the path of a Unix socket. */
  readonly address: string | undefined
  readonly millis: number
}

type DialFailure = Extract<Failure, { readonly _tag: "Connect" | "ConnectTimeout" }>

/**
 * Why no connection was made. `failure.millis` is the time it took, and for a timeout the limit that passed.
 *
 * @internal
 */
export class DialError extends Error {
  override readonly name = "DialError"
  readonly failure: DialFailure
  constructor(failure: DialFailure) {
    super(describe(failure), failure._tag === "Connect" ? { cause: failure.cause } : undefined)
    this.failure = failure
  }
}

const describe = (failure: DialFailure): string => {
  const where = failure.address === undefined ? "" : ` to ${failure.address}`
  const millis = Math.round(failure.millis)
  if (failure._tag === "ConnectTimeout") {
    return `no ${failure.phase === "tls" ? "TLS session" : "connection"}${where} within ${millis} ms`
  }
  return `connection${where} failed (${failure.phase} after ${millis} ms): ${reasonOf(failure.cause)}`
}

/**
 * Calls `done` exactly once, asynchronously, unless cancelled first; the result cancels and destroys what is under way.
 *
 * @internal
 */
export const dial = (target: Target, done: (result: Dialed | DialError) => void): (() => void) => {
  const attempt = new Attempt(target, done)
  attempt.start()
  return attempt.cancel
}

/** What `Attempt` may listen to; taken off together. */
interface Listeners {
  readonly lookup?: (error: Error | null, ip: string) => void
  readonly connectionAttempt?: (ip: string, port: number) => void
  readonly connect?: () => void
  readonly secureConnect?: () => void
  readonly data?: (chunk: Buffer) => void
  readonly end?: () => void
  readonly error: (error: Error) => void
  readonly close?: () => void
}

class Attempt {
  readonly #target: Target
  readonly #done: (result: Dialed | DialError) => void
  readonly #origin: URL
  readonly #proxy: Proxy | undefined
  readonly #startedAt: number
  #phase: "connecting" | "tunnelling" | "securing" | "finished" = "connecting"
  #address: string | undefined
  #socket: Net.Socket | undefined
  #stopTimer = noop
  #stopListening = noop

  constructor(target: Target, done: (result: Dialed | DialError) => void) {
    this.#target = target
    this.#done = done
    this.#origin = new URL(target.origin)
    this.#proxy = proxyFor(target)
    this.#startedAt = target.timers.now()
  }

  readonly cancel = (): void => {
    if (this.#phase !== "finished") this.#finish()?.destroy()
  }

  start(): void {
    const { addresses, dialTimeout, socketPath } = this.#target.options
    this.#limit("dial", dialTimeout)
    if (this.#proxy?.problem !== undefined) {
      const problem = new Error(this.#proxy.problem)
      queueMicrotask(() => this.#fail("proxy", problem))
    } else if (socketPath !== undefined) {
      this.#connect({ path: socketPath }, socketPath)
    } else {
      const { host, port } = endpoint(this.#proxy === undefined ? this.#origin : new URL(this.#proxy.url))
      this.#address = joined(host, port)
      if (addresses === "spread") this.#resolve(host, port)
      else this.#connect({ host, port, autoSelectFamily: true }, joined(host, port))
    }
  }

  // ---- connecting ------------------------------------------------------------------------------------------------

  #resolve(host: string, port: number): void {
    Dns.lookup(host, { all: true }, (error, found) => {
      if (this.#phase === "finished") return
      if (error !== null) return this.#fail("dns", error)
      this.#tryEach(inTurn(found, this.#target.slot), port, [])
    })
  }

  #tryEach(hosts: ReadonlyArray<string>, port: number, failed: ReadonlyArray<unknown>): void {
    const [host, ...others] = hosts
    if (host === undefined) return this.#fail("tcp", combined(failed))
    const next = (error: unknown): void => {
      giveUp()
      this.#stopListening()
      this.#socket?.destroy()
      this.#tryEach(others, port, [...failed, error])
    }
    // An address that swallows packets must leave time for the others: each gets its share of what is left, but not
    // less than 2 s, as in Go (`partialDeadline` of its package net).
    const left = this.#target.options.dialTimeout - this.#elapsed()
    const share = others.length === 0 ? Infinity : Math.max(left / hosts.length, Math.min(2000, left))
    const giveUp = this.#after(share, () => next(coded("ETIMEDOUT", `connect ETIMEDOUT ${joined(host, port)}`)))
    this.#connect({ host, port }, joined(host, port), next, giveUp)
  }

  #connect(
    options: Net.NetConnectOpts,
    address: string,
    onError: (error: unknown) => void = (error) => this.#fail(phaseOf(error), error),
    stop: () => void = noop
  ): void {
    this.#address = address
    const socket = attempted(() => Net.connect({ ...options, noDelay: true, keepAlive: true, keepAliveInitialDelay }))
    if (socket instanceof Error) {
      stop()
      queueMicrotask(() => this.#fail("tcp", socket))
      return
    }
    this.#own(socket, {
      connectionAttempt: (ip, port) => {
        this.#address = joined(ip, port)
      },
      lookup: (error, ip) => {
        if (error === null && "port" in options) this.#address = joined(ip, options.port)
      },
      error: onError,
      connect: () => {
        stop()
        this.#address = socket.remoteAddress === undefined ? address : joined(socket.remoteAddress, socket.remotePort)
        this.#connected(socket)
      }
    })
    // The share of a cancelled or timed out attempt must not outlive it.
    const stopListening = this.#stopListening
    this.#stopListening = () => {
      stop()
      stopListening()
    }
  }

  #connected(socket: Net.Socket): void {
    if (this.#proxy === undefined) {
      if (this.#origin.protocol === "https:") this.#secureOrigin(socket)
      else this.#succeed(socket)
      return
    }
    const proxy = new URL(this.#proxy.url)
    if (proxy.protocol === "https:") {
      const { ca, insecureSkipVerify } = this.#target.options.tls
      this.#secure(socket, proxy, { ca, insecureSkipVerify }, (secured) => {
        this.#limit("dial", this.#target.options.dialTimeout)
        this.#proxied(secured)
      })
    } else {
      this.#proxied(socket)
    }
  }

  #proxied(socket: Net.Socket): void {
    if (this.#origin.protocol === "https:") this.#tunnel(socket)
    else this.#succeed(socket)
  }

  // ---- tunnelling ------------------------------------------------------------------------------------------------

  #tunnel(socket: Net.Socket): void {
    this.#phase = "tunnelling"
    const { host, port } = endpoint(this.#origin)
    const authority = joined(host, port)
    const authorization = this.#proxy?.authorization
    let head = Buffer.alloc(0)
    this.#own(socket, {
      error: (error) => this.#fail("proxy", error),
      end: () =>
        this.#fail("proxy", coded("ECONNRESET", "the proxy closed the connection instead of answering CONNECT")),
      data: (chunk) => {
        head = Buffer.concat([head, chunk])
        let end = head.indexOf(endOfHead)
        while (end !== -1 && isInterim(statusOf(head))) {
          head = head.subarray(end + endOfHead.length)
          end = head.indexOf(endOfHead)
        }
        if (end === -1) {
          if (head.length > 16_384)
            this.#fail("proxy", new Error("the proxy's answer to CONNECT is longer than 16 KiB"))
          return
        }
        const status = statusOf(head)
        if (!(status >= 200 && status < 300)) return this.#fail("proxy", refused(status))
        const rest = head.subarray(end + endOfHead.length)
        this.#stopListening()
        socket.pause()
        if (rest.length > 0) socket.unshift(rest)
        this.#secureOrigin(socket)
      }
    })
    const credentials = authorization === undefined ? "" : `proxy-authorization: ${authorization}\r\n`
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${credentials}\r\n`)
  }

  // ---- securing --------------------------------------------------------------------------------------------------

  #secureOrigin(socket: Net.Socket): void {
    this.#secure(socket, this.#origin, this.#target.options.tls, (secured) => this.#succeed(secured))
  }

  #secure(socket: Net.Socket, peer: URL, options: TlsOptions, then: (socket: Tls.TLSSocket) => void): void {
    this.#phase = "securing"
    this.#stopListening()
    this.#limit("tls", this.#target.options.tlsTimeout)
    const phase: ConnectPhase = peer === this.#origin ? "tls" : "proxy"
    const key = `${peer.origin} ${options.servername ?? ""}`
    const secured = attempted(() => Tls.connect(handshake(socket, peer, options, sessions.get(options, key))))
    if (secured instanceof Error) return this.#fail(phase, secured)
    // Stays after the handshake: TLS 1.3 sends its tickets with the first data.
    secured.on("session", (session) => sessions.set(options, key, session))
    this.#own(secured, {
      error: (error) => {
        sessions.delete(options, key)
        this.#fail(phase, error)
      },
      close: () => this.#fail(phase, coded("ECONNRESET", "the connection was closed during the TLS handshake")),
      secureConnect: () => then(secured)
    })
  }

  // ---- the end ---------------------------------------------------------------------------------------------------

  #succeed(socket: Net.Socket): void {
    const millis = this.#elapsed()
    this.#finish()
    this.#done({ socket, address: this.#address, millis })
  }

  #fail(phase: ConnectPhase, error: unknown): void {
    if (this.#phase === "finished") return
    const throughProxy = this.#proxy !== undefined && this.#phase === "connecting"
    this.#end({
      _tag: "Connect",
      phase: throughProxy ? "proxy" : phase,
      address: this.#address,
      millis: this.#elapsed(),
      cause: readable(error)
    })
  }

  #end(failure: DialFailure): void {
    this.#finish()?.destroy()
    this.#done(new DialError(failure))
  }

  #finish(): Net.Socket | undefined {
    this.#phase = "finished"
    this.#stopTimer()
    this.#stopListening()
    return this.#socket
  }

  // ---- helpers ---------------------------------------------------------------------------------------------------

  #elapsed(): number {
    return this.#target.timers.now() - this.#startedAt
  }

  #after(millis: number, f: () => void): () => void {
    return Number.isFinite(millis) ? this.#target.timers.after(Math.max(0, millis), f) : noop
  }

  /** Starts the limit of a phase, in place of the one before. */
  #limit(phase: "dial" | "tls", millis: number): void {
    this.#stopTimer()
    this.#stopTimer = this.#after(millis, () => {
      if (this.#phase === "finished") return
      const { dialTimeout, tlsTimeout } = this.#target.options
      const limit = phase === "dial" ? dialTimeout : tlsTimeout
      this.#end({ _tag: "ConnectTimeout", phase, address: this.#address, millis: limit })
    })
  }

  /** Makes `socket` the one that is under way and listens to it. */
  #own(socket: Net.Socket, listeners: Listeners): void {
    this.#stopListening()
    if (this.#socket !== socket) socket.on("error", noop)
    this.#socket = socket
    for (const [event, listener] of Object.entries(listeners)) socket.on(event, listener)
    this.#stopListening = () => {
      this.#stopListening = noop
      for (const [event, listener] of Object.entries(listeners)) socket.off(event, listener)
    }
  }
}

const noop = (): void => {}

const keepAliveInitialDelay = 60_000

const endOfHead = "\r\n\r\n"

const statusOf = (head: Buffer): number =>
  Number(/^HTTP\/1\.[01] (\d{3})(?: |\r)/.exec(head.toString("latin1", 0, 16))?.[1])

const isInterim = (status: number): boolean => status >= 100 && status < 200

const endpoint = (url: URL): { readonly host: string; readonly port: number } => ({
  host: bareHost(url.hostname),
  port: url.port !== "" ? Number(url.port) : url.protocol === "https:" ? 443 : 80
})

const joined = (host: string, port: number | undefined): string => {
  const name = Net.isIPv6(host) ? `[${host}]` : host
  return port === undefined ? name : `${name}:${port}`
}

/** Every process sees the same order, whatever the resolver's; slot i begins with address i. */
const inTurn = (found: ReadonlyArray<Dns.LookupAddress>, slot: number): ReadonlyArray<string> => {
  const order = new Intl.Collator("en", { numeric: true })
  const hosts = [...new Set(found.map((_) => _.address))].sort(
    (a, b) => Net.isIP(a) - Net.isIP(b) || order.compare(a, b)
  )
  const first = hosts.length === 0 ? 0 : slot % hosts.length
  return [...hosts.slice(first), ...hosts.slice(0, first)]
}

const attempted = <A>(f: () => A): A | Error => {
  try {
    return f()
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

// ---- errors ------------------------------------------------------------------------------------------------------

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const coded = (code: string, message: string, cause?: unknown): Error =>
  Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { code })

const phaseOf = (error: unknown): ConnectPhase =>
  error instanceof Error && "syscall" in error && error.syscall === "getaddrinfo" ? "dns" : "tcp"

/** Node reports several addresses as an AggregateError without a message. */
const readable = (error: unknown): unknown => (error instanceof AggregateError ? combined(error.errors, error) : error)

const combined = (errors: ReadonlyArray<unknown>, cause?: AggregateError): unknown => {
  const [first] = errors
  if (errors.length < 2 && first !== undefined) return first
  const code = codeOf(first) ?? "ECONNREFUSED"
  return coded(code, errors.map(reasonOf).join("; "), cause ?? new AggregateError(errors))
}

const refused = (status: number): Error => {
  if (Number.isNaN(status)) return new Error("the proxy did not answer CONNECT with HTTP/1.1")
  return new Error(
    status === 407
      ? "the proxy wants credentials, or refuses those it got (407): put user and password into the proxy's URL"
      : `the proxy refused the tunnel with status ${status}`
  )
}
