import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import * as Connector from "../../src/client/Connector.ts"
import * as Pool from "../../src/client/Pool.ts"
import { PoolClosed, type PoolError } from "../../src/client/PoolError.ts"
import type { Attempt, Gate, Outcome } from "../../src/policy/Policy.ts"

/** Writes down what it sees; `wait` is what it makes an attempt wait on. */
const gate = (log: Array<string>, name: string, wait?: Effect.Effect<void, PoolError>): Gate<PoolError> => ({
  admit: (attempt: Attempt) => {
    log.push(`${name} admits ${attempt.request.url}`)
    return wait
  },
  settle: (_attempt: Attempt, outcome: Outcome<PoolError>) => {
    log.push(`${name} settles ${outcome._tag}`)
  }
})

const refusal = new PoolClosed({ request: { method: "GET", url: "/" }, attempts: 0 })

const connector = Connector.layerFunction((request) =>
  request.url.endsWith("/never")
    ? Effect.never
    : Effect.succeed(HttpClientResponse.fromWeb(request, new Response("ok")))
)

const poolWith = (gates: ReadonlyArray<Gate<PoolError>>) =>
  Effect.provide(Pool.make({ baseUrl: "http://test.local", size: 1 }, gates), connector)

describe("Policy", () => {
  it.effect("an attempt passes the gates in order and settles them in reverse", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b", Effect.void), gate(log, "c")])
      const response = yield* pool.client.get("/x")
      assert.strictEqual(yield* response.text, "ok")
      assert.deepStrictEqual(log, [
        "a admits /x",
        "b admits /x",
        "c admits /x",
        "c settles Response",
        "b settles Response",
        "a settles Response"
      ])
    })
  )

  it.effect("a gate that refuses ends the attempt; it is not settled itself, and no slot was asked for", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b", Effect.fail(refusal)), gate(log, "c")])
      assert.strictEqual(yield* Effect.flip(pool.client.get("/x")), refusal)
      assert.deepStrictEqual(log, ["a admits /x", "b admits /x", "a settles Failure"])
      assert.strictEqual((yield* pool.stats).requests, 0)
    })
  )

  it.effect("an attempt interrupted while it waits in a gate settles those before it", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b", Effect.never)])
      const fiber = yield* Effect.forkChild(pool.client.get("/x"), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(log, ["a admits /x", "b admits /x", "a settles Interrupted"])
    })
  )

  it.effect("an attempt interrupted under way settles all, and gives its slot back", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b")])
      const fiber = yield* Effect.forkChild(pool.client.get("/never"), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.deepStrictEqual(log.slice(2), ["b settles Interrupted", "a settles Interrupted"])
      assert.strictEqual((yield* pool.client.get("/x")).status, 200)
    })
  )

  it.effect("a client that was transformed passes them as well", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a")])
      const client = HttpClient.filterStatusOk(pool.client)
      yield* client.get("/x")
      assert.deepStrictEqual(log, ["a admits http://test.local/x", "a settles Response"])
    })
  )
})
