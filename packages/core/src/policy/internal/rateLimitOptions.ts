/** The options of a rate limit, each once: kind, default, bounds, meaning. */
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Field from "../../model/internal/field.ts"

const withoutDefault = <A>({ default: _, ...field }: Field.FieldWithDefault<A>, text: string): Field.Field<A> => ({
  ...field,
  defaultText: text
})

type Cost = (request: HttpClientRequest) => number

const isCost = (value: unknown): value is Cost => typeof value === "function"

const tokens = { min: 1, max: 1_000_000_000, default: 1 }

/** A window remembers a time for each token. */
const maxWindow = 1_000_000

export const fields = {
  limit: withoutDefault(Field.integer("Tokens for each `interval`; a request costs one.", tokens), "required"),
  interval: withoutDefault(
    Field.duration("The time that `limit` is for.", { default: "1 second", finite: true }),
    "required"
  ),
  algorithm: Field.choice("How tokens are counted.", ["tokenBucket", "slidingWindow", "slidingCounter"]),
  burst: withoutDefault(
    Field.integer("What an unused `tokenBucket` holds: so many requests can be made at once.", tokens),
    "`limit`"
  ),
  maxWait: Field.duration(
    "A request that would have to wait longer fails at once; 0: each that would have to wait does.",
    { default: "Infinity", min: 0 }
  ),
  maxQueue: Field.integer("Requests that may wait; one more fails at once.", {
    min: 0,
    max: 1_000_000,
    default: 10_000
  }),
  cost: Field.code("The tokens that a request costs, rounded up. Default: 1.", "a function of the request", isCost),
  respectHeaders: Field.boolean(
    "Whether `Retry-After` of a 429 or 503, `RateLimit`, `RateLimit-*` and `X-RateLimit-*` of any response pause it.",
    true
  ),
  maxPause: Field.duration("The longest pause that a response can ask for.", {
    default: "60 seconds",
    min: 0,
    finite: true
  })
}

/** What is given, as the fields read it. */
export interface Given {
  limit: number
  interval: number
  algorithm: "tokenBucket" | "slidingWindow" | "slidingCounter"
  burst: number
  maxWait: number
  maxQueue: number
  cost: Cost
  respectHeaders: boolean
  maxPause: number
}

/** Times are milliseconds. */
export interface Resolved extends Readonly<Omit<Given, "cost">> {
  /** `undefined`: each costs one. */
  readonly cost: Cost | undefined
}

/** `limit` and `interval` have no default: without them, which `rules` refuses, it is one token a second. */
export const resolve = (given: Partial<Given>): Resolved => {
  const limit = given.limit ?? 1
  return {
    limit,
    interval: given.interval ?? 1_000,
    algorithm: given.algorithm ?? fields.algorithm.default,
    burst: given.burst ?? limit,
    maxWait: given.maxWait ?? fields.maxWait.default,
    maxQueue: given.maxQueue ?? fields.maxQueue.default,
    cost: given.cost,
    respectHeaders: given.respectHeaders ?? fields.respectHeaders.default,
    maxPause: given.maxPause ?? fields.maxPause.default
  }
}

/** What no option can know alone. `input` is what was given before it was read: what is refused is not missing. */
export const rules = (
  given: Partial<Given>,
  input: { readonly limit?: unknown; readonly interval?: unknown } = given
): ReadonlyArray<Field.Problem> => {
  const problems: Array<Field.Problem> = []
  for (const path of ["limit", "interval"] as const) {
    if (input[path] === undefined) problems.push({ path, message: "is missing: a rate limit needs it" })
  }
  const { algorithm, limit } = resolve(given)
  if (given.burst !== undefined && algorithm !== "tokenBucket") {
    problems.push({ path: "burst", message: `is for the token bucket; "${algorithm}" has none` })
  }
  if (algorithm === "slidingWindow" && limit > maxWindow) {
    problems.push({
      path: "limit",
      message: `must not be above ${maxWindow} for "slidingWindow", which remembers each; use another algorithm`
    })
  }
  return problems
}
