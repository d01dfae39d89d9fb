import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { HttpClientRequest, HttpClientResponse } from "effect/http"
import type { CircuitOpen } from "../../../src/model/PoolError.ts"
import { Circuit } from "../../../src/policy/internal/circuit.ts"
import { resolve } from "../../../src/policy/internal/circuitBreakerOptions.ts"
import { Passage } from "../../../src/policy/internal/passage.ts"
import type { Gate, Outcome } from "../../../src/policy/Policy.ts"
import { ManualTimers } from "../../fixtures/time.ts"

const request = HttpClientRequest.get("http://test.local/x")
const ended = (status: number): Outcome => ({
  _tag: "Response",
  response: HttpClientResponse.fromWeb(request, new Response(null, { status }))
})

const openFor = 10_000
const patience = 30_000

/** What the specification says, with a map where the circuit has none: slow and plain. */
class Model {
  tag: "Closed" | "Open" | "HalfOpen" | "Isolated" = "Closed"
  /** Grows with every new state, and with a reset. */
  epoch = 0
  failures = 0
  until = 0
  successes = 0
  probes = new Set<number>()
  lastProbe = 0
  readonly admittedIn = new Map<number, number>()
  readonly threshold: number
  readonly max: number

  constructor(threshold: number, max: number) {
    this.threshold = threshold
    this.max = max
  }

  become(tag: Model["tag"]): void {
    this.tag = tag
    this.epoch++
    this.failures = 0
    this.successes = 0
    this.probes = new Set()
  }

  admits(attempt: number, now: number): boolean {
    if (this.tag === "Open" && now >= this.until) this.become("HalfOpen")
    if (this.tag === "HalfOpen") {
      const room = this.probes.size + this.successes < this.max
      if (!room && now < this.lastProbe + patience) return false
      this.probes.add(attempt)
      this.lastProbe = now
    }
    if (this.tag !== "Closed" && this.tag !== "HalfOpen") return false
    this.admittedIn.set(attempt, this.epoch)
    return true
  }

  ends(attempt: number, verdict: boolean | undefined, now: number): void {
    if (this.admittedIn.get(attempt) !== this.epoch) return
    this.probes.delete(attempt)
    if (verdict === undefined) return
    if (this.tag === "Closed") this.failures = verdict ? this.failures + 1 : 0
    else if (!verdict) this.successes++
    if (verdict ? this.tag === "HalfOpen" || this.failures >= this.threshold : false) {
      this.become("Open")
      this.until = now + openFor
    } else if (this.tag === "HalfOpen" && this.successes >= this.max) this.become("Closed")
  }
}

/** How an attempt may end, and what that says. `unsent`: a later gate keeps it, and it ends there. */
const ends: ReadonlyArray<{ readonly outcome: Outcome; readonly verdict: boolean | undefined }> = [
  { outcome: ended(200), verdict: false },
  { outcome: ended(200), verdict: false },
  { outcome: ended(500), verdict: true },
  { outcome: ended(500), verdict: true },
  { outcome: ended(429), verdict: undefined },
  { outcome: { _tag: "Interrupted" }, verdict: undefined },
  { outcome: { _tag: "Defect", defect: "bug" }, verdict: undefined }
]

const later: Gate<never> = { admit: () => Effect.never, settle: () => {} }

class Run {
  readonly timers = new ManualTimers()
  readonly circuit: Circuit
  readonly model: Model
  readonly attempts: Array<Passage<CircuitOpen>> = []
  readonly live: Array<number> = []
  readonly unsent = new Set<number>()

  constructor(threshold: number, max: number) {
    const options = resolve({ consecutiveFailures: threshold, halfOpenMax: max, openFor })
    this.circuit = new Circuit(options, { timers: this.timers, random: () => 0 })
    this.model = new Model(threshold, max)
  }

  step(n: number): void {
    const kind = n % 16
    const rest = Math.floor(n / 16)
    if (kind < 7) this.ask(kind === 6)
    else if (kind < 12) this.end(rest)
    else if (kind < 15) this.timers.advance([100, openFor / 2, openFor, patience][rest % 4]!)
    else this.byHand(rest % 3)
    this.check()
  }

  ask(unsent: boolean): Passage<CircuitOpen> {
    const attempt = new Passage<CircuitOpen>(unsent ? [this.circuit, later] : [this.circuit], request, 1)
    const id = this.attempts.push(attempt) - 1
    const now = this.timers.now()
    const early = this.circuit.admitEarly(attempt) === undefined
    const wait = attempt.enter()
    const admitted = this.model.admits(id, now)
    assert.strictEqual(attempt.sent || (unsent && wait === Effect.never), admitted, "admitted")
    assert.strictEqual(early, admitted, "the early gate knows")
    if (admitted) {
      this.live.push(id)
      if (unsent) this.unsent.add(id)
    } else attempt.leave({ _tag: "Failure", error: "refused" })
    return attempt
  }

  end(n: number): void {
    const [id] = this.live.splice(n % Math.max(this.live.length, 1), 1)
    if (id === undefined) return
    const { outcome, verdict } = ends[Math.floor(n / 7) % ends.length]!
    this.attempts[id]!.leave(outcome)
    this.model.ends(id, this.unsent.has(id) ? undefined : verdict, this.timers.now())
  }

  byHand(n: number): void {
    const operation = (["isolate", "close", "reset"] as const)[n]!
    this.circuit[operation]()
    const { model } = this
    if (operation === "isolate" && model.tag !== "Isolated") model.become("Isolated")
    if (operation === "close" && model.tag !== "Closed") model.become("Closed")
    if (operation === "reset") model.become("Closed")
  }

  check(): void {
    const { view } = this.circuit
    const { model } = this
    assert.strictEqual(view._tag, model.tag)
    if (view._tag === "Closed") assert.strictEqual(view.consecutiveFailures, model.failures)
    if (view._tag === "HalfOpen") {
      assert.deepStrictEqual([view.probes, view.successes], [model.probes.size, model.successes])
      assert.isAtLeast(view.probes, 0)
    }
  }

  /** Those under way never end; time passes, and what is newly admitted succeeds. */
  heal(): void {
    if (this.circuit.view._tag === "Isolated") this.circuit.close()
    for (let i = 0; i <= this.model.max && this.circuit.view._tag !== "Closed"; i++) {
      this.timers.advance(patience + openFor)
      const probe = new Passage<CircuitOpen>([this.circuit], request, 1)
      assert.isUndefined(probe.enter(), "after enough time a probe is admitted")
      probe.leave(ended(200))
    }
    assert.strictEqual(this.circuit.view._tag, "Closed")
  }
}

describe("Circuit", () => {
  it.prop(
    "does what its specification says, and closes in the end, whatever comes, ends, passes and is done by hand",
    [
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
      Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 16 * 7 * 7 * 4 }))).check(
        Schema.isMaxLength(60)
      )
    ],
    ([threshold, max, steps]) => {
      // After each step: the same way once more, and from there to health.
      for (let length = 0; length <= steps.length; length++) {
        const run = new Run(threshold, max)
        for (const step of steps.slice(0, length)) run.step(step)
        run.heal()
      }
      return true
    },
    { arbitrary: { runs: 200 } }
  )

  it("such runs come through every state, with more probes than one", () => {
    const seen = new Set<string>()
    let random = 1
    for (let i = 0; i < 200; i++) {
      const run = new Run(2, 2)
      for (let step = 0; step < 60; step++) {
        random = (random * 48_271) % 2_147_483_647
        run.step(random % (16 * 7 * 7 * 4))
        const { view } = run.circuit
        seen.add(view._tag === "HalfOpen" ? `HalfOpen ${view.probes} ${view.successes}` : view._tag)
      }
    }
    for (const state of ["Closed", "Open", "Isolated", "HalfOpen 0 0", "HalfOpen 2 0", "HalfOpen 1 1"]) {
      assert.isTrue(seen.has(state), state)
    }
  })
})
