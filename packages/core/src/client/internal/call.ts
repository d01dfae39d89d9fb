/**
 * A request with policies: one or more tries, and what happens between them.
 *
 * ```
 *            ┌──────────── backoff ◄───────────┐
 *            ▼                                  │ again
 * ──► try: gates ──► slot ──► response ──► settled ──► final ──► the caller
 *            │ wait    ▲                        │
 *            └─────────┘                        └─ 401, once: at once with other credentials
 *
 *     a hedge is a second try beside the first; the first good answer wins, the other is interrupted
 * ```
 *
 * What it promises:
 *
 * - It runs outside of fibers, on the callbacks of its exchanges: a try that nothing delays makes no Effect.
 * - `requestTimeout` rules from its begin to the end of the last body, waits of all kinds included.
 * - Every gate that was asked hears the end of every try, once. After the end, or after `interrupt`, nothing of it is
 *   left: no timer, no fiber, no exchange but the one whose response the caller has.
 * - Whatever it calls may interrupt it, there and then: a gate, `onRetry`, a transport.
 * - Its host knows it from its begin to its end, so that neither the host nor the pool is gone before it is.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Tracer from "effect/Tracer"
import {
  isPoolError,
  PoolClosed,
  type PoolError,
  requestInfo,
  type RequestInfo,
  TimeoutError
} from "../../model/PoolError.ts"
import { responseOf } from "../../policy/internal/discard.ts"
import { outcomeOf, Passage } from "../../policy/internal/passage.ts"
import { isReplayable } from "../../policy/internal/replayable.ts"
import type { Gate, Outcome } from "../../policy/Gate.ts"
import * as Retry from "../../policy/Retry.ts"
import type { Timers } from "../../model/Timers.ts"
import type { Deadline, Expiring, Limit } from "../../model/internal/deadlines.ts"
import type { Member } from "../../model/internal/line.ts"
import type { Exchange, Resume } from "./exchange.ts"
import type { Host } from "./host.ts"
import type { HostPolicies } from "./hostPolicies.ts"

/** The span of a call, and what tells the server of it: name, value, name, value… */
export interface Trace {
  readonly span: Tracer.Span
  readonly headers: ReadonlyArray<string>
}

export type Hedging = "hedge"

export type Settled = Exit.Exit<HttpClientResponse, PoolError>

/** What a call needs of its pool. */
export interface CallOwner {
  readonly timers: Timers
  readonly services: Context.Context<never>
  readonly hedgeLimit: (millis: number) => Limit<Hedging> | undefined
  /** Starts an exchange for that try. */
  readonly attempt: (call: Call, attempt: Try) => Exchange | PoolError
}

const interrupted: Outcome = { _tag: "Interrupted" }

/** What is known at once needs no fiber: an open circuit should cost as little as it can. */
const isRefusal = (wait: Effect.Effect<void, PoolError>): wait is Exit.Failure<never, PoolError> =>
  Exit.isExit(wait) && Exit.isFailure(wait)

/** One try: its way through the gates, then its exchange. */
export class Try extends Passage<PoolError> {
  exchange: Exchange | undefined = undefined
  private readonly call: Call
  private fiber: Fiber.Fiber<void, PoolError> | undefined = undefined
  private over = false
  /** Its gates are being asked, or its exchange is begun: nothing of it can be undone before that is done. */
  private entering = false

  constructor(call: Call, gates: ReadonlyArray<Gate<PoolError>>, request: HttpClientRequest, number: number) {
    super(gates, request, number)
    this.call = call
  }

  get waits(): boolean {
    return this.fiber !== undefined
  }

  override get info(): RequestInfo {
    return this.call.info
  }

  start(): void {
    const { call } = this
    let refused: Settled | undefined
    this.entering = true
    try {
      const wait = this.enter()
      if (wait !== undefined) {
        if (isRefusal(wait)) refused = wait
        else this.fiber = call.fork(wait)
      } else if (!this.over) {
        const exchange = call.owner.attempt(call, this)
        if (exchange instanceof Error) refused = Exit.fail(exchange)
        else this.exchange = exchange
      }
    } catch (defect) {
      refused = Exit.die(defect)
    }
    this.entering = false
    if (this.over) this.quit()
    else if (refused !== undefined) this.end(refused)
    else if (this.fiber !== undefined) this.await(this.fiber)
  }

  /** Nobody wants it any more, nor the response that it has ended with. */
  interrupt(): void {
    if (this.over) {
      this.exchange?.discard()
      return
    }
    this.over = true
    if (!this.entering) this.quit()
  }

  private quit(): void {
    this.fiber?.interruptUnsafe()
    this.fiber = undefined
    this.exchange?.interrupt()
    this.recall()
    this.call.threw(this.leave(interrupted))
  }

  /** All gates have admitted it, but there was no slot: the upstream has not seen it. */
  private recall(): void {
    if (this.exchange?.hadSlot !== true) this.sent = false
  }

  private await(fiber: Fiber.Fiber<void, PoolError>): void {
    if (fiber.pollUnsafe() === undefined) this.call.watch()
    fiber.addObserver((exit) => {
      if (this.over) return
      this.fiber = undefined
      if (Exit.isSuccess(exit)) this.start()
      else this.end(Exit.failCause(exit.cause))
    })
  }

  readonly end: Resume = (exit) => {
    if (this.over) return
    this.over = true
    const outcome: Outcome = Exit.isSuccess(exit) ? { _tag: "Response", response: exit.value } : outcomeOf(exit)
    // What came as far as an exchange is counted by that.
    if (!this.sent && outcome._tag === "Failure") this.call.refused(outcome.error)
    this.recall()
    this.call.threw(this.leave(outcome))
    this.call.ended(this, exit, outcome)
  }
}

export class Call implements Expiring<Hedging>, Member<Call> {
  previous: Call | undefined = undefined
  next: Call | undefined = undefined
  readonly owner: CallOwner
  readonly host: Host
  readonly request: HttpClientRequest
  readonly path: string
  /** The caller's, for a streamed body. */
  readonly services: Context.Context<never>
  /** The slot that the caller wants; -1 for any. */
  readonly slot: number
  readonly streaming: boolean
  /** Exchanges that were begun. */
  exchanges = 0
  /** Called when nothing of it is left, its response's body included. */
  onDone: (() => void) | undefined = undefined

  readonly trace: Trace | undefined
  private readonly policies: HostPolicies
  private readonly startedAt: number
  /** As it was at the begin; the host's may change meanwhile. */
  private readonly requestTimeout: number
  private resume: Resume | undefined
  private tries = 0
  private first: Try | undefined = undefined
  /** A hedge: a second try beside the first. */
  private second: Try | undefined = undefined
  private roundAt = 0
  private hedgeDeadline: Deadline<Hedging> | undefined = undefined
  private retries: Retry.RetryState | undefined = undefined
  private reauthorized = false
  private thrown: { readonly value: unknown } | undefined = undefined
  /** Ends what it waits for between two tries. */
  private pause: (() => void) | undefined = undefined
  private cancelDeadline: (() => void) | undefined = undefined
  /** It has a deadline of its own. */
  private watched = false
  /** The pool has ended: there is no further try. */
  private closed = false

  constructor(
    owner: CallOwner,
    host: Host,
    policies: HostPolicies,
    request: HttpClientRequest,
    path: string,
    services: Context.Context<never>,
    resume: Resume,
    slot: number,
    streaming: boolean,
    trace: Trace | undefined
  ) {
    this.trace = trace
    this.owner = owner
    this.host = host
    this.policies = policies
    this.request = request
    this.path = path
    this.services = services
    this.resume = resume
    this.slot = slot
    this.streaming = streaming
    this.startedAt = owner.timers.now()
    this.requestTimeout = host.requestTimeout
  }

  // ------------------------------------------------------------------ from the client

  start(): void {
    this.host.began(this)
    this.policies.retry?.started()
    this.round(this.startedAt)
  }

  /** The caller is gone. */
  interrupt(): void {
    if (this.resume !== undefined) this.stop()
    if (this.thrown !== undefined) throw this.thrown.value
  }

  /** The caller's signal says that nobody wants the response, or the rest of it. */
  abort(error: PoolError): void {
    if (this.resume === undefined) this.winner?.exchange?.discard()
    else this.fail(error)
  }

  /** The pool has ended. What its exchanges have ended with is still the caller's. */
  close(): void {
    this.closed = true
    if (this.waits) this.refuse(new PoolClosed({ request: this.info, attempts: this.exchanges }))
  }

  /** It waits for something other than an exchange: for a gate, or between two tries. */
  get waits(): boolean {
    return this.pause !== undefined || this.first?.waits === true || this.second?.waits === true
  }

  /** It has not ended, or the body of its response has not. */
  get running(): boolean {
    return this.resume !== undefined || this.winner?.exchange?.running === true
  }

  // ------------------------------------------------------------------ for the pool

  /** Gives an exchange its deadline, unless that is the one that all requests share. */
  limit(exchange: Exchange): void {
    if (this.requestTimeout === Infinity || (!this.watched && this.tries === 1)) return
    exchange.deadlineAt = this.startedAt + this.requestTimeout
    exchange.deadlineMillis = this.requestTimeout
  }

  /** The first try takes long. One that waits for a gate or a slot is not the server's fault: a second would wait behind it. */
  expired(): void {
    this.hedgeDeadline = undefined
    const exchange = this.first?.exchange
    if (this.second !== undefined || exchange?.hadSlot !== true || exchange.settled) return
    if (this.policies.hedge?.fire() !== true) return
    this.host.counters.hedges++
    this.host.emit({ _tag: "Hedged", origin: this.host.origin, millis: this.owner.timers.now() - this.roundAt })
    this.second = this.newTry()
    this.second.start()
  }

  // ------------------------------------------------------------------ from its tries

  /** Runs what a policy waits for, in the span of the call where it has one. */
  fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    const { services } = this.owner
    const around = this.trace === undefined ? services : Context.add(services, Tracer.ParentSpan, this.trace.span)
    return Effect.runForkWith(around)(effect)
  }

  /** A gate threw while it was left. */
  threw(thrown: { readonly value: unknown } | undefined): void {
    this.thrown ??= thrown
  }

  /** A try has failed before it had an exchange. */
  refused(error: unknown): void {
    this.host.failed(isPoolError(error) ? error._tag : "unknown")
  }

  /** It begins to wait: no exchange minds its time. */
  watch(): void {
    if (this.cancelDeadline !== undefined || this.requestTimeout === Infinity) return
    this.watched = true
    const left = this.startedAt + this.requestTimeout - this.owner.timers.now()
    this.cancelDeadline = this.owner.timers.after(Math.max(left, 0), () => this.late())
  }

  ended(ended: Try, exit: Settled, outcome: Outcome): void {
    const { retry } = this.policies
    const final = retry === undefined || retry.isFinal(ended, outcome)
    const rival = ended === this.first ? this.second : this.first
    if (rival !== undefined) {
      if (outcome._tag !== "Response" || !final) {
        // The other may do better.
        ended.exchange?.discard()
        this.first = rival
        this.second = undefined
        return
      }
      if (ended === this.second) this.policies.hedge?.won()
      this.first = ended
      this.second = undefined
      rival.interrupt()
    }
    if (outcome._tag === "Response") this.policies.hedge?.observe(this.owner.timers.now() - this.roundAt, this.request)
    this.disarmHedge()
    const rejected = this.isRejected(ended, outcome)
    // Whatever was asked may have interrupted it.
    if (this.resume === undefined) return
    if (this.thrown !== undefined) {
      ended.exchange?.discard()
      this.finish(Exit.die(this.thrown.value))
    } else if (rejected) {
      this.reauthorized = true
      ended.exchange?.discard()
      this.round(this.owner.timers.now())
    } else if (final || this.closed) this.finish(exit)
    else this.decide(retry, ended, exit, outcome)
  }

  // ------------------------------------------------------------------ private

  private get winner(): Try | undefined {
    return this.first
  }

  get info(): RequestInfo {
    return requestInfo(this.request.method, this.host.origin + this.path, this.request.urlParams)
  }

  private newTry(): Try {
    this.tries++
    return new Try(this, this.policies.gates, this.request, this.tries)
  }

  /** A try, and perhaps a hedge. */
  private round(now: number): void {
    this.roundAt = now
    const { hedge } = this.policies
    if (hedge !== undefined) {
      const delay = hedge.delay(this.request)
      if (delay !== undefined) this.hedgeDeadline = this.owner.hedgeLimit(delay)?.arm(this, "hedge", now)
    }
    this.first = this.newTry()
    this.first.start()
  }

  /** The server does not accept the credentials, and others may be had: once. */
  private isRejected(ended: Try, outcome: Outcome): boolean {
    const { auth } = this.policies
    if (auth?.rejected === undefined || this.reauthorized || responseOf(outcome)?.status !== 401) return false
    // A request that came with credentials of its own has kept them.
    if (ended.request === this.request || this.closed || this.thrown !== undefined) return false
    try {
      return auth.rejected(ended.request) && isReplayable(this.request.body)
    } catch (value) {
      this.threw({ value })
      return false
    }
  }

  private decide(retry: Retry.Rule, ended: Try, exit: Settled, outcome: Outcome): void {
    this.retries ??= retry.state()
    const left = this.startedAt + this.requestTimeout - this.owner.timers.now()
    const fiber = this.fork(retry.next(this.retries, ended, outcome, left))
    if (this.resume === undefined) {
      fiber.interruptUnsafe()
      return
    }
    this.pause = () => fiber.interruptUnsafe()
    this.watch()
    fiber.addObserver((decided) => {
      if (this.resume === undefined) return
      this.pause = undefined
      if (Exit.isFailure(decided)) {
        ended.exchange?.discard()
        this.finish(Exit.failCause(decided.cause))
        return
      }
      const decision = decided.value
      if (decision._tag !== "Again") {
        this.finish(Retry.result(decision, exit, outcome, this.exchanges))
        return
      }
      ended.exchange?.discard()
      this.host.counters.retries++
      this.host.emit({ _tag: "Retry", origin: this.host.origin, attempt: ended.number, millis: decision.delay })
      this.pause = this.owner.timers.wait(decision.delay, () => {
        this.pause = undefined
        this.round(this.owner.timers.now())
      })
    })
  }

  /** Its time is up. While an exchange runs, and nothing else is waited for, that says so. */
  private late(): void {
    this.cancelDeadline = undefined
    if (!this.waits) return
    this.host.counters.timeouts++
    this.refuse(
      new TimeoutError({
        request: this.info,
        attempts: this.exchanges,
        phase: "request",
        timeout: Duration.millis(this.requestTimeout)
      })
    )
  }

  /** No exchange counts this failure. */
  private refuse(error: PoolError): void {
    this.refused(error)
    this.fail(error)
  }

  private fail(error: PoolError): void {
    const { resume } = this
    if (resume === undefined) return
    this.stop()
    resume(Exit.fail(error))
  }

  private finish(exit: Settled): void {
    const { resume } = this
    this.resume = undefined
    this.release()
    if (this.tries > 1) this.trace?.span.attribute("http.request.resend_count", this.tries - 1)
    resume?.(exit)
    const exchange = this.winner?.exchange
    if (exchange?.running === true) exchange.onDone = this.onDone
    else this.onDone?.()
  }

  /** Ends it, whatever it is at. */
  private stop(): void {
    this.resume = undefined
    this.disarmHedge()
    this.pause?.()
    this.first?.interrupt()
    this.second?.interrupt()
    this.release()
    this.onDone?.()
  }

  private release(): void {
    this.pause = undefined
    this.cancelDeadline?.()
    this.cancelDeadline = undefined
    this.host.over(this)
  }

  private disarmHedge(): void {
    this.hedgeDeadline?.disarm()
    this.hedgeDeadline = undefined
  }
}
