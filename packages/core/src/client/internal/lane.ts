/**
 * What a slot is for one host: at most one connection, at most one exchange on it.
 *
 * States, each a combination of two fields: *free* (`exchange` undefined, not ejected), *busy* (`exchange` set), *ejected*
 * (`ejectedUntil` ahead; it is passed over while it rests). The connection's life is apart from that: it is made when
 * first needed, and survives exchanges.
 */
import * as Effect from "effect/Effect"
import type { Failure, Observer, Timers, Transport } from "../Connector.ts"
import type { PoolConfig } from "../PoolConfig.ts"
import { codeOf, ConnectError } from "../../model/PoolError.ts"
import type { Exchange, Lease } from "./exchange.ts"
import type { Line } from "../../model/internal/line.ts"

/** What a lane needs of its host. */
export interface LaneOwner {
  readonly timers: Timers
  readonly random: () => number
  readonly settings: LaneSettings
  readonly open: (lane: Lane) => Transport
  readonly released: (lane: Lane) => void
  /** Whether one more may rest. */
  readonly mayEject: () => boolean
  readonly ejected: (lane: Lane, millis: number, reason: string) => void
  readonly restored: (lane: Lane) => void
  readonly staleRetry: (lane: Lane) => void
  readonly connected: (lane: Lane, millis: number) => void
  readonly connectionFailed: (lane: Lane, failure: ConnectFailure) => void
  readonly disconnected: (lane: Lane, reason: string, millis: number) => void
}

type LaneSettings = Pick<PoolConfig, "ejection" | "maxConnectionAge" | "maxRequestsPerConnection">

/** A connection that was never made. */
export type ConnectFailure = Extract<Failure, { readonly _tag: "Connect" | "ConnectTimeout" }>

export class Lane implements Observer, Lease {
  readonly host: LaneOwner
  readonly index: number
  exchange: Exchange | undefined = undefined
  /** Requests that wait for this very slot; made when the first one does. */
  line: Line<Exchange> | undefined = undefined
  address: string | undefined = undefined
  open = false
  requests = 0
  /** When it was used last, in uses of its host; 0 when never. */
  usedAt = 0
  ejected = false

  private transport: Transport | undefined = undefined
  /** Requests on the current connection. */
  private served = 0
  private connectedAt = 0
  private retireAt = Infinity
  private retiring = false
  /** The connection was made for the exchange that has the lane now. */
  private fresh = false
  private failuresInARow = 0
  private ejections = 0
  private cancelRestore: (() => void) | undefined = undefined

  constructor(host: LaneOwner, index: number) {
    this.host = host
    this.index = index
  }

  get free(): boolean {
    return this.exchange === undefined && !this.ejected
  }

  // ------------------------------------------------------------------ from the host

  start(exchange: Exchange, now: number): void {
    this.exchange = exchange
    this.requests++
    exchange.chosen(this, now)
    this.transport ??= this.opened(exchange)
    if (this.transport === undefined) return
    if (this.open && (now >= this.retireAt || this.served >= this.host.settings.maxRequestsPerConnection)) {
      this.retiring = true
      this.transport.retire()
    }
    this.send(this.transport, exchange)
  }

  /** A transport must not throw here; one that does costs the request, not the slot. */
  private send(transport: Transport, exchange: Exchange): void {
    try {
      transport.send(exchange)
    } catch (cause) {
      exchange.onResponseError(null, cause instanceof Error ? cause : new Error(String(cause), { cause }))
    }
  }

  /** A connector must not throw here; one that does costs the request, not the slot. */
  private opened(exchange: Exchange): Transport | undefined {
    try {
      return this.host.open(this)
    } catch (cause) {
      const { attempts, info } = exchange
      exchange.fail(new ConnectError({ request: info, attempts, phase: "tcp", sent: false, cause }))
      return undefined
    }
  }

  close(): Effect.Effect<void> {
    this.cancelRestore?.()
    this.cancelRestore = undefined
    return this.transport === undefined ? Effect.void : this.transport.close
  }

  // ------------------------------------------------------------------ from the exchange

  release(): void {
    this.exchange = undefined
    this.fresh = false
    this.host.released(this)
  }

  cancel(exchange: Exchange): void {
    this.transport?.cancel(exchange)
  }

  resend(exchange: Exchange): void {
    this.host.staleRetry(this)
    if (this.transport !== undefined) this.send(this.transport, exchange)
  }

  classify(error: Error): Failure {
    return this.transport === undefined ? { _tag: "Broken", cause: error } : this.transport.classify(error)
  }

  /** The error by which the connection has just ended. */
  broken(): Error | undefined {
    return this.transport?.broken?.()
  }

  /** A request is being written. Says whether its connection stood idle before. */
  begun(): boolean {
    const { fresh } = this
    this.fresh = false
    this.served++
    return !fresh
  }

  answered(): void {
    this.failuresInARow = 0
    this.ejections = 0
  }

  /** The connection could not be made, or broke under a request. */
  failed(failure: Failure): void {
    const { ejection } = this.host.settings
    // Requests for this very slot come even while it is ejected.
    if (failure._tag === "Connect" || failure._tag === "ConnectTimeout") this.host.connectionFailed(this, failure)
    if (this.ejected) return
    if (ejection === undefined || ++this.failuresInARow < ejection.failures || !this.host.mayEject()) return
    this.failuresInARow = 0
    this.ejections++
    this.ejected = true
    const millis = Math.min(ejection.base * this.ejections, ejection.max)
    this.host.ejected(this, millis, "cause" in failure ? codeOf(failure.cause) : "timeout")
    this.cancelRestore = this.host.timers.after(millis, () => {
      this.cancelRestore = undefined
      this.ejected = false
      this.host.restored(this)
    })
  }

  // ------------------------------------------------------------------ from the transport

  connected(info: { readonly address: string | undefined; readonly millis: number }): void {
    const { maxConnectionAge } = this.host.settings
    const now = this.host.timers.now()
    this.open = true
    this.fresh = this.exchange !== undefined
    this.served = 0
    this.connectedAt = now
    this.address = info.address
    // ± 10 %, so that connections made together are not renewed together.
    this.retireAt = now + maxConnectionAge * (0.9 + 0.2 * this.host.random())
    this.host.connected(this, info.millis)
  }

  disconnected(reason: string): void {
    if (!this.open) return
    this.open = false
    const why = this.retiring ? "retired" : reason
    this.retiring = false
    this.host.disconnected(this, why, this.host.timers.now() - this.connectedAt)
  }
}
