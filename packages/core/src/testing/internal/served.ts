/** A route at work, and how far a request is from it. */
import type { Match, Route } from "../MockPool.ts"
import { type Candidate, detail, type Difference, jsonDifferences, show, weights } from "./facets.ts"
import { differencesOf, type Pattern } from "./pattern.ts"
import { isSecretHeader } from "./secrets.ts"
import type { SentRequest } from "./sentRequest.ts"

export interface Served {
  readonly route: Route
  readonly pattern: Pattern
  answered: number
}

export const nameOf = ({ pattern, route }: Served): string => `${route.method} ${pattern.text}`

const times = ({ max, min }: Route): string => `${min === max ? "" : "at least "}${min}`

/** What is to be told of a route that was not answered as often as it must be. */
export const unusedOf = (served: Served): ReadonlyArray<string> =>
  served.answered < served.route.min
    ? [`${nameOf(served)} was answered ${served.answered} times of ${times(served.route)}`]
    : []

export const candidate = (served: Served, request: SentRequest): Candidate => ({
  name: nameOf(served),
  differences: differencesBetween(served, request),
  spent: `it has answered ${served.answered} times of ${served.route.max}`
})

export const differencesBetween = ({ pattern, route }: Served, request: SentRequest): ReadonlyArray<Difference> => {
  const { match, method } = route
  const differences: Array<Difference> = []
  if (method !== "*" && method !== request.method) {
    differences.push({ facet: "method", expected: method, got: request.method, weight: weights.method })
  }
  differences.push(...differencesOf(pattern, request))
  for (const [name, expected] of Object.entries({ ...pattern.query, ...match.query })) {
    const got = request.query[name]
    if (!agrees(expected, got)) differences.push(detail(`query ${name}`, expected, got, isSecretHeader(name)))
  }
  for (const [given, expected] of Object.entries(match.headers ?? {})) {
    const name = given.toLowerCase()
    const got = request.headers[name]
    if (!agrees(expected, got)) differences.push(detail(`header ${name}`, expected, got, isSecretHeader(name)))
  }
  if (match.body !== undefined) differences.push(...bodyDifferences(match.body, request))
  return differences
}

const agrees = (expected: string | RegExp, got: string | ReadonlyArray<string> | undefined): boolean => {
  if (got === undefined) return false
  const values = typeof got === "string" ? [got] : got
  return values.some((value) => (typeof expected === "string" ? value === expected : value.search(expected) !== -1))
}

type Body = Exclude<Match["body"], undefined>

const bodyDifferences = (expected: Body, request: SentRequest): ReadonlyArray<Difference> => {
  const { text } = request
  if (typeof expected === "string") return text === expected ? [] : [detail("body", expected, text)]
  if (expected instanceof RegExp) return text.search(expected) === -1 ? [detail("body", expected, text)] : []
  if (isPredicate(expected)) return expected(request) ? [] : [detail("body", "what its function accepts", text)]
  const { json } = request
  return json === undefined
    ? [{ ...detail("body", expected, undefined), got: `no JSON but ${show(text)}` }]
    : jsonDifferences(expected, json)
}

const isPredicate = (expected: Exclude<Body, string | RegExp>): expected is (request: SentRequest) => boolean =>
  typeof expected === "function"
