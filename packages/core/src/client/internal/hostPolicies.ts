/**
 * The policies of one host, in the order of the standard stack: its own limiter, its own breaker, its own counters.
 *
 * The order, and why (each line says why it stands before the next):
 *
 * 1. auth: each attempt carries a valid token; a token endpoint that fails neither spends tokens of the limiter nor trips
 *    the breaker; and no slot is held while a token is fetched.
 * 2. a circuit that is known to be open: nobody waits for the limiter only to be refused.
 * 3. rate limit: what the breaker's probe waits for must not be a token.
 * 4. circuit breaker: it gives permission last, so that it counts only what is really sent.
 * 5. bulkhead: what waits here has permission already, and is bounded.
 *
 * Around them, for the call: middleware, `requestTimeout`, retry, and in it the hedge. Behind them: the slot,
 * `attemptTimeout`, the connection.
 */
import type { Timers } from "../../model/Timers.ts"
import type { PoolError } from "../../model/PoolError.ts"
import type { Auth } from "../../policy/Auth.ts"
import * as Bulkhead from "../../policy/Bulkhead.ts"
import * as CircuitBreaker from "../../policy/CircuitBreaker.ts"
import * as Hedge from "../../policy/Hedge.ts"
import { authGate } from "../../policy/internal/authGate.ts"
import type { Gate } from "../../policy/Policy.ts"
import * as RateLimit from "../../policy/RateLimit.ts"
import * as Retry from "../../policy/Retry.ts"
import type { ResolvedHost } from "../PoolConfig.ts"
import type { PoolEvent } from "../PoolEvent.ts"

/** What policies need of the world. */
export interface Surroundings {
  readonly timers: Timers
  readonly random: () => number
  /** Milliseconds since 1970. */
  readonly epoch: () => number
  readonly emit: (event: PoolEvent) => void
  readonly origin: string
}

export class HostPolicies {
  readonly gates: ReadonlyArray<Gate<PoolError>>
  readonly retry: Retry.Rule | undefined = undefined
  readonly hedge: Hedge.Rule | undefined = undefined
  readonly auth: Auth | undefined = undefined
  readonly rateLimit: ReturnType<typeof RateLimit.makeUnsafe> | undefined = undefined
  readonly circuitBreaker: ReturnType<typeof CircuitBreaker.makeUnsafe> | undefined = undefined
  readonly bulkhead: ReturnType<typeof Bulkhead.makeUnsafe> | undefined = undefined
  private readonly config: ResolvedHost | undefined

  /** What is configured as it was in `before` keeps its state. */
  constructor(
    outer: ReadonlyArray<Gate<PoolError>>,
    given?: { readonly config: ResolvedHost; readonly around: Surroundings },
    before?: HostPolicies
  ) {
    const config = given?.config
    const kept = before?.config
    this.config = config
    this.gates = outer
    if (config === undefined || given === undefined) return
    const { around } = given
    const { emit, origin } = around
    const { auth, bulkhead, circuitBreaker, hedge, rateLimit, retry } = config
    if (auth !== undefined) this.auth = auth
    if (bulkhead !== undefined) {
      this.bulkhead = kept?.bulkhead === bulkhead ? before?.bulkhead : Bulkhead.makeUnsafe(bulkhead, around)
    }
    if (circuitBreaker !== undefined) {
      this.circuitBreaker =
        kept?.circuitBreaker === circuitBreaker
          ? before?.circuitBreaker
          : CircuitBreaker.makeUnsafe(circuitBreaker, {
              ...around,
              onChange: (change) => emit({ _tag: "Circuit", origin, from: change.from, to: change.to })
            })
    }
    if (hedge !== undefined) this.hedge = kept?.hedge === hedge ? before?.hedge : Hedge.makeUnsafe(hedge)
    if (rateLimit !== undefined) {
      this.rateLimit =
        kept?.rateLimit === rateLimit
          ? before?.rateLimit
          : RateLimit.makeUnsafe(rateLimit, {
              ...around,
              onPause: (millis) => emit({ _tag: "Paused", origin, millis })
            })
    }
    if (retry !== undefined) this.retry = kept?.retry === retry ? before?.retry : Retry.makeUnsafe(retry, around)

    const gates: Array<Gate<PoolError>> = [...outer]
    if (this.auth !== undefined) gates.push(authGate(this.auth))
    if (this.circuitBreaker !== undefined && this.rateLimit !== undefined) gates.push(this.circuitBreaker.early)
    if (this.rateLimit !== undefined) gates.push(this.rateLimit.gate)
    if (this.circuitBreaker !== undefined) gates.push(this.circuitBreaker.gate)
    if (this.bulkhead !== undefined) gates.push(this.bulkhead.gate)
    this.gates = gates
  }
}
