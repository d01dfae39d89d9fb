/** URL patterns: `/invoices/:id`, `/files/*`, `https://other.test/x?page=2`, or a regular expression for the path. */
import { type Difference, show, weights } from "./facets.ts"
import type { SentRequest } from "./sentRequest.ts"

export interface Pattern {
  /** As the user wrote it. */
  readonly text: string
  /** None: any. */
  readonly origin: string | undefined
  /** The parameters in the path, or what differs. */
  readonly match: (path: string) => Readonly<Record<string, string>> | ReadonlyArray<Difference>
  /** What the pattern says of the query. */
  readonly query: Readonly<Record<string, string>>
}

const absolute = /^([a-z][a-z\d+.-]*:\/\/[^/?#]+)(.*)$/i

/** A pattern that is not absolute is one under `base`, as the URL of a request is. */
export const compile = (pattern: string | RegExp, base: URL | undefined): Pattern => {
  if (pattern instanceof RegExp) {
    return { text: String(pattern), origin: base?.origin, match: (path) => matchRegExp(pattern, path), query: {} }
  }
  const [, origin, rest = pattern] = absolute.exec(pattern) ?? []
  const mark = rest.indexOf("?")
  const path = mark === -1 ? rest : rest.slice(0, mark)
  const prefix = origin === undefined ? (base?.pathname ?? "") : ""
  const segments = [...split(prefix), ...split(path)]
  return {
    text: pattern,
    origin: origin === undefined ? base?.origin : new URL(origin).origin,
    match: (actual) => matchSegments(segments, split(actual), actual),
    query: mark === -1 ? {} : Object.fromEntries(new URLSearchParams(rest.slice(mark)))
  }
}

export const differencesOf = (pattern: Pattern, request: SentRequest): ReadonlyArray<Difference> => {
  const origin: ReadonlyArray<Difference> =
    pattern.origin === undefined || pattern.origin === request.origin
      ? []
      : [{ facet: "origin", expected: pattern.origin, got: request.origin, weight: weights.origin }]
  const found = pattern.match(request.path)
  return isDifferences(found) ? [...origin, ...found] : origin
}

export const paramsOf = (pattern: Pattern, path: string): Readonly<Record<string, string>> => {
  const found = pattern.match(path)
  return isDifferences(found) ? {} : found
}

const isDifferences = (
  found: Readonly<Record<string, string>> | ReadonlyArray<Difference>
): found is ReadonlyArray<Difference> => Array.isArray(found)

// Slashes at the ends and between do not make a path another one.
const split = (path: string): ReadonlyArray<string> => path.split("/").filter((segment) => segment !== "")

const decode = (segment: string): string => {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

const matchRegExp = (pattern: RegExp, path: string) => {
  // One with the flag `g` would remember where it was.
  const found = new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, "")).exec(path)
  if (found === null) return [{ facet: "path", expected: show(pattern), got: path, weight: weights.segment }]
  return found.groups ?? {}
}

const matchSegments = (pattern: ReadonlyArray<string>, segments: ReadonlyArray<string>, path: string) => {
  const params: Record<string, string> = {}
  const open = pattern.at(-1) === "*"
  const wanted = open ? pattern.slice(0, -1) : pattern
  let wrong = 0
  wanted.forEach((part, i) => {
    const segment = segments[i]
    if (segment === undefined) wrong++
    else if (part.startsWith(":")) params[part.slice(1)] = decode(segment)
    else if (decode(part) !== decode(segment)) wrong++
  })
  if (!open) wrong += Math.max(0, segments.length - wanted.length)
  if (wrong === 0) return params
  return [{ facet: "path", expected: `/${pattern.join("/")}`, got: path, weight: wrong * weights.segment }]
}
