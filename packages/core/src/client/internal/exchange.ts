/**
 * One request on its way: what is sent, the lease of a slot, and what comes back.
 *
 * ```
 * waiting ──► chosen ──► sent ──► body ──► done
 *    │          ▲  │       │        │       ▲
 *    │          └──┼─ stale┘        │       │
 *    └─────────────┴── interrupted, expired, failed ──┘
 * ```
 *
 * - `waiting`: in the waiting line, without a slot.
 * - `chosen`: has a slot, whose connection is being made or is ready.
 * - `sent`: the request is being written, or has been.
 * - `body`: the final status and headers are here.
 * - `done`: the body is complete, or the exchange failed, or nobody wants it any more.
 *
 * Promises: the slot is given back in one place (`finish`), once, whatever happens. The fiber that waits is woken once, never
 * inside a callback of the connection, and with all others of its turn where the connector tells when that is over. After
 * `done` every callback is ignored.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import type { HttpBody } from "effect/http/HttpBody"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import type { Control, Decompress, Exchange as WireExchange, Failure, RawHeaders, Timers } from "../Connector.ts"
import * as PoolError from "../../model/PoolError.ts"
import { Body, type BodySource } from "./body.ts"
import type { Deadline, Expiring, Limit } from "../../model/internal/deadlines.ts"
import { mayReplay, type Progress, toPoolError } from "./failures.ts"
import type { Line, Member } from "../../model/internal/line.ts"
import { isDelimited, isEventStream, lengthOf } from "./rawHeaders.ts"
import { type Answer, Response } from "./response.ts"
import type { Sleeper } from "./wakeups.ts"

export type Kind = "acquire" | "headers" | "bodyIdle" | "attempt" | "request"

/** How long each may take; none when there is no limit. */
export interface Limits {
  readonly acquire: Limit<Kind> | undefined
  readonly headers: Limit<Kind> | undefined
  readonly bodyIdle: Limit<Kind> | undefined
  readonly attempt: Limit<Kind> | undefined
  readonly request: Limit<Kind> | undefined
}

/** What an exchange needs of its host. */
export interface Owner {
  readonly origin: string
  readonly limits: Limits
  readonly timers: Timers
  readonly services: Context.Context<never>
  readonly bodyBufferSize: number
  readonly failOnStatus: boolean
  readonly counters: { responses: number; successes: number; failures: number; timeouts: number }
  /** It has a status, or failed with that tag, so long after its begin. */
  readonly measure: (method: string, end: number | string, begunAt: number) => void
  readonly failed: (tag: string) => void
  readonly decompress: (codings: ReadonlyArray<string>) => ReturnType<Decompress>
  /** It leaves the line that it waits in, if it does. */
  readonly leave: (exchange: Exchange) => void
  /** Wakes it when it may be handed to its caller. */
  readonly wake: (exchange: Exchange) => void
  readonly ended: () => void
  readonly abandoned: (slot: number) => void
  /** Its time was up while it waited for a slot. */
  readonly starved: () => void
  readonly saturated: (
    exchange: Exchange,
    reason: PoolError.PoolSaturated["reason"],
    limit: number
  ) => PoolError.PoolError
  /** One more exchange, or one less, is waited for when the pool closes. */
  readonly attend: (change: 1 | -1) => void
}

/** The slot that an exchange has, as far as it needs to know. */
export interface Lease {
  readonly index: number
  readonly address: string | undefined
  readonly classify: (error: Error) => Failure
  /** The request is being written. Says whether its connection stood idle before. */
  readonly begun: () => boolean
  readonly answered: () => void
  readonly failed: (failure: Failure) => void
  /** The error by which the connection has just ended. */
  readonly broken: () => Error | undefined
  readonly resend: (exchange: Exchange) => void
  readonly cancel: (exchange: Exchange) => void
  readonly release: () => void
}

export type Resume = (exit: Exit.Exit<HttpClientResponse, PoolError.PoolError>) => void

/** Thrown into a transport that is about to write a request that nobody wants any more. */
const cancelled = new Error("cancelled before it was sent")
const aborted = new Error("aborted")

export class Exchange implements WireExchange, Answer, Progress, Expiring<Kind>, BodySource, Sleeper, Member<Exchange> {
  previous: Exchange | undefined = undefined
  next: Exchange | undefined = undefined
  /** The line it waits in. */
  line: Line<Exchange> | undefined = undefined
  /** Its number in the order of arrival, over all lines of its host. */
  ticket = 0

  readonly host: Owner
  readonly request: HttpClientRequest
  /** The caller's, until the request is sent: its span refers to the response, which must stay collectable. */
  services: Context.Context<never>
  readonly method: string
  readonly path: string
  readonly headers: Array<string>
  readonly body: HttpBody
  /** Whether `requestTimeout` ends at the headers, as for streams that last. */
  readonly streaming: boolean

  state: "waiting" | "chosen" | "sent" | "body" | "done" = "waiting"
  lane: Lease | undefined = undefined
  response: Body | undefined = undefined
  /** Those before it in its call, and this one when it has a slot. */
  attempts = 0
  /** It was given a slot, which it may have lost since. */
  hadSlot = false
  /** When its call must be over; `undefined` when its begin is that of its call. */
  deadlineAt: number | undefined = undefined
  /** How long its call had in all. */
  deadlineMillis = 0
  status = 0
  rawHeaders: RawHeaders = {}
  /** Called when it is done, by whoever must know at once. */
  onDone: (() => void) | undefined = undefined

  private resumeFiber: Resume | undefined
  private control: Control | undefined = undefined
  private error: PoolError.PoolError | undefined = undefined
  reused = false
  replayed = false
  writtenWhole = false
  responseBegun = false
  /** Some byte may have reached a server, on this connection or the one before. */
  everBegun = false
  /** Closing the pool waits for it. */
  private attended = false
  private begunAt = 0
  private waited = 0
  private phaseDeadline: Deadline<Kind> | undefined = undefined
  private attemptDeadline: Deadline<Kind> | undefined = undefined
  private requestDeadline: { readonly disarm: () => void } | undefined = undefined

  constructor(
    host: Owner,
    request: HttpClientRequest,
    path: string,
    headers: Array<string>,
    services: Context.Context<never>,
    resume: Resume,
    streaming: boolean
  ) {
    this.host = host
    this.request = request
    this.services = services
    this.method = request.method
    this.path = path
    this.headers = headers
    this.body = request.body
    this.streaming = streaming
    this.resumeFiber = resume
  }

  // ------------------------------------------------------------------ from the pool

  begin(now: number): void {
    this.begunAt = now
    this.attend(true)
    this.requestDeadline =
      this.deadlineAt === undefined
        ? this.host.limits.request?.arm(this, "request", now)
        : { disarm: this.host.timers.after(Math.max(this.deadlineAt - now, 0), () => this.late()) }
  }

  /** Its call has used up some of its time before: no timer is shared then. */
  private late(): void {
    this.expired("request", this.deadlineMillis)
  }

  queued(now: number): void {
    this.phaseDeadline = this.host.limits.acquire?.arm(this, "acquire", now)
  }

  /** The pool has chosen a slot; the transport gets the exchange next. */
  chosen(lane: Lease, now: number): void {
    this.disarmPhase()
    this.state = "chosen"
    this.lane = lane
    this.hadSlot = true
    this.attempts++
    this.waited = now - this.begunAt
    this.attemptDeadline = this.host.limits.attempt?.arm(this, "attempt", now)
  }

  /** The caller is gone. */
  interrupt(): void {
    this.resumeFiber = undefined
    this.abort()
  }

  /** Nobody reads the body: keeps the connection when it is known that little is left, or else aborts. */
  discard(): void {
    const { response } = this
    if (this.state !== "body" || response === undefined || !response.mayDrain(lengthOf(this.rawHeaders))) {
      this.abort()
      return
    }
    // Whoever reads it later must not take it for empty.
    response.fail(this.decodeError("its scope ended before it was read", undefined))
    this.attend(false)
    response.discard()
  }

  /** The garbage collector found the response. */
  abandon(): void {
    if (this.state !== "body" || this.response === undefined || this.response.wanted) return
    this.host.abandoned(this.lane?.index ?? -1)
    this.abort()
  }

  /** Ends it as far as it has come, with that error. */
  fail(error: PoolError.PoolError): void {
    if (this.state === "done") return
    const { control, lane, state } = this
    this.settle(error)
    if (state === "waiting") this.host.leave(this)
    else if (state === "chosen") lane?.cancel(this)
    else control?.abort(aborted)
    this.finish(lane)
  }

  // ------------------------------------------------------------------ from the body

  pause(): void {
    this.control?.pause()
    // A reader that is slow, or has not come yet, is not a server that is silent.
    this.disarmPhase()
    if (this.response?.wanted === false) this.attend(false)
  }

  resume(): void {
    this.control?.resume()
    this.watchBody()
    // A body may be unpaused after its end, by whoever reads what has come of it.
    if (this.state === "body" && this.response?.wanted === true) this.attend(true)
  }

  abort(): void {
    if (this.state === "done") return
    const { control, lane, state } = this
    this.state = "done"
    if (state === "body") this.response?.fail(this.decodeError("its reader was interrupted before the end", undefined))
    if (state === "waiting") this.host.leave(this)
    else if (state === "chosen") lane?.cancel(this)
    else control?.abort(aborted)
    this.finish(lane)
  }

  // ------------------------------------------------------------------ from the transport

  onRequestStart(control: Control): void {
    if (this.state !== "chosen") throw cancelled
    this.state = "sent"
    this.control = control
    this.everBegun = true
    this.reused = this.lane?.begun() === true
  }

  onRequestSent(): void {
    this.writtenWhole = true
    this.services = this.host.services
    if (this.state === "sent") {
      this.phaseDeadline = this.host.limits.headers?.arm(this, "headers", this.host.timers.now())
    }
  }

  onResponseStarted(): void {
    this.responseBegun = true
  }

  onResponseStart(_control: Control, status: number, headers: RawHeaders): void {
    if (status < 200 || this.state !== "sent") return
    this.disarmPhase()
    this.state = "body"
    this.status = status
    this.rawHeaders = headers
    this.host.counters.responses++
    if (status < 400) this.host.counters.successes++
    this.host.measure(this.method, status, this.begunAt)
    this.response = new Body(this, this.host.bodyBufferSize)
    this.lane?.answered()
    // An answer that nobody asked to last is still under its limit.
    if ((this.streaming || isEventStream(headers)) && !this.refused) this.disarmRequest()
    this.host.wake(this)
  }

  onResponseData(_control: Control, chunk: Uint8Array): void {
    if (this.state !== "body") return
    if (this.phaseDeadline !== undefined) this.phaseDeadline.restart()
    this.response?.push(chunk)
  }

  onResponseEnd(): void {
    if (this.state !== "body") return
    const error = isDelimited(this.rawHeaders) ? undefined : this.lane?.broken()
    if (error !== undefined) {
      this.onResponseError(null, error)
      return
    }
    this.state = "done"
    this.response?.end()
    this.finish(this.lane)
  }

  onResponseError(_control: Control | null, error: Error): void {
    const { lane, state } = this
    if (state === "done" || lane === undefined) return
    const failure = lane.classify(error)
    if (mayReplay(failure, this)) {
      this.replayed = true
      this.disarmPhase()
      this.control = undefined
      this.writtenWhole = false
      this.state = "chosen"
      lane.resend(this)
      return
    }
    if (failure._tag === "Connect" || failure._tag === "ConnectTimeout" || failure._tag === "Broken") {
      lane.failed(failure)
    }
    if (failure._tag === "ConnectTimeout") this.host.counters.timeouts++
    this.settle(toPoolError(failure, this))
    this.finish(lane)
  }

  expired(kind: Kind, millis: number): void {
    // The deadline has left its line by itself.
    if (kind === "request") this.requestDeadline = undefined
    else if (kind === "attempt") this.attemptDeadline = undefined
    else this.phaseDeadline = undefined
    if (kind === "acquire") {
      this.fail(this.host.saturated(this, "acquireTimeout", millis))
      return
    }
    this.host.counters.timeouts++
    const waited = this.state === "waiting" ? millis : this.waited
    if (this.state === "waiting") this.host.starved()
    this.fail(
      new PoolError.TimeoutError({
        request: this.info,
        attempts: this.attempts,
        phase: kind,
        timeout: Duration.millis(millis),
        waited: kind === "request" ? Duration.millis(waited) : undefined,
        address: this.lane?.address
      })
    )
  }

  // ------------------------------------------------------------------ to the fiber

  wake(): void {
    const resume = this.resumeFiber
    if (resume === undefined) return
    this.resumeFiber = undefined
    if (this.response === undefined) {
      resume(Exit.fail(this.error!))
      return
    }
    const response = new Response(this, this.response)
    if (this.state === "body") {
      this.watchBody()
      unread.register(response, this)
    }
    if (this.refused) {
      resume(Exit.fail(new PoolError.ResponseError({ request: this.info, attempts: this.attempts, response })))
    } else {
      resume(Exit.succeed(response))
    }
  }

  /** Whether the status makes the response an error. */
  private get refused(): boolean {
    return this.status >= 400 && (this.streaming || this.host.failOnStatus)
  }

  get address(): string | undefined {
    return this.lane?.address
  }

  get begun(): boolean {
    return this.control !== undefined
  }
  /** There is an answer or a failure, though its caller may not have been woken yet. */
  get settled(): boolean {
    return this.state === "body" || this.state === "done"
  }
  get running(): boolean {
    return this.state !== "done"
  }

  get url(): string {
    return this.host.origin + this.path
  }

  decompress(codings: ReadonlyArray<string>): ReturnType<Decompress> {
    return this.host.decompress(codings)
  }

  get info(): PoolError.RequestInfo {
    return PoolError.requestInfo(this.method, this.url, this.request.urlParams)
  }

  decodeError(reason: string, cause: unknown): PoolError.PoolError {
    return new PoolError.DecodeError({ request: this.info, attempts: this.attempts, reason, cause })
  }

  // ------------------------------------------------------------------ private

  /** Gives everything back. The only place that does. */
  private finish(lane: Lease | undefined): void {
    this.state = "done"
    this.disarmPhase()
    this.disarmRequest()
    this.attemptDeadline?.disarm()
    this.attemptDeadline = undefined
    this.control = undefined
    this.lane = undefined
    this.services = this.host.services
    this.onDone?.()
    this.host.ended()
    lane?.release()
    this.attend(false)
  }

  private settle(error: PoolError.PoolError): void {
    this.state = "done"
    this.host.failed(error._tag)
    if (this.response !== undefined) {
      this.response.fail(error)
      return
    }
    this.error = error
    // What never had a slot says nothing about the server.
    if (this.lane !== undefined) this.host.measure(this.method, error._tag, this.begunAt)
    this.host.wake(this)
  }

  private attend(yes: boolean): void {
    if (this.attended === yes) return
    this.attended = yes
    this.host.attend(yes ? 1 : -1)
  }

  private watchBody(): void {
    if (this.state === "body" && this.phaseDeadline === undefined && this.response?.isPaused === false) {
      this.phaseDeadline = this.host.limits.bodyIdle?.arm(this, "bodyIdle", this.host.timers.now())
    }
  }

  private disarmPhase(): void {
    this.phaseDeadline?.disarm()
    this.phaseDeadline = undefined
  }

  private disarmRequest(): void {
    this.requestDeadline?.disarm()
    this.requestDeadline = undefined
  }
}

/** Responses that were handed out with their body still on the way. The exchange never refers to its response. */
const unread = new FinalizationRegistry<Exchange>((exchange) => exchange.abandon())
