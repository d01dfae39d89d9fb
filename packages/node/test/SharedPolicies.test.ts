import {
  type CircuitBreaker,
  type ConfigError,
  type Policy,
  Pool,
  type PoolConfig,
  type RateLimit,
  SharedPolicies as Core
} from "@millrace/core"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Logger, Queue, Redacted, Schedule } from "effect"
import * as Redis from "effect/persistence/Redis"
import { execFile } from "node:child_process"
import { createServer, type Server } from "node:http"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { createClient } from "redis"
import { SharedPolicies, UndiciConnector } from "../src/index.ts"
import { connect } from "../src/internal/redisConnection.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { poolOn } from "./fixtures/pool.ts"
import { isInstalled, type RedisServer, server } from "./fixtures/redis.ts"

/** What one process has: a connection of its own. The timeout is for machines that are busy with other tests. */
const process_ = (redis: RedisServer, options: SharedPolicies.RedisOptions = {}) =>
  SharedPolicies.makeRedis({ host: "127.0.0.1", port: redis.port, timeout: "5 seconds", ...options })

const limitIn = (policies: Core.SharedPolicies, options: RateLimit.Options, key = "k") =>
  Effect.provideService(Core.rateLimit(key, options), Core.SharedPolicies, policies)

const breakerIn = (policies: Core.SharedPolicies, options: CircuitBreaker.Options = {}, key = "k") =>
  Effect.provideService(Core.circuitBreaker(key, options), Core.SharedPolicies, policies)

const passes = <E>(policy: Policy.Policy<E>) => Effect.map(Effect.exit(policy.guard(Effect.void)), Exit.isSuccess)

const count = (passed: ReadonlyArray<boolean>): number => passed.filter(Boolean).length

/** Again until it is so. What never is ends with the test. */
const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    while (!(yield* condition)) yield* Effect.sleep(5)
  })

const collect = () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => {
    lines.push(String(message))
  })
  return { lines, logged: Effect.provide(Logger.layer([logger])) }
}

const gone = (lines: ReadonlyArray<string>): number => lines.filter((line) => line.includes("does not answer")).length
const back = (lines: ReadonlyArray<string>): number => lines.filter((line) => line.includes("together again")).length

const isOpen = (breaker: Core.CircuitFace) => Effect.sync(() => breaker.snapshot().state._tag === "Open")

const failed = Effect.fail("the server failed" as const)

describe.skipIf(!isInstalled)("SharedPolicies: redis-server is needed, see .ci/run", () => {
  describe("together", () => {
    it.live.each(["tokenBucket", "slidingWindow", "slidingCounter"] as const)(
      "two processes together never exceed the limit: %s",
      (algorithm) =>
        Effect.gen(function* () {
          const redis = yield* server()
          const options = { limit: 30, interval: "1 hour", algorithm, maxWait: 0 } as const
          const a = yield* limitIn(yield* process_(redis), options)
          const b = yield* limitIn(yield* process_(redis), options)
          const tries = Array.from({ length: 100 }, (_, i) => passes(i % 2 === 0 ? a : b))
          assert.strictEqual(count(yield* Effect.all(tries, { concurrency: "unbounded" })), 30)
        })
    )

    it.live("two real processes together never exceed the limit, and end by themselves", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const child = fileURLToPath(new URL("./fixtures/sharedChild.ts", import.meta.url))
        const run = Effect.promise(() => promisify(execFile)(process.execPath, [child, String(redis.port), "50"]))
        const outputs = yield* Effect.all([run, run], { concurrency: "unbounded" })
        assert.strictEqual(
          outputs.reduce((sum, { stdout }) => sum + Number(stdout), 0),
          20
        )
      })
    )

    it.live("those who wait in two processes get all that there is, and no more", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const options = { limit: 100, interval: "1 second", burst: 5 } as const
        const a = yield* limitIn(yield* process_(redis), options)
        const b = yield* limitIn(yield* process_(redis), options)
        const tries = Array.from({ length: 30 }, (_, i) => passes(i % 2 === 0 ? a : b))
        const [time, passed] = yield* Effect.timed(Effect.all(tries, { concurrency: "unbounded" }))
        assert.strictEqual(count(passed), 30)
        // 5 at once, 25 at 100/s; a timer of this process may be early by its grain.
        assert.isAtLeast(Duration.toMillis(time), 245)
      })
    )

    it.live("two pools of one name share the limit and the circuit of a host", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        let status = 200
        const upstream = yield* Effect.acquireRelease(
          Effect.callback<Server>((resume) => {
            const made = createServer((_, response) => response.writeHead(status).end())
            made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
          }),
          (made) =>
            Effect.sync(() => {
              made.close()
              made.closeAllConnections()
            })
        )
        const address = upstream.address()
        assert(address !== null && typeof address === "object")
        const pool = Effect.fnUntraced(function* (options: PoolConfig.Options) {
          return yield* Pool.make({
            baseUrl: `http://127.0.0.1:${address.port}`,
            name: "billing",
            retry: false,
            drainTimeout: 0,
            ...options
          }).pipe(
            Effect.provide(UndiciConnector.layer),
            Effect.provideService(Core.SharedPolicies, yield* process_(redis, { maxStaleness: 0 }))
          )
        })
        const limited = { rateLimit: { limit: 3, interval: "1 hour", maxWait: 0 } } as const
        const [a, b] = [yield* pool(limited), yield* pool(limited)]
        const tries = Array.from({ length: 10 }, (_, i) => Effect.exit((i % 2 === 0 ? a : b).client.get("/")))
        assert.strictEqual((yield* Effect.all(tries, { concurrency: "unbounded" })).filter(Exit.isSuccess).length, 3)
        const guarded = { circuitBreaker: { consecutiveFailures: 2, openFor: "1 hour" } } as const
        const [c, d] = [yield* pool(guarded), yield* pool(guarded)]
        status = 503
        const get = (one: Pool.Pool) => Effect.scoped(one.client.get("/"))
        yield* get(c)
        yield* get(c)
        yield* until(Effect.map(Effect.exit(get(c)), Exit.isFailure))
        assert.strictEqual((yield* Effect.flip(get(d)))._tag, "CircuitOpen")
      })
    )

    it.live("policies with other keys, or under another prefix, are others", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const options = { limit: 1, interval: "1 hour", maxWait: 0 } as const
        const policies = yield* process_(redis)
        const others = yield* process_(redis, { prefix: "other:" })
        const each = [
          yield* limitIn(policies, options, "a"),
          yield* limitIn(policies, options, "b"),
          yield* limitIn(others, options, "a"),
          yield* limitIn(policies, options, "a")
        ]
        assert.deepStrictEqual(yield* Effect.forEach(each, passes), [true, true, true, false])
      })
    )

    it.live("one process opens the circuit, the other sees it", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const options = { consecutiveFailures: 3, openFor: "1 hour" } as const
        const a = yield* breakerIn(yield* process_(redis), options)
        const b = yield* breakerIn(yield* process_(redis, { maxStaleness: 0 }), options)
        assert.isTrue(yield* passes(b))
        for (let i = 0; i < 3; i++) yield* Effect.exit(a.guard(failed))
        yield* until(isOpen(a))
        const refused = yield* Effect.flip(b.guard(Effect.void))
        assert.strictEqual(refused._tag, "CircuitOpen")
        assert.isAbove(Duration.toMillis(refused.retryAfter), 3_500_000)
        assert.strictEqual(b.snapshot().state._tag, "Open")
      })
    )

    it.live("failures of two processes trip it together", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const options = { consecutiveFailures: 4, openFor: "1 hour" } as const
        const a = yield* breakerIn(yield* process_(redis), options)
        const b = yield* breakerIn(yield* process_(redis), options)
        for (const each of [a, b, a, b]) yield* Effect.exit(each.guard(failed))
        yield* until(isOpen(b))
        yield* until(Effect.map(passes(a), (passed) => !passed))
      })
    )

    it.live("half-open, one of two processes probes; an interrupted probe gives its place to the other", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const options = { consecutiveFailures: 1, openFor: "20 millis" } as const
        const a = yield* breakerIn(yield* process_(redis), options)
        const b = yield* breakerIn(yield* process_(redis, { maxStaleness: 0 }), options)
        yield* Effect.exit(a.guard(failed))
        yield* until(isOpen(a))
        // An attempt of `a` that never ends is the probe, once the circuit is half-open.
        let probing = false
        const probe = yield* Effect.forkChild(
          a
            .guard(
              Effect.andThen(
                Effect.sync(() => (probing = true)),
                Effect.never
              )
            )
            .pipe(Effect.retry(Schedule.spaced("5 millis")))
        )
        yield* until(Effect.sync(() => probing))
        assert.isFalse(yield* passes(b))
        yield* Fiber.interrupt(probe)
        yield* until(passes(b))
        yield* until(passes(a))
      })
    )
  })

  describe("when Redis is gone", () => {
    it.live("killed in mid-traffic and back: the local limit meanwhile, no hang, a warning once", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server()
        const policies = yield* process_(redis, { retryInterval: "50 millis" })
        const limit = yield* limitIn(policies, { limit: 1_000_000, interval: "1 second" })
        let slowest = 0
        let done = 0
        const traffic = yield* Effect.forkChild(
          Effect.forever(
            Effect.gen(function* () {
              const [time, passed] = yield* Effect.timed(passes(limit))
              assert.isTrue(passed)
              slowest = Math.max(slowest, Duration.toMillis(time))
              done++
              yield* Effect.sleep(1)
            })
          ).pipe((one) =>
            Effect.all(
              Array.from({ length: 8 }, () => one),
              { concurrency: "unbounded" }
            )
          )
        )
        const more = Effect.suspend(() => {
          const enough = done + 50
          return until(Effect.sync(() => done >= enough))
        })
        yield* more
        yield* Effect.promise(() => redis.kill())
        yield* until(Effect.sync(() => gone(lines) > 0))
        yield* more
        assert.strictEqual(back(lines), 0)
        yield* Effect.promise(() => redis.start())
        yield* until(Effect.sync(() => back(lines) > 0))
        yield* more
        yield* Fiber.interrupt(traffic)
        assert.strictEqual(gone(lines), 1)
        assert.strictEqual(back(lines), 1)
        assert.isBelow(slowest, 2_000)
        const own = yield* limitIn(policies, { limit: 1, interval: "1 hour", maxWait: 0 }, "after")
        const other = yield* limitIn(yield* process_(redis), { limit: 1, interval: "1 hour", maxWait: 0 }, "after")
        assert.deepStrictEqual([yield* passes(own), yield* passes(other)], [true, false], "it is shared again")
      }).pipe(logged)
    })

    it.live("a pool in mid-traffic goes on by its local policies, or fails typed, and comes back", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server()
        const upstream = yield* HostileServer.make((request) => request.answer("ok"))
        const pool = Effect.fnUntraced(function* (options: SharedPolicies.RedisOptions) {
          return yield* poolOn(upstream, {
            name: "billing",
            retry: true,
            rateLimit: { limit: 1_000_000, interval: "1 second" },
            circuitBreaker: true
          }).pipe(
            Effect.provideService(
              Core.SharedPolicies,
              yield* process_(redis, { retryInterval: "50 millis", timeout: "1 second", ...options })
            )
          )
        })
        const fate = (one: Pool.Pool) =>
          Effect.match(one.client.get("/"), {
            onFailure: (error) =>
              error._tag === "RateLimitExceeded" || error._tag === "CircuitOpen" ? error.reason : error._tag,
            onSuccess: ({ status }) => status
          })
        const [local, strict] = [yield* pool({}), yield* pool({ onUnavailable: "fail" })]
        assert.deepStrictEqual([yield* fate(local), yield* fate(strict)], [200, 200])
        yield* Effect.promise(() => redis.kill())
        const [time, fates] = yield* Effect.timed(
          Effect.all(
            Array.from({ length: 20 }, () => fate(local)),
            { concurrency: 4 }
          )
        )
        assert.deepStrictEqual([...new Set(fates)], [200])
        assert.isBelow(Duration.toMillis(time), 3_000)
        assert.strictEqual(yield* fate(strict), "storeUnavailable")
        yield* Effect.promise(() => redis.start())
        yield* until(Effect.map(fate(strict), (one) => one === 200))
        assert.strictEqual(yield* fate(local), 200)
        assert.isAtLeast(gone(lines), 1)
      }).pipe(logged)
    })

    it.live("with `fail`, requests fail at once, typed, and say what to do", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server()
        const policies = yield* process_(redis, { onUnavailable: "fail", retryInterval: "50 millis" })
        const limit = yield* limitIn(policies, { limit: 10, interval: "1 second" })
        const breaker = yield* breakerIn(policies, {})
        assert.deepStrictEqual([yield* passes(limit), yield* passes(breaker)], [true, true])
        yield* Effect.promise(() => redis.kill())
        const refused = yield* Effect.flip(limit.guard(Effect.void))
        assert.strictEqual(refused._tag, "RateLimitExceeded")
        assert.strictEqual(refused.reason, "storeUnavailable")
        assert.include(refused.message, "onUnavailable")
        const open = yield* Effect.flip(breaker.guard(Effect.void))
        assert.strictEqual(open._tag, "CircuitOpen")
        assert.strictEqual(open.reason, "storeUnavailable")
        yield* Effect.promise(() => redis.start())
        yield* until(passes(limit))
        yield* until(passes(breaker))
        assert.strictEqual(gone(lines), 1)
      }).pipe(logged)
    })

    it.live("frozen: one attempt waits for the timeout, the next ones not at all", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server()
        const policies = yield* process_(redis, { timeout: "300 millis", retryInterval: "50 millis" })
        const limit = yield* limitIn(policies, { limit: 1_000, interval: "1 second" })
        yield* until(Effect.map(passes(limit), () => gone(lines) === back(lines)))
        redis.signal("SIGSTOP")
        const [first] = yield* Effect.timed(passes(limit))
        assert.isAtLeast(Duration.toMillis(first), 250)
        const [rest] = yield* Effect.timed(Effect.forEach(Array.from({ length: 100 }), () => passes(limit)))
        assert.isBelow(Duration.toMillis(rest), 250)
        const before = back(lines)
        redis.signal("SIGCONT")
        yield* until(
          Effect.andThen(
            passes(limit),
            Effect.sync(() => back(lines) > before)
          )
        )
      }).pipe(logged)
    })

    it.live("not there yet: the layer is built, and Redis is found when it comes", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server()
        yield* Effect.promise(() => redis.kill())
        const policies = yield* process_(redis, { retryInterval: "50 millis" })
        const limit = yield* limitIn(policies, { limit: 1, interval: "1 hour", maxWait: 0 })
        assert.deepStrictEqual([yield* passes(limit), yield* passes(limit)], [true, false], "local")
        assert.strictEqual(gone(lines), 1)
        yield* Effect.promise(() => redis.start())
        yield* until(passes(limit))
        assert.isFalse(yield* passes(limit))
        assert.strictEqual(back(lines), 1)
      }).pipe(logged)
    })

    it.live("a Redis that answers but takes nothing more is gone, too, and does not fill the log", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server("--maxmemory", "1", "--maxmemory-policy", "noeviction")
        const policies = yield* process_(redis, { retryInterval: "5 millis" })
        const limit = yield* limitIn(policies, { limit: 1_000, interval: "1 second" })
        for (let i = 0; i < 30; i++) {
          assert.isTrue(yield* passes(limit))
          yield* Effect.sleep(2)
        }
        assert.strictEqual(lines.length, 1, lines.join("\n"))
        assert.include(lines[0], "OOM")
      }).pipe(logged)
    })
  })

  describe("the connection", () => {
    it.live("a server that has become a replica is left, so that its name can lead to the new master", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const target = { url: undefined, username: undefined, password: undefined, database: 0, tls: undefined }
        const connection = yield* connect(createClient, { ...target, host: "127.0.0.1", port: redis.port })
        const id = connection.send<number>("CLIENT", "ID")
        const first = yield* id
        yield* Effect.promise(() => redis.ask("REPLICAOF", "127.0.0.1", "1"))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(connection.send("SET", "a", "1"))))
        assert.isAbove(yield* id, first)
      })
    )

    it.live("the layers provide them: with a connection of their own, or in a Redis that is connected to already", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const limit = Core.rateLimit("k", { limit: 1, interval: "1 hour", maxWait: 0 })
        const passesIn = (layer: Layer.Layer<never, ConfigError.ConfigError>) =>
          Effect.provide(Effect.flatMap(limit, passes), layer)
        const options = { host: "127.0.0.1", port: redis.port } as const
        const target = { ...options, url: undefined, username: undefined, password: undefined, database: 0, tls: false }
        const theirs = Layer.effect(Redis.Redis, connect(createClient, target))
        assert.isTrue(yield* passesIn(SharedPolicies.layerRedis({ ...options, timeout: "5 seconds" })))
        assert.isFalse(yield* passesIn(Layer.provide(SharedPolicies.layer({ timeout: "5 seconds" }), theirs)))
      })
    )

    it.live("a command that is interrupted takes its connection with it; the next one has a new one", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const target = { url: undefined, username: undefined, password: undefined, database: 0, tls: undefined }
        const connection = yield* connect(createClient, { ...target, host: "127.0.0.1", port: redis.port })
        const id = connection.send<number>("CLIENT", "ID")
        const first = yield* id
        assert.strictEqual(yield* id, first)
        redis.signal("SIGSTOP")
        const silent = yield* Effect.forkChild(id, { startImmediately: true })
        yield* Effect.sleep(10)
        yield* Fiber.interrupt(silent)
        redis.signal("SIGCONT")
        assert.isAbove(yield* id, first)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(connection.reserve.pipe(Effect.scoped))))
        const queue = yield* connection.subscribe("channel")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(Queue.take(queue))))
      })
    )

    it.live("ends with the scope, and after that the policies are local", () =>
      Effect.gen(function* () {
        const redis = yield* server()
        const clients = Effect.promise(
          async () => (await redis.ask<string>("CLIENT", "LIST")).trim().split("\n").length
        )
        const limit = yield* Effect.scoped(
          Effect.gen(function* () {
            const limit = yield* limitIn(yield* process_(redis), { limit: 1, interval: "1 hour", maxWait: 0 })
            assert.isTrue(yield* passes(limit))
            assert.strictEqual(yield* clients, 2)
            return limit
          })
        )
        yield* until(Effect.map(clients, (number) => number === 1))
        assert.deepStrictEqual([yield* passes(limit), yield* passes(limit)], [true, false])
      })
    )

    it.live("logs in, by URL or by options, and never shows the password", () => {
      const { lines, logged } = collect()
      return Effect.gen(function* () {
        const redis = yield* server("--requirepass", "hunter2-secret")
        const options = { limit: 1, interval: "1 hour", maxWait: 0 } as const
        const url = Redacted.make(`redis://:hunter2-secret@127.0.0.1:${redis.port}`)
        const a = yield* limitIn(yield* process_(redis, { password: Redacted.make("hunter2-secret") }), options)
        const b = yield* limitIn(yield* SharedPolicies.makeRedis({ url, timeout: "5 seconds" }), options)
        assert.deepStrictEqual([yield* passes(a), yield* passes(b)], [true, false])
        assert.deepStrictEqual(lines, [])
        const wrong = yield* process_(redis, { password: Redacted.make("wrong-secret"), onUnavailable: "fail" })
        const refused = yield* Effect.flip((yield* limitIn(wrong, options)).guard(Effect.void))
        assert.strictEqual(gone(lines), 1)
        assert.notInclude(lines.join() + refused.message + JSON.stringify(refused), "secret")
      }).pipe(logged)
    })
  })
})

describe("SharedPolicies: options", () => {
  const problems = (options: SharedPolicies.RedisOptions) =>
    Effect.map(Effect.flip(Effect.scoped(SharedPolicies.makeRedis(options))), (error) => {
      assert.notInclude(error.message, "secret")
      return error.problems.map(({ path }) => path)
    })

  it.live("all that is wrong is told at once, and nothing of a URL", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [SharedPolicies.RedisOptions, ReadonlyArray<string>]> = [
        [{ url: "http://secret", port: 1 }, ["url", "port"]],
        [{ url: "redis://user:secret@h" }, ["url"]],
        [{ url: Redacted.make("secret") }, ["url"]],
        [
          { host: "", port: 0, username: "", password: Redacted.make(""), database: -1, prefix: "", timeout: 0 },
          ["host", "port", "username", "password", "database", "prefix", "timeout"]
        ]
      ]
      for (const [options, paths] of wrong) assert.deepStrictEqual(yield* problems(options), paths)
    })
  )
})
