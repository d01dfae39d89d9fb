/** The standard stack as the benchmark uses it: every policy on, none of them ever in the way. */
import { Auth, type PoolConfig } from "@millrace/core"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"

const auth = Effect.runSync(Auth.bearer(Redacted.make("a-token-of-usual-length-0123456789")))

/** Each policy with the options that it has in the full stack. */
const policies = {
  auth: { auth },
  rateLimit: { rateLimit: { limit: 1_000_000_000, interval: "1 second" } },
  circuitBreaker: { circuitBreaker: { consecutiveFailures: 5, failureRate: 0.5, windowDuration: "10 seconds" } },
  bulkhead: { bulkhead: { maxConcurrent: 1024 } },
  retry: { retry: true },
  hedge: { hedge: { delay: "1 second" } },
  metrics: { observe: { metrics: true, spans: false } },
  spans: { observe: { metrics: false, spans: true } }
} satisfies { readonly [name: string]: PoolConfig.Options }

export type PolicyName = keyof typeof policies

export const policyNames: ReadonlyArray<PolicyName> = [
  "auth",
  "rateLimit",
  "circuitBreaker",
  "bulkhead",
  "retry",
  "hedge",
  "metrics"
]

/** One policy, and nothing else. */
export const only = (name: PolicyName): PoolConfig.Options => ({ ...nothing, ...policies[name] })

export const nothing: PoolConfig.Options = { observe: false }

/** Auth, limit, breaker, bulkhead, retry, timeouts, metrics. */
export const full = (options: { readonly traced: boolean }): PoolConfig.Options => ({
  ...policies.auth,
  ...policies.rateLimit,
  ...policies.circuitBreaker,
  ...policies.bulkhead,
  ...policies.retry,
  attemptTimeout: "30 seconds",
  observe: { metrics: true, spans: options.traced }
})
