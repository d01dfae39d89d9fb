/** The options of a circuit breaker: what each allows, its default, and what is read of it. */
import * as Schedule from "effect/Schedule"
import * as Field from "../../model/internal/field.ts"
import type { Outcome } from "../Gate.ts"

/** Successive openings take its successive delays. */
export type Delays = Schedule.Schedule<unknown, unknown>

export type IsFailure = (outcome: Outcome) => boolean | undefined

/** A schedule does not tell what it needs and how it fails; its type does. */
const isDelays = (u: unknown): u is Delays => Schedule.isSchedule(u)

const isIsFailure = (u: unknown): u is IsFailure => typeof u === "function"

const openFor = Field.duration("How long an open circuit refuses. In code also a `Schedule`, for openings that grow.", {
  default: "30 seconds",
  finite: true
})

const rate = { min: 0.001, max: 1 }
const calls = { min: 1, max: 1_000_000 }

/** Where a rate has enough calls to mean something. */
const minimumCalls = 20

export const fields = {
  consecutiveFailures: Field.integer("Failures in a row that trip it. `Infinity`: this alone never does.", {
    min: 1,
    max: Infinity,
    default: 5
  }),
  failureRate: Field.numberWithoutDefault("The share of failures in the window that trips it.", rate),
  slowCallRate: Field.numberWithoutDefault("The share of slow calls in the window that trips it.", rate),
  slowCallDuration: Field.duration("From when a call is slow; needed with `slowCallRate`.", { default: "Infinity" }),
  windowCalls: Field.integer("The window of the rates: the last so many calls.", { ...calls, default: 100 }),
  windowDuration: Field.duration("The window of the rates by time, instead of `windowCalls`.", {
    default: "Infinity",
    min: 10
  }),
  minimumCalls: Field.integer("Calls in the window below which no rate trips it.", { ...calls, default: minimumCalls }),
  openFor: {
    ...openFor,
    read: (value, path, problems) => (isDelays(value) ? value : openFor.read(value, path, problems))
  },
  halfOpenMax: Field.integer("Probes at once when half-open; it closes after as many successes.", {
    min: 1,
    max: 1_000,
    default: 1
  }),
  isFailure: Field.code(
    "What counts, instead of the classification: true is a failure, false a success, undefined neither.",
    "a function of the outcome",
    isIsFailure
  )
} satisfies Field.FieldsOf<Given>

/** What is read of the options. Durations are milliseconds. */
export interface Given {
  consecutiveFailures: number
  failureRate: number
  slowCallRate: number
  slowCallDuration: number
  windowCalls: number
  windowDuration: number
  minimumCalls: number
  openFor: number | Delays
  halfOpenMax: number
  isFailure: IsFailure
}

export interface Resolved {
  readonly consecutiveFailures: number
  readonly failureRate: number | undefined
  readonly slowCallRate: number | undefined
  readonly slowCallDuration: number
  readonly windowCalls: number
  /** Infinite: the window is `windowCalls`. */
  readonly windowDuration: number
  readonly minimumCalls: number
  readonly openFor: number | Delays
  readonly halfOpenMax: number
  readonly isFailure: IsFailure | undefined
}

const byTime = (given: Partial<Given>): boolean =>
  given.windowDuration !== undefined && Number.isFinite(given.windowDuration)

export const resolve = (given: Partial<Given>): Resolved => {
  const windowCalls = given.windowCalls ?? fields.windowCalls.default
  return {
    consecutiveFailures: given.consecutiveFailures ?? fields.consecutiveFailures.default,
    failureRate: given.failureRate,
    slowCallRate: given.slowCallRate,
    slowCallDuration: given.slowCallDuration ?? fields.slowCallDuration.default,
    windowCalls,
    windowDuration: given.windowDuration ?? fields.windowDuration.default,
    // A window shorter than the default is meant to be full at most.
    minimumCalls: given.minimumCalls ?? (byTime(given) ? minimumCalls : Math.min(minimumCalls, windowCalls)),
    openFor: given.openFor ?? openFor.default,
    halfOpenMax: given.halfOpenMax ?? fields.halfOpenMax.default,
    isFailure: given.isFailure
  }
}

/** What no option can know alone. */
export const rules = (given: Partial<Given>): ReadonlyArray<Field.Problem> => {
  const problems: Array<Field.Problem> = []
  const { windowCalls } = resolve(given)
  const limited = given.slowCallDuration !== undefined && Number.isFinite(given.slowCallDuration)
  if (given.slowCallRate !== undefined && !limited) {
    problems.push({ path: "slowCallRate", message: "needs `slowCallDuration`: from when a call is slow" })
  }
  if (given.slowCallRate === undefined && limited) {
    problems.push({ path: "slowCallDuration", message: "does nothing without `slowCallRate`" })
  }
  if (given.windowCalls !== undefined && byTime(given)) {
    problems.push({ path: "windowDuration", message: "cannot be given together with `windowCalls`" })
  } else if (given.minimumCalls !== undefined && !byTime(given) && given.minimumCalls > windowCalls) {
    problems.push({
      path: "minimumCalls",
      message: `must not be above \`windowCalls\` (${windowCalls}): no rate could ever trip`
    })
  }
  return problems
}
