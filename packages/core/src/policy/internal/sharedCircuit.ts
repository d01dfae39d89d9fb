/**
 * The circuit that is kept in a store, as attempts of this process meet it.
 *
 * The store has the state; here is what was last seen of it.
 *
 * | seen     | an attempt                                                                                       |
 * |----------|--------------------------------------------------------------------------------------------------|
 * | Closed   | passes, when that was seen within `maxStaleness`; else it waits until the store is asked again   |
 * | Open     | is refused until the time is over; then it waits until the store has been asked for a probe      |
 * | HalfOpen | waits until the store has been asked for a probe                                                 |
 *
 * Every state of the store has a generation. An attempt carries the one that admitted it, and the store counts its end
 * only in that. A probe is a lease in the store: given back when it says nothing, and expired when its process is gone.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { CircuitOpen } from "../../model/PoolError.ts"
import type { Change, Snapshot, State } from "../CircuitBreaker.ts"
import type { Attempt, Gate, Outcome } from "../Gate.ts"
import type { CircuitFace, CircuitView, Entered, SharedCircuit } from "../SharedPolicies.ts"
import type { IsFailure, Resolved } from "./circuitBreakerOptions.ts"
import { verdictOf } from "./circuitVerdict.ts"
import { Openings } from "./openings.ts"
import type { StoreLink } from "./sharedLink.ts"
import { Waiter, wakeAll } from "./sharedWaiter.ts"

/** Milliseconds that a probe of a process that is gone keeps others out, at least; as in a circuit of one process. */
const patience = 30_000

/** Milliseconds in which successes are gathered. A failure, or a probe's end, is told at once. */
const gathering = 10

/** At most so many ends are told at once. */
const batch = 1_000

/** That, when, and by which generation of which circuit an attempt was admitted. */
class Admission {
  readonly circuit: SharedCircuitGate
  readonly generation: number
  readonly openings: number
  readonly at: number
  /** Of a probe. */
  readonly lease: number | undefined

  constructor(circuit: SharedCircuitGate, view: CircuitView, at: number, lease: number | undefined) {
    this.circuit = circuit
    this.generation = view.generation
    this.openings = view.openings
    this.at = at
    this.lease = lease
  }
}

type Mine = Waiter<Admission, CircuitOpen>

const unseen: CircuitView = {
  state: "Closed",
  generation: -1,
  openings: 0,
  remaining: 0,
  openFor: 0,
  reason: undefined,
  counts: { calls: 0, consecutiveFailures: 0, failures: 0, slowCalls: 0 },
  probes: 0,
  successes: 0
}

const nothing = (): void => {}

export interface CircuitDeps {
  readonly link: StoreLink
  readonly random: () => number
  readonly onChange?: ((change: Change) => void) | undefined
}

export class SharedCircuitGate implements Gate<CircuitOpen> {
  private readonly circuit: SharedCircuit
  private readonly options: Resolved
  private readonly local: CircuitFace
  private readonly deps: CircuitDeps
  private readonly link: StoreLink
  private readonly verdict: IsFailure
  private readonly timed: boolean
  private readonly openings: Openings
  /** How many delays `openings` has given. */
  private advanced = 0
  private view = unseen
  private admission: Admission
  /** Until when it is known well enough that the circuit is closed. */
  private knownUntil = -Infinity
  /** Until when it is open. */
  private openUntil = 0
  private waiting: Array<Mine> = []
  private readonly attempts = new Map<Attempt, Mine | "local">()
  private elsewhere: WeakMap<Attempt, Admission> | undefined
  private asking = false
  /** Ends that the store has not been told of, of the generation in view: one digit each. */
  private ends = ""
  private telling = false
  private cancelTimer: (() => void) | undefined = undefined
  private opened = 0
  private rejected = 0

  constructor(key: string, options: Resolved, local: CircuitFace, deps: CircuitDeps) {
    this.options = options
    this.local = local
    this.deps = deps
    this.link = deps.link
    this.verdict = options.isFailure ?? verdictOf
    this.timed = options.slowCallRate !== undefined
    this.openings = new Openings(options.openFor, deps.random)
    const { consecutiveFailures, failureRate, halfOpenMax, minimumCalls, slowCallRate, windowCalls, windowDuration } =
      options
    const windows = { minimumCalls, windowCalls, windowDuration }
    this.circuit = { key, consecutiveFailures, failureRate, slowCallRate, ...windows, halfOpenMax, lease: patience }
    this.admission = new Admission(this, unseen, 0, undefined)
  }

  snapshot(): Snapshot {
    if (!this.link.available) return this.local.snapshot()
    return { state: this.stateInView(), opened: this.opened, rejected: this.rejected }
  }

  /** Refuses where it is known that the gate would; asks nobody. */
  readonly early: Gate<CircuitOpen> = {
    admit: (attempt) => {
      if (!this.link.available) {
        return this.link.options.onUnavailable === "fail" ? this.unavailable(attempt) : this.local.early.admit(attempt)
      }
      if (this.view.state !== "Open") return undefined
      const wait = this.openUntil - this.link.timers.now()
      return wait > 0 ? this.refuse(attempt, wait) : undefined
    },
    settle: nothing
  }

  admit(attempt: Attempt): Effect.Effect<void, CircuitOpen> | undefined {
    const known = this.attempts.size === 0 ? undefined : this.attempts.get(attempt)
    if (known !== undefined) return this.again(attempt, known)
    if (!this.link.available) return this.withoutStore(attempt)
    const now = this.link.timers.now()
    if (this.view.state === "Closed" && now < this.knownUntil) {
      this.sign(attempt, this.timed ? new Admission(this, this.view, now, undefined) : this.admission)
      return undefined
    }
    if (this.view.state === "Open" && now < this.openUntil) return this.refuse(attempt, this.openUntil - now)
    const waiter: Mine = new Waiter(attempt, 1, now)
    this.attempts.set(attempt, waiter)
    this.waiting.push(waiter)
    this.ask()
    return waiter.wait
  }

  settle(attempt: Attempt, outcome: Outcome): void {
    if (this.attempts.size > 0 && this.attempts.get(attempt) === "local") {
      this.attempts.delete(attempt)
      return this.local.gate.settle(attempt, outcome)
    }
    const admission = this.signed(attempt)
    if (admission === undefined) return
    let failed: boolean | undefined = undefined
    try {
      if (attempt.sent && outcome._tag !== "Interrupted" && outcome._tag !== "Defect") failed = this.verdict(outcome)
    } finally {
      // Whatever a predicate throws: a probe that is not told of would keep others out.
      this.count(admission, failed)
    }
  }

  abandon(attempt: Attempt): void {
    const known = this.attempts.get(attempt)
    this.attempts.delete(attempt)
    if (known === "local") return this.local.gate.abandon?.(attempt)
    if (known?.grant !== undefined) this.count(known.grant, undefined)
  }

  private again(attempt: Attempt, known: Mine | "local"): Effect.Effect<void, CircuitOpen> | undefined {
    if (known === "local") return this.local.gate.admit(attempt)
    if (known.state === "moved") return this.withoutStore(attempt)
    const { grant } = known
    if (grant === undefined) return known.wait
    this.attempts.delete(attempt)
    this.sign(attempt, grant)
    return undefined
  }

  private withoutStore(attempt: Attempt): Effect.Effect<void, CircuitOpen> | undefined {
    if (this.link.options.onUnavailable === "fail") return this.unavailable(attempt)
    this.attempts.set(attempt, "local")
    return this.local.gate.admit(attempt)
  }

  private unavailable(attempt: Attempt): Effect.Effect<never, CircuitOpen> {
    return this.refuse(attempt, this.link.retryAfter, "storeUnavailable")
  }

  private refuse(attempt: Attempt, wait: number, reason?: "storeUnavailable"): Effect.Effect<never, CircuitOpen> {
    this.rejected++
    return Effect.fail(
      new CircuitOpen({
        request: attempt.info,
        attempts: attempt.number - 1,
        retryAfter: Duration.millis(wait),
        reason
      })
    )
  }

  private ask(): void {
    if (this.asking || this.waiting.length === 0) return
    this.asking = true
    const asked = this.waiting
    this.waiting = []
    const now = this.link.timers.now()
    this.link.call(
      this.link.store.enter(this.circuit, asked.length),
      (entered) => {
        this.asking = false
        if (entered === undefined) this.move(asked)
        else this.entered(asked, entered, now)
        this.ask()
      },
      ({ leases, view }) => {
        for (const lease of leases) this.endProbe(view, lease, undefined, 0)
      }
    )
  }

  private entered(asked: ReadonlyArray<Mine>, { leases, view }: Entered, askedAt: number): void {
    this.see(view, askedAt)
    const now = this.link.timers.now()
    const spare = [...leases]
    for (const waiter of asked) {
      if (!this.attempts.has(waiter.attempt)) continue
      const lease = view.state === "HalfOpen" ? spare.shift() : undefined
      if (view.state === "Closed" || lease !== undefined) waiter.keep(new Admission(this, view, now, lease))
      else waiter.refuse(this.refuse(waiter.attempt, view.remaining))
    }
    // For those that have been interrupted meanwhile.
    for (const lease of spare) this.endProbe(view, lease, undefined, 0)
    wakeAll(asked)
  }

  private move(asked: ReadonlyArray<Mine>): void {
    const moved = [...asked, ...this.waiting]
    this.waiting = []
    for (const waiter of moved) waiter.move()
    wakeAll(moved)
  }

  private count(admission: Admission, failed: boolean | undefined): void {
    const { generation, lease } = admission
    const slow =
      this.timed && failed !== undefined && this.link.timers.now() - admission.at >= this.options.slowCallDuration
    const end = failed === undefined ? undefined : (failed ? 1 : 0) + (slow ? 2 : 0)
    if (lease !== undefined) {
      const delay = end === 0 || end === undefined ? 0 : this.delayAfter(admission.openings)
      return this.endProbe(admission, lease, end, delay)
    }
    if (end === undefined || generation !== this.view.generation || !this.link.available) return
    this.delayAfter(admission.openings)
    this.ends += String(end)
    if (end > 0 || this.ends.length >= batch) this.tell()
    else if (!this.telling) this.cancelTimer ??= this.link.timers.after(gathering, this.tell)
  }

  /** `end`: `undefined` when it says nothing. */
  private endProbe(of: { readonly generation: number }, lease: number, end: number | undefined, openFor: number): void {
    if (!this.link.available) return
    const now = this.link.timers.now()
    this.link.call(
      this.link.store.endProbe(this.circuit, { generation: of.generation, lease, end, openFor }),
      (view) => {
        if (view !== undefined) this.see(view, now)
      }
    )
  }

  private readonly tell = (): void => {
    this.cancelTimer?.()
    this.cancelTimer = undefined
    if (this.telling || this.ends === "") return
    const ends = this.ends.slice(0, batch)
    this.ends = this.ends.slice(batch)
    if (!this.link.available) {
      this.ends = ""
      return
    }
    this.telling = true
    const { generation } = this.view
    const now = this.link.timers.now()
    this.link.call(this.link.store.record(this.circuit, { generation, ends, openFor: this.openings.delay }), (view) => {
      this.telling = false
      if (view === undefined) this.ends = ""
      else this.see(view, now)
      this.tell()
    })
  }

  private see(view: CircuitView, askedAt: number): void {
    const before = this.view
    this.view = view
    this.knownUntil = askedAt + this.link.options.maxStaleness
    if (view.state === "Open") this.openUntil = this.link.timers.now() + view.remaining
    if (view.generation === before.generation) return
    this.ends = ""
    this.admission = new Admission(this, view, 0, undefined)
    if (view.state === "Open") this.opened++
    // It may have been half-open between two looks.
    const from = before.state === view.state && view.state === "Open" ? "HalfOpen" : before.state
    if (from !== view.state && view.reason !== undefined) {
      const openFor = view.state === "Open" ? Duration.millis(view.openFor) : undefined
      this.deps.onChange?.({ from, to: view.state, reason: view.reason, openFor })
    }
  }

  private stateInView(): State {
    const { counts, probes, state, successes } = this.view
    switch (state) {
      case "Closed":
        return { _tag: "Closed", ...counts }
      case "Open":
        return { _tag: "Open", retryAfter: Duration.millis(Math.max(0, this.openUntil - this.link.timers.now())) }
      case "HalfOpen":
        return { _tag: "HalfOpen", probes, successes }
    }
  }

  /** How long it is to stay open when it has opened so often since it was closed. */
  private delayAfter(openings: number): number {
    if (this.advanced > openings + 1) {
      this.openings.restart()
      this.advanced = 0
    }
    // A process that comes late need not count further than schedules grow.
    for (; this.advanced <= Math.min(openings, batch); this.advanced++) {
      this.openings.advance(this.link.timers.now())
    }
    return this.openings.delay
  }

  private sign(attempt: Attempt, admission: Admission): void {
    if (attempt.mark === undefined) attempt.mark = admission
    else (this.elsewhere ??= new WeakMap()).set(attempt, admission)
  }

  private signed(attempt: Attempt): Admission | undefined {
    const { mark } = attempt
    if (mark instanceof Admission && mark.circuit === this) {
      attempt.mark = undefined
      return mark
    }
    return this.elsewhere?.get(attempt)
  }
}
