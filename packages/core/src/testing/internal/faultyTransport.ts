/**
 * A transport between a pool and another one, which does to a request what was drawn for it.
 *
 * The pool sees nothing but a connection that behaves so: a refused one was never made; a late answer comes after the
 * whole request was sent, so that the pool's limits apply to it; one that breaks is not used again.
 */
import type * as Effect from "effect/Effect"
import {
  type Control,
  type Exchange,
  type Failure,
  type RawHeaders,
  type Target,
  type Transport,
  TransportError
} from "../../client/Connector.ts"
import type { Fault } from "./faultOptions.ts"

/** Draws the fault of the next request, and counts what was done. */
export interface Faults {
  readonly next: () => Fault
  readonly injected: (what: NonNullable<Fault["fate"]> | "latency") => void
}

const broken = (code: string) => Object.assign(new Error("injected fault"), { code })

const lost = new TransportError({ failure: { _tag: "Broken", cause: broken("ECONNRESET") } })

const refused = new TransportError({
  failure: { _tag: "Connect", phase: "tcp", address: undefined, millis: 0, cause: broken("ECONNREFUSED") }
})

export class FaultyTransport implements Transport {
  readonly inner: Transport
  readonly broken: Transport["broken"]
  private readonly target: Target
  private readonly faults: Faults
  private current: FaultyExchange | undefined = undefined

  constructor(inner: Transport, target: Target, faults: Faults) {
    this.inner = inner
    this.target = target
    this.faults = faults
    this.broken = inner.broken === undefined ? undefined : () => inner.broken?.()
  }

  send(exchange: Exchange): void {
    const fault = this.faults.next()
    const faulty = new FaultyExchange(exchange, this.inner, this.target, this.faults, fault)
    this.current = faulty
    if (fault.fate === "refuse" || fault.fate === "status") queueMicrotask(() => faulty.playAlone())
    else this.inner.send(faulty)
  }

  cancel(): void {
    this.current?.cancel()
  }

  retire(): void {
    this.inner.retire()
  }

  get close(): Effect.Effect<void> {
    return this.inner.close
  }

  classify(error: Error): Failure {
    return error instanceof TransportError ? error.failure : this.inner.classify(error)
  }
}

class FaultyExchange implements Exchange, Control {
  private readonly outer: Exchange
  private readonly inner: Transport
  private readonly target: Target
  private readonly faults: Faults
  private readonly fault: Fault
  /** What the transport below may do; none while nothing was sent. */
  private control: Control | undefined = undefined
  private held: Array<() => void> | undefined = undefined
  private stopTimer: (() => void) | undefined = undefined
  /** The pool wants no more for now. */
  private paused = false
  /** The pool hears no more of it. */
  private over = false
  /** The transport below is done with it. */
  private ended = false

  constructor(outer: Exchange, inner: Transport, target: Target, faults: Faults, fault: Fault) {
    this.outer = outer
    this.inner = inner
    this.target = target
    this.faults = faults
    this.fault = fault
  }

  get method(): string {
    return this.outer.method
  }
  get path(): string {
    return this.outer.path
  }
  get headers(): Array<string> {
    return this.outer.headers
  }
  get body(): Exchange["body"] {
    return this.outer.body
  }
  get services(): Exchange["services"] {
    return this.outer.services
  }

  // ------------------------------------------------------------------ from the pool

  /** Takes it back before it is sent. */
  cancel(): void {
    if (this.over) return
    this.over = true
    if (this.fault.fate !== "refuse" && this.fault.fate !== "status") this.inner.cancel(this)
  }

  abort(reason: Error): void {
    if (this.over) return
    this.over = true
    this.stopTimer?.()
    this.held = undefined
    this.leave(reason)
  }

  pause(): void {
    this.paused = true
    this.control?.pause()
  }

  resume(): void {
    this.paused = false
    if (this.held === undefined) this.control?.resume()
  }

  // ------------------------------------------------------------------ faults

  /** Without the transport below: a connection that is refused, an answer that is not the upstream's. */
  playAlone(): void {
    if (this.over) return
    if (this.fault.fate === "refuse") {
      this.over = true
      this.faults.injected("refuse")
      this.inner.retire()
      this.outer.onResponseError(null, refused)
      return
    }
    this.ended = true
    this.outer.onRequestStart(this)
    this.onRequestSent()
    this.deliver(() => {
      this.faults.injected("status")
      this.outer.onResponseStarted()
      this.outer.onResponseStart(this, this.fault.status, { "content-length": "0" })
      this.outer.onResponseEnd(this)
    })
  }

  /** The connection breaks. Not inside a callback of the transport below, which still uses it. */
  private lose(fate: "reset" | "cut"): void {
    this.over = true
    this.faults.injected(fate)
    queueMicrotask(() => {
      this.leave(lost)
      this.outer.onResponseError(this, lost)
    })
  }

  private leave(reason: Error): void {
    if (this.ended) this.inner.retire()
    else this.control?.abort(reason)
  }

  /** Now, or when the delay is over. */
  private deliver(event: () => void): void {
    if (this.over) return
    if (this.held === undefined) event()
    else this.held.push(event)
  }

  private release(): void {
    // One of them may be the end of it.
    for (const event of this.held ?? []) if (!this.over) event()
    this.held = undefined
    // Last: the rest of the response may come before this returns.
    if (!this.over && !this.paused) this.control?.resume()
  }

  // ------------------------------------------------------------------ from the transport below

  onRequestStart(control: Control): void {
    this.control = control
    this.outer.onRequestStart(this)
  }

  onRequestSent(): void {
    this.outer.onRequestSent()
    if (this.over) return
    if (this.fault.fate === "silence") this.faults.injected("silence")
    else if (this.fault.delay > 0) {
      this.faults.injected("latency")
      this.held = []
      this.stopTimer = this.target.timers.wait(this.fault.delay, () => this.release())
    }
  }

  onResponseStarted(): void {
    if (this.fault.fate === "silence") return
    this.deliver(() => {
      if (this.fault.fate === "reset") this.lose("reset")
      else this.outer.onResponseStarted()
    })
  }

  onResponseStart(_control: Control, status: number, headers: RawHeaders): void {
    if (this.fault.fate === "silence") return
    this.deliver(() => this.outer.onResponseStart(this, status, headers))
  }

  onResponseData(_control: Control, chunk: Uint8Array): void {
    if (this.fault.fate === "silence") return
    if (this.held !== undefined) this.control?.pause()
    this.deliver(() => {
      if (this.fault.fate !== "cut") {
        this.outer.onResponseData(this, chunk)
        return
      }
      if (chunk.length > 1) this.outer.onResponseData(this, chunk.subarray(0, chunk.length >> 1))
      this.lose("cut")
    })
  }

  onResponseEnd(): void {
    this.ended = true
    if (this.fault.fate === "silence") return
    this.deliver(() => {
      this.over = true
      this.outer.onResponseEnd(this)
    })
  }

  onResponseError(control: Control | null, error: Error): void {
    this.ended = true
    if (this.fault.fate === "silence" && control !== null) return
    this.deliver(() => {
      this.over = true
      this.outer.onResponseError(this, error)
    })
  }
}
