/**
 * The states of a circuit and the way from one to the other.
 *
 * | from           | to       | when                                                                     |
 * |----------------|----------|--------------------------------------------------------------------------|
 * | Closed         | Open     | a rule trips                                                             |
 * | Open           | HalfOpen | the first attempt asks after `openFor`                                   |
 * | HalfOpen       | Closed   | `halfOpenMax` probes have succeeded                                      |
 * | HalfOpen       | Open     | one probe has failed                                                     |
 * | any            | Isolated | `isolate`                                                                |
 * | any but Closed | Closed   | `close`, `reset` (which also forgets what a closed circuit has counted)  |
 *
 * Every state is an object of its own with its own counters. An attempt carries the state that admitted it, and counts
 * only while the circuit is still in that very state: whatever it ends with later changes nothing.
 *
 * A half-open circuit cannot be stuck. Its probes are counted, not numbered: each that ends with no verdict makes room
 * for another, by whatever way it ends. A probe that does not end at all is waited for as long as the circuit was open,
 * and for 30 s at least; then one more is admitted beside it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { CircuitOpen } from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import type { Change, ChangeReason, State } from "../CircuitBreaker.ts"
import type { Attempt, Gate, Outcome } from "../Gate.ts"
import { type IsFailure, type Resolved } from "./circuitBreakerOptions.ts"
import { verdictOf } from "./circuitVerdict.ts"
import { Openings } from "./openings.ts"
import { type Outcomes, outcomes } from "./slidingOutcomes.ts"
import { tripRules } from "./tripRules.ts"

/** How long a probe may keep others out, at least: a request that takes longer is nothing to wait for. */
const patience = 30_000

/** What is told to those who come while probes run: nobody knows how long. HTTP has no shorter `Retry-After`. */
const probeTime = 1_000

/** That, when, and by which state of which circuit an attempt was admitted. Shared by all of a state where time is not measured. */
class Admission {
  readonly circuit: Circuit
  readonly state: Closed | HalfOpen
  readonly at: number

  constructor(circuit: Circuit, state: Closed | HalfOpen, at: number) {
    this.circuit = circuit
    this.state = state
    this.at = at
  }
}

class Closed {
  readonly _tag = "Closed"
  readonly outcomes: Outcomes
  readonly admission: Admission

  constructor(circuit: Circuit, counts: Outcomes) {
    this.outcomes = counts
    this.admission = new Admission(circuit, this, 0)
  }
}

class Open {
  readonly _tag = "Open"
  readonly until: number

  constructor(until: number) {
    this.until = until
  }
}

class HalfOpen {
  readonly _tag = "HalfOpen"
  readonly admission: Admission
  probes = 0
  successes = 0
  /** From when a probe that has not ended keeps nobody out any more. */
  private patientUntil = 0
  private readonly max: number
  private readonly openedFor: number

  constructor(circuit: Circuit, max: number, openedFor: number) {
    this.max = max
    this.openedFor = openedFor
    this.admission = new Admission(circuit, this, 0)
  }

  hasRoom(now: number): boolean {
    return this.probes + this.successes < this.max || now >= this.patientUntil
  }

  begin(now: number): void {
    this.probes++
    this.patientUntil = now + Math.max(this.openedFor, patience)
  }

  retryAfter(now: number): number {
    return Math.min(probeTime, this.openedFor, this.patientUntil - now)
  }

  /** Whether enough have succeeded. */
  succeed(): boolean {
    return ++this.successes >= this.max
  }
}

class Isolated {
  readonly _tag = "Isolated"
}

export interface Deps {
  readonly timers: Timers
  readonly random: () => number
  /** Told of every change of state, when it has happened. It should not throw. */
  readonly onChange?: ((change: Change) => void) | undefined
}

/** Stands before what may wait. */
export class EarlyGate implements Gate<CircuitOpen> {
  private readonly circuit: Circuit

  constructor(circuit: Circuit) {
    this.circuit = circuit
  }

  admit(attempt: Attempt): Effect.Effect<void, CircuitOpen> | undefined {
    return this.circuit.admitEarly(attempt)
  }

  settle(): void {}
}

export class Circuit implements Gate<CircuitOpen> {
  /** How often it has opened, and how many attempts it has refused. */
  opened = 0
  rejected = 0
  private state: Closed | Open | HalfOpen | Isolated
  /** Admissions of attempts that carry the mark of another gate. */
  private elsewhere: WeakMap<Attempt, Admission> | undefined
  private readonly openings: Openings
  private readonly verdict: IsFailure
  /** Whether somebody wants to know how long a call takes. */
  private readonly timed: boolean
  private readonly options: Resolved
  private readonly deps: Deps

  constructor(options: Resolved, deps: Deps) {
    this.options = options
    this.deps = deps
    this.openings = new Openings(options.openFor, deps.random)
    this.verdict = options.isFailure ?? verdictOf
    this.timed = options.slowCallRate !== undefined
    this.state = this.fresh()
  }

  admit(attempt: Attempt): Effect.Effect<void, CircuitOpen> | undefined {
    const { state } = this
    if (state._tag === "Closed") {
      this.sign(attempt, this.timed ? new Admission(this, state, this.deps.timers.now()) : state.admission)
      return undefined
    }
    return this.admitProbe(attempt, this.deps.timers.now())
  }

  settle(attempt: Attempt, outcome: Outcome): void {
    const admission = this.signed(attempt)
    if (admission === undefined || admission.state !== this.state) return
    let failed: boolean | undefined = undefined
    try {
      if (attempt.sent && outcome._tag !== "Interrupted" && outcome._tag !== "Defect") failed = this.verdict(outcome)
    } finally {
      // Whatever a predicate throws, or does to the circuit.
      if (admission.state === this.state) this.count(admission, failed)
    }
  }

  /** Refuses where the gate would refuse now; takes nothing. */
  admitEarly(attempt: Attempt): Effect.Effect<void, CircuitOpen> | undefined {
    if (this.state._tag === "Closed") return undefined
    const now = this.deps.timers.now()
    return this.refuses(now) ? this.refuse(attempt, now) : undefined
  }

  isolate(): void {
    if (this.state._tag !== "Isolated") this.enter(new Isolated(), "isolate")
  }

  close(): void {
    if (this.state._tag !== "Closed") this.enterClosed("close")
  }

  reset(): void {
    if (this.state._tag !== "Closed") return this.enterClosed("reset")
    this.openings.restart()
    this.state = this.fresh()
  }

  /** The state, as others may see it. */
  get view(): State {
    const { state } = this
    switch (state._tag) {
      case "Closed": {
        state.outcomes.refresh()
        const { calls, consecutiveFailures, failures, slowCalls } = state.outcomes
        return { _tag: "Closed", calls, consecutiveFailures, failures, slowCalls }
      }
      case "Open":
        return { _tag: "Open", retryAfter: Duration.millis(Math.max(state.until - this.deps.timers.now(), 0)) }
      case "HalfOpen":
        return { _tag: "HalfOpen", probes: state.probes, successes: state.successes }
      case "Isolated":
        return { _tag: "Isolated" }
    }
  }

  private admitProbe(attempt: Attempt, now: number): Effect.Effect<void, CircuitOpen> | undefined {
    if (this.refuses(now)) return this.refuse(attempt, now)
    if (this.state._tag === "Open") {
      this.enter(new HalfOpen(this, this.options.halfOpenMax, this.openings.delay), "elapsed")
    }
    // Whoever is told of the change may have changed it again.
    if (this.state._tag !== "HalfOpen") return this.admit(attempt)
    this.state.begin(now)
    this.sign(attempt, this.timed ? new Admission(this, this.state, now) : this.state.admission)
    return undefined
  }

  private refuses(now: number): boolean {
    const { state } = this
    if (state._tag === "Open") return now < state.until
    return state._tag === "HalfOpen" ? !state.hasRoom(now) : state._tag === "Isolated"
  }

  private refuse(attempt: Attempt, now: number): Effect.Effect<never, CircuitOpen> {
    const { state } = this
    this.rejected++
    const millis =
      state._tag === "Open" ? state.until - now : state._tag === "HalfOpen" ? state.retryAfter(now) : Infinity
    return Effect.fail(
      new CircuitOpen({
        request: attempt.info,
        attempts: attempt.number - 1,
        // Whoever waits so long is not too early by a fraction.
        retryAfter: Duration.millis(Math.ceil(millis))
      })
    )
  }

  private count({ at, state }: Admission, failed: boolean | undefined): void {
    const slow = this.timed && failed !== undefined && this.deps.timers.now() - at >= this.options.slowCallDuration
    if (state._tag === "Closed") {
      if (failed !== undefined) this.countCall(state.outcomes, failed, slow)
      return
    }
    state.probes--
    if (failed === true || slow) this.open("probeFailed")
    else if (failed === false && state.succeed()) this.enterClosed("probesSucceeded")
  }

  private countCall(counts: Outcomes, failed: boolean, slow: boolean): void {
    counts.record(failed, slow)
    for (let i = 0; i < tripRules.length; i++) {
      const rule = tripRules[i]!
      if (rule.trips(counts, this.options)) return this.open(rule.reason)
    }
  }

  private open(reason: ChangeReason): void {
    const now = this.deps.timers.now()
    try {
      this.openings.advance(now)
    } finally {
      this.opened++
      this.enter(new Open(now + this.openings.delay), reason)
    }
  }

  private enterClosed(reason: ChangeReason): void {
    this.openings.restart()
    this.enter(this.fresh(), reason)
  }

  private fresh(): Closed {
    return new Closed(this, outcomes(this.options, this.deps.timers))
  }

  /** The only place where the circuit gets another state that somebody is told of. */
  private enter(state: Closed | Open | HalfOpen | Isolated, reason: ChangeReason): void {
    const from = this.state._tag
    this.state = state
    const openFor = state._tag === "Open" ? Duration.millis(this.openings.delay) : undefined
    this.deps.onChange?.({ from, to: state._tag, reason, openFor })
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
