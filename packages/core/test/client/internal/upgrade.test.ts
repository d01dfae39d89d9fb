import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Redacted, Scope } from "effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { TestClock } from "effect/testing"
import * as Connector from "../../../src/client/Connector.ts"
import * as Pool from "../../../src/client/Pool.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"
import { rawHeadersOf } from "../../../src/model/internal/rawHeaders.ts"
import * as Auth from "../../../src/policy/Auth.ts"
import { start, turn } from "../../fixtures/pools.ts"
import { Ends } from "../../fixtures/rawConnection.ts"

const bodyOf = (text: string) => new Response(text).body ?? new ReadableStream<Uint8Array>()

const declined = (status: number, headers: Connector.RawHeaders = {}): Connector.Declined => ({
  _tag: "Declined",
  status,
  headers,
  body: bodyOf("no")
})

const switched: Connector.Switched = { _tag: "Switched", headers: { upgrade: "x" }, connection: new Ends() }

/** A pool whose connector does `upgrade`, and what that was asked. */
const pool = (answer: ReturnType<Connector.Upgrade>, options: Options = {}) =>
  Effect.gen(function* () {
    const asked: Array<{ readonly target: Connector.Target; readonly path: string; readonly headers: string }> = []
    const open = { count: 0 }
    const upgrade: Connector.Upgrade = (target, { headers, path }) =>
      Effect.andThen(
        Effect.acquireRelease(
          Effect.sync(() => {
            asked.push({ target, path, headers: headers.join(" ") })
            open.count++
          }),
          () => Effect.sync(() => open.count--)
        ),
        answer
      )
    const made = yield* Effect.gen(function* () {
      const connector = yield* Connector.Connector
      return yield* Effect.provideService(
        Pool.make({ baseUrl: "http://test.local/base", drainTimeout: 0, ...options }),
        Connector.Connector,
        { ...connector, upgrade }
      )
    }).pipe(Effect.provide(Connector.layerFunction(() => Effect.never)))
    return { made, asked, open }
  })

const request = HttpClientRequest.get("/chat?a=1").pipe(HttpClientRequest.setHeader("upgrade", "x"))

describe("upgrade", () => {
  it.effect("asks with path, headers and options of the pool, and gives the connection while the scope lasts", () =>
    Effect.gen(function* () {
      const { asked, made, open } = yield* pool(Effect.succeed(switched), { headers: { "x-default": "1" } })
      yield* Effect.scoped(
        Effect.gen(function* () {
          assert.strictEqual(yield* made.upgrade(request), switched)
          assert.strictEqual(open.count, 1)
        })
      )
      assert.strictEqual(open.count, 0)
      yield* Effect.scoped(made.upgrade(request))
      assert.strictEqual(asked[0]?.path, "/base/chat?a=1")
      assert.include(asked[0]?.headers, "x-default 1")
      assert.strictEqual(asked[0]?.target.origin, "http://test.local")
      // So that they spread over addresses as slots do.
      assert.deepStrictEqual(
        asked.map(({ target }) => target.slot),
        [0, 1]
      )
      assert.include(yield* made.stats, { requests: 0, active: 0 })
    })
  )

  it.effect("an answer that is none of a switch is a response", () =>
    Effect.gen(function* () {
      const { made } = yield* pool(Effect.succeed(declined(403, { "set-cookie": ["a=1", "b=2"], "x-a": "1" })))
      const response = yield* made.upgrade(request)
      if ("connection" in response) return assert.fail("it has switched")
      assert.strictEqual(response.status, 403)
      assert.strictEqual(response.headers["x-a"], "1")
      assert.deepStrictEqual(rawHeadersOf(response)["set-cookie"], ["a=1", "b=2"])
      assert.strictEqual(yield* response.text, "no")
      const { made: other } = yield* pool(Effect.succeed(declined(304)), { bodyIdleTimeout: "Infinity" })
      const empty = yield* other.upgrade(request)
      assert.strictEqual("connection" in empty ? 101 : empty.status, 304)
    })
  )

  it.effect("a status that is none is a DecodeError; what the connector fails with, the error that it means", () =>
    Effect.gen(function* () {
      const { made } = yield* pool(Effect.succeed(declined(999)))
      assert.strictEqual((yield* Effect.flip(made.upgrade(request)))._tag, "DecodeError")
      const refused = { _tag: "Connect", phase: "tcp", address: "a:1", millis: 1, cause: new Error("refused") } as const
      const { made: other } = yield* pool(Effect.fail(refused))
      const error = yield* Effect.flip(other.upgrade(request))
      assert.isTrue(error._tag === "ConnectError" && !error.sent)
    })
  )

  for (const [option, phase] of [
    ["responseHeaderTimeout", "headers"],
    ["attemptTimeout", "attempt"],
    ["requestTimeout", "request"]
  ] as const) {
    it.effect(`${option} ends it before its answer, not after`, () =>
      Effect.gen(function* () {
        const { made, open } = yield* pool(Effect.never, { [option]: 1000 })
        const fiber = yield* start(Effect.scoped(Effect.flip(made.upgrade(request))))
        yield* TestClock.adjust(1000)
        assert.include(yield* Fiber.join(fiber), { _tag: "TimeoutError", phase })
        assert.strictEqual(open.count, 0)
        const { made: other, open: opened } = yield* pool(Effect.succeed(switched), { [option]: 1000 })
        yield* other.upgrade(request)
        yield* TestClock.adjust(5000)
        assert.strictEqual(opened.count, 1)
      })
    )
  }

  it.effect("bodyIdleTimeout ends an answer that stands still, but not one that nobody asks for more of", () =>
    Effect.gen(function* () {
      const text = new TextEncoder().encode("begin")
      const body = () => new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(text) })
      for (const asks of [true, false]) {
        const { made } = yield* pool(Effect.succeed({ ...declined(200), body: body() }), { bodyIdleTimeout: 1000 })
        const response = yield* made.upgrade(request)
        if ("connection" in response) return assert.fail("it has switched")
        const fiber = yield* start(Effect.exit(asks ? response.text : Effect.never))
        yield* TestClock.adjust(1000)
        yield* turn
        if (!asks) assert.isUndefined(fiber.pollUnsafe())
        else assert.include(String(yield* Fiber.join(fiber)), "bodyIdleTimeout")
        yield* Fiber.interrupt(fiber)
      }
    })
  )

  it.effect("without any limit it waits", () =>
    Effect.gen(function* () {
      const { made } = yield* pool(Effect.never, { responseHeaderTimeout: "Infinity", requestTimeout: "Infinity" })
      const fiber = yield* start(Effect.scoped(made.upgrade(request)))
      yield* TestClock.adjust("1 day")
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("credentials are put on it, and the circuit breaker counts what it comes to", () =>
    Effect.gen(function* () {
      const auth = yield* Auth.bearer(Redacted.make("secret"))
      const { asked, made } = yield* pool(
        Effect.sync(() => declined(503)),
        {
          auth,
          circuitBreaker: { consecutiveFailures: 2, openFor: "1 minute" }
        }
      )
      yield* made.upgrade(request)
      yield* made.upgrade(request)
      assert.strictEqual((yield* Effect.flip(made.upgrade(request)))._tag, "CircuitOpen")
      assert.include(asked[0]?.headers, "Bearer secret")
      assert.strictEqual(asked.length, 2)
    })
  )

  it.effect("ends with the pool, after which there is none", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { made, open } = yield* Scope.provide(pool(Effect.succeed(switched)), scope)
      yield* made.upgrade(request)
      assert.strictEqual(open.count, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(open.count, 0)
      assert.strictEqual((yield* Effect.flip(made.upgrade(request)))._tag, "PoolClosed")
    })
  )

  it.effect("needs a connector that can, and an address", () =>
    Effect.gen(function* () {
      const plain = yield* Pool.make({ drainTimeout: 0 }).pipe(
        Effect.provide(Connector.layerFunction(() => Effect.never))
      )
      assert.strictEqual((yield* Effect.flip(plain.upgrade(request)))._tag, "InvalidRequest")
      const absolute = HttpClientRequest.get("http://test.local/")
      const error = yield* Effect.flip(plain.upgrade(absolute))
      assert.include(error.message, "its connector cannot hand over a connection")
    })
  )
})
