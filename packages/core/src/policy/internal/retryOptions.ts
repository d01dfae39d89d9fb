/** The options of retry and of its budget, each once: kind, default, bounds, meaning. */
import * as Schedule from "effect/Schedule"
import * as Field from "../../model/internal/field.ts"
import * as Group from "../../model/internal/groupField.ts"
import type { OnRetry, RetrySchedule, While } from "../Retry.ts"
import type { RetryBudget } from "../RetryBudget.ts"
import type { Jitter } from "./backoff.ts"
import { isRetryBudget, type Shares } from "./retryBudget.ts"

// -----------------------------------------------------------------------------
// the kinds
// -----------------------------------------------------------------------------

const isStatus = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 400 && value <= 599

const statusFromText = (text: unknown): unknown =>
  typeof text === "string" && /^\d{3}$/.test(text.trim()) ? Number(text) : text

/** As text: `429, 503`, or a list of texts, as files are read; empty text is none of them. */
const statuses = (
  description: string,
  byDefault: ReadonlyArray<number>
): Field.FieldWithDefault<ReadonlyArray<number>> => {
  const list = Field.field<ReadonlyArray<number>>(
    description,
    {
      unit: "statuses",
      allowed: "a list of statuses from 400 to 599 (as text: separated by commas)",
      parse: (value) => (Array.isArray(value) && value.every(isStatus) ? value : undefined)
    },
    byDefault.join(", ")
  )
  const fromText = (raw: unknown): unknown => {
    if (Array.isArray(raw)) return raw.map(statusFromText)
    if (typeof raw !== "string") return raw
    return raw.trim() === "" ? [] : raw.split(",").map(statusFromText)
  }
  return Field.withDefault({ ...list, fromText }, byDefault)
}

type BudgetOption = Partial<Shares> | RetryBudget | false

/** A group, `false`, or a budget that others share: that one only code can give. */
const shareable = <A, F extends Field.Fields>(
  self: Field.Field<A | false> & { readonly fields: F }
): Field.Field<A | RetryBudget | false> & { readonly fields: F } => ({
  ...self,
  read: (value, path, problems) => (isRetryBudget(value) ? value : self.read(value, path, problems))
})

const isWhile = (value: unknown): value is While => typeof value === "function"

const isOnRetry = (value: unknown): value is OnRetry => typeof value === "function"

/** A schedule does not tell what it takes and how it fails; its type does. */
const isSchedule = (value: unknown): value is RetrySchedule => Schedule.isSchedule(value)

// -----------------------------------------------------------------------------
// the budget
// -----------------------------------------------------------------------------

export const budgetFields = {
  ratio: Field.number("Retries for each request of the window.", { min: 0, max: 1_000, default: 0.2 }),
  minPerSecond: Field.number("Retries a second that are always allowed, however few requests there are.", {
    min: 0,
    max: 1_000_000,
    default: 10
  }),
  window: Field.duration("How long a request counts, and a retry.", { default: "10 seconds", min: 100, finite: true })
}

export const resolveBudget = (given: Partial<Shares>): Shares => ({
  ratio: given.ratio ?? budgetFields.ratio.default,
  minPerSecond: given.minPerSecond ?? budgetFields.minPerSecond.default,
  window: given.window ?? budgetFields.window.default
})

// -----------------------------------------------------------------------------
// retry
// -----------------------------------------------------------------------------

export const fields = {
  maxRetries: Field.integer("Attempts after the first, at most; 0: none.", { min: 0, max: 100, default: 3 }),
  statuses: statuses("Statuses of responses that are worth another attempt.", [408, 429, 500, 502, 503, 504]),
  initialDelay: Field.duration("The wait before the first retry.", { default: "1 second", min: 0, finite: true }),
  multiplier: Field.number("By this each further wait is longer.", { min: 1, max: 100, default: 2 }),
  maxDelay: Field.duration("The longest wait, unless the server asks for more.", {
    default: "30 seconds",
    min: 0,
    finite: true
  }),
  jitter: Field.choice("How waits are spread, so that clients do not come back together.", [
    "proportional",
    "none",
    "full",
    "equal",
    "decorrelated"
  ]),
  jitterFactor: Field.number("How far `proportional` strays: 0.1 is ± 10 %.", { min: 0, max: 1, default: 0.1 }),
  maxRetryAfter: Field.duration("The most that is waited because of a `Retry-After`.", {
    default: "60 seconds",
    min: 0,
    finite: true
  }),
  retryNonIdempotent: Field.boolean(
    "Whether POST, PATCH and other methods that are not idempotent are sent again without an `idempotency-key`.",
    false
  ),
  schedule: Field.code<RetrySchedule>(
    "Says how long to wait, instead of the backoff, and may end the retries.",
    "a Schedule",
    isSchedule
  ),
  while: Field.code<While>(
    "Says which failures and responses are worth another attempt, instead of the default.",
    "a function",
    isWhile
  ),
  onRetry: Field.code<OnRetry>("Is told of every retry, before its wait.", "a function", isOnRetry),
  budget: shareable(
    Group.groupOrFalse(
      Group.group<Shares, typeof budgetFields>(
        "What all retries together may be; `false`: no limit. In code also a `RetryBudget` that others share.",
        budgetFields
      )
    )
  )
}

/** What is read of the options, its defaults filled in. */
export interface Resolved extends Required<Omit<Given, "schedule" | "while" | "onRetry" | "budget">> {
  readonly schedule: RetrySchedule | undefined
  readonly while: While | undefined
  readonly onRetry: OnRetry | undefined
  readonly budget: Shares | RetryBudget | false
}

/** What is read of the options. */
export interface Given {
  readonly maxRetries: number
  readonly statuses: ReadonlyArray<number>
  /** Milliseconds, as all times here. */
  readonly initialDelay: number
  readonly multiplier: number
  readonly maxDelay: number
  readonly jitter: Jitter
  readonly jitterFactor: number
  readonly maxRetryAfter: number
  readonly retryNonIdempotent: boolean
  readonly schedule: RetrySchedule
  readonly while: While
  readonly onRetry: OnRetry
  readonly budget: BudgetOption
}

export const resolve = (given: Partial<Given>): Resolved => {
  const budget = given.budget ?? {}
  return {
    maxRetries: given.maxRetries ?? fields.maxRetries.default,
    statuses: given.statuses ?? fields.statuses.default,
    initialDelay: given.initialDelay ?? fields.initialDelay.default,
    multiplier: given.multiplier ?? fields.multiplier.default,
    maxDelay: given.maxDelay ?? fields.maxDelay.default,
    jitter: given.jitter ?? fields.jitter.default,
    jitterFactor: given.jitterFactor ?? fields.jitterFactor.default,
    maxRetryAfter: given.maxRetryAfter ?? fields.maxRetryAfter.default,
    retryNonIdempotent: given.retryNonIdempotent ?? fields.retryNonIdempotent.default,
    schedule: given.schedule,
    while: given.while,
    onRetry: given.onRetry,
    budget: budget === false || isRetryBudget(budget) ? budget : resolveBudget(budget)
  }
}

export const rules = (given: Partial<Given>): ReadonlyArray<Field.Problem> => {
  const { initialDelay, maxDelay } = resolve(given)
  if (initialDelay <= maxDelay) return []
  return [{ path: "maxDelay", message: `must be at least \`initialDelay\`, which is ${initialDelay} ms` }]
}
