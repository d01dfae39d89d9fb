/**
 * How far a request is from what was expected of it: facet by facet, so that a mismatch can be told in a few lines.
 */
import type * as Schema from "effect/Schema"
import { isArray, redacted } from "./secrets.ts"

/** Something about a request that is not as expected. */
export interface Difference {
  /** For example `header x-tenant`, `body.amount`. */
  readonly facet: string
  readonly expected: string
  readonly got: string
  /** How much it says against the two belonging together. */
  readonly weight: number
}

/** Where a difference is in the path or the method, it is hardly the same request. */
export const weights = { origin: 8, method: 4, segment: 3, detail: 1 }

/** Something that requests are compared with, and what is told of it. */
export interface Candidate {
  readonly name: string
  readonly differences: ReadonlyArray<Difference>
  /** Why it does not answer although nothing differs. */
  readonly spent?: string | undefined
}

const distanceOf = (candidate: Candidate): number => candidate.differences.reduce((sum, { weight }) => sum + weight, 0)

/** The candidate that a request was probably meant for. */
const nearest = (candidates: ReadonlyArray<Candidate>): Candidate | undefined => {
  let best: Candidate | undefined
  for (const candidate of candidates) {
    if (best === undefined || distanceOf(candidate) < distanceOf(best)) best = candidate
  }
  return best
}

/** Lines for a person. `what` names the candidates: `route`, `recorded request`. */
export const explain = (what: string, candidates: ReadonlyArray<Candidate>): ReadonlyArray<string> => {
  const best = nearest(candidates)
  if (best === undefined) return [`there is no ${what} at all`]
  return [
    `nearest ${what}: ${best.name}`,
    ...best.differences.map(({ expected, facet, got }) => `  ${facet}: expected ${expected}, got ${got}`),
    ...(best.differences.length === 0 && best.spent !== undefined ? [`  ${best.spent}`] : [])
  ]
}

const longest = 120

type Shown = Schema.Json | RegExp | undefined

/** A value in a message: short, on one line. */
export const show = (value: Shown): string => {
  if (value === undefined) return "nothing"
  const text = value instanceof RegExp ? String(value) : JSON.stringify(value)
  return text.length <= longest ? text : `${text.slice(0, longest)}… (${text.length} characters)`
}

export const detail = (facet: string, expected: Shown, got: Shown, secret = false): Difference => ({
  facet,
  expected: secret ? redacted : show(expected),
  got: secret && got !== undefined ? redacted : show(got),
  weight: weights.detail
})

/** What JSON lacks of the members that are expected. Members that are not expected are no difference. */
export const jsonDifferences = (
  expected: Schema.Json,
  got: Schema.Json | undefined,
  at = "body"
): ReadonlyArray<Difference> => {
  if (isArray(expected)) {
    if (got === undefined || !isArray(got)) return [detail(at, expected, got)]
    const wrong = expected.flatMap((item, i) => jsonDifferences(item, got[i], `${at}[${i}]`))
    return got.length > expected.length
      ? [...wrong, detail(at, `${expected.length} items`, `${got.length} items`)]
      : wrong
  }
  if (typeof expected === "object" && expected !== null) {
    if (typeof got !== "object" || got === null || isArray(got)) return [detail(at, expected, got)]
    return Object.entries(expected).flatMap(([name, member]) =>
      jsonDifferences(member, Object.hasOwn(got, name) ? got[name] : undefined, `${at}.${name}`)
    )
  }
  return Object.is(expected, got) ? [] : [detail(at, expected, got)]
}
