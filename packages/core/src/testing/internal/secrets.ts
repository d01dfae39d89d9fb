/** What of a request or response a double must not show, and what stands in its place. */
import type * as Schema from "effect/Schema"
import { requestInfo, secretNames } from "../../model/PoolError.ts"

export const redacted = "REDACTED"

/** Headers that carry credentials, whatever their value. */
const secretHeaders = new Set(["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"])

/** What more is secret, and what is not although its name looks so. */
export interface Rules {
  /** Names of headers, in lower case. */
  readonly headers: ReadonlyArray<string>
  /** Paths of members of a JSON body: `card.number`, `items.*.pin`. */
  readonly members: ReadonlyArray<string>
  /** Names that are not secret. */
  readonly keep: ReadonlyArray<string>
}

const noRules: Rules = { headers: [], members: [], keep: [] }

const isSecretName = (name: string, rules: Rules): boolean => secretNames.test(name) && !rules.keep.includes(name)

export const isSecretHeader = (name: string, rules: Rules = noRules): boolean =>
  secretHeaders.has(name) || rules.headers.includes(name) || isSecretName(name, rules)

const isUrlHeader = (name: string): boolean => name === "location" || name === "content-location" || name === "referer"

export const header = (name: string, value: string, rules: Rules = noRules): string => {
  if (isSecretHeader(name, rules)) return redacted
  return isUrlHeader(name) ? url(value, rules) : value
}

/** The values of query parameters whose names look secret are replaced. */
export const url = (text: string, rules: Rules = noRules): string => {
  const { url: safe } = requestInfo("GET", text)
  const mark = text.indexOf("?")
  if (rules.keep.length === 0 || mark === -1) return safe
  const [query = "", hash] = text.slice(mark + 1).split("#", 2)
  return `${requestInfo("GET", text.slice(0, mark)).url}?${form(query, rules)}${hash === undefined ? "" : `#${hash}`}`
}

/** The same for a body as browsers encode forms. */
export const form = (text: string, rules: Rules = noRules): string =>
  text
    .split("&")
    .map((pair) => {
      const [name = "", value] = pair.split("=", 2)
      return value !== undefined && isSecretName(new URLSearchParams(pair).keys().next().value ?? "", rules)
        ? `${name}=${encodeURIComponent(redacted)}`
        : pair
    })
    .join("&")

const matches = (pattern: ReadonlyArray<string>, path: ReadonlyArray<string>): boolean =>
  pattern.length === path.length && pattern.every((part, i) => part === "*" || part === path[i])

/** Text under a name that looks secret is replaced, and whatever is at one of the rules' paths. */
export const json = (value: Schema.Json, rules: Rules = noRules): Schema.Json => {
  const patterns = rules.members.map((path) => path.split("."))
  const walk = (node: Schema.Json, path: ReadonlyArray<string>): Schema.Json => {
    if (patterns.some((pattern) => matches(pattern, path))) return redacted
    if (isArray(node)) return node.map((item, i) => walk(item, [...path, String(i)]))
    if (typeof node === "object" && node !== null) {
      return Object.fromEntries(Object.entries(node).map(([name, member]) => [name, walk(member, [...path, name])]))
    }
    return typeof node === "string" && isSecretName(path.at(-1) ?? "", rules) ? redacted : node
  }
  return walk(value, [])
}

/** `Array.isArray` does not narrow a readonly array. */
export const isArray = (value: Schema.Json): value is ReadonlyArray<Schema.Json> => Array.isArray(value)
