/** What must not be left behind, nor happen twice, whatever comes at whatever moment. */
import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Clock, ConfigProvider, Effect, Exit, Fiber, Option, Redacted, References, Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { hasProperty } from "effect/Predicate"
import { TestClock } from "effect/testing"
import * as Pool from "../../../src/client/Pool.ts"
import { fromConfig, type Options, resolve } from "../../../src/client/PoolConfig.ts"
import * as Auth from "../../../src/policy/Auth.ts"
import type { Attempt, Gate } from "../../../src/policy/Gate.ts"
import { abort, responseOf } from "../../../src/policy/internal/discard.ts"
import { CountingClock, onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { type Sent, Wire } from "../../fixtures/wire.ts"

/** Answers one request after the other, each in its way; the last way holds for all that follow. */
const script = (...ways: ReadonlyArray<(sent: Sent) => void>): Wire => {
  let next = 0
  return new Wire((sent) => ways[Math.min(next++, ways.length - 1)]?.(sent))
}

const status = (code: number) => (sent: Sent) => void sent.answer("", code)
const silence = (sent: Sent) => void sent.write()
/** A head whose body does not end. */
const open = (code: number) => (sent: Sent) => void sent.write().head(code).data("x")

const quick = { initialDelay: "1 second", multiplier: 1, jitter: "none" } as const
const base = "http://test.local"

/** Whatever is kept of the only host that the pool may know keeps another from its place. */
const nothingIsLeft = Effect.fnUntraced(function* (pool: Pool.Pool, wire: Wire) {
  assert.deepInclude(yield* pool.stats, { active: 0, waiting: 0 })
  const before = wire.onSend
  wire.onSend = (sent) => void sent.answer("")
  const exit = yield* Effect.exit(pool.client.get("http://other.test/"))
  assert.isTrue(Exit.isSuccess(exit), "the host cannot be evicted: a call of it is thought to be under way")
  wire.onSend = before
})

interface Caller {
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

/** Interrupts it at once, in the middle of whatever else happens. */
const interruptNow = (caller: Caller): void => caller.fiber?.interruptUnsafe()

describe("call, hazards", () => {
  describe("while a retry is decided", () => {
    const forever = { ...quick, onRetry: () => Effect.never } as const

    it.effect("the caller's interruption gives up the response that was to be retried", () =>
      Effect.gen(function* () {
        const wire = script(open(503))
        const pool = yield* onWire(wire, { size: 1, maxHosts: 1, retry: forever })
        const fiber = yield* start(pool.client.get("/"))
        yield* Fiber.interrupt(fiber)
        assert.isTrue(wire.at(0).aborted)
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("requestTimeout rules: also when the body of the response is still on its way", () =>
      Effect.gen(function* () {
        const wire = script(status(503), open(503))
        let told = 0
        const onRetry = () => (++told === 1 ? undefined : Effect.never)
        const retry = { ...quick, onRetry }
        const pool = yield* onWire(wire, { size: 1, maxHosts: 1, requestTimeout: "5 seconds", retry })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("5 seconds")
        yield* turn
        const exit = fiber.pollUnsafe()
        assert.isDefined(exit, "it waits for ever")
        assert.strictEqual(tagged(yield* Fiber.join(fiber), "TimeoutError").phase, "request")
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("the end of the pool gives it up", () =>
      Effect.gen(function* () {
        const wire = script(open(503))
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(onWire(wire, { retry: forever }), scope)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "PoolClosed")
        assert.isTrue(wire.at(0).aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("an onRetry that interrupts its own caller at once leaves nothing", () =>
      Effect.gen(function* () {
        const caller: Caller = { fiber: undefined }
        let cleaned = false
        const wire = script(silence)
        const pool = yield* onWire(wire, {
          size: 1,
          maxHosts: 1,
          retry: {
            ...quick,
            onRetry: () =>
              Effect.suspend(() => {
                interruptNow(caller)
                return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (cleaned = true)))
              })
          }
        })
        caller.fiber = yield* start(pool.client.get("/"))
        wire.at(0).head(503).data("x")
        yield* turn
        assert.isTrue(cleaned, "the effect of onRetry still runs")
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("a `while` that interrupts its own caller leaves nothing", () =>
      Effect.gen(function* () {
        const caller: Caller = { fiber: undefined }
        const wire = script(silence)
        const pool = yield* onWire(wire, {
          size: 1,
          maxHosts: 1,
          retry: {
            ...quick,
            while: () => {
              interruptNow(caller)
              return caller.fiber !== undefined
            }
          }
        })
        caller.fiber = yield* start(pool.client.get("/"))
        wire.at(0).head(503).data("x")
        yield* turn
        assert.isTrue(wire.at(0).aborted)
        caller.fiber = undefined
        yield* nothingIsLeft(pool, wire)
      })
    )
  })

  describe("a function of the caller's that interrupts the call from within", () => {
    it.effect("auth, as an effect", () =>
      Effect.gen(function* () {
        const caller: Caller = { fiber: undefined }
        let asked = 0
        let cleaned = false
        const wire = script(status(503))
        const pool = yield* onWire(wire, {
          maxHosts: 1,
          retry: quick,
          auth: (request) => {
            if (++asked === 1) return request
            return Effect.suspend(() => {
              interruptNow(caller)
              return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (cleaned = true)))
            })
          }
        })
        caller.fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* turn
        assert.strictEqual(asked, 2)
        assert.isTrue(cleaned, "the effect still runs")
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("the cost of a request: nothing is sent, its tokens come back", () =>
      Effect.gen(function* () {
        const caller: Caller = { fiber: undefined }
        let asked = 0
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, {
          maxHosts: 1,
          retry: quick,
          bulkhead: { maxConcurrent: 1 },
          rateLimit: {
            limit: 10,
            interval: "10 hours",
            cost: () => {
              if (++asked === 2) interruptNow(caller)
              return 1
            }
          }
        })
        caller.fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* turn
        assert.strictEqual(asked, 2)
        assert.strictEqual(wire.sent.length, 1)
        const policies = Option.getOrThrow(yield* pool.hostPolicies(base))
        assert.strictEqual(policies.rateLimit?.snapshot().available, 9)
        assert.deepInclude(policies.bulkhead?.snapshot(), { active: 0, waiting: 0 })
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("the transport", () =>
      Effect.gen(function* () {
        const caller: Caller = { fiber: undefined }
        const wire = script(status(503), (sent) => {
          sent.write()
          interruptNow(caller)
        })
        const pool = yield* onWire(wire, { maxHosts: 1, retry: quick })
        caller.fiber = yield* start(pool.client.get("/"))
        yield* TestClock.adjust("1 second")
        yield* turn
        assert.isTrue(wire.at(1).aborted)
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("the breaker's `isFailure`", () =>
      Effect.gen(function* () {
        const caller: Caller = { fiber: undefined }
        const wire = script(silence)
        const scope = yield* Scope.make()
        const options = {
          maxHosts: 1,
          drainTimeout: "1 hour",
          circuitBreaker: {
            isFailure: () => {
              interruptNow(caller)
              return false
            }
          }
        } as const
        const pool = yield* Scope.provide(onWire(wire, options), scope)
        caller.fiber = yield* start(pool.client.get("/"))
        wire.at(0).head(200).data("x")
        yield* turn
        assert.isTrue(wire.at(0).aborted)
        yield* nothingIsLeft(pool, wire)
        const closing = yield* start(Scope.close(scope, Exit.void))
        assert.isDefined(closing.pollUnsafe(), "closing waits for what has ended")
      })
    )
  })

  describe("a function of the caller's that throws", () => {
    const mine = new Error("mine")
    const throws = (): never => {
      throw mine
    }

    it.effect("`rejected` of an Auth is a defect of the call", () =>
      Effect.gen(function* () {
        const wire = script(open(401))
        const pool = yield* onWire(wire, {
          maxHosts: 1,
          auth: {
            authorize: (request) => HttpClientRequest.setHeader(request, "authorization", "Own x"),
            rejected: throws
          }
        })
        const fiber = yield* start(Effect.exit(pool.client.get("/")))
        assert.isDefined(fiber.pollUnsafe(), "it waits for ever")
        assert.include(String(yield* Fiber.join(fiber)), "mine")
        assert.isTrue(wire.at(0).aborted)
        yield* nothingIsLeft(pool, wire)
      })
    )

    for (const [what, options] of [
      ["`cost`", { rateLimit: { limit: 5, interval: "1 hour", cost: throws } }],
      ["`isFailure`", { circuitBreaker: { isFailure: throws } }],
      ["`while`", { retry: { while: throws } }],
      ["auth", { auth: throws }],
      ["auth, in its effect", { auth: () => Effect.sync(throws) }],
      ["middleware", { middleware: [{ request: () => Effect.sync(throws) }] }],
      ["`byKey`", { selection: { byKey: throws } }]
    ] as const) {
      it.effect(`${what} leaves nothing`, () =>
        Effect.gen(function* () {
          const wire = script(open(503))
          const pool = yield* onWire(wire, { maxHosts: 1, bulkhead: { maxConcurrent: 1 }, ...options })
          const fiber = yield* start(Effect.exit(pool.client.get("/")))
          assert.isDefined(fiber.pollUnsafe(), "it waits for ever")
          assert.include(String(yield* Fiber.join(fiber)), what === "`byKey`" ? "byKey" : "mine")
          const bulkhead = Option.flatMapNullishOr(yield* pool.hostPolicies(base), (_) => _.bulkhead)
          if (Option.isSome(bulkhead)) assert.strictEqual(bulkhead.value.snapshot().active, 0)
          assert.deepInclude(yield* pool.stats, { active: 0, waiting: 0 })
        })
      )
    }

    it.effect("credentials that are no request are a defect of the call, also when it is tried again", () =>
      Effect.gen(function* () {
        let asked = 0
        const wire = script(status(503))
        const broken = () => (++asked === 1 ? HttpClientRequest.get("/") : (undefined as never))
        const pool = yield* onWire(wire, { bulkhead: { maxConcurrent: 1 }, retry: quick, auth: broken })
        const fiber = yield* start(Effect.exit(pool.client.get("/")))
        yield* TestClock.adjust("1 second")
        yield* turn
        assert.isDefined(fiber.pollUnsafe(), "it waits for ever")
        const policies = Option.getOrThrow(yield* pool.hostPolicies(base))
        assert.strictEqual(policies.bulkhead?.snapshot().active, 0)
      })
    )
  })

  describe("between the end of an exchange and what its call does next", () => {
    it.effect("the host is not evicted", () =>
      Effect.gen(function* () {
        const wire = script(silence, status(200))
        const pool = yield* onWire(wire, { maxHosts: 1, retry: quick })
        const fiber = yield* start(pool.client.get("/"))
        // In one turn: the answer comes, and somebody wants another host.
        wire.at(0).reply("", 503)
        const other = Effect.runFork(Effect.flip(pool.client.get("http://other.test/")))
        yield* turn
        assert.strictEqual((yield* Fiber.join(other))._tag, "PoolSaturated")
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
        assert.isTrue(Option.isSome(yield* pool.hostStats(base)))
        yield* nothingIsLeft(pool, wire)
      })
    )

    for (const drainTimeout of [0, "5 seconds"] as const) {
      it.effect(`the pool may end, with a drainTimeout of ${drainTimeout}: nothing is sent after that`, () =>
        Effect.gen(function* () {
          const wire = script(silence)
          const scope = yield* Scope.make()
          const pool = yield* Scope.provide(onWire(wire, { drainTimeout, retry: quick }), scope)
          const fiber = yield* start(Effect.exit(pool.client.get("/")))
          wire.at(0).reply("", 503)
          const closing = Effect.runFork(Scope.close(scope, Exit.void))
          yield* turn
          const ended = closing.pollUnsafe() !== undefined
          yield* TestClock.adjust("6 seconds")
          yield* turn
          assert.isDefined(closing.pollUnsafe())
          if (ended) assert.strictEqual(wire.sent.length, 1, "it is sent through a pool that has ended")
          assert.isDefined(fiber.pollUnsafe(), "it waits for ever")
          assert.isTrue(wire.connections.every((connection) => connection.closed))
          assert.strictEqual((yield* pool.stats).active, 0)
        })
      )
    }
  })

  describe("requestTimeout", () => {
    it.effect("rules over a hedge that waits for a token when the first attempt runs out of time", () =>
      Effect.gen(function* () {
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, {
          maxHosts: 1,
          requestTimeout: "3 seconds",
          retry: { ...quick, initialDelay: "1 second" },
          rateLimit: { limit: 2, interval: "10 hours" },
          hedge: { delay: "1 second", maxRatio: 1 }
        })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("2500 millis")
        assert.strictEqual(Option.getOrThrow(yield* pool.hostPolicies(base)).rateLimit?.snapshot().waiting, 1)
        yield* TestClock.adjust("500 millis")
        yield* turn
        assert.isDefined(fiber.pollUnsafe(), "it waits on")
        assert.strictEqual(tagged(yield* Fiber.join(fiber), "TimeoutError").phase, "request")
        const { rateLimit } = Option.getOrThrow(yield* pool.hostPolicies(base))
        assert.strictEqual(rateLimit?.snapshot().waiting, 0)
        yield* nothingIsLeft(pool, wire)
      })
    )

    it.effect("is that of the beginning: configureHost changes those to come", () =>
      Effect.gen(function* () {
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, {
          requestTimeout: "10 seconds",
          retry: { ...quick, initialDelay: "5 seconds" }
        })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* pool.configureHost(base, { requestTimeout: "1 second" })
        yield* TestClock.adjust("6 seconds")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("4 seconds")
        const error = tagged(yield* Fiber.join(fiber), "TimeoutError")
        assert.include(error.message, "10000 ms")
        assert.isDefined(error.address, "the exchange knows where it was")
      })
    )

    it.effect("still rules when configureHost lifts it meanwhile", () =>
      Effect.gen(function* () {
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, { requestTimeout: "3 seconds", retry: quick })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* pool.configureHost(base, { requestTimeout: "Infinity" })
        yield* TestClock.adjust("3 seconds")
        yield* turn
        assert.isDefined(fiber.pollUnsafe(), "it waits for ever")
        assert.include(tagged(yield* Fiber.join(fiber), "TimeoutError").message, "3000 ms")
      })
    )

    it.effect("of a retried stream ends at its head", () =>
      Effect.gen(function* () {
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, { requestTimeout: "3 seconds", bodyIdleTimeout: "1 hour", retry: quick })
        const read: Array<number> = []
        const fiber = yield* start(
          Stream.runForEach(pool.stream(HttpClientRequest.get("/")), (chunk) =>
            Effect.sync(() => read.push(chunk.length))
          )
        )
        yield* TestClock.adjust("1 second")
        wire.at(1).head(200).data("a")
        yield* turn
        yield* TestClock.adjust("10 minutes")
        wire.at(1).data("b").end()
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(read, [1, 1])
      })
    )

    it.effect("of a stream whose head does not come rules over its retries", () =>
      Effect.gen(function* () {
        const wire = script(status(503), silence)
        const pool = yield* onWire(wire, { requestTimeout: "3 seconds", retry: quick })
        const fiber = yield* start(Effect.flip(Stream.runDrain(pool.stream(HttpClientRequest.get("/")))))
        yield* TestClock.adjust("3 seconds")
        assert.deepInclude(tagged(yield* Fiber.join(fiber), "TimeoutError"), { phase: "request", attempts: 2 })
      })
    )
  })

  describe("what errors and statistics say", () => {
    it.effect("a retry that finds no slot counts the attempts before it", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => void (sent.path === "/hold" ? sent.write() : sent.answer("", 503)))
        const pool = yield* onWire(wire, { size: 1, acquireTimeout: "1 second", retry: quick })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* start(Effect.exit(pool.client.get("/hold")))
        yield* TestClock.adjust("2 seconds")
        assert.deepInclude(tagged(yield* Fiber.join(fiber), "PoolSaturated"), { reason: "acquireTimeout", attempts: 1 })
      })
    )

    it.effect("a call that the pool's end fails while it waits is a failure", () =>
      Effect.gen(function* () {
        const wire = script(status(503))
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(onWire(wire, { retry: quick }), scope)
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(fiber)).attempts, 1)
        assert.deepInclude(yield* pool.stats, { failures: 1, failuresBy: { PoolClosed: 1 } })
      })
    )

    it.effect("a POST whose fate is not known is sent once; a streamed body too", () =>
      Effect.gen(function* () {
        const wire = script((sent) => void sent.write().lose())
        const pool = yield* onWire(wire, { retry: quick })
        const stream = Stream.make(new Uint8Array(3))
        for (const request of [
          HttpClientRequest.post("/"),
          HttpClientRequest.put("/").pipe(HttpClientRequest.bodyStream(stream))
        ]) {
          const fiber = yield* start(Effect.flip(pool.client.execute(request)))
          yield* TestClock.adjust("1 minute")
          assert.strictEqual((yield* Fiber.join(fiber))._tag, "ConnectError")
        }
        assert.strictEqual(wire.sent.length, 2)
      })
    )
  })

  describe("the end of the pool leaves no timer", () => {
    it.effect("of any policy", () =>
      Effect.gen(function* () {
        const clock = new CountingClock(yield* Clock.Clock)
        const wire = script(silence)
        yield* Effect.gen(function* () {
          const scope = yield* Scope.make()
          const pool = yield* Scope.provide(
            onWire(wire, {
              size: 4,
              retry: quick,
              hedge: { delay: "10 seconds" },
              bulkhead: { maxConcurrent: 3, maxWaiting: 10, maxWait: "1 minute" },
              rateLimit: { limit: 5, interval: "1 hour" },
              circuitBreaker: true,
              auth: yield* Auth.bearer(Redacted.make("t"))
            }),
            scope
          )
          const fibers = yield* Effect.forEach(Array.from({ length: 20 }), () =>
            start(Effect.exit(pool.client.get("/")))
          )
          assert.isAbove(clock.sleeping, 0)
          yield* Scope.close(scope, Exit.void)
          yield* turn
          assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() !== undefined))
          assert.strictEqual(clock.sleeping, 0)
        }).pipe(Effect.provideService(Clock.Clock, clock))
      })
    )
  })

  for (const code of [503, 401]) {
    it.effect(
      `an answer of ${code} that comes while the pool is being cut is the caller's: nothing is sent after it`,
      () =>
        Effect.gen(function* () {
          const wire = script(silence)
          const scope = yield* Scope.make()
          const auth: Auth.Auth = {
            authorize: (request) => HttpClientRequest.setHeader(request, "authorization", "Own x"),
            rejected: () => true
          }
          const pool = yield* Scope.provide(onWire(wire, { retry: quick, auth }), scope)
          yield* start(Effect.exit(pool.client.get("/a")))
          const fiber = yield* start(Effect.exit(pool.client.get("/b")))
          const first = wire.at(0)
          first.abort = () => void wire.at(1).reply("", code)
          yield* Scope.close(scope, Exit.void)
          yield* turn
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(wire.sent.length, 2)
          const exit = yield* Fiber.join(fiber)
          assert.strictEqual(Exit.isSuccess(exit) ? exit.value.status : exit.cause, code)
        })
    )
  }

  it.effect("a 401 whose body does not end is given up for the attempt with other credentials", () =>
    Effect.gen(function* () {
      const wire = script(open(401), status(200))
      const pool = yield* onWire(wire, {
        size: 1,
        auth: {
          authorize: (request) => HttpClientRequest.setHeader(request, "authorization", "Own x"),
          rejected: () => true
        }
      })
      assert.strictEqual((yield* pool.client.get("/")).status, 200)
      assert.isTrue(wire.at(0).aborted)
    })
  )

  it.effect("no hedge waits behind its own first attempt", () =>
    Effect.gen(function* () {
      const wire = script(silence)
      const pool = yield* onWire(wire, {
        rateLimit: { limit: 1, interval: "1 hour" },
        hedge: { delay: "100 millis", maxRatio: 1 }
      })
      yield* pool.configureHost(base, { hedge: false })
      yield* start(Effect.exit(pool.client.get("/")))
      yield* pool.configureHost(base, {})
      yield* start(Effect.exit(pool.client.get("/")))
      yield* TestClock.adjust("1 second")
      const { rateLimit } = Option.getOrThrow(yield* pool.hostPolicies(base))
      assert.strictEqual(rateLimit?.snapshot().waiting, 1)
      assert.strictEqual((yield* pool.stats).hedges, 0)
    })
  )

  it.effect("an attempt that is refused at once starts neither a fiber nor a timer", () =>
    Effect.gen(function* () {
      const clock = new CountingClock(yield* Clock.Clock)
      const wire = script(status(500))
      const pool = yield* Effect.provideService(
        onWire(wire, { circuitBreaker: { consecutiveFailures: 1 } }),
        Clock.Clock,
        clock
      )
      yield* pool.client.get("/")
      const { started } = clock
      for (let i = 0; i < 10; i++) tagged(yield* Effect.flip(pool.client.get("/")), "CircuitOpen")
      assert.strictEqual(clock.started, started)
    })
  )

  it.effect("effects of policies run in the span of their request, not in that in which the pool was made", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const see = Effect.map(Effect.option(Effect.currentParentSpan), (span) => {
        seen.push(Option.getOrUndefined(Option.map(span, (_) => _.spanId)))
      })
      const wire = script(status(503), status(200), status(200))
      const pool = yield* Effect.withSpan(
        onWire(wire, { auth: (request) => Effect.as(see, request), retry: { ...quick, onRetry: () => see } }),
        "startup"
      )
      const fiber = yield* start(Effect.withSpan(pool.client.get("/"), "caller"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      const id = /^00-[0-9a-f]+-([0-9a-f]+)-/.exec(wire.at(0).header("traceparent") ?? "")?.[1]
      assert.isDefined(id)
      assert.deepStrictEqual(seen, [id, id, id])
      seen.length = 0
      yield* Effect.provideService(pool.client.get("/"), HttpClient.TracerDisabledWhen, () => true)
      assert.deepStrictEqual(seen, [undefined])
    })
  )

  it.effect("a thousand callers of all policies, interrupted at once, leave nothing", () =>
    Effect.gen(function* () {
      const clock = new CountingClock(yield* Clock.Clock)
      const server = new Server(seeded(7))
      server.kind = false
      const slowly = yield* Auth.bearer(Effect.delay(Effect.succeed(Redacted.make("t")), "10 millis"))
      const pool = yield* Effect.provideService(
        onWire(server.wire, {
          size: 16,
          auth: slowly,
          retry: { ...quick, initialDelay: "50 millis", budget: false },
          hedge: { delay: "20 millis", maxRatio: 1 },
          rateLimit: { limit: 600, interval: "20 days" },
          circuitBreaker: { consecutiveFailures: 8, openFor: "100 millis" },
          bulkhead: { maxConcurrent: 100, maxWaiting: 300, maxWait: "10 seconds" }
        }),
        Clock.Clock,
        clock
      )
      const idle = clock.sleeping
      const fibers = Array.from({ length: 1000 }, () => Effect.runFork(givingUp(text(pool.client.get("/")))))
      for (let i = 0; i < 60; i++) {
        yield* TestClock.adjust("5 millis")
        yield* Effect.promise(() => Promise.resolve())
        for (let n = 0; n < 8; n++) server.act()
      }
      const under = fibers.filter((fiber) => fiber.pollUnsafe() === undefined)
      assert.isAbove(under.length, 100)
      under.forEach((fiber) => fiber.interruptUnsafe())
      yield* turn
      assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() !== undefined))
      const stats = yield* pool.stats
      assert.deepInclude(stats, { active: 0, waiting: 0 })
      const { bulkhead, circuitBreaker, rateLimit } = Option.getOrThrow(yield* pool.hostPolicies(base))
      assert.deepInclude(bulkhead?.snapshot(), { active: 0, waiting: 0 })
      assert.strictEqual(rateLimit?.snapshot().waiting, 0)
      assert.closeTo(rateLimit?.snapshot().available ?? 0, 600 - stats.requests, 0.1)
      server.beKind()
      // Deadlines leave their shared timer to run to its end.
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual(clock.sleeping, idle)
      for (let i = 0; i < 3; i++) {
        yield* start(Effect.exit(pool.client.get("/")))
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(circuitBreaker?.snapshot().state._tag, "Closed")
    })
  )

  describe("what shows itself", () => {
    const secret = "s3cr3t-t0ken"
    /** As JSON too, where it has such a form: a policy is a circle. */
    const json = (value: unknown): string => {
      try {
        return JSON.stringify(value) ?? ""
      } catch {
        return ""
      }
    }
    const forms = (value: unknown): ReadonlyArray<string> => [
      inspect(value, { depth: 20, showHidden: true }),
      json(value),
      String(value)
    ]

    it.effect("neither an Auth nor a pool with one, its policies, responses and errors show a secret", () =>
      Effect.gen(function* () {
        const granted = JSON.stringify({ access_token: secret, token_type: "Bearer", expires_in: 3600 })
        const tokens = yield* onWire(new Wire((sent) => void sent.answer(granted)))
        const auths = [
          yield* Auth.bearer(Redacted.make(secret)),
          yield* Auth.bearer(Effect.succeed(Redacted.make(secret))),
          yield* Auth.apiKey({ name: "x-key", value: Redacted.make(secret) }),
          yield* Auth.apiKey({ name: "key", in: "query", value: Redacted.make(secret) }),
          yield* Auth.oauth2With(tokens.client, {
            tokenUrl: "http://test.local/token",
            clientId: "id",
            clientSecret: Redacted.make(secret)
          })
        ]
        for (const auth of auths) {
          const wire = script(status(200), status(500))
          const pool = yield* onWire(wire, { auth, failOnStatus: true, circuitBreaker: true, retry: { maxRetries: 0 } })
          const response = yield* pool.client.get("/")
          const error = yield* Effect.flip(pool.client.get("/"))
          assert.include(JSON.stringify(wire.at(0).exchange.headers) + wire.at(0).path, secret)
          for (const value of [auth, pool, yield* pool.hostPolicies(base), response, error]) {
            for (const form of forms(value)) assert.notInclude(form, secret)
          }
        }
      })
    )

    it.effect("options of policies: from names, from a file, and all that is wrong at once", () =>
      Effect.gen(function* () {
        const read = (provider: ConfigProvider.ConfigProvider) =>
          Effect.flatMap(fromConfig(), resolve).pipe(
            Effect.provideService(ConfigProvider.ConfigProvider, provider),
            Effect.map(({ host }) => host)
          )
        const env = (names: Record<string, string>) => read(ConfigProvider.fromEnv({ env: names }))
        const file = (httpClient: unknown) => read(ConfigProvider.fromUnknown({ httpClient }))
        assert.strictEqual((yield* env({ HTTP_CLIENT_RETRY: "true" })).retry?.maxRetries, 3)
        const more = yield* env({
          HTTP_CLIENT_RETRY: "true",
          HTTP_CLIENT_RETRY_MAX_RETRIES: "2",
          HTTP_CLIENT_RETRY_STATUSES: "429, 503",
          HTTP_CLIENT_RATE_LIMIT_LIMIT: "5",
          HTTP_CLIENT_RATE_LIMIT_INTERVAL: "1s"
        })
        assert.deepInclude(more.retry, { maxRetries: 2, statuses: [429, 503] })
        assert.deepInclude(more.rateLimit, { limit: 5, interval: 1000 })
        const yaml = yield* file({ retry: { maxRetries: 2, statuses: [503] }, circuitBreaker: true, hedge: "true" })
        assert.deepInclude(yaml.retry, { maxRetries: 2, statuses: [503] })
        assert.isDefined(yaml.circuitBreaker)
        assert.isDefined(yaml.hedge)
        const wrong = yield* Effect.flip(
          file({ retry: { statuses: [42] }, rateLimit: { limt: 3 }, bulkhead: true, hedge: [], auth: "s3cr3t" })
        )
        assert.deepStrictEqual(wrong.problems.map(({ path }) => path).toSorted(), [
          "httpClient.auth",
          "httpClient.bulkhead.maxConcurrent",
          "httpClient.hedge",
          "httpClient.rateLimit.interval",
          "httpClient.rateLimit.limit",
          "httpClient.rateLimit.limt",
          "httpClient.retry.statuses"
        ])
        assert.notInclude(wrong.message, "s3cr3t")
      })
    )
  })

  describe("a client that was transformed", () => {
    it.effect("withScope: the end of the scope ends a hedge, a wait for a token, and the body", () =>
      Effect.gen(function* () {
        const wire = script(silence)
        const pool = yield* onWire(wire, {
          maxHosts: 1,
          retry: quick,
          rateLimit: { limit: 1, interval: "1 hour" },
          hedge: { delay: "1 second", maxRatio: 1 }
        })
        const scope = yield* Scope.make()
        const fiber = yield* start(
          Effect.exit(Effect.provideService(HttpClient.withScope(pool.client).get("/"), Scope.Scope, scope))
        )
        yield* TestClock.adjust("1 second")
        yield* Scope.close(scope, Exit.void)
        yield* turn
        assert.isDefined(fiber.pollUnsafe())
        const { rateLimit } = Option.getOrThrow(yield* pool.hostPolicies(base))
        assert.strictEqual(rateLimit?.snapshot().waiting, 0)
        yield* nothingIsLeft(pool, wire)
      })
    )
  })
})

/** A generator of random numbers that begins again where it began. */
const seeded = (seed: number) => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    chance: (share: number) => next() < share,
    int: (max: number) => Math.floor(next() * max),
    pick: <A>(items: ReadonlyArray<A>): A => items[Math.floor(next() * items.length)]!
  }
}

type Random = ReturnType<typeof seeded>

const isOver = (sent: Sent): boolean => sent.aborted || sent.cancelled

/** A server that answers what and when chance wants it. */
class Server {
  readonly wire: Wire
  readonly written = new Map<string, number>()
  private readonly random: Random
  private waiting: Array<Sent> = []
  private open: Array<Sent> = []
  kind = true

  constructor(random: Random) {
    this.random = random
    this.wire = new Wire((sent) => {
      if (!this.kind) {
        this.waiting.push(sent)
        if (random.chance(0.3)) this.act()
      } else this.write(sent).reply("ok")
    })
  }

  act(): void {
    const { random } = this
    const sent = random.pick(this.waiting.concat(this.open))
    if (sent === undefined) return
    if (this.open.includes(sent)) return this.go(sent)
    this.waiting = this.waiting.filter((other) => other !== sent)
    if (isOver(sent)) return
    if (random.chance(0.15)) return void sent.refuse()
    this.write(sent)
    if (random.chance(0.15)) return void sent.lose()
    const status = random.pick([200, 200, 200, 404, 401, 429, 500, 503, 503])
    const headers = status === 429 || random.chance(0.1) ? { "retry-after": "1" } : {}
    if (random.chance(0.5)) return void sent.reply("body", status, headers)
    sent.head(status, headers).data("bo")
    this.open.push(sent)
  }

  /** From now on it answers at once, and whatever it has not answered. */
  beKind(): void {
    this.kind = true
    for (const sent of this.waiting) if (!isOver(sent)) this.write(sent).reply("ok")
    for (const sent of this.open) if (!isOver(sent)) sent.data("dy").end()
    this.waiting = []
    this.open = []
  }

  private go(sent: Sent): void {
    const { random } = this
    if (!isOver(sent) && random.chance(0.5)) return void sent.data("more")
    this.open = this.open.filter((other) => other !== sent)
    if (isOver(sent)) return
    if (random.chance(0.3)) sent.lose()
    else sent.end()
  }

  private write(sent: Sent): Sent {
    this.written.set(sent.path, (this.written.get(sent.path) ?? 0) + 1)
    return sent.write()
  }
}

/** Stands before all others, and knows who has not ended. */
class Ledger implements Gate<never> {
  readonly inside = new Map<Attempt, "asked" | "admitted">()
  readonly wrong: Array<string> = []
  attempts = 0
  /** What the upstream has seen, by origin. */
  readonly sent = new Map<string, number>()
  wild = true
  private readonly random: Random

  constructor(random: Random) {
    this.random = random
  }

  admit(attempt: Attempt): Effect.Effect<void> | undefined {
    const { random } = this
    const known = this.inside.get(attempt)
    if (known === undefined) this.attempts++
    if (known === "admitted") this.wrong.push("was asked after it had admitted")
    this.inside.set(attempt, "asked")
    if (this.wild && random.chance(0.02)) throw new Error("wild")
    if (this.wild && random.chance(0.2)) {
      return random.pick([Effect.void, Effect.yieldNow, Effect.sleep("300 millis"), Effect.never, Effect.die("wild")])
    }
    this.inside.set(attempt, "admitted")
    return undefined
  }

  settle(attempt: Attempt): void {
    if (this.inside.get(attempt) !== "admitted") this.wrong.push("settled what it had not admitted, or twice")
    this.inside.delete(attempt)
    const { origin } = new URL(attempt.request.url)
    if (attempt.sent) this.sent.set(origin, (this.sent.get(origin) ?? 0) + 1)
    if (this.wild && this.random.chance(0.02)) throw new Error("wild")
  }

  abandon(attempt: Attempt): void {
    if (this.inside.get(attempt) !== "asked") this.wrong.push("abandoned what it had admitted, or twice")
    this.inside.delete(attempt)
  }
}

const someOptions = (random: Random): Options => ({
  baseUrl: undefined,
  maxHosts: random.pick([1, 10, 10]),
  size: 1 + random.int(3),
  maxWaiting: random.pick([0, 2, 10_000]),
  acquireTimeout: random.pick(["500 millis", "30 seconds"]),
  attemptTimeout: random.pick(["400 millis", "Infinity"]),
  requestTimeout: "4 seconds",
  drainTimeout: random.pick([0, 0, "2 seconds"]),
  failOnStatus: random.chance(0.3),
  ejection: false,
  ...(random.chance(0.7)
    ? {
        retry: {
          maxRetries: random.int(4),
          initialDelay: "200 millis",
          maxRetryAfter: random.pick(["2 seconds", "0 millis"]),
          onRetry: () => random.pick([undefined, undefined, Effect.yieldNow, Effect.sleep("1 second"), Effect.never])
        }
      }
    : {}),
  ...(random.chance(0.5) ? { hedge: { delay: "150 millis", maxRatio: 1 } } : {}),
  ...(random.chance(0.5)
    ? { bulkhead: { maxConcurrent: 1 + random.int(3), maxWaiting: 1 + random.int(20), maxWait: "1 second" } }
    : {}),
  ...(random.chance(0.5)
    ? {
        circuitBreaker: {
          consecutiveFailures: 1 + random.int(3),
          openFor: "500 millis",
          halfOpenMax: 1 + random.int(2)
        }
      }
    : {}),
  ...(random.chance(0.5)
    ? {
        rateLimit: {
          limit: random.pick([20, 1000]),
          interval: "20 days",
          algorithm: random.pick(["tokenBucket", "slidingWindow"]),
          maxWait: random.pick(["1 second", "1 hour"])
        }
      }
    : {})
})

const someAuth = (random: Random): Auth.Auth => ({
  authorize: (request) => {
    const signed = HttpClientRequest.setHeader(request, "authorization", "Own token")
    return random.pick([signed, signed, Effect.succeed(signed), Effect.delay(Effect.succeed(signed), "100 millis")])
  },
  rejected: () => random.chance(0.7)
})

const origins = ["http://a.test", "http://b.test"]

/** Gives up the response that an error holds, as its caller must who does not read it. */
const givingUp = <A, E>(call: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.tapError(call, (error) => {
    const last = hasProperty(error, "last") ? error.last : error
    const response = responseOf({ _tag: "Failure", error: last })
    return response === undefined ? Effect.void : abort(response)
  })

/** One call, in one of the ways in which there are calls. */
const someCall = (random: Random, pool: Pool.Pool, url: string): Effect.Effect<unknown, unknown> => {
  switch (random.int(5)) {
    case 1:
      return Effect.scoped(text(HttpClient.withScope(pool.client).get(url)))
    case 2:
      return Stream.runDrain(pool.stream(HttpClientRequest.get(url)))
    case 3:
      return text(pool.slots[0]?.client.get(url) ?? Effect.die("no slot"))
    case 4:
      return text(HttpClient.mapRequest(pool.client, (request) => request).put(url))
    default:
      return text(pool.client.get(url))
  }
}

/** Interleaves calls, answers, failures, time and interruptions, then ends everything, and looks at what is left. */
const interleave = Effect.fnUntraced(function* (seed: number, clock: CountingClock) {
  const random = seeded(seed)
  const server = new Server(random)
  const ledger = new Ledger(random)
  const scope = yield* Scope.make()
  const options = someOptions(random)
  const hosts = Object.fromEntries(origins.map((origin) => [origin, { auth: someAuth(random) }]))
  const signs = random.chance(0.5)
  const pool = yield* Pool.make({ ...options, ...(signs ? { hosts } : {}) }, [ledger]).pipe(
    Effect.provide(server.wire.layer),
    Effect.provideService(Clock.Clock, clock),
    Scope.provide(scope)
  )
  // Only when the callers wait for their answers does the server give them: what it ends nobody else must end.
  const end = random.pick(["answers", "interruption", "close"])
  const closes = end === "close"
  // A fiber that yields between two steps may be interrupted when it has its response and has not begun to read it: then
  // only the garbage collector, or a deadline, can give that back.
  const budget = end === "answers" ? 3 + random.int(40) : 2048
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  const posts: Array<string> = []
  server.kind = false

  const act = (): void => {
    if (random.chance(0.35)) {
      const path = `/${fibers.length}`
      const isPost = random.chance(0.2)
      if (isPost) posts.push(path)
      const url = `${random.pick(origins)}${path}`
      const call = isPost ? text(pool.client.post(url)) : someCall(random, pool, url)
      fibers.push(
        Effect.runForkWith(services)(Effect.provideService(givingUp(call), References.MaxOpsBeforeYield, budget))
      )
    } else if (random.chance(0.2)) random.pick(fibers)?.interruptUnsafe()
    else server.act()
  }
  const services = yield* Effect.context<never>()
  const steps = 20 + random.int(80)
  for (let step = 0; step < steps; step++) {
    for (let n = random.int(4); n >= 0; n--) act()
    if (random.chance(0.5)) yield* random.pick([Effect.yieldNow, Effect.promise(() => Promise.resolve()), turn])
    if (random.chance(0.3)) yield* TestClock.adjust(random.pick([1, 50, 100, 300, 1000]))
    if (random.chance(0.02)) {
      yield* pool.configureHost(random.pick(origins), { requestTimeout: random.pick(["1 second", "10 seconds"]) })
    }
  }

  if (closes) yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
  else if (end === "interruption") fibers.forEach((fiber) => fiber.interruptUnsafe())
  if (end !== "interruption" && random.chance(0.5)) act()
  ledger.wild = false
  server.kind = true
  if (end === "answers") {
    server.beKind()
    for (let i = 0; i < 6; i++) {
      yield* turn
      yield* TestClock.adjust("2 seconds")
    }
  } else if (closes) yield* TestClock.adjust(options.drainTimeout ?? 0)
  yield* turn
  // A fiber that yields after every third step takes its time.
  for (let i = 0; i < 50 && fibers.some((fiber) => fiber.pollUnsafe() === undefined); i++) yield* turn

  const at = `seed ${seed}`
  assert.strictEqual(fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length, 0, `${at}: calls that wait`)
  assert.deepStrictEqual(ledger.wrong, [], at)
  assert.strictEqual(ledger.inside.size, 0, `${at}: attempts that a gate does not know the end of`)
  const stats = yield* pool.stats
  assert.deepInclude(stats, { active: 0, waiting: 0 }, at)
  const sent = [...ledger.sent.values()].reduce((sum, count) => sum + count, 0)
  // Those that found no slot are requests too, but nobody saw them.
  assert.isAtMost(sent, stats.requests, `${at}: requests`)
  assert.isAtLeast(sent, stats.responses, `${at}: responses`)
  for (const origin of origins) {
    const policies = Option.getOrUndefined(yield* pool.hostPolicies(origin))
    const host = Option.getOrUndefined(yield* pool.hostStats(origin))
    if (policies === undefined || host === undefined) continue
    const { bulkhead, circuitBreaker, rateLimit } = policies
    if (bulkhead !== undefined) assert.deepInclude(bulkhead.snapshot(), { active: 0, waiting: 0 }, at)
    const before = rateLimit?.snapshot()
    // A host that was evicted begins anew.
    if (before !== undefined && options.maxHosts !== 1) {
      assert.strictEqual(before.waiting, 0, `${at}: waiting for tokens`)
      const limit = options.rateLimit === false ? 0 : (options.rateLimit?.limit ?? 0)
      assert.closeTo(before.available, limit - (ledger.sent.get(origin) ?? 0), 0.5, `${at}: tokens`)
    }
    if (closes || circuitBreaker === undefined || (before?.available ?? 10) < 10) continue
    yield* TestClock.adjust("2 minutes")
    for (let i = 0; i < 3; i++) {
      yield* start(Effect.exit(text(pool.client.get(`${origin}/last`))))
      yield* TestClock.adjust("1 second")
    }
    assert.strictEqual(circuitBreaker.snapshot().state._tag, "Closed", `${at}: the circuit`)
  }
  if (!closes) yield* Scope.close(scope, Exit.void)
  yield* turn
  assert.strictEqual(clock.sleeping, 0, `${at}: timers`)
  assert.isTrue(
    server.wire.connections.every((connection) => connection.closed),
    `${at}: connections`
  )
  // Once more after a 401, which says that nothing was done.
  for (const path of posts) assert.isAtMost(server.written.get(path) ?? 0, signs ? 2 : 1, `${at}: POST ${path}`)
})

describe("call, whatever happens", () => {
  it.effect(
    "of random calls, answers, failures, times, interruptions and ends of pools nothing is left",
    () =>
      Effect.gen(function* () {
        const clock = new CountingClock(yield* Clock.Clock)
        for (let seed = 1; seed <= Number(process.env["SEEDS"] ?? 200); seed++) {
          yield* interleave(seed, clock)
        }
      }),
    60_000
  )
})
