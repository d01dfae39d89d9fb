/** The store of shared policies, in Redis. */
import { type Store, StoreError } from "@millrace/core/policy/SharedPolicies"
import * as Effect from "effect/Effect"
import type * as Redis from "effect/persistence/Redis"
import { endProbeScript, enterScript, recordScript, viewOf } from "./redisCircuit.ts"
import { scripts, takenOf } from "./redisRateLimit.ts"
import { toMicros } from "./redisScript.ts"

/** Never the arguments of a command, nor what the connection was made of. */
const storeError = (error: Redis.RedisError): StoreError => {
  const { cause } = error
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined
  return new StoreError({ reason: code ?? (cause instanceof Error ? cause.message : "Redis failed"), cause })
}

export const storeOf = (redis: Redis.Redis["Service"], prefix: string): Store => {
  const limits = {
    tokenBucket: redis.eval(scripts.tokenBucket),
    slidingWindow: redis.eval(scripts.slidingWindow),
    slidingCounter: redis.eval(scripts.slidingCounter)
  }
  const enter = redis.eval(enterScript)
  const record = redis.eval(recordScript)
  const endProbe = redis.eval(endProbeScript)
  // What one algorithm has stored is nothing to another.
  const limitKey = (limit: { readonly key: string; readonly algorithm: string }): string =>
    `${prefix}${limit.algorithm}:${limit.key}`
  const circuitKey = (circuit: { readonly key: string }): string => `${prefix}circuit:${circuit.key}`
  return {
    take: (limit, costs, waited) =>
      limits[limit.algorithm](limitKey(limit), limit, "take", waited ? 1 : 0, ...costs).pipe(
        Effect.mapBoth({ onFailure: storeError, onSuccess: takenOf })
      ),
    giveBack: (limit, { at, count, entry }) =>
      Effect.mapError(limits[limit.algorithm](limitKey(limit), limit, "giveBack", count, at, entry), storeError),
    pause: (limit, millis) =>
      Effect.mapError(limits[limit.algorithm](limitKey(limit), limit, "pause", toMicros(millis)), storeError),
    enter: (circuit, probes) =>
      enter(circuitKey(circuit), circuit, probes).pipe(
        Effect.mapBoth({
          onFailure: storeError,
          onSuccess: (answer) => {
            const [first, granted] = [answer[12], answer[13]]
            return { view: viewOf(answer), leases: Array.from({ length: granted }, (_, i) => first + i) }
          }
        })
      ),
    record: (circuit, of) =>
      record(circuitKey(circuit), circuit, of).pipe(Effect.mapBoth({ onFailure: storeError, onSuccess: viewOf })),
    endProbe: (circuit, of) =>
      endProbe(circuitKey(circuit), circuit, of).pipe(Effect.mapBoth({ onFailure: storeError, onSuccess: viewOf })),
    // A server that is full, or only a replica, answers but does not write.
    check: Effect.mapError(redis.send("SET", `${prefix}check`, "1", "PX", "1000"), storeError)
  }
}
