import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import type { HostPolicies, Pool } from "../../../src/client/Pool.ts"
import * as PoolError from "../../../src/model/PoolError.ts"
import * as Timers from "../../../src/model/internal/timers.ts"
import * as CircuitBreaker from "../../../src/policy/CircuitBreaker.ts"
import { Balancer, neverSent, type Settings, Target } from "../../../src/server/internal/balance.ts"
import { TestClock } from "effect/testing"
import { onFunction } from "../../fixtures/pools.ts"

const at = { request: { method: "GET", url: "http://a/" }, attempts: 1 }

const connect = (sent: boolean, phase: PoolError.ConnectPhase = "tcp") =>
  new PoolError.ConnectError({ ...at, phase, sent })

const timeout = (phase: PoolError.TimeoutPhase) =>
  new PoolError.TimeoutError({ ...at, phase, timeout: Duration.seconds(1) })

const saturated = (reason: PoolError.PoolSaturated["reason"]) =>
  new PoolError.PoolSaturated({ ...at, reason, limit: 1, waiting: 1 })

const exhausted = (last: PoolError.PoolError) => new PoolError.RetryExhausted({ ...at, last, reason: "maxRetries" })

const open = new PoolError.CircuitOpen({ ...at, retryAfter: Duration.seconds(1) })

describe("neverSent", () => {
  it("only what no server has seen may go to another", () => {
    const sent = (error: PoolError.PoolError, method = "POST") => !neverSent(error, method)
    for (const error of [connect(false), connect(false, "dns"), timeout("dial"), timeout("tls"), open]) {
      assert.isFalse(sent(error), error.message)
    }
    for (const error of [new PoolError.PoolClosed(at), saturated("maxWaiting"), saturated("bulkhead")]) {
      assert.isFalse(sent(error), error.message)
    }
    for (const error of [
      connect(true, "response"),
      timeout("headers"),
      timeout("request"),
      timeout("attempt"),
      saturated("acquireTimeout"),
      new PoolError.RateLimitExceeded({ ...at, retryAfter: Duration.seconds(1) }),
      new PoolError.DecodeError({ ...at, reason: "x" }),
      new PoolError.InvalidRequest({ ...at, reason: "x" }),
      new PoolError.AuthError({ ...at, reason: "x" })
    ]) {
      assert.isTrue(sent(error), error.message)
    }
  })

  it("of several attempts, one before the last may have been sent", () => {
    assert.isFalse(neverSent(exhausted(connect(false)), "POST"))
    assert.isTrue(neverSent(exhausted(connect(false)), "GET"))
    assert.isFalse(neverSent(exhausted(connect(true)), "GET"))
  })
})

describe("Balancer", () => {
  const make = (pools: readonly [Pool, ...Array<Pool>], settings: Partial<Settings> = {}) =>
    Effect.map(Effect.context<never>(), (services) => {
      const [first, ...rest] = pools.map((pool, index) => new Target(pool, new URL(`http://h${index}/`)))
      return new Balancer(
        [first!, ...rest],
        { strategy: "roundRobin", failTimeout: 10_000, ...settings },
        Timers.make(services)
      )
    })

  const three = Effect.flatMap(
    onFunction(() => Effect.never),
    (pool) => make([pool, pool, pool])
  )

  const hosts = (balancer: Balancer, count: number) =>
    Effect.map(Effect.all(Array.from({ length: count }, () => balancer.choose)), (targets) =>
      targets.map(({ base }) => base?.host).join(" ")
    )

  it.effect("one after the other", () =>
    Effect.gen(function* () {
      const balancer = yield* three
      assert.strictEqual(yield* hosts(balancer, 7), "h0 h1 h2 h0 h1 h2 h0")
    })
  )

  it.effect("one that could not be connected to is passed over for failTimeout", () =>
    Effect.gen(function* () {
      const balancer = yield* three
      for (const error of [connect(false), timeout("dial"), exhausted(timeout("tls")), new PoolError.PoolClosed(at)]) {
        balancer.failed(balancer.targets[1]!, error)
        assert.notInclude(yield* hosts(balancer, 6), "h1", error.message)
        yield* TestClock.adjust(9_999)
        assert.notInclude(yield* hosts(balancer, 6), "h1")
        yield* TestClock.adjust(1)
        assert.include(yield* hosts(balancer, 3), "h1")
      }
    })
  )

  it.effect("what one that is out does not get, the others share evenly", () =>
    Effect.gen(function* () {
      const balancer = yield* three
      balancer.failed(balancer.targets[0], connect(false))
      assert.strictEqual(yield* hosts(balancer, 6), "h1 h2 h1 h2 h1 h2")
    })
  )

  it.effect("one that answers is back at once; one that breaks later is not out", () =>
    Effect.gen(function* () {
      const balancer = yield* three
      const target = balancer.targets[0]
      balancer.failed(target, connect(false))
      balancer.reached(target)
      assert.strictEqual(yield* hosts(balancer, 3), "h0 h1 h2")
      for (const error of [
        connect(true, "response"),
        connect(false, "request"),
        timeout("headers"),
        saturated("bulkhead"),
        open
      ]) {
        balancer.failed(target, error)
        assert.isFalse(yield* balancer.isOut(target), error.message)
      }
    })
  )

  it.effect("where all are out, all are asked in turn", () =>
    Effect.gen(function* () {
      const balancer = yield* three
      for (const target of balancer.targets) balancer.failed(target, connect(false))
      assert.strictEqual(yield* hosts(balancer, 4), "h0 h1 h2 h0")
      assert.isUndefined(yield* balancer.other(balancer.targets[0]))
    })
  )

  it.effect("another one is the next that is not out, and does not disturb the turn", () =>
    Effect.gen(function* () {
      const balancer = yield* three
      const [first, second, third] = balancer.targets
      assert.strictEqual(yield* balancer.other(first), second)
      assert.strictEqual(yield* balancer.other(third!), first)
      balancer.failed(second!, connect(false))
      assert.strictEqual(yield* balancer.other(first), third)
      assert.strictEqual(yield* hosts(balancer, 2), "h0 h2")
    })
  )

  it.effect("leastPending: the fewest under way; of equals the next in turn", () =>
    Effect.gen(function* () {
      const pool = yield* onFunction(() => Effect.never)
      const balancer = yield* make([pool, pool, pool], { strategy: "leastPending" })
      assert.strictEqual(yield* hosts(balancer, 3), "h0 h1 h2")
      balancer.targets[0].pending = 2
      balancer.targets[1]!.pending = 1
      balancer.targets[2]!.pending = 3
      assert.strictEqual(yield* hosts(balancer, 2), "h1 h1")
      balancer.failed(balancer.targets[1]!, connect(false))
      assert.strictEqual(yield* hosts(balancer, 2), "h0 h0")
    })
  )

  it.effect("passed over while its circuit is open or isolated; asked again when a probe is due", () =>
    Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.make({ consecutiveFailures: 1, openFor: "5 seconds" })
      const policies: HostPolicies = { circuitBreaker: breaker, bulkhead: undefined, rateLimit: undefined }
      const pool = yield* onFunction(() => Effect.never)
      const broken: Pool = { ...pool, hostPolicies: () => Effect.succeed(Option.some(policies)) }
      const balancer = yield* make([broken, pool])
      assert.strictEqual(yield* hosts(balancer, 2), "h0 h1")
      yield* Effect.flip(breaker.guard(Effect.fail("no")))
      assert.strictEqual(yield* hosts(balancer, 2), "h1 h1")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* hosts(balancer, 2), "h0 h1")
      yield* breaker.isolate
      assert.strictEqual(yield* hosts(balancer, 2), "h1 h1")
      yield* breaker.reset
      assert.strictEqual(yield* hosts(balancer, 2), "h0 h1")
    })
  )

  it.effect("a path goes under the base of its target, or of its pool", () =>
    Effect.gen(function* () {
      const pool = yield* onFunction(() => Effect.never)
      assert.strictEqual(new Target(pool, new URL("http://h/v2/")).urlOf("/a", "q"), "http://h/v2/a?q")
      assert.strictEqual(new Target(pool, new URL("http://h")).urlOf("/", undefined), "http://h/")
      assert.strictEqual(new Target(pool, undefined).urlOf("/a", ""), "/a?")
    })
  )
})
