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
import type { Gate } from "../../policy/Gate.ts"
import * as RateLimit from "../../policy/RateLimit.ts"
import * as Retry from "../../policy/Retry.ts"
import type { CircuitFace, LimitFace, SharedPolicies } from "../../policy/SharedPolicies.ts"
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
  /** What keeps policies for all processes, if anything does, and the host's name there. */
  readonly shared: SharedPolicies | undefined
  readonly key: string
}

type Breaker = ReturnType<typeof CircuitBreaker.makeUnsafe>
type Limit = ReturnType<typeof RateLimit.makeUnsafe>

export class HostPolicies {
  readonly gates: ReadonlyArray<Gate<PoolError>>
  readonly retry: Retry.Rule | undefined = undefined
  readonly hedge: Hedge.Rule | undefined = undefined
  readonly auth: Auth | undefined = undefined
  /** Those of this process: the fallback, where policies are shared. */
  readonly rateLimit: Limit | undefined = undefined
  readonly circuitBreaker: Breaker | undefined = undefined
  readonly bulkhead: ReturnType<typeof Bulkhead.makeUnsafe> | undefined = undefined
  /** Those that attempts pass. */
  readonly limit: LimitFace | undefined = undefined
  readonly circuit: CircuitFace | undefined = undefined
  private readonly config: ResolvedHost | undefined

  /** What is configured as it was in `before` keeps its state. */
  constructor(
    outer: ReadonlyArray<Gate<PoolError>>,
    given?: { readonly config: ResolvedHost; readonly around: Surroundings },
    before?: HostPolicies
  ) {
    this.config = given?.config
    this.gates = outer
    if (given === undefined) return
    const { around, config } = given
    const { auth, bulkhead, circuitBreaker, hedge, rateLimit, retry } = config
    const kept = <K extends keyof ResolvedHost>(key: K): HostPolicies | undefined =>
      before?.config?.[key] === config[key] ? before : undefined

    if (auth !== undefined) this.auth = auth
    if (retry !== undefined) this.retry = kept("retry")?.retry ?? Retry.makeUnsafe(retry, around)
    if (hedge !== undefined) this.hedge = kept("hedge")?.hedge ?? Hedge.makeUnsafe(hedge)
    if (bulkhead !== undefined) this.bulkhead = kept("bulkhead")?.bulkhead ?? Bulkhead.makeUnsafe(bulkhead, around)
    if (rateLimit !== undefined) {
      const same = kept("rateLimit")
      this.rateLimit = same?.rateLimit ?? localLimit(rateLimit, around)
      this.limit = same?.limit ?? sharedLimit(rateLimit, this.rateLimit, around)
    }
    if (circuitBreaker !== undefined) {
      const same = kept("circuitBreaker")
      this.circuitBreaker = same?.circuitBreaker ?? localCircuit(circuitBreaker, around)
      this.circuit = same?.circuit ?? sharedCircuit(circuitBreaker, this.circuitBreaker, around)
    }

    const gates: Array<Gate<PoolError>> = [...outer]
    if (this.auth !== undefined) gates.push(authGate(this.auth))
    if (this.circuit !== undefined && this.limit !== undefined) gates.push(this.circuit.early)
    if (this.limit !== undefined) gates.push(this.limit.gate)
    if (this.circuit !== undefined) gates.push(this.circuit.gate)
    if (this.bulkhead !== undefined) gates.push(this.bulkhead.gate)
    this.gates = gates
  }
}

const onPause =
  ({ emit, origin }: Surroundings) =>
  (millis: number): void =>
    emit({ _tag: "Paused", origin, millis })

const onChange =
  ({ emit, origin }: Surroundings) =>
  ({ from, to }: CircuitBreaker.Change): void =>
    emit({ _tag: "Circuit", origin, from, to })

const localLimit = (options: NonNullable<ResolvedHost["rateLimit"]>, around: Surroundings): Limit =>
  RateLimit.makeUnsafe(options, { ...around, onPause: around.shared === undefined ? onPause(around) : undefined })

const sharedLimit = (options: NonNullable<ResolvedHost["rateLimit"]>, local: Limit, around: Surroundings): LimitFace =>
  around.shared?.rateLimit(around.key, options, local, onPause(around)) ?? local

const localCircuit = (options: NonNullable<ResolvedHost["circuitBreaker"]>, around: Surroundings): Breaker =>
  CircuitBreaker.makeUnsafe(options, {
    ...around,
    onChange: around.shared === undefined ? onChange(around) : undefined
  })

const sharedCircuit = (
  options: NonNullable<ResolvedHost["circuitBreaker"]>,
  local: Breaker,
  around: Surroundings
): CircuitFace => around.shared?.circuitBreaker(around.key, options, local, onChange(around)) ?? local
