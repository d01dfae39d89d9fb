/** The scripts, on a real Redis whose time is told by the test. */
import type { SharedCircuit, SharedLimit, Store, Taken } from "@millrace/core/policy/SharedPolicies"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Redis from "effect/persistence/Redis"
import { createClient } from "redis"
import { connect } from "../../src/internal/redisConnection.ts"
import { storeOf } from "../../src/internal/redisStore.ts"
import { isInstalled, type RedisServer, server } from "../fixtures/redis.ts"

const target = { url: undefined, username: undefined, password: undefined, database: undefined, tls: undefined }

/** A store whose scripts read the time from a key. Microseconds. */
class Bench {
  now = 1_800_000_000_000_000
  readonly store: Store
  readonly redis: Redis.Redis["Service"]

  constructor(redis: Redis.Redis["Service"]) {
    this.redis = redis
    this.store = storeOf(redis, "t:")
  }

  pass(micros: number) {
    this.now += Math.round(micros)
    const seconds = Math.floor(this.now / 1e6)
    return this.redis.send("HSET", "clock", "s", String(seconds), "us", String(this.now - seconds * 1e6))
  }
}

const bench = Effect.fnUntraced(function* (): Effect.fn.Return<
  { readonly bench: Bench; readonly server: RedisServer },
  Redis.RedisError,
  Scope.Scope
> {
  const own = yield* server()
  const real = yield* connect(createClient, { ...target, host: "127.0.0.1", port: own.port })
  const redis = yield* Redis.make({
    send: (command, ...args) =>
      real.send(
        command,
        ...args.map((arg) => arg.replace('redis.call("TIME")', 'redis.call("HMGET", "clock", "s", "us")'))
      ),
    subscribe: () => Effect.die("not used"),
    connect: Effect.die("not used")
  })
  const made = new Bench(redis)
  yield* made.pass(0)
  return { bench: made, server: own }
})

/** A generator of numbers from 0 to 1 that begins with the same each time (mulberry32). */
const seeded = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const limitOf = (algorithm: SharedLimit["algorithm"], key: string, limit = 10, capacity = limit): SharedLimit => ({
  key,
  algorithm,
  limit,
  interval: 1_000,
  capacity
})

interface Use {
  readonly at: number
  readonly entry: number
  count: number
}

/** The most that any time may hold, by its length in microseconds; `undefined`: the law says nothing about such a time. */
const most = (limit: SharedLimit, micros: number): number | undefined => {
  const interval = limit.interval * 1_000
  switch (limit.algorithm) {
    case "tokenBucket":
      return limit.capacity + (micros * limit.limit) / interval
    case "slidingWindow":
      return micros < interval ? limit.limit : undefined
    case "slidingCounter":
      return micros <= interval ? limit.limit * (1 + micros / interval) : undefined
  }
}

const assertLaw = (limit: SharedLimit, uses: ReadonlyArray<Use>): void => {
  for (let i = 0; i < uses.length; i++) {
    let sum = 0
    for (const use of uses.slice(i)) {
      sum += use.count
      const allowed = most(limit, use.at - uses[i]!.at)
      if (allowed !== undefined) assert.isAtMost(sum, allowed + 1e-6, `${limit.algorithm}: from ${i} on`)
    }
  }
}

const algorithms = ["tokenBucket", "slidingWindow", "slidingCounter"] as const

describe.skipIf(!isInstalled)("redisStore: limits", () => {
  it.live.each([1, 2, 3])(
    "law: no time holds more than the limit, whatever is taken, given back, paused, and however the clock goes (seed %d)",
    (seed) =>
      Effect.gen(function* () {
        const { bench: b } = yield* bench()
        for (const algorithm of algorithms) {
          const random = seeded(seed)
          const limit = limitOf(algorithm, `law${seed}`, 10, algorithm === "tokenBucket" ? 7 : 10)
          const uses: Array<Use> = []
          let latest = b.now
          for (let step = 0; step < 300; step++) {
            const dice = random()
            if (dice < 0.55) {
              const costs = Array.from({ length: 1 + Math.floor(random() * 4) }, () => Math.floor(random() * 4))
              const taken = yield* b.store.take(limit, costs, random() < 0.2)
              const count = costs.slice(0, taken.granted).reduce((sum, cost) => sum + cost, 0)
              if (count > 0) uses.push({ at: taken.at, entry: taken.entry, count })
              assert.isAtLeast(taken.at, latest, "time never goes back for a limit")
              latest = taken.at
              if (taken.granted < costs.length) assert.isAbove(taken.wait, 0)
            } else if (dice < 0.75) {
              const use = uses[Math.max(0, uses.length - 1 - Math.floor(random() * 6))]
              if (use === undefined || use.count === 0) continue
              const count = 1 + Math.floor(random() * use.count)
              yield* b.store.giveBack(limit, { at: use.at, entry: use.entry, count })
              use.count -= count
            } else if (dice < 0.77) yield* b.store.pause(limit, random() * 300)
            else if (random() < 0.1 && latest - b.now < 500_000) yield* b.pass(-random() * 500_000)
            else yield* b.pass(random() ** 3 * 1_500_000)
          }
          assert.isAbove(uses.length, 30)
          assertLaw(limit, uses)
          // The next one may begin before what this one made of the time.
          yield* b.pass(10_000_000)
        }
      })
  )

  it.live.each(algorithms)("%s: the wait that is told is exact, and is enough", (algorithm) =>
    Effect.gen(function* () {
      const { bench: b } = yield* bench()
      const limit = limitOf(algorithm, "exact")
      const random = seeded(7)
      for (let i = 0; i < 100; i++) {
        const cost = 1 + Math.floor(random() * 5)
        const taken: Taken = yield* b.store.take(limit, [cost], false)
        if (taken.granted === 1) continue
        yield* b.pass(taken.wait * 1_000 - 2)
        assert.strictEqual((yield* b.store.take(limit, [cost], false)).granted, 0, "not before")
        yield* b.pass(2)
        assert.strictEqual((yield* b.store.take(limit, [cost], false)).granted, 1, "but then")
      }
    })
  )

  it.live.each(algorithms)("%s: those who have waited are let go one by one, at the pace of the limit", (algorithm) =>
    Effect.gen(function* () {
      const { bench: b } = yield* bench()
      const limit = limitOf(algorithm, "pace")
      assert.strictEqual((yield* b.store.take(limit, [10, 1], false)).granted, 1)
      // Long after everything is there again.
      yield* b.pass(5_000_000)
      const times: Array<number> = []
      for (let waiting = 8; waiting > 0;) {
        const taken = yield* b.store.take(
          limit,
          Array.from({ length: waiting }, () => 1),
          true
        )
        for (let i = 0; i < taken.granted; i++) times.push(taken.at)
        waiting -= taken.granted
        yield* b.pass(taken.wait * 1_000)
      }
      const gaps = times.slice(1).map((time, i) => time - times[i]!)
      assert.deepStrictEqual(
        gaps,
        gaps.map(() => 100_000)
      )
    })
  )

  it.live.each(algorithms)("%s: what is given back can be had at once, once", (algorithm) =>
    Effect.gen(function* () {
      const { bench: b } = yield* bench()
      const limit = limitOf(algorithm, "back")
      const taken = yield* b.store.take(limit, [10], false)
      yield* b.store.giveBack(limit, { at: taken.at, entry: taken.entry, count: 4 })
      const again = yield* b.store.take(limit, [1, 1, 1, 1, 1], false)
      assert.strictEqual(again.granted, 4)
      assert.strictEqual(again.available, 0)
    })
  )

  it.live("a bucket that has overflowed has no room for what was taken before", () =>
    Effect.gen(function* () {
      const { bench: b } = yield* bench()
      const limit = limitOf("tokenBucket", "overflow")
      const early = yield* b.store.take(limit, [1], false)
      yield* b.pass(2_000_000)
      assert.strictEqual((yield* b.store.take(limit, [10], false)).granted, 1)
      yield* b.store.giveBack(limit, { at: early.at, entry: early.entry, count: 1 })
      assert.strictEqual((yield* b.store.take(limit, [1], false)).granted, 0)
    })
  )

  it.live.each(algorithms)(
    "%s: a clock that leaps back by hours stops nobody for longer than an interval",
    (algorithm) =>
      Effect.gen(function* () {
        const { bench: b } = yield* bench()
        const limit = limitOf(algorithm, "leap")
        yield* b.store.take(limit, [10], false)
        yield* b.pass(-10 * 3_600_000_000)
        assert.strictEqual((yield* b.store.take(limit, [1], false)).granted, 0, "no tokens out of nothing")
        yield* b.pass(2_000_000)
        assert.strictEqual((yield* b.store.take(limit, [10], false)).granted, 1)
      })
  )

  it.live.each(algorithms)("%s: a pause is for all, and a shorter one does not end it", (algorithm) =>
    Effect.gen(function* () {
      const { bench: b } = yield* bench()
      const limit = limitOf(algorithm, "pause")
      yield* b.store.pause(limit, 3_000)
      yield* b.store.pause(limit, 10)
      const taken = yield* b.store.take(limit, [1], false)
      assert.strictEqual(taken.granted, 0)
      assert.closeTo(taken.wait, 3_000, 0.01)
      yield* b.pass(3_000_001)
      assert.strictEqual((yield* b.store.take(limit, [1], false)).granted, 1)
    })
  )

  it.live("keys do not stay for ever, and a window forgets what it no longer holds", () =>
    Effect.gen(function* () {
      const { bench: b, server: redis } = yield* bench()
      for (const algorithm of algorithms) {
        const limit = limitOf(algorithm, "keys")
        for (let i = 0; i < 50; i++) {
          yield* b.store.take(limit, [1], false)
          yield* b.pass(100_000)
        }
        const key = `t:${algorithm}:keys`
        const ttl = yield* Effect.promise(() => redis.ask<number>("PTTL", key))
        assert.isTrue(ttl > 0 && ttl <= 4_000, `${key}: ${ttl}`)
        assert.isAtMost(yield* Effect.promise(() => redis.ask<number>("HLEN", key)), 20, key)
      }
    })
  )
})

const circuitOf = (key: string, options: Partial<SharedCircuit> = {}): SharedCircuit => ({
  key,
  consecutiveFailures: Infinity,
  failureRate: undefined,
  slowCallRate: undefined,
  minimumCalls: 4,
  windowCalls: 10,
  windowDuration: Infinity,
  halfOpenMax: 1,
  lease: 30_000,
  ...options
})

describe.skipIf(!isInstalled)("redisStore: circuits", () => {
  const begin = Effect.fnUntraced(function* (options: Partial<SharedCircuit>) {
    const { bench: b, server: redis } = yield* bench()
    const circuit = circuitOf("c", options)
    const record = (ends: string, openFor = 1_000) =>
      Effect.gen(function* () {
        const { view } = yield* b.store.enter(circuit, 1)
        return yield* b.store.record(circuit, { generation: view.generation, ends, openFor })
      })
    return { b, redis, circuit, record }
  })

  it.live("it trips on consecutive failures; a success between begins anew", () =>
    Effect.gen(function* () {
      const { record } = yield* begin({ consecutiveFailures: 3 })
      assert.strictEqual((yield* record("11011")).state, "Closed")
      const view = yield* record("1")
      assert.strictEqual(view.state, "Open")
      assert.strictEqual(view.reason, "consecutiveFailures")
      assert.strictEqual(view.remaining, 1_000)
      assert.strictEqual(view.openings, 1)
    })
  )

  it.live("law: the window by count is the last so many calls, however they are told", () =>
    Effect.gen(function* () {
      for (const windowCalls of [1, 7, 100, 250]) {
        const { record } = yield* begin({ failureRate: 2, windowCalls })
        const random = seeded(windowCalls)
        const all: Array<number> = []
        for (let i = 0; i < 30; i++) {
          const ends = Array.from({ length: 1 + Math.floor(random() * 40) }, () => Math.floor(random() * 4))
          all.push(...ends)
          const { counts } = yield* record(ends.join(""))
          const window = all.slice(-windowCalls)
          assert.strictEqual(counts.calls, window.length)
          assert.strictEqual(counts.failures, window.filter((end) => end % 2 === 1).length)
          assert.strictEqual(counts.slowCalls, window.filter((end) => end >= 2).length)
        }
      }
    })
  )

  it.live("the window by time forgets by tenths", () =>
    Effect.gen(function* () {
      const { b, record } = yield* begin({ failureRate: 1, windowDuration: 1_000 })
      assert.strictEqual((yield* record("111")).counts.calls, 3)
      yield* b.pass(500_000)
      assert.strictEqual((yield* record("0")).counts.calls, 4)
      yield* b.pass(550_000)
      assert.strictEqual((yield* record("0")).counts.calls, 2)
      yield* b.pass(5_000_000)
      assert.deepStrictEqual((yield* record("0")).counts, {
        calls: 1,
        consecutiveFailures: 0,
        failures: 0,
        slowCalls: 0
      })
    })
  )

  it.live("it trips on a rate of failures or of slow calls, over a minimum of calls", () =>
    Effect.gen(function* () {
      const failures = yield* begin({ failureRate: 0.5 })
      assert.strictEqual((yield* failures.record("110")).state, "Closed")
      assert.strictEqual((yield* failures.record("0")).reason, "failureRate")
      const slow = yield* begin({ slowCallRate: 0.5, windowDuration: 10_000 })
      assert.strictEqual((yield* slow.record("220")).state, "Closed")
      assert.strictEqual((yield* slow.record("0")).reason, "slowCallRate")
    })
  )

  it.live(
    "half-open has no more than halfOpenMax probes, closes after as many successes, and opens on one failure",
    () =>
      Effect.gen(function* () {
        const { b, circuit, record } = yield* begin({ consecutiveFailures: 1, halfOpenMax: 3 })
        yield* record("1")
        assert.deepStrictEqual((yield* b.store.enter(circuit, 5)).leases, [], "while it is open")
        yield* b.pass(1_000_000)
        const first = yield* b.store.enter(circuit, 2)
        assert.strictEqual(first.leases.length, 2)
        const second = yield* b.store.enter(circuit, 5)
        assert.strictEqual(second.leases.length, 1)
        assert.strictEqual(second.view.generation, first.view.generation)
        const { generation } = first.view
        const end = (lease: number, how: number | undefined) =>
          b.store.endProbe(circuit, { generation, lease, end: how, openFor: 2_000 })
        assert.strictEqual((yield* end(first.leases[0]!, 0)).state, "HalfOpen")
        assert.deepStrictEqual((yield* b.store.enter(circuit, 5)).leases, [], "a success keeps its place")
        assert.strictEqual((yield* end(first.leases[1]!, undefined)).probes, 1)
        const third = yield* b.store.enter(circuit, 5)
        assert.strictEqual(third.leases.length, 1, "who says nothing makes room")
        yield* end(second.leases[0]!, 0)
        const closed = yield* end(third.leases[0]!, 0)
        assert.strictEqual(closed.state, "Closed")
        assert.strictEqual(closed.openings, 0)
        yield* record("1")
        yield* b.pass(1_000_000)
        const again = yield* b.store.enter(circuit, 1)
        const open = yield* b.store.endProbe(circuit, {
          generation: again.view.generation,
          lease: again.leases[0]!,
          end: 1,
          openFor: 2_000
        })
        assert.strictEqual(open.reason, "probeFailed")
        assert.strictEqual(open.remaining, 2_000)
        assert.strictEqual(open.openings, 2)
      })
  )

  it.live("a probe whose process is gone keeps its place only for its lease: nothing can leave it half-open", () =>
    Effect.gen(function* () {
      const { b, circuit, record } = yield* begin({ consecutiveFailures: 1 })
      yield* record("1")
      yield* b.pass(1_000_000)
      assert.strictEqual((yield* b.store.enter(circuit, 1)).leases.length, 1)
      yield* b.pass(29_000_000)
      assert.strictEqual((yield* b.store.enter(circuit, 1)).leases.length, 0)
      yield* b.pass(1_000_000)
      assert.strictEqual((yield* b.store.enter(circuit, 1)).leases.length, 1)
    })
  )

  it.live("a late result of an older generation changes nothing in a newer one", () =>
    Effect.gen(function* () {
      const { b, circuit, record } = yield* begin({ consecutiveFailures: 1 })
      const old = (yield* b.store.enter(circuit, 1)).view.generation
      yield* record("1")
      const late = { generation: old, ends: "1", openFor: 9_000 }
      assert.strictEqual((yield* b.store.record(circuit, late)).remaining, 1_000)
      yield* b.pass(1_000_000)
      const probe = yield* b.store.enter(circuit, 1)
      assert.strictEqual((yield* b.store.record(circuit, late)).state, "HalfOpen")
      const lease = probe.leases[0]!
      yield* b.store.endProbe(circuit, { generation: probe.view.generation, lease, end: 0, openFor: 9_000 })
      assert.strictEqual((yield* b.store.record(circuit, late)).state, "Closed")
      const stale = { generation: probe.view.generation, lease, end: 1, openFor: 9_000 }
      assert.strictEqual((yield* b.store.endProbe(circuit, stale)).state, "Closed")
    })
  )

  it.live("keys do not stay for ever, and a state does not expire before its time", () =>
    Effect.gen(function* () {
      const { redis, record } = yield* begin({ consecutiveFailures: 2 })
      const ttl = () => Effect.promise(() => redis.ask<number>("PTTL", "t:circuit:c"))
      yield* record("1")
      assert.isTrue((yield* ttl()) > 0)
      yield* record("1", 5 * 3_600_000)
      const open = yield* ttl()
      assert.isTrue(open > 5 * 3_600_000 && open <= 6 * 3_600_000 + 2_000, String(open))
    })
  )
})
