/** What must not be left behind, nor happen twice, whatever comes at whatever moment. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Option, Redacted, Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import type * as Pool from "../../../src/client/Pool.ts"
import * as Auth from "../../../src/policy/Auth.ts"
import { CountingClock, onWire, start, tagged, turn } from "../../fixtures/pools.ts"
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
        const pool = yield* onWire(wire, {
          maxHosts: 1,
          circuitBreaker: {
            isFailure: () => {
              interruptNow(caller)
              return false
            }
          }
        })
        caller.fiber = yield* start(pool.client.get("/"))
        wire.at(0).head(200).data("x")
        yield* turn
        assert.isTrue(wire.at(0).aborted)
        yield* nothingIsLeft(pool, wire)
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
