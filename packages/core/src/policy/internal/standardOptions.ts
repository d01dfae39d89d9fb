/** The options of the standard stack: those of each policy, and what turns it on and off. */
import { isObject } from "effect/Predicate"
import * as Field from "../../model/internal/field.ts"
import * as Group from "../../model/internal/groupField.ts"
import type { Middleware } from "../Middleware.ts"
import * as Bulkhead from "./bulkheadOptions.ts"
import * as CircuitBreaker from "./circuitBreakerOptions.ts"
import * as Hedge from "./hedgeOptions.ts"
import * as RateLimit from "./rateLimitOptions.ts"
import * as Retry from "./retryOptions.ts"
import * as Timeout from "./timeoutOptions.ts"

export const anything = <A>(_: A): _ is A => true

export const isMiddleware = (value: unknown): value is ReadonlyArray<Middleware> =>
  Array.isArray(value) && value.every((item) => isObject(item))

/** What has no default. */
export interface Limited {
  readonly limit: number
  readonly interval: number
}
export interface Bounded {
  readonly maxConcurrent: number
}

/** The policies that a pool has too. */
export const policyFields = {
  retry: Group.policy("Sends again what failed, when that is safe.", Retry.fields, Retry.rules, anything),
  hedge: Group.policy("Sends a second attempt beside a slow first one.", Hedge.fields, Hedge.rules, anything),
  rateLimit: Group.policy(
    "How many attempts a host gets in a time.",
    RateLimit.fields,
    RateLimit.rules,
    (given): given is Partial<RateLimit.Given> & Limited => given.limit !== undefined && given.interval !== undefined
  ),
  circuitBreaker: Group.policy(
    "Refuses at once while a host fails.",
    CircuitBreaker.fields,
    CircuitBreaker.rules,
    anything
  ),
  bulkhead: Group.policy(
    "How many attempts a host gets at a time.",
    Bulkhead.fields,
    Bulkhead.rules,
    (given): given is Partial<Bulkhead.Given> & Bounded => given.maxConcurrent !== undefined
  )
}

/** The same, and what a pool has in another form. */
export const fields = {
  ...policyFields,
  ...Timeout.fields,
  middleware: Field.code("Functions around every request, outermost first.", "a list of Middleware", isMiddleware),
  auth: Field.code(
    "Credentials for every attempt, as a policy that knows the origins they are for.",
    "what `Auth.policy` makes",
    (value): value is { readonly wrap: never } => isObject(value) && typeof value["wrap"] === "function"
  )
}
