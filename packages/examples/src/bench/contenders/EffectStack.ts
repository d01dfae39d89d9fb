/** Effect's own undici client under Effect's own limiter, retry and circuit breaker; spans off. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { type Contender, connections } from "../Work.ts"
import { byHttpClient } from "./Requests.ts"

const stack = Effect.gen(function* () {
  const limiter = yield* RateLimiter.RateLimiter
  const breaker = yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(5),
    openDuration: Schedule.spaced("30 seconds")
  })
  return (yield* HttpClient.HttpClient).pipe(
    HttpClient.withRateLimiter({
      limiter,
      key: "upstream",
      limit: 1_000_000_000,
      window: "1 second",
      algorithm: "token-bucket"
    }),
    HttpClient.withCircuitBreaker({ breaker }),
    HttpClient.retryTransient({ times: 3, schedule: Schedule.exponential("1 second") })
  )
})

const layers = Layer.mergeAll(
  NodeHttpClient.layerUndiciOptions({ connections }),
  CircuitBreaker.layerStoreMemory(),
  Layer.provide(RateLimiter.layer, RateLimiter.layerStoreMemory)
)

export const contender: Contender = async (origin) => {
  const runtime = ManagedRuntime.make(layers)
  const client = await runtime.runPromise(Effect.provideService(stack, Scope.Scope, Scope.makeUnsafe()))
  return (work) => ({
    _tag: "Effect",
    send: Effect.provideService(
      byHttpClient(client, origin + work.path, work),
      HttpClient.TracerDisabledWhen,
      () => true
    )
  })
}
