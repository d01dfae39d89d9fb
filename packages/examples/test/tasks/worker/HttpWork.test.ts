import { assert, describe, it } from "@effect/vitest"
import { Auth, type PoolConfig } from "@millrace/core"
import { MockPool } from "@millrace/core/testing"
import { UndiciConnector } from "@millrace/node"
import { Effect, Fiber, Latch, Layer, Redacted, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Http from "node:http"
import { text } from "node:stream/consumers"
import { TaskId } from "../../../src/tasks/domain/Task.ts"
import * as HttpWork from "../../../src/tasks/worker/HttpWork.ts"
import { Work, type WorkFailed } from "../../../src/tasks/worker/Work.ts"

const id = TaskId.make("607b6a8c-ca0e-4d2a-b48b-1f7dd8926e00")
const url = "https://io.test/jobs/run"

interface Mocked {
  readonly run: (id: TaskId) => Effect.Effect<string, WorkFailed>
  readonly sent: MockPool.Server["sent"]
}

/** Work on a mocked service, under the options of a test and no jitter. */
const mocked = <A, E>(
  answer: MockPool.Answer | MockPool.Sequence,
  options: Omit<HttpWork.Options, "url"> & { readonly url?: string },
  test: (mocked: Mocked) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, E | PoolConfig.ConfigError> =>
  Effect.gen(function* () {
    const { run } = yield* Work
    const { sent } = yield* MockPool.Server
    return yield* test({ run, sent })
  }).pipe(
    Effect.scoped,
    Effect.provide(
      HttpWork.layer({ url, retry: { jitter: "none" }, drainTimeout: 0, ...options }).pipe(
        Layer.provideMerge(
          MockPool.layerConnector([MockPool.post("/jobs/run", answer)], { baseUrl: "https://io.test" })
        )
      )
    )
  )

/** What it fails with, however long that takes. */
const reasonOf = (self: Effect.Effect<string, WorkFailed>, within: "1 hour" | "1 milli" = "1 hour") =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.flip(self))
    yield* TestClock.adjust(within)
    return (yield* Fiber.join(fiber)).reason
  })

describe("HttpWork", () => {
  it.effect("posts the id, under it as the idempotency key, and gives the text of the answer", () =>
    mocked(MockPool.text("io work result = 7"), { url: `${url}?mode=fast` }, ({ run, sent }) =>
      Effect.gen(function* () {
        assert.strictEqual(yield* run(id), "io work result = 7")
        const [request] = yield* sent
        assert.strictEqual(request?.url, "https://io.test/jobs/run?mode=fast")
        assert.deepStrictEqual(request?.json, { id })
        assert.strictEqual(request?.headers["idempotency-key"], id)
        assert.strictEqual(request?.headers["content-type"], "application/json")
      })
    )
  )

  it.effect("sends again, with the same key, what may come right", () =>
    mocked(MockPool.sequence(MockPool.status(503), MockPool.refuse, MockPool.text("at last")), {}, ({ run, sent }) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(run(id))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), "at last")
        assert.deepStrictEqual(
          (yield* sent).map(({ headers }) => headers["idempotency-key"]),
          [id, id, id]
        )
      })
    )
  )

  it.effect("waits for minutes for an answer", () =>
    mocked(Effect.delay(MockPool.text("slow"), "9 minutes"), {}, ({ run, sent }) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(run(id))
        yield* TestClock.adjust("9 minutes")
        assert.strictEqual(yield* Fiber.join(fiber), "slow")
        assert.strictEqual((yield* sent).length, 1)
      })
    )
  )

  it.effect("keeps 4 KiB of an answer, cut between characters", () =>
    Effect.gen(function* () {
      const resultOf = (body: string, options: { readonly maxResult?: number } = {}) =>
        mocked(MockPool.text(body), options, ({ run }) => run(id))
      assert.strictEqual(yield* resultOf("x".repeat(100_000)), "x".repeat(4096))
      assert.strictEqual(yield* resultOf("x".repeat(4096)), "x".repeat(4096))
      assert.strictEqual(yield* resultOf("aé", { maxResult: 2 }), "a")
      assert.strictEqual(yield* resultOf("aé", { maxResult: 3 }), "aé")
      assert.strictEqual(yield* resultOf(""), "")
    })
  )

  it.effect("keeps the beginning of an answer that never ends", () =>
    mocked(MockPool.stream(Stream.forever(Stream.make("12345"))), { maxResult: 12 }, ({ run }) =>
      Effect.map(run(id), (result) => assert.strictEqual(result, "123451234512"))
    )
  )

  for (const status of [302, 400, 404, 422]) {
    it.effect(`fails when the answer is ${status}, and says so without the query and the body`, () =>
      mocked(MockPool.text("password=hunter2", { status }), { url: `${url}?token=hunter2` }, ({ run, sent }) =>
        Effect.gen(function* () {
          const reason = yield* reasonOf(run(id))
          assert.strictEqual(reason, `The service answered with status ${status}: POST ${url}`)
          assert.strictEqual((yield* sent).length, 1)
        })
      )
    )
  }

  it.effect("fails with the last status when retries run out", () =>
    mocked(MockPool.status(503), { retry: { maxRetries: 2, jitter: "none" } }, ({ run, sent }) =>
      Effect.gen(function* () {
        assert.include(yield* reasonOf(run(id)), "status 503")
        assert.strictEqual((yield* sent).length, 3)
      })
    )
  )

  it.effect("fails when the service cannot be reached, with what the pool says, and no secret", () =>
    mocked(
      MockPool.refuse,
      { auth: Effect.runSync(Auth.bearer(Redacted.make("hunter2"))), retry: { maxRetries: 1, jitter: "none" } },
      ({ run }) =>
        Effect.gen(function* () {
          const reason = yield* reasonOf(run(id))
          assert.include(reason, "ECONNREFUSED")
          assert.include(reason, "2 attempts")
          assert.notInclude(reason, "hunter2")
        })
    )
  )

  it.effect("fails when the answer breaks off", () =>
    mocked(MockPool.stream(Stream.concat(Stream.make("half"), Stream.fail("reset"))), {}, ({ run }) =>
      Effect.gen(function* () {
        assert.include(yield* reasonOf(run(id)), "POST https://io.test/jobs/run")
      })
    )
  )

  it.effect("fails when the answer takes too long", () =>
    mocked(Effect.never, { attemptTimeout: "1 minute", retry: false }, ({ run }) =>
      Effect.gen(function* () {
        assert.include(yield* reasonOf(run(id)), "attemptTimeout of 60000 ms passed")
      })
    )
  )

  describe("policies", () => {
    const broken = { circuitBreaker: { consecutiveFailures: 2, openFor: "20 seconds" }, retry: false } as const

    it.effect("while the circuit is open tasks wait, and run when the service is back", () =>
      mocked(
        MockPool.sequence(
          MockPool.status(500),
          MockPool.status(500),
          MockPool.text("back"),
          MockPool.text("back"),
          MockPool.text("back")
        ),
        broken,
        ({ run, sent }) =>
          Effect.gen(function* () {
            yield* reasonOf(run(id), "1 milli")
            yield* reasonOf(run(id), "1 milli")
            const many = yield* Effect.forkChild(Effect.all([run(id), run(id), run(id)], { concurrency: "unbounded" }))
            yield* TestClock.adjust("19 seconds")
            assert.strictEqual((yield* sent).length, 2)
            yield* TestClock.adjust("10 seconds")
            assert.deepStrictEqual(yield* Fiber.join(many), ["back", "back", "back"])
          })
      )
    )

    it.effect("a circuit that stays open longer than the patience fails them", () =>
      mocked(MockPool.status(500), { ...broken, patience: "1 minute" }, ({ run }) =>
        Effect.gen(function* () {
          yield* reasonOf(run(id), "1 milli")
          yield* reasonOf(run(id), "1 milli")
          const fiber = yield* Effect.forkChild(Effect.flip(run(id)))
          yield* TestClock.adjust("15 seconds")
          assert.isUndefined(fiber.pollUnsafe())
          yield* TestClock.adjust("2 minutes")
          assert.match((yield* Fiber.join(fiber)).reason, /Circuit is open|status 500/)
        })
      )
    )

    it.effect("without patience they fail at once", () =>
      mocked(MockPool.status(500), { ...broken, patience: 0 }, ({ run }) =>
        Effect.gen(function* () {
          yield* reasonOf(run(id), "1 milli")
          yield* reasonOf(run(id), "1 milli")
          assert.include(yield* reasonOf(run(id), "1 milli"), "Circuit is open")
        })
      )
    )

    it.effect("the rate limit and the bulkhead make tasks wait instead of failing", () =>
      mocked(
        Effect.delay(MockPool.text("fine"), "1 second"),
        { rateLimit: { limit: 5, interval: "1 second" }, bulkhead: { maxConcurrent: 2, maxWaiting: 100 } },
        ({ run, sent }) =>
          Effect.gen(function* () {
            const all = yield* Effect.forkChild(
              Effect.all(
                Array.from({ length: 20 }, () => run(id)),
                { concurrency: "unbounded" }
              )
            )
            yield* TestClock.adjust("5500 millis")
            assert.isAtMost((yield* sent).length, 12)
            yield* TestClock.adjust("1 minute")
            assert.strictEqual((yield* Fiber.join(all)).length, 20)
          })
      )
    )

    it.effect("credentials go with the request", () =>
      mocked(MockPool.text("fine"), { auth: Effect.runSync(Auth.bearer(Redacted.make("hunter2"))) }, ({ run, sent }) =>
        Effect.gen(function* () {
          yield* run(id)
          assert.strictEqual((yield* sent)[0]?.headers["authorization"], "Bearer hunter2")
        })
      )
    )
  })

  it.effect("interruption ends the request at once", () =>
    mocked(Effect.never, {}, ({ run, sent }) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(run(id))
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* sent).length, 1)
        yield* Fiber.interrupt(fiber)
        assert.isDefined(fiber.pollUnsafe())
      })
    )
  )

  it.effect("an address that is none is a ConfigError", () =>
    Effect.gen(function* () {
      for (const url of ["io.test/jobs", "ftp://io.test", "https://user:hunter2@io.test/"]) {
        const error = yield* Effect.flip(
          Layer.build(Layer.provide(HttpWork.layer({ url }), MockPool.layerConnector([]))).pipe(Effect.scoped)
        )
        assert.strictEqual(error._tag, "ConfigError")
        assert.notInclude(error.message, "hunter2")
      }
    })
  )

  it.live("on real sockets: results, and a request that is aborted when its task is cancelled", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const began = yield* Latch.make()
      const aborted = yield* Latch.make()
      const server = Http.createServer((request, response) => {
        void text(request).then((body) => {
          asked.push([request.method, request.url, request.headers["idempotency-key"], body].join(" "))
          if (request.url === "/slow") {
            response.once("close", () => aborted.openUnsafe())
            response.write("so far")
            began.openUnsafe()
          } else response.end(`done ${asked.length}`)
        })
      })
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => server.close().closeAllConnections())
      )
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const workOf = (path: string) =>
        Effect.map(
          Layer.build(HttpWork.layer({ url: `http://127.0.0.1:${port}${path}`, drainTimeout: 0 })),
          (context) => Effect.flatMap(Work, ({ run }) => run(id)).pipe(Effect.provide(context))
        )

      const fast = yield* workOf("/fast")
      assert.deepStrictEqual(
        yield* Effect.forEach(
          [fast, fast, fast],
          Effect.map((result) => result.slice(0, 4))
        ),
        ["done", "done", "done"]
      )
      assert.deepStrictEqual(new Set(asked), new Set([`POST /fast ${id} ${JSON.stringify({ id })}`]))

      const slow = yield* Effect.forkChild(yield* workOf("/slow"))
      yield* began.await
      yield* Fiber.interrupt(slow)
      yield* aborted.await
    }).pipe(Effect.provide(UndiciConnector.layer))
  )
})
