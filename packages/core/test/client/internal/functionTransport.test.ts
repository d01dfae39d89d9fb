import { assert, describe, it } from "@effect/vitest"
import { Data, Deferred, Effect, Exit, Fiber, Latch, Ref, Scope, Stream } from "effect"
import { HttpBody, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { type Failure, type Respond, TransportError } from "../../../src/client/Connector.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"
import type { PoolEvent } from "../../../src/client/PoolEvent.ts"
import { onFunction, type Request, start, tagged, text, turn } from "../../fixtures/pools.ts"

class Boom extends Data.TaggedError("Boom")<{ readonly message: string }> {}

const reply = (request: Request, body: string | ReadableStream | null = "ok", init?: ResponseInit) =>
  HttpClientResponse.fromWeb(request, new Response(body, init))

/** A pool of one slot, and what happens to its connection. */
const observed = <E>(respond: Respond<E>, options: Options = {}) =>
  Effect.gen(function* () {
    const pool = yield* onFunction(respond, { size: 1, ...options })
    const seen: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(pool.events, (event: PoolEvent) =>
        Effect.sync(() => {
          if (event._tag === "ConnectionOpened") seen.push("open")
          if (event._tag === "ConnectionClosed") seen.push(event.reason)
        })
      ),
      { startImmediately: true }
    )
    yield* turn
    return {
      pool,
      seen: Effect.andThen(
        turn,
        Effect.sync(() => [...seen])
      )
    }
  })

describe("functionTransport", () => {
  it.effect("gives the function the whole request, and the caller the whole response", () =>
    Effect.gen(function* () {
      const requests: Array<Request> = []
      const pool = yield* onFunction((request) => {
        requests.push(request)
        return Effect.succeed(reply(request, "body", { status: 201, headers: { "x-out": "2" } }))
      })
      const response = yield* pool.client.post("/a?b=1", { headers: { "X-In": "1" }, body: HttpBody.text("sent") })
      assert.deepStrictEqual([response.status, response.headers["x-out"], yield* response.text], [201, "2", "body"])
      const request = requests[0] ?? assert.fail("no request")
      assert.deepStrictEqual([request.method, request.url], ["POST", "http://test.local/a?b=1"])
      assert.strictEqual(request.headers["x-in"], "1")
      assert.strictEqual(request.headers["content-type"], "text/plain")
      assert.strictEqual(request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : "", "sent")
    })
  )

  it.effect("keeps every cookie apart", () =>
    Effect.gen(function* () {
      const headers = new Headers([
        ["set-cookie", "a=1; Path=/"],
        ["set-cookie", "b=2; HttpOnly"]
      ])
      const pool = yield* onFunction((request) => Effect.succeed(reply(request, "", { headers })))
      const { cookies } = yield* pool.client.get("/")
      assert.deepStrictEqual(Object.keys(cookies.cookies), ["a", "b"])
      assert.strictEqual(cookies.cookies["b"]?.options?.httpOnly, true)
    })
  )

  it.effect("a response without a body is an empty one", () =>
    Effect.gen(function* () {
      const pool = yield* onFunction((request) => Effect.succeed(reply(request, null, { status: 204 })))
      const response = yield* pool.client.get("/")
      assert.deepStrictEqual([response.status, yield* response.text], [204, ""])
    })
  )

  it.effect("connects for the first request, and once", () =>
    Effect.gen(function* () {
      const { pool, seen } = yield* observed((request) => Effect.succeed(reply(request)))
      yield* pool.client.get("/")
      yield* pool.client.get("/")
      assert.deepStrictEqual(yield* seen, ["open"])
    })
  )

  it.effect("retires a connection that is old", () =>
    Effect.gen(function* () {
      const { pool, seen } = yield* observed((request) => Effect.succeed(reply(request)), {
        maxRequestsPerConnection: 1
      })
      yield* pool.client.get("/")
      yield* pool.client.get("/")
      assert.deepStrictEqual(yield* seen, ["open", "retired", "open"])
    })
  )

  describe("failures", () => {
    const failing = (failure: Failure) => observed(() => new TransportError({ failure }))

    it.effect("can be played, each by its kind", () =>
      Effect.gen(function* () {
        const cause = new Error("played")
        const of = (failure: Failure) =>
          Effect.flatMap(failing(failure), ({ pool }) => Effect.flip(pool.client.get("/")))
        const connect = tagged(
          yield* of({ _tag: "Connect", phase: "dns", address: undefined, millis: 1, cause }),
          "ConnectError"
        )
        assert.deepStrictEqual([connect.phase, connect.sent, connect.cause], ["dns", false, cause])
        const dial = yield* of({ _tag: "ConnectTimeout", phase: "dial", address: "a:1", millis: 5 })
        assert.strictEqual(tagged(dial, "TimeoutError").phase, "dial")
        tagged(yield* of({ _tag: "Protocol", reason: "garbage", cause }), "DecodeError")
        tagged(yield* of({ _tag: "Rejected", reason: "not allowed", cause }), "InvalidRequest")
        tagged(yield* of({ _tag: "Broken", cause }), "ConnectError")
      })
    )

    it.effect("of other kinds play a connection that broke, defects too", () =>
      Effect.gen(function* () {
        for (const respond of [
          () => Effect.fail(new Boom({ message: "boom" })),
          () => Effect.fail("boom"),
          () => Effect.die("boom"),
          () => Effect.interrupt,
          () => {
            throw new Error("boom")
          }
        ]) {
          const { pool, seen } = yield* observed<unknown>(respond)
          const error = tagged(yield* Effect.flip(pool.client.get("/")), "ConnectError")
          assert.match(error.message, /boom|interrupted/)
          assert.deepStrictEqual(yield* seen, ["open", "broken"])
        }
      })
    )

    it.effect("of a body break it in the middle", () =>
      Effect.gen(function* () {
        const { pool, seen } = yield* observed((request) => {
          const body = new ReadableStream({
            pull: (controller) => controller.error(new Error("boom")),
            start: (controller) => controller.enqueue(new TextEncoder().encode("part"))
          })
          return Effect.succeed(reply(request, body))
        })
        const error = yield* Effect.flip(text(pool.client.get("/")))
        assert.include(error.message, "Connection broke")
        assert.deepStrictEqual(yield* seen, ["open", "broken"])
      })
    )

    it.effect("on a reused connection are stale ones", () =>
      Effect.gen(function* () {
        const calls = yield* Ref.make(0)
        const { pool, seen } = yield* observed((request) =>
          Effect.flatMap(
            Ref.getAndUpdate(calls, (n) => n + 1),
            (n) => (n === 1 ? Effect.fail("gone") : Effect.succeed(reply(request)))
          )
        )
        yield* pool.client.get("/")
        assert.strictEqual(yield* text(pool.client.get("/")), "ok")
        assert.deepStrictEqual(yield* seen, ["open", "broken", "open"])
        assert.strictEqual((yield* pool.stats).staleRetries, 1)
      })
    )
  })

  describe("a request that is aborted", () => {
    it.effect("interrupts the function, and its connection is not used again", () =>
      Effect.gen(function* () {
        const interrupted = yield* Deferred.make<void>()
        const { pool, seen } = yield* observed((request) =>
          request.url.endsWith("/slow")
            ? Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
            : Effect.succeed(reply(request))
        )
        const fiber = yield* start(pool.client.get("/slow"))
        yield* Fiber.interrupt(fiber)
        yield* Deferred.await(interrupted)
        assert.strictEqual(yield* text(pool.client.get("/")), "ok")
        yield* pool.client.get("/")
        assert.deepStrictEqual(yield* seen, ["open", "aborted", "open"])
      })
    )

    it.effect("by a time limit too", () =>
      Effect.gen(function* () {
        const { pool, seen } = yield* observed(() => Effect.never, { responseHeaderTimeout: "1 seconds" })
        const fiber = yield* start(Effect.flip(pool.client.get("/")))
        yield* TestClock.adjust("1 seconds")
        assert.strictEqual(tagged(yield* Fiber.join(fiber), "TimeoutError").phase, "headers")
        assert.deepStrictEqual(yield* seen, ["open", "aborted"])
      })
    )

    it.effect("and takes its time to end does not disturb the next on the same slot", () =>
      Effect.gen(function* () {
        const latch = yield* Latch.make()
        const { pool, seen } = yield* observed((request) =>
          request.url.endsWith("/slow")
            ? Effect.onInterrupt(Effect.never, () => latch.await)
            : Effect.as(Effect.yieldNow, reply(request))
        )
        const fiber = yield* start(pool.client.get("/slow"))
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(yield* text(pool.client.get("/1")), "ok")
        yield* latch.open
        yield* turn
        assert.strictEqual(yield* text(pool.client.get("/2")), "ok")
        assert.deepStrictEqual(yield* seen, ["open", "aborted", "open"])
      })
    )
  })

  describe("a streamed response", () => {
    it.effect("is not pulled while its reader is slow", () =>
      Effect.gen(function* () {
        const pulled = yield* Ref.make(0)
        const body = Stream.mapEffect(Stream.range(1, 100), () =>
          Effect.as(
            Ref.update(pulled, (n) => n + 1),
            new Uint8Array(1000)
          )
        )
        const pool = yield* onFunction(
          (request) => Effect.map(Stream.toReadableStreamEffect(body), (stream) => reply(request, stream)),
          { size: 1, bodyBufferSize: 4096 }
        )
        const response = yield* pool.client.get("/")
        yield* turn
        yield* turn
        assert.isBelow(yield* Ref.get(pulled), 20)
        assert.strictEqual((yield* response.arrayBuffer).byteLength, 100_000)
      })
    )

    it.effect("keeps its slot to the end", () =>
      Effect.gen(function* () {
        const latch = yield* Latch.make()
        const body = Stream.concat(
          Stream.make(new TextEncoder().encode("a")),
          Stream.fromEffect(Effect.as(latch.await, new TextEncoder().encode("b")))
        )
        const pool = yield* onFunction(
          (request) => Effect.map(Stream.toReadableStreamEffect(body), (stream) => reply(request, stream)),
          { size: 1 }
        )
        const reading = yield* start(text(pool.client.get("/")))
        assert.strictEqual((yield* pool.stats).active, 1)
        yield* latch.open
        assert.strictEqual(yield* Fiber.join(reading), "ab")
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )
  })

  it.effect("closing interrupts what still runs", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      const pool = yield* onFunction(
        () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined)),
        { size: 1 }
      ).pipe(Effect.provideService(Scope.Scope, scope))
      const fiber = yield* start(Effect.flip(pool.client.get("/")))
      yield* Scope.close(scope, Exit.void)
      tagged(yield* Fiber.join(fiber), "PoolClosed")
      yield* Deferred.await(interrupted)
    })
  )
})
