import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Logger, References, Schedule, Scope } from "effect"
import { HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { PoolClosed, type PoolError } from "../../src/model/PoolError.ts"
import type * as CircuitBreaker from "../../src/policy/CircuitBreaker.ts"
import { resolve as resolveCircuit } from "../../src/policy/internal/circuitBreakerOptions.ts"
import { makeUnsafe as makeCircuit } from "../../src/policy/CircuitBreaker.ts"
import * as Timers from "../../src/model/internal/timers.ts"
import { Passage } from "../../src/policy/internal/passage.ts"
import * as Policy from "../../src/policy/Policy.ts"
import type * as RateLimit from "../../src/policy/RateLimit.ts"
import * as SharedPolicies from "../../src/policy/SharedPolicies.ts"
import { request } from "../fixtures/circuits.ts"
import { start, tagged, turn } from "../fixtures/pools.ts"
import { closed, halfOpen, MemoryStore, open } from "../fixtures/sharedStore.ts"

const begin = Effect.fnUntraced(function* (options: SharedPolicies.Options = {}) {
  const store = new MemoryStore()
  const policies = yield* SharedPolicies.make(store, options)
  return {
    store,
    limit: (limit: Partial<RateLimit.Options> = {}) =>
      Effect.provideService(
        SharedPolicies.rateLimit("k", { limit: 10, interval: "1 second", ...limit }),
        SharedPolicies.SharedPolicies,
        policies
      ),
    breaker: (breaker: CircuitBreaker.Options = {}) =>
      Effect.provideService(SharedPolicies.circuitBreaker("k", breaker), SharedPolicies.SharedPolicies, policies),
    policies
  }
})

const passes = <E>(policy: Policy.Policy<E>) => Effect.map(Effect.exit(policy.guard(Effect.void)), Exit.isSuccess)

/** A gate that refuses, behind another. */
const refusing: Policy.Gate<PoolClosed> = {
  admit: (attempt) => Effect.fail(new PoolClosed({ request: attempt.info, attempts: 0 })),
  settle: () => {}
}

const respond = (
  policy: { readonly gate: Policy.Gate<unknown> },
  status: number,
  headers: Record<string, string> = {}
) =>
  Policy.through([policy.gate], request, () =>
    Effect.succeed(HttpClientResponse.fromWeb(request, new Response(null, { status, headers })))
  )

/** Until the store has heard of everything, however many turns its answers take. */
const settled = Effect.repeat(turn, { times: 10 })

const collect = () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => {
    lines.push(String(message))
  })
  return { lines, logged: Effect.provide(Logger.layer([logger])) }
}

const all = <A, E>(effect: Effect.Effect<A, E>, times: number) =>
  Effect.all(
    Array.from({ length: times }, () => effect),
    { concurrency: "unbounded" }
  )

describe("SharedPolicies: a rate limit", () => {
  it.effect("is local where the context has no shared policies", () =>
    Effect.gen(function* () {
      const limit = yield* SharedPolicies.rateLimit("k", { limit: 1, interval: "1 second", maxWait: 0 })
      const breaker = yield* SharedPolicies.circuitBreaker("k", { consecutiveFailures: 1 })
      assert.deepStrictEqual([yield* passes(limit), yield* passes(limit)], [true, false])
      yield* Effect.exit(breaker.guard(Effect.fail("x")))
      assert.isFalse(yield* passes(breaker))
    })
  )

  it.effect("a layer provides the shared policies of a store", () =>
    Effect.gen(function* () {
      const store = new MemoryStore()
      const limit = SharedPolicies.rateLimit("k", { limit: 1, interval: "1 second" })
      yield* Effect.provide(Effect.flatMap(limit, passes), SharedPolicies.layer(store))
      assert.deepStrictEqual(store.asked, ["take 1"])
    })
  )

  it.effect("options that are not valid are all told at once", () =>
    Effect.gen(function* () {
      const limit = yield* Effect.flip(SharedPolicies.rateLimit("k", { limit: 0, interval: 0 }))
      assert.strictEqual(limit.problems.length, 2)
      const circuit = yield* Effect.flip(SharedPolicies.circuitBreaker("k", { halfOpenMax: 0, minimumCalls: 0 }))
      assert.strictEqual(circuit.problems.length, 2)
      const shared = yield* Effect.flip(
        Effect.scoped(SharedPolicies.make(new MemoryStore(), { timeout: 0, retryInterval: -1 }))
      )
      assert.strictEqual(shared.problems.length, 2)
    })
  )

  it.effect("one question at a time, for all that wait: the store's load does not grow with the process's", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      const shared = yield* limit()
      const passed = yield* all(passes(shared), 100)
      assert.isTrue(passed.every(Boolean))
      assert.deepStrictEqual(
        store.asked.map((what) => what.split(",").length),
        [1, 64, 35]
      )
    })
  )

  it.effect("who is not granted waits as long as the store says, first come, first served", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      store.tokens = 1
      const shared = yield* limit()
      const order: Array<number> = []
      for (let i = 0; i < 3; i++) yield* start(shared.guard(Effect.sync(() => order.push(i))))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(order, [0])
      assert.strictEqual(shared.snapshot().waiting, 2)
      assert.strictEqual(shared.snapshot().available, 0)
      store.tokens = 1
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(order, [0, 1])
      store.tokens = 1
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(order, [0, 1, 2])
      assert.include(store.asked, "take 1,1 waited")
    })
  )

  it.effect("maxWait and maxQueue: who must not wait so long fails at once, and says how long it would have been", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      store.tokens = 0
      const hasty = yield* limit({ maxWait: 500 })
      const refused = yield* Effect.flip(hasty.guard(Effect.void))
      assert.strictEqual(Duration.toMillis(refused.retryAfter), 1_000)
      assert.isUndefined(refused.reason)
      const narrow = yield* limit({ maxQueue: 2 })
      const fibers = []
      for (let i = 0; i < 5; i++) fibers.push(yield* Effect.forkChild(passes(narrow), { startImmediately: true }))
      yield* turn
      assert.strictEqual(narrow.snapshot().waiting, 2)
      assert.isFalse(yield* passes(narrow), "the line is known to be full")
      const patient = yield* limit({ maxWait: 1_500 })
      const waiter = yield* start(passes(patient))
      yield* TestClock.adjust(600)
      assert.isTrue(yield* Effect.map(Effect.exit(Effect.timeoutOption(Fiber.join(waiter), 0)), Exit.isSuccess))
      yield* TestClock.adjust(400)
      assert.isFalse(yield* Fiber.join(waiter), "it has waited long enough")
      store.tokens = 2
      yield* TestClock.adjust(1_000)
      const passed = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(passed, [true, true, false, false, false])
    })
  )

  it.effect("a cost above what there can ever be is a typed error; a cost is rounded up", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      const dear = yield* limit({ cost: () => 10.5 })
      const refused = yield* Effect.flip(dear.guard(Effect.void))
      assert.strictEqual(Duration.toMillis(refused.retryAfter), Infinity)
      assert.deepStrictEqual(store.asked, [])
      yield* (yield* limit({ cost: () => 1.5 })).guard(Effect.void)
      assert.deepStrictEqual(store.asked, ["take 2"])
    })
  )

  it.effect("when the first in the line leaves, the next one's cost is asked for at once", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      store.tokens = 1
      let cost = 2
      const shared = yield* limit({ cost: () => cost })
      const first = yield* start(passes(shared))
      cost = 1
      const second = yield* start(passes(shared))
      yield* Fiber.interrupt(first)
      assert.isTrue(yield* Fiber.join(second))
    })
  )

  it.effect("one that was never sent gives its tokens back, once", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      store.tokens = 5
      const shared = yield* limit()
      yield* Effect.exit(Policy.fromGates<unknown>([shared.gate, refusing]).guard(Effect.void))
      yield* turn
      assert.deepStrictEqual(store.asked, ["take 1", "giveBack 1"])
      yield* respond(shared, 200)
      assert.strictEqual(store.tokens, 4)
    })
  )

  it.effect("an answer that comes too late is given back", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      store.tokens = 5
      store.mode = "held"
      const shared = yield* limit()
      const attempt = yield* start(passes(shared))
      yield* TestClock.adjust(250)
      assert.isTrue(yield* Fiber.join(attempt), "the local limit has it")
      // The store is found again, and then comes the answer to the first question.
      yield* store.answer
      yield* TestClock.adjust(100)
      yield* turn
      assert.strictEqual(store.tokens, 4)
    }).pipe(collect().logged)
  )

  it.effect("a pause that a response asks for is for all; without respectHeaders it is not heard", () =>
    Effect.gen(function* () {
      const { limit, policies, store } = yield* begin()
      const shared = yield* limit({ maxPause: "2 seconds" })
      yield* respond(shared, 429, { "retry-after": "1" })
      yield* respond(shared, 429, { "retry-after": "100" })
      yield* respond(shared, 429, { "retry-after": "0" })
      yield* turn
      assert.deepStrictEqual(
        store.asked.filter((what) => what.startsWith("pause")),
        ["pause 1000", "pause 2000"]
      )
      assert.strictEqual(Duration.toMillis(shared.snapshot().pausedFor), 2_000)
      yield* respond(yield* limit({ respectHeaders: false }), 429, { "retry-after": "1" })
      assert.strictEqual(store.asked.filter((what) => what.startsWith("pause")).length, 2)
      void policies
    })
  )

  it.effect.each([3, 4, 5, 6, 7, 9, 11, 13])(
    "law: what is taken and not given back is what was sent, whenever attempts are interrupted (budget %d)",
    (budget) =>
      Effect.gen(function* () {
        const { limit, store } = yield* begin()
        let seed = budget
        const random = (n: number) => (seed = (seed * 48_271) % 2_147_483_647) % n
        store.turns = () => random(3)
        store.tokens = 40
        store.wait = 1
        let cost = 0
        const shared = yield* limit({ cost: () => cost })
        let sent = 0
        const costs = new Map<Policy.Attempt, number>()
        const counting: Policy.Gate<never> = {
          admit: (attempt) => {
            cost = 1 + random(3)
            costs.set(attempt, cost)
            return undefined
          },
          settle: (attempt) => {
            if (attempt.sent) sent += costs.get(attempt) ?? 0
          }
        }
        const sometimes: Policy.Gate<PoolClosed> = {
          ...refusing,
          admit: (attempt) => (random(4) === 0 ? refusing.admit(attempt) : undefined)
        }
        const policy = Policy.fromGates<unknown>([counting, shared.gate, ...(budget % 2 === 0 ? [] : [sometimes])])
        const before = store.tokens
        const fibers = []
        for (let i = 0; i < 60; i++) {
          fibers.push(
            yield* policy
              .guard(random(2) === 0 ? Effect.yieldNow : Effect.void)
              .pipe(
                Effect.provideService(References.MaxOpsBeforeYield, budget),
                Effect.forkChild({ startImmediately: random(2) === 0 })
              )
          )
          for (let turns = random(4); turns > 0; turns--) yield* Effect.yieldNow
          if (random(2) === 0) yield* Fiber.interrupt(fibers[random(fibers.length)]!)
        }
        yield* Effect.forEach(fibers, Fiber.interrupt, { discard: true })
        yield* settled
        assert.isAbove(sent, 0)
        assert.strictEqual(before - store.tokens, sent)
        assert.strictEqual(shared.snapshot().waiting, 0)
      })
  )
})

describe("SharedPolicies: an attempt that is interrupted after it was woken, before it came back", () => {
  const wokenAndGone = Effect.fnUntraced(function* (gate: Policy.Gate<PoolError>) {
    const passage = new Passage<PoolError>([gate], request, 1)
    const wait = passage.enter()
    assert.isDefined(wait)
    yield* wait ?? Effect.void
    assert.isFalse(passage.sent)
    passage.leave({ _tag: "Interrupted" })
    yield* turn
  })

  it.effect("gives its tokens back", () =>
    Effect.gen(function* () {
      const { limit, store } = yield* begin()
      store.tokens = 7
      yield* wokenAndGone((yield* limit()).gate)
      assert.deepStrictEqual(store.asked, ["take 1", "giveBack 1"])
      assert.strictEqual(store.tokens, 7)
    })
  )

  it.effect("gives its lease back", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      store.view = halfOpen
      yield* wokenAndGone((yield* breaker()).gate)
      assert.strictEqual(store.leases.size, 0)
    })
  )
})

describe("SharedPolicies: when the store is gone", () => {
  it.effect(
    "local: nobody waits for it, a warning once; it is looked at at growing intervals; back is told once",
    () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const { limit, store } = yield* begin({ retryInterval: "500 millis" })
        const shared = yield* limit({ limit: 2, maxWait: 0 })
        store.mode = "failing"
        assert.deepStrictEqual(
          [yield* passes(shared), yield* passes(shared), yield* passes(shared)],
          [true, true, false],
          "the local limit counts from here on"
        )
        assert.strictEqual(store.asked.length, 1, "the store is not asked any more")
        assert.strictEqual(shared.snapshot().available, 0, "of the local limit")
        yield* turn
        assert.strictEqual(lines.length, 1)
        assert.include(lines[0], "ECONNREFUSED")
        const looks = () => store.asked.filter((what) => what === "check").length
        const seen: Array<number> = []
        for (let millis = 0; millis < 2_000; millis += 100) {
          yield* TestClock.adjust(100)
          yield* turn
          seen.push(looks())
        }
        assert.deepStrictEqual(seen, [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5])
        store.mode = "up"
        yield* TestClock.adjust(200)
        yield* turn
        assert.strictEqual(lines.length, 1, "it answers, but has not done anything yet")
        assert.isTrue(yield* passes(shared))
        yield* turn
        assert.strictEqual(lines.length, 2)
        assert.include(lines[1], "together again")
      }).pipe(logged)
    }
  )

  it.effect("what only answers looks and fails again is the same outage: no second warning", () => {
    const { lines, logged } = collect()
    return Effect.gen(function* () {
      const { limit, store } = yield* begin()
      const shared = yield* limit()
      for (let i = 0; i < 10; i++) {
        store.mode = "failing"
        assert.isTrue(yield* passes(shared))
        store.mode = "up"
        yield* TestClock.adjust(1_000)
        yield* turn
      }
      assert.strictEqual(lines.length, 1)
    }).pipe(logged)
  })

  it.effect("silent: one waits for the timeout, the others do not", () => {
    const { lines, logged } = collect()
    return Effect.gen(function* () {
      const { limit, store } = yield* begin({ timeout: "50 millis" })
      const shared = yield* limit()
      store.mode = "silent"
      const first = yield* start(passes(shared))
      yield* TestClock.adjust(49)
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isTrue(yield* Fiber.join(first))
      assert.isTrue(yield* passes(shared))
      yield* turn
      assert.include(lines[0], "50 ms")
      yield* TestClock.adjust(10_000)
      assert.strictEqual(lines.length, 1)
    }).pipe(logged)
  })

  it.effect("fail: requests fail with a typed error that says so, and when it is looked at again", () => {
    const { lines, logged } = collect()
    return Effect.gen(function* () {
      const { breaker, limit, store } = yield* begin({ onUnavailable: "fail" })
      const shared = yield* limit()
      const circuit = yield* breaker()
      store.mode = "failing"
      const refused = yield* Effect.flip(shared.guard(Effect.void))
      assert.strictEqual(refused.reason, "storeUnavailable")
      assert.include(refused.message, "does not answer")
      assert.strictEqual(Duration.toMillis(refused.retryAfter), 100)
      const opened = yield* Effect.flip(circuit.guard(Effect.void))
      assert.strictEqual(opened.reason, "storeUnavailable")
      assert.include(opened.message, "circuit breaker")
      const early = yield* Effect.flip(Policy.fromGates([circuit.early]).guard(Effect.void))
      assert.strictEqual(early.reason, "storeUnavailable")
      yield* turn
      assert.include(lines[0], "requests under them fail")
    }).pipe(logged)
  })

  it.effect(
    "who waits for tokens of the store goes to the local limit, and keeps its place there when it is back",
    () =>
      Effect.gen(function* () {
        const { limit, store } = yield* begin()
        const shared = yield* limit({ limit: 1 })
        store.tokens = 0
        const first = yield* start(passes(shared))
        const second = yield* start(passes(shared))
        store.mode = "failing"
        yield* TestClock.adjust(1_000)
        yield* turn
        assert.isTrue(yield* Fiber.join(first))
        store.mode = "up"
        yield* TestClock.adjust(500)
        const leaver = yield* start(passes(shared))
        yield* Fiber.interrupt(leaver)
        assert.isUndefined(second.pollUnsafe())
        yield* TestClock.adjust(500)
        assert.isTrue(yield* Fiber.join(second))
      }).pipe(collect().logged)
  )

  it.effect(
    "an attempt that waits in the local line leaves it when it is interrupted, and one that was not sent gives back",
    () =>
      Effect.gen(function* () {
        const { limit, store } = yield* begin()
        const shared = yield* limit({ limit: 1 })
        store.mode = "failing"
        yield* Effect.exit(Policy.fromGates<unknown>([shared.gate, refusing]).guard(Effect.void))
        assert.isTrue(yield* passes(shared))
        const waiter = yield* start(passes(shared))
        assert.strictEqual(shared.snapshot().waiting, 1)
        yield* Fiber.interrupt(waiter)
        assert.strictEqual(shared.snapshot().waiting, 0)
      }).pipe(collect().logged)
  )

  it.effect("after the scope nobody waits for it: what waited is local", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { breaker, limit, store } = yield* Effect.provideService(begin(), Scope.Scope, scope)
      const shared = yield* limit()
      const circuit = yield* breaker()
      store.mode = "silent"
      const waiting = [yield* start(passes(shared)), yield* start(passes(circuit))]
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Effect.forEach(waiting, Fiber.join), [true, true])
      assert.deepStrictEqual([yield* passes(shared), yield* passes(circuit)], [true, true])
    }).pipe(collect().logged)
  )
})

describe("SharedPolicies: a circuit breaker", () => {
  it.effect("closed: it is asked once, for all, and again when what is known is older than maxStaleness", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker()
      assert.isTrue((yield* all(passes(shared), 50)).every(Boolean))
      const enters = () => store.asked.filter((what) => what.startsWith("enter")).length
      assert.isAtMost(enters(), 2)
      const before = enters()
      yield* TestClock.adjust(99)
      yield* passes(shared)
      assert.strictEqual(enters(), before)
      yield* TestClock.adjust(200)
      yield* passes(shared)
      assert.strictEqual(enters(), before + 1)
      assert.strictEqual(shared.snapshot().state._tag, "Closed")
    })
  )

  it.effect("maxStaleness 0: it is asked each time", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin({ maxStaleness: 0 })
      const shared = yield* breaker()
      for (let i = 0; i < 3; i++) assert.isTrue(yield* passes(shared))
      assert.strictEqual(store.asked.filter((what) => what === "enter 1").length, 3)
    })
  )

  it.effect("open: refused until its time is over, without asking, early too", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker()
      store.view = open
      const refused = yield* Effect.flip(shared.guard(Effect.void))
      assert.strictEqual(Duration.toMillis(refused.retryAfter), 1_000)
      const asked = store.asked.length
      yield* TestClock.adjust(600)
      const second = yield* Effect.flip(shared.guard(Effect.void))
      assert.strictEqual(Duration.toMillis(second.retryAfter), 400)
      assert.isFalse(yield* passes(Policy.fromGates([shared.early])))
      assert.strictEqual(store.asked.length, asked)
      assert.strictEqual(tagged(shared.snapshot().state, "Open").retryAfter.pipe(Duration.toMillis), 400)
      assert.strictEqual(shared.snapshot().opened, 1)
      assert.strictEqual(shared.snapshot().rejected, 3)
      store.view = closed
      yield* TestClock.adjust(400)
      assert.isTrue(yield* passes(Policy.fromGates<unknown>([shared.early, shared.gate])))
    })
  )

  it.effect("half-open: who has a lease is a probe, the others are refused; its end is told at once", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker({ openFor: "3 seconds" })
      store.view = halfOpen
      const probe = yield* start(shared.guard(Effect.sleep("1 second")))
      assert.isTrue((yield* all(passes(shared), 3)).every((passed) => !passed))
      const refused = yield* Effect.flip(shared.guard(Effect.void))
      assert.strictEqual(Duration.toMillis(refused.retryAfter), 500)
      assert.strictEqual(tagged(shared.snapshot().state, "HalfOpen").successes, 0)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(probe)
      yield* turn
      assert.deepStrictEqual(store.asked.slice(-1), ["endProbe 3 0 0"])
      yield* respond(shared, 503)
      yield* turn
      assert.deepStrictEqual(store.asked.slice(-1), ["endProbe 3 1 3000"])
    })
  )

  it.effect(
    "a probe that says nothing gives its lease back: interrupted, refused behind it, ignored, or its predicate throws",
    () =>
      Effect.gen(function* () {
        const { breaker, store } = yield* begin()
        store.view = halfOpen
        const shared = yield* breaker()
        const interrupted = yield* start(shared.guard(Effect.never))
        assert.strictEqual(store.leases.size, 1)
        yield* Fiber.interrupt(interrupted)
        yield* turn
        assert.strictEqual(store.leases.size, 0)
        yield* Effect.exit(Policy.fromGates<unknown>([shared.gate, refusing]).guard(Effect.void))
        yield* turn
        yield* respond(shared, 429)
        yield* turn
        const throwing = yield* breaker({
          isFailure: () => {
            throw new Error("a bug")
          }
        })
        yield* Effect.exit(throwing.guard(Effect.void))
        yield* turn
        assert.strictEqual(store.leases.size, 0)
        assert.deepStrictEqual(
          store.asked.filter((what) => what.startsWith("endProbe")),
          Array.from({ length: 4 }, () => "endProbe 3 none 0")
        )
      })
  )

  it.effect("a lease that comes too late is given back", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      store.view = halfOpen
      store.mode = "held"
      const shared = yield* breaker()
      const attempt = yield* start(passes(shared))
      yield* TestClock.adjust(250)
      assert.isTrue(yield* Fiber.join(attempt), "the local circuit is closed")
      store.mode = "up"
      yield* TestClock.adjust(100)
      yield* turn
      yield* store.answer
      yield* turn
      assert.strictEqual(store.leases.size, 0)
    }).pipe(collect().logged)
  )

  it.effect("failures are told at once, successes together; what says nothing is not told", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker({ slowCallRate: 0.5, slowCallDuration: "1 second", openFor: "7 seconds" })
      const told = () => store.asked.filter((what) => what.startsWith("record"))
      for (const status of [200, 404, 429, 200]) yield* respond(shared, status)
      yield* turn
      assert.deepStrictEqual(told(), [])
      yield* TestClock.adjust(10)
      yield* turn
      assert.deepStrictEqual(told(), ["record 1 000 7000"])
      yield* respond(shared, 200)
      yield* respond(shared, 500)
      yield* turn
      assert.deepStrictEqual(told().slice(1), ["record 1 01 7000"])
      const slow = yield* start(shared.guard(Effect.sleep("1 second")))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(slow)
      yield* turn
      assert.deepStrictEqual(told().slice(2), ["record 1 2 7000"])
      yield* Effect.exit(shared.guard(Effect.interrupt))
      yield* Effect.exit(shared.guard(Effect.die("a bug")))
      yield* TestClock.adjust(10)
      assert.strictEqual(told().length, 3)
    })
  )

  it.effect("a late result of an older generation is not told", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin({ maxStaleness: 0 })
      const shared = yield* breaker()
      const late = yield* start(Effect.exit(shared.guard(Effect.andThen(Effect.sleep("1 second"), Effect.fail("x")))))
      store.view = { ...closed, generation: 9 }
      assert.isTrue(yield* passes(shared))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(late)
      yield* turn
      assert.isFalse(store.asked.some((what) => what.startsWith("record 1 ")))
    })
  )

  it.effect("openings that grow take the delay for as often as all processes have seen it open", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker({ openFor: Schedule.exponential("1 second") })
      const delayAfter = Effect.fnUntraced(function* (openings: number) {
        store.view = { ...halfOpen, generation: 10 + store.asked.length, openings }
        yield* respond(shared, 500)
        yield* turn
        return Number(store.asked.at(-1)?.split(" ").at(-1))
      })
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 4, 0], delayAfter), [2_000, 4_000, 16_000, 1_000])
    })
  )

  it.effect("each process tells of the changes that it sees, whoever made them", () =>
    Effect.gen(function* () {
      const { policies, store } = yield* begin({ maxStaleness: 0 })
      const timers = Timers.make(yield* Effect.context<never>())
      const changes: Array<string> = []
      const resolved = resolveCircuit({})
      const face = policies.circuitBreaker(
        "k",
        resolved,
        makeCircuit(resolved, { timers, random: () => 0.5 }),
        (change) => {
          changes.push(
            `${change.from} ${change.to} ${change.reason} ${change.openFor === undefined ? "" : Duration.toMillis(change.openFor)}`
          )
        }
      )
      const policy = Policy.fromGates([face.gate])
      for (const view of [
        closed,
        { ...open, remaining: 0 },
        { ...open, generation: 7, remaining: 0 },
        halfOpen,
        { ...closed, generation: 8, reason: "probesSucceeded" as const }
      ]) {
        store.view = view
        yield* passes(policy)
      }
      assert.deepStrictEqual(changes, [
        "Closed Open failureRate 1000",
        "HalfOpen Open failureRate 1000",
        "Open HalfOpen elapsed ",
        "HalfOpen Closed probesSucceeded "
      ])
    })
  )

  it.effect("two circuits around one attempt do not mix up their admissions", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const outer = yield* breaker({ openFor: "1 second" })
      const inner = yield* breaker({ openFor: "2 seconds" })
      yield* Effect.exit(Policy.fromGates<unknown>([outer.gate, inner.gate]).guard(Effect.fail("x")))
      yield* turn
      assert.deepStrictEqual(
        store.asked.filter((what) => what.startsWith("record")),
        ["record 1 1 2000", "record 1 1 1000"]
      )
    })
  )

  it.effect("gone: the local circuit, early too, until it is back", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker({ consecutiveFailures: 1 })
      store.mode = "failing"
      yield* Effect.exit(shared.guard(Effect.fail("x")))
      assert.isFalse(yield* passes(shared))
      assert.isFalse(yield* passes(Policy.fromGates([shared.early])))
      assert.strictEqual(shared.snapshot().state._tag, "Open")
      store.mode = "up"
      yield* TestClock.adjust(100)
      yield* turn
      assert.isTrue(yield* passes(shared))
    }).pipe(collect().logged)
  )

  it.effect("gone while ends are on their way: they are lost, and nothing else", () =>
    Effect.gen(function* () {
      const { breaker, store } = yield* begin()
      const shared = yield* breaker()
      yield* respond(shared, 200)
      store.mode = "failing"
      yield* respond(shared, 500)
      yield* turn
      const asked = store.asked.length
      yield* TestClock.adjust(20)
      assert.strictEqual(store.asked.length, asked)
      assert.isTrue(yield* passes(shared))
    }).pipe(collect().logged)
  )

  it.effect.each([3, 4, 5, 6, 7, 9, 11, 13])(
    "law: every lease comes back, whenever attempts are interrupted (budget %d)",
    (budget) =>
      Effect.gen(function* () {
        const { breaker, store } = yield* begin()
        let seed = budget
        const random = (n: number) => (seed = (seed * 48_271) % 2_147_483_647) % n
        store.turns = () => random(3)
        store.view = halfOpen
        store.leaseMax = 3
        const shared = yield* breaker({ halfOpenMax: 3 })
        const fibers = []
        let most = 0
        for (let i = 0; i < 60; i++) {
          fibers.push(
            yield* shared
              .guard(random(2) === 0 ? Effect.yieldNow : Effect.void)
              .pipe(
                Effect.provideService(References.MaxOpsBeforeYield, budget),
                Effect.forkChild({ startImmediately: random(2) === 0 })
              )
          )
          for (let turns = random(4); turns > 0; turns--) yield* Effect.yieldNow
          most = Math.max(most, store.leases.size)
          if (random(2) === 0) yield* Fiber.interrupt(fibers[random(fibers.length)]!)
        }
        yield* Effect.forEach(fibers, Fiber.interrupt, { discard: true })
        yield* settled
        assert.isAbove(most, 0)
        assert.strictEqual(store.leases.size, 0)
      })
  )
})
