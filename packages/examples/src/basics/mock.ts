/** An application's own test of its retry and its breaker: a real pool on mocked routes, and minutes in milliseconds. */
import { type Pool } from "@millrace/core"
import { MockPool } from "@millrace/core/testing"
import { Console, Context, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"

// The application: a tag, and a function on it.
class Billing extends Context.Service<Billing, Pool.Pool>()("example/Billing") {}

const invoice = Effect.fn("invoice")(function* (id: number) {
  const { client } = yield* Billing
  const response = yield* client.get(`/invoices/${id}`)
  return response.status === 200 ? yield* response.json : `status ${response.status}`
})

// Its test: the options are those of production, the upstream is a list of routes.
const upstream = MockPool.layerFor(
  Billing,
  {
    baseUrl: "https://billing.test",
    retry: { maxRetries: 2, jitter: "none" },
    circuitBreaker: { consecutiveFailures: 3, openFor: "30 seconds" }
  },
  [
    MockPool.get("/invoices/1", MockPool.sequence(MockPool.status(503), MockPool.refuse, MockPool.json({ id: 1 }))),
    MockPool.times(MockPool.get("/invoices/2", MockPool.reset), 3),
    MockPool.get("/invoices/:id", ({ params }) => MockPool.json({ id: params.id }))
  ]
)

const test = Effect.gen(function* () {
  const { sent } = yield* MockPool.MockPool
  const first = yield* Effect.forkChild(invoice(1))
  yield* TestClock.adjust("10 seconds")
  yield* Console.log(
    yield* Fiber.join(first),
    "after attempts at",
    (yield* sent).map(({ at }) => `${at} ms`).join(", ")
  )

  const second = yield* Effect.forkChild(Effect.flip(invoice(2)))
  yield* TestClock.adjust("10 seconds")
  yield* Console.log((yield* Fiber.join(second))._tag)
  const refused = yield* Effect.flip(invoice(3))
  yield* Console.log(refused._tag, "- and", (yield* sent).length, "attempts in all")

  yield* TestClock.adjust("30 seconds")
  yield* Console.log(yield* invoice(3))
})

const started = performance.now()
await Effect.runPromise(Effect.provide(test, Layer.provideMerge(upstream, TestClock.layer())))
console.log(`50 seconds passed in ${Math.round(performance.now() - started)} ms`)
