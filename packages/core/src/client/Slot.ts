/**
 * One slot of a pool: a client of its own with at most one connection per origin.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { HttpClient } from "effect/http/HttpClient"
import type { PoolError } from "../model/PoolError.ts"

/**
 * A slot. Its `client` uses this slot only, and waits for it when it is busy: for diagnosis, warming up, and tests.
 *
 * @category models
 * @since 0.1.0
 */
export interface Slot {
  readonly index: number
  readonly client: HttpClient.With<PoolError>
  readonly stats: Effect.Effect<SlotStats>
}

/**
 * What a slot has done, over all origins.
 *
 * - `state`: `busy` while a request is under way to any origin, `ejected` while it rests after failures to connect.
 *
 * @category models
 * @since 0.1.0
 */
export interface SlotStats {
  readonly state: "free" | "busy" | "ejected"
  readonly requests: number
  readonly connectionsOpen: number
}
