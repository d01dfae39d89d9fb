import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Random, References, Schedule, Stream } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as PoolError from "../../src/model/PoolError.ts"
import * as CircuitBreaker from "../../src/policy/CircuitBreaker.ts"
import { Passage } from "../../src/policy/internal/passage.ts"
import { resolve } from "../../src/policy/internal/circuitBreakerOptions.ts"
import { type Gate, perHost, through } from "../../src/policy/Policy.ts"
import {
  admit,
  answer,
  ask,
  bad,
  calls,
  circuit,
  type Circuit,
  ended,
  failed,
  ignored,
  info,
  interrupted,
  ok,
  open,
  refused,
  request,
  rested,
  tagOf,
  times
} from "../fixtures/circuits.ts"
import { start, tagged } from "../fixtures/pools.ts"
import { ManualTimers } from "../fixtures/time.ts"

describe("CircuitBreaker", () => {
  describe("what counts", () => {
    const refusedBy = new PoolError.ConnectError({ request: info, attempts: 1, phase: "tcp", sent: false })

    it("an attempt that a later gate refuses is ignored, whatever the refusal looks like", () => {
      const { breaker } = circuit({ consecutiveFailures: 1 })
      const later: Gate<PoolError.PoolError> = { admit: () => Effect.fail(refusedBy), settle: () => {} }
      ask(breaker, later).end(failed(refusedBy))
      assert.strictEqual(tagged(breaker.snapshot().state, "Closed").calls, 0)
    })

    it("a predicate replaces the classification", () => {
      const { breaker } = circuit({
        consecutiveFailures: 2,
        isFailure: (outcome) => (outcome._tag === "Response" ? outcome.response.status === 404 : undefined)
      })
      calls(breaker, bad, failed(new Error("no")), ended(404), failed(new Error("no")), ended(404))
      assert.strictEqual(tagOf(breaker), "Open")
    })

    it("a predicate is not asked about what was interrupted, died, or was never sent", () => {
      const asked: Array<string> = []
      const { breaker } = circuit({
        isFailure: (outcome) => {
          asked.push(outcome._tag)
          return undefined
        }
      })
      calls(breaker, interrupted, { _tag: "Defect", defect: 1 }, ok, { _tag: "Success", value: 1 }, failed("no"))
      ask(breaker, { admit: () => Effect.fail(refusedBy), settle: () => {} }).end(failed(refusedBy))
      assert.deepStrictEqual(asked, ["Response", "Success", "Failure"])
    })

    it("a predicate that throws leaves no probe behind", () => {
      let throws = false
      const { breaker, timers } = circuit({
        consecutiveFailures: 1,
        isFailure: (outcome) => {
          if (throws) throw new Error("bug")
          return CircuitBreaker.isFailure(outcome)
        }
      })
      calls(breaker, bad)
      timers.advance(30_000)
      throws = true
      assert.throws(() => admit(breaker).end(ok), "bug")
      assert.deepStrictEqual(breaker.snapshot().state, { _tag: "HalfOpen", probes: 0, successes: 0 })
      throws = false
      calls(breaker, ok)
      assert.strictEqual(tagOf(breaker), "Closed")
    })
  })

  describe("trips", () => {
    it("on consecutive failures, five by default", () => {
      const { breaker, changes } = circuit()
      calls(breaker, ...times(4, bad), ok, ...times(4, bad))
      assert.strictEqual(tagOf(breaker), "Closed")
      calls(breaker, bad)
      assert.deepStrictEqual(changes, [
        { from: "Closed", to: "Open", reason: "consecutiveFailures", openFor: Duration.seconds(30) }
      ])
    })

    it("not on consecutive failures when that rule is off", () => {
      const { breaker } = circuit({ consecutiveFailures: Infinity })
      calls(breaker, ...times(1000, bad))
      assert.strictEqual(tagOf(breaker), "Closed")
    })

    it("on consecutive failures with ignored ends among them", () => {
      const { breaker } = circuit({ consecutiveFailures: 2 })
      calls(breaker, bad, ignored, interrupted, bad)
      assert.strictEqual(tagOf(breaker), "Open")
    })

    it("on a failure rate over the last calls, from the minimum of calls on", () => {
      const { breaker, path } = circuit({
        consecutiveFailures: Infinity,
        failureRate: 0.5,
        windowCalls: 10,
        minimumCalls: 4
      })
      calls(breaker, bad, bad, bad)
      assert.deepStrictEqual(path(), [])
      calls(breaker, bad)
      assert.deepStrictEqual(path(), ["Open"])
    })

    it("on a failure rate that is reached, not only passed", () => {
      const { breaker } = circuit({ consecutiveFailures: Infinity, failureRate: 0.07, minimumCalls: 100 })
      calls(breaker, ...times(7, bad), ...times(92, ok))
      assert.strictEqual(tagOf(breaker), "Closed")
      calls(breaker, ok)
      assert.strictEqual(tagOf(breaker), "Open")
    })

    it("not on failures that have left the window of calls", () => {
      const { breaker } = circuit({ consecutiveFailures: Infinity, failureRate: 0.5, windowCalls: 4, minimumCalls: 4 })
      calls(breaker, bad, ok, ok, ok, ok, bad, ok, ok, ok, bad)
      const { state } = breaker.snapshot()
      assert.deepStrictEqual(state, { _tag: "Closed", calls: 4, failures: 1, slowCalls: 0, consecutiveFailures: 1 })
      calls(breaker, bad)
      assert.strictEqual(tagOf(breaker), "Open")
    })

    it("on a failure rate over the last time", () => {
      const { breaker, changes, timers } = circuit({
        consecutiveFailures: Infinity,
        failureRate: 0.5,
        windowDuration: 10_000,
        minimumCalls: 4
      })
      calls(breaker, ...times(3, bad))
      timers.advance(10_000)
      calls(breaker, bad, ok, ok)
      assert.strictEqual(tagged(breaker.snapshot().state, "Closed").calls, 3, "the first three are too old")
      calls(breaker, bad)
      assert.strictEqual(changes[0]?.reason, "failureRate")
    })

    it("on a share of slow calls, timed from admission to the end", () => {
      const { breaker, changes, timers } = circuit({
        slowCallRate: 0.5,
        slowCallDuration: 1000,
        windowCalls: 4,
        minimumCalls: 4
      })
      const slow = [admit(breaker), admit(breaker)]
      calls(breaker, ok)
      timers.advance(999)
      slow[0]!.end(ok)
      timers.advance(1)
      slow[1]!.end(ok)
      assert.strictEqual(tagged(breaker.snapshot().state, "Closed").slowCalls, 1)
      const last = admit(breaker)
      timers.advance(1000)
      last.end(ok)
      assert.deepStrictEqual(
        changes.map(({ reason }) => reason),
        ["slowCallRate"]
      )
    })

    it("not on slow calls that say nothing", () => {
      const { breaker, timers } = circuit({ slowCallRate: 0.5, slowCallDuration: 1, windowCalls: 1 })
      const slow = admit(breaker)
      timers.advance(1000)
      slow.end(interrupted)
      assert.strictEqual(tagged(breaker.snapshot().state, "Closed").slowCalls, 0)
    })

    it("by whichever rule is first", () => {
      const { breaker, changes } = circuit({ failureRate: 0.5, minimumCalls: 2 })
      calls(breaker, bad, bad)
      assert.strictEqual(changes[0]?.reason, "failureRate")
    })
  })

  describe("open", () => {
    it("refuses at once, for openFor, and says how long", () => {
      const { breaker, timers } = open({ openFor: 10_000 })
      timers.advance(4_000)
      const error = refused(breaker)
      assert.deepStrictEqual(error.retryAfter, Duration.seconds(6))
      assert.deepStrictEqual([error.attempts, error.request.url], [0, "http://test.local/x"])
      timers.advance(5_999)
      refused(breaker)
      assert.deepStrictEqual(breaker.snapshot(), {
        state: { _tag: "Open", retryAfter: Duration.millis(1) },
        opened: 1,
        rejected: 2
      })
      timers.advance(1)
      admit(breaker)
      assert.strictEqual(timers.size, 0, "nothing runs in the background")
    })

    it("counts in a refusal the attempts that were begun before", () => {
      const { breaker } = open()
      const third = new Passage([breaker.gate], request, 3)
      const refusal = third.enter()
      assert.isDefined(refusal)
      assert.strictEqual(Effect.runSync(Effect.flip(refusal)).attempts, 2)
    })

    it("takes the successive delays of a schedule, its last when it has ended, and begins anew after it has closed", () => {
      const { breaker, changes, timers } = circuit({
        consecutiveFailures: 1,
        openFor: Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))
      })
      const openings = (): ReadonlyArray<number> =>
        changes.flatMap(({ openFor }) => (openFor === undefined ? [] : [Duration.toMillis(openFor)]))
      calls(breaker, bad)
      for (let i = 0; i < 4; i++) {
        timers.advance(60_000)
        calls(breaker, bad)
      }
      assert.deepStrictEqual(openings(), [1000, 2000, 4000, 4000, 4000])
      timers.advance(60_000)
      calls(breaker, ok, bad)
      assert.deepStrictEqual(openings().slice(5), [1000])
    })

    it("jitters a schedule by the random numbers it was given", () => {
      const delay = (random: number) => {
        const jittered = Schedule.jittered(Schedule.spaced("10 seconds"))
        const { breaker, changes } = circuit({ consecutiveFailures: 1, openFor: jittered }, () => random)
        calls(breaker, bad)
        return Duration.toMillis(changes[0]!.openFor!)
      }
      assert.deepStrictEqual([delay(0), delay(0.5)], [8000, 10_000])
    })

    it("gives a schedule whole random numbers as well", () => {
      const delay = (random: number) => {
        const openFor = Schedule.modifyDelay(Schedule.spaced(0), () => Effect.map(Random.nextInt, Duration.millis))
        const { breaker, changes } = circuit({ consecutiveFailures: 1, openFor }, () => random)
        calls(breaker, bad)
        return Duration.toMillis(changes[0]!.openFor!)
      }
      assert.deepStrictEqual([delay(0.5), delay(0.75)], [0, 2 ** 52 - 1])
    })

    it("opens for the last known time when its schedule dies, and the attempt dies of that", () => {
      const defect = new Error("bug")
      const { breaker, changes } = circuit({
        consecutiveFailures: 1,
        openFor: Schedule.spaced("1 second").pipe(Schedule.tap(() => Effect.die(defect)))
      })
      const last = admit(breaker)
      assert.throws(() => last.end(bad), "bug")
      assert.deepStrictEqual(changes[0]?.openFor, Duration.seconds(30))
      assert.strictEqual(tagOf(breaker), "Open")
    })
  })

  describe("half-open", () => {
    it("admits one probe, and closes when it succeeds", () => {
      const { breaker, path, changes } = rested()
      const probe = admit(breaker)
      assert.deepStrictEqual(breaker.snapshot().state, { _tag: "HalfOpen", probes: 1, successes: 0 })
      assert.deepStrictEqual(refused(breaker).retryAfter, Duration.seconds(1))
      probe.end(ok)
      assert.deepStrictEqual(path(), ["Open", "HalfOpen", "Closed"])
      assert.deepStrictEqual(
        changes.map(({ reason }) => reason),
        ["consecutiveFailures", "elapsed", "probesSucceeded"]
      )
    })

    it("admits halfOpenMax probes, and closes after as many successes", () => {
      const { breaker } = rested({ halfOpenMax: 3 })
      const probes = [admit(breaker), admit(breaker), admit(breaker)]
      refused(breaker)
      probes[0]!.end(ok)
      probes[1]!.end(ok)
      refused(breaker)
      assert.strictEqual(tagOf(breaker), "HalfOpen")
      probes[2]!.end(ok)
      assert.strictEqual(tagOf(breaker), "Closed")
    })

    it("opens again on one failure", () => {
      const { breaker, changes, timers } = rested({ halfOpenMax: 3 })
      const probes = [admit(breaker), admit(breaker), admit(breaker)]
      probes[0]!.end(ok)
      probes[1]!.end(bad)
      assert.deepStrictEqual(changes.at(-1), {
        from: "HalfOpen",
        to: "Open",
        reason: "probeFailed",
        openFor: Duration.seconds(30)
      })
      timers.advance(29_999)
      refused(breaker)
      assert.strictEqual(breaker.snapshot().opened, 2)
    })

    it("opens again on a slow success where slow calls trip", () => {
      const { breaker, timers } = rested({ slowCallRate: 1, slowCallDuration: 1000 })
      const probe = admit(breaker)
      timers.advance(1000)
      probe.end(ok)
      assert.strictEqual(tagOf(breaker), "Open")
    })

    it("starts with nothing counted when it has closed", () => {
      const { breaker } = rested({ consecutiveFailures: 1 })
      calls(breaker, ok)
      assert.deepStrictEqual(breaker.snapshot().state, {
        _tag: "Closed",
        calls: 0,
        failures: 0,
        slowCalls: 0,
        consecutiveFailures: 0
      })
    })

    for (const [name, outcome] of [
      ["interrupted", interrupted],
      ["ignored", ignored],
      ["dead of a defect", { _tag: "Defect", defect: "bug" }]
    ] as const) {
      it(`a probe that is ${name} gives its permit back`, () => {
        const { breaker } = rested()
        for (let i = 0; i < 3; i++) {
          const probe = admit(breaker)
          refused(breaker)
          probe.end(outcome)
        }
        calls(breaker, ok)
        assert.strictEqual(tagOf(breaker), "Closed")
      })
    }

    it("a probe that a later gate refuses gives its permit back", () => {
      const { breaker } = rested()
      const error = new PoolError.PoolSaturated({
        request: info,
        attempts: 0,
        reason: "bulkhead",
        limit: 1,
        waiting: 0
      })
      const attempt = ask(breaker, { admit: () => Effect.fail(error), settle: () => {} })
      refused(breaker)
      attempt.end(failed(error))
      calls(breaker, ok)
      assert.strictEqual(tagOf(breaker), "Closed")
    })

    it("waits for a probe that does not end for 30 s, or as long as it was open, then admits one more beside it", () => {
      const { breaker, timers } = rested()
      const hung = admit(breaker)
      timers.advance(29_999)
      assert.deepStrictEqual(refused(breaker).retryAfter, Duration.millis(1))
      timers.advance(1)
      const second = admit(breaker)
      refused(breaker)
      second.end(ignored)
      timers.advance(29_999)
      refused(breaker)
      timers.advance(1)
      hung.end(ok)
      assert.strictEqual(tagOf(breaker), "Closed", "the old one still counts")

      const long = circuit({ consecutiveFailures: 1, openFor: 60_000 })
      calls(long.breaker, bad)
      long.timers.advance(60_000)
      admit(long.breaker)
      long.timers.advance(59_999)
      refused(long.breaker)
      long.timers.advance(1)
      calls(long.breaker, ok)
      assert.strictEqual(tagOf(long.breaker), "Closed")
    })

    it.effect("stampede: of a thousand callers at the moment it half-opens, halfOpenMax are admitted", () =>
      Effect.gen(function* () {
        const breaker = yield* CircuitBreaker.make({ consecutiveFailures: 1, halfOpenMax: 3 })
        yield* Effect.exit(breaker.guard(Effect.fail("down")))
        yield* TestClock.adjust("30 seconds")
        let running = 0
        let most = 0
        const call = Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++running)
          }),
          () => Effect.sleep("1 second"),
          () =>
            Effect.sync(() => {
              running--
            })
        )
        const callers = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 1000 }, () => Effect.exit(breaker.guard(call))),
            { concurrency: "unbounded" }
          ),
          { startImmediately: true }
        )
        yield* TestClock.adjust("1 second")
        const exits = yield* Fiber.join(callers)
        assert.deepStrictEqual([most, exits.filter(Exit.isSuccess).length], [3, 3])
        assert.strictEqual((yield* breaker.state)._tag, "Closed")
      })
    )
  })

  describe("the early gate", () => {
    const early = (breaker: Circuit): boolean => new Passage([breaker.early], request, 1).enter() === undefined

    it("refuses while the circuit is open, half-open without room, or isolated; takes and changes nothing", () => {
      const { breaker, timers } = open()
      assert.isFalse(early(breaker))
      timers.advance(30_000)
      assert.isTrue(early(breaker))
      assert.strictEqual(tagOf(breaker), "Open")
      const probe = admit(breaker)
      assert.isFalse(early(breaker))
      probe.end(ignored)
      for (let i = 0; i < 3; i++) assert.isTrue(early(breaker))
      calls(breaker, ok)
      assert.isTrue(early(breaker))
      Effect.runSync(breaker.isolate)
      assert.isFalse(early(breaker))
    })

    it("settles nothing", () => {
      const { breaker } = circuit({ consecutiveFailures: 1 })
      const passage = new Passage([breaker.early], request, 1)
      passage.enter()
      passage.leave(bad)
      assert.strictEqual(tagged(breaker.snapshot().state, "Closed").calls, 0)
    })

    it.effect("a probe that waits for a token holds no permit, whether it gets the token or not", () =>
      Effect.gen(function* () {
        const breaker = CircuitBreaker.makeUnsafe(resolve({ consecutiveFailures: 1, openFor: 1000 }), {
          timers: new ManualTimers(),
          random: Math.random
        })
        let tokens = 0
        const limiter: Gate<never> = {
          admit: () => (tokens > 0 ? void tokens-- : Effect.never),
          settle: () => {}
        }
        const send = (status: number) =>
          through<PoolError.CircuitOpen, never, never>([breaker.early, limiter, breaker.gate], request, () =>
            Effect.succeed(answer(status))
          )
        tokens = 1
        yield* send(503)
        assert.strictEqual(tagOf(breaker), "Open")
        assert.strictEqual((yield* Effect.flip(send(200)))._tag, "CircuitOpen", "refused before it waits")
        yield* breaker.close
        const waiting = yield* start(send(200))
        const openNow = admit(breaker)
        openNow.end(bad)
        yield* Fiber.interrupt(waiting)
        assert.strictEqual(tagOf(breaker), "Open", "what waits for a token has no part in the circuit")
      })
    )
  })

  describe("a late result of an older state", () => {
    it("does not close a circuit that is half-open", () => {
      const { breaker, timers } = circuit({ consecutiveFailures: 1 })
      const late = admit(breaker)
      calls(breaker, bad)
      timers.advance(30_000)
      admit(breaker)
      late.end(ok)
      assert.deepStrictEqual(breaker.snapshot().state, { _tag: "HalfOpen", probes: 1, successes: 0 })
    })

    it("does not open a circuit that is half-open", () => {
      const { breaker, timers } = circuit({ consecutiveFailures: 1 })
      const late = admit(breaker)
      calls(breaker, bad)
      timers.advance(30_000)
      admit(breaker)
      late.end(bad)
      assert.strictEqual(tagOf(breaker), "HalfOpen")
    })

    it("does not lengthen an open state", () => {
      const { breaker, timers } = circuit({ consecutiveFailures: 1 })
      const late = admit(breaker)
      calls(breaker, bad)
      timers.advance(29_999)
      late.end(bad)
      timers.advance(1)
      admit(breaker)
    })

    it("does not count in a circuit that has closed again", () => {
      const { breaker, timers } = circuit({ consecutiveFailures: 1 })
      const late = admit(breaker)
      calls(breaker, bad)
      timers.advance(30_000)
      calls(breaker, ok)
      late.end(bad)
      assert.strictEqual(tagged(breaker.snapshot().state, "Closed").calls, 0)
    })

    it("is not even judged", () => {
      let asked = 0
      const { breaker } = circuit({
        consecutiveFailures: 1,
        isFailure: () => {
          asked++
          return true
        }
      })
      const late = admit(breaker)
      calls(breaker, bad)
      late.end(bad)
      assert.strictEqual(asked, 1)
    })

    it("of an older half-open state gives no permit to a newer one", () => {
      const { breaker, timers } = rested({ halfOpenMax: 2 })
      const [late, failing] = [admit(breaker), admit(breaker)]
      failing.end(bad)
      timers.advance(30_000)
      admit(breaker)
      admit(breaker)
      late.end(ok)
      refused(breaker)
      assert.deepStrictEqual(breaker.snapshot().state, { _tag: "HalfOpen", probes: 2, successes: 0 })
    })
  })

  it("two circuits around one attempt each hear of it", () => {
    for (const outcome of [bad, interrupted]) {
      const outer = rested()
      const inner = rested()
      const attempt = ask(outer.breaker, inner.breaker.gate)
      assert.isTrue(attempt.admitted)
      attempt.end(outcome)
      for (const { breaker } of [outer, inner]) {
        assert.strictEqual(tagOf(breaker), outcome === bad ? "Open" : "HalfOpen")
        if (outcome === interrupted) calls(breaker, ok)
      }
    }
  })

  describe("by hand", () => {
    it("isolate opens it until told otherwise", () => {
      const { breaker, timers, changes } = circuit()
      Effect.runSync(breaker.isolate)
      Effect.runSync(breaker.isolate)
      timers.advance(1e9)
      assert.deepStrictEqual(refused(breaker).retryAfter, Duration.infinity)
      assert.deepStrictEqual(breaker.snapshot().state, { _tag: "Isolated" })
      Effect.runSync(breaker.close)
      calls(breaker, ok)
      assert.deepStrictEqual(
        changes.map(({ from, reason, to }) => [from, to, reason]),
        [
          ["Closed", "Isolated", "isolate"],
          ["Isolated", "Closed", "close"]
        ]
      )
    })

    it("close closes an open circuit, begins its openings anew, and leaves a closed one as it is", () => {
      const { breaker, changes } = circuit({ consecutiveFailures: 2, openFor: Schedule.exponential("1 second") })
      calls(breaker, bad)
      Effect.runSync(breaker.close)
      calls(breaker, bad)
      assert.strictEqual(tagOf(breaker), "Open")
      Effect.runSync(breaker.close)
      calls(breaker, bad, bad)
      assert.deepStrictEqual(changes.at(-1)?.openFor, Duration.seconds(1))
    })

    it("reset forgets what a closed circuit has counted, and those under way", () => {
      const { breaker, changes } = circuit({ consecutiveFailures: 2 })
      const late = admit(breaker)
      calls(breaker, bad)
      Effect.runSync(breaker.reset)
      late.end(bad)
      calls(breaker, bad)
      assert.strictEqual(tagOf(breaker), "Closed")
      assert.deepStrictEqual(changes, [])
      calls(breaker, bad)
      Effect.runSync(breaker.reset)
      assert.strictEqual(changes.at(-1)?.reason, "reset")
    })

    it("a probe under way changes nothing in what was set by hand", () => {
      for (const operation of ["isolate", "close", "reset"] as const) {
        const { breaker } = rested()
        const probe = admit(breaker)
        Effect.runSync(breaker[operation])
        const before = breaker.snapshot()
        probe.end(bad)
        assert.deepStrictEqual(breaker.snapshot(), before)
      }
    })

    it("a listener that changes the circuit while it is told of a change is obeyed", () => {
      const timers = new ManualTimers()
      for (const operation of ["isolate", "close"] as const) {
        const breaker: Circuit = CircuitBreaker.makeUnsafe(resolve({ consecutiveFailures: 1, openFor: 10 }), {
          timers,
          random: Math.random,
          onChange: ({ to }) => {
            if (to === "HalfOpen") Effect.runSync(breaker[operation])
          }
        })
        calls(breaker, bad)
        timers.advance(10)
        assert.strictEqual(ask(breaker).admitted, operation === "close")
      }
    })

    it("a predicate that changes the circuit is obeyed", () => {
      const { breaker } = circuit({
        consecutiveFailures: 1,
        isFailure: () => {
          Effect.runSync(breaker.isolate)
          return true
        }
      })
      calls(breaker, ok)
      assert.strictEqual(tagOf(breaker), "Isolated")
    })
  })

  describe("changes", () => {
    it.effect("are a stream of what happens from then on, for any number of listeners", () =>
      Effect.gen(function* () {
        const { breaker } = open()
        const listen = start(Stream.runCollect(Stream.take(breaker.changes, 2)))
        const listeners = [yield* listen, yield* listen]
        yield* breaker.isolate
        yield* breaker.close
        for (const listener of listeners) {
          const seen = yield* Fiber.join(listener)
          assert.deepStrictEqual(
            seen.map(({ to }) => to),
            ["Isolated", "Closed"]
          )
        }
      })
    )
  })

  describe("make", () => {
    it.effect("lists everything that is wrong with the options", () =>
      Effect.gen(function* () {
        const { problems } = yield* Effect.flip(
          CircuitBreaker.make({
            consecutiveFailures: 0,
            failureRate: 1.5,
            slowCallRate: 0.5,
            windowCalls: 10,
            windowDuration: "10 seconds",
            openFor: "Infinity",
            halfOpenMax: 0
          })
        )
        assert.deepStrictEqual(
          problems.map(({ path }) => path),
          ["consecutiveFailures", "failureRate", "openFor", "halfOpenMax", "slowCallRate", "windowDuration"]
        )
      })
    )

    it.effect("refuses what could never trip", () =>
      Effect.gen(function* () {
        const paths = (options: CircuitBreaker.Options) =>
          Effect.map(Effect.flip(CircuitBreaker.make(options)), ({ problems }) => problems.map(({ path }) => path))
        assert.deepStrictEqual(yield* paths({ slowCallDuration: "1 second" }), ["slowCallDuration"])
        assert.deepStrictEqual(yield* paths({ failureRate: 0.5, minimumCalls: 101 }), ["minimumCalls"])
        const made = yield* CircuitBreaker.make({ failureRate: 0.5, minimumCalls: 101, windowDuration: "1 minute" })
        assert.strictEqual(made.snapshot().state._tag, "Closed")
      })
    )

    it("expects no more calls than the window holds", () => {
      assert.strictEqual(resolve({ windowCalls: 5 }).minimumCalls, 5)
      assert.strictEqual(resolve({}).minimumCalls, 20)
      assert.strictEqual(resolve({ windowCalls: 5, windowDuration: 1000 }).minimumCalls, 20)
      assert.strictEqual(resolve({ minimumCalls: 3 }).minimumCalls, 3)
    })

    it.effect("takes a schedule, a predicate and every other option", () =>
      Effect.gen(function* () {
        const breaker = yield* CircuitBreaker.make({
          consecutiveFailures: 1,
          failureRate: 1,
          slowCallRate: 1,
          slowCallDuration: "1 second",
          windowCalls: 10,
          minimumCalls: 10,
          openFor: Schedule.spaced("1 second"),
          halfOpenMax: 2,
          isFailure: () => true
        })
        yield* breaker.guard(Effect.succeed(1))
        assert.deepStrictEqual(yield* breaker.state, { _tag: "Open", retryAfter: Duration.seconds(1) })
      })
    )
  })

  describe("around a client", () => {
    const flaky = (statuses: Record<string, number>) => {
      const sent: Array<string> = []
      const client = HttpClient.make((request, url) => {
        sent.push(url.host)
        return Effect.succeed(
          HttpClientResponse.fromWeb(request, new Response(null, { status: statuses[url.host] ?? 200 }))
        )
      })
      return { client, sent }
    }

    it.effect("a status is a failure though it is no error, and the failing response is still given", () =>
      Effect.gen(function* () {
        const { client, sent } = flaky({ a: 503 })
        const breaker = yield* CircuitBreaker.make({ consecutiveFailures: 2 })
        const guarded = breaker.wrap(client)
        assert.strictEqual((yield* guarded.get("http://a/")).status, 503)
        yield* guarded.get("http://a/")
        const error = yield* Effect.flip(guarded.get("http://a/"))
        assert.strictEqual(error._tag, "CircuitOpen")
        assert.strictEqual(sent.length, 2)
      })
    )

    it.effect("one breaker is shared by all hosts; perHost makes one for each", () =>
      Effect.gen(function* () {
        const { client } = flaky({ a: 503 })
        const shared = (yield* CircuitBreaker.make({ consecutiveFailures: 1 })).wrap(client)
        yield* shared.get("http://a/")
        assert.strictEqual((yield* Effect.flip(shared.get("http://b/")))._tag, "CircuitOpen")

        const each = perHost(CircuitBreaker.make({ consecutiveFailures: 1 }))(client)
        yield* each.get("http://a/")
        assert.strictEqual((yield* each.get("http://b/")).status, 200)
        assert.strictEqual((yield* Effect.flip(each.get("http://a/")))._tag, "CircuitOpen")
      })
    )
  })

  // The guarded effect is interrupted at another operation in each run.
  it.live("an interruption at any moment leaves the circuit able to close", () =>
    Effect.gen(function* () {
      for (let budget = 3; budget < 13; budget++) {
        for (let moment = 0; moment < 12; moment++) {
          const { breaker } = rested()
          const probe = yield* breaker
            .guard(Effect.andThen(Effect.yieldNow, Effect.yieldNow))
            .pipe(
              Effect.provideService(References.MaxOpsBeforeYield, budget),
              Effect.forkChild({ startImmediately: true })
            )
          for (let i = 0; i < moment; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(probe)
          if (tagOf(breaker) !== "Closed") yield* breaker.guard(Effect.void)
          assert.strictEqual(tagOf(breaker), "Closed")
        }
      }
    })
  )
})
