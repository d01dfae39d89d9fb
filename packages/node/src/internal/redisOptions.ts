/** What is wrong with where Redis is said to be. No message shows a value: an URL may hold a password. */
import * as Redacted from "effect/Redacted"
import type { Target } from "./redisConnection.ts"

interface Problem {
  readonly path: string
  readonly message: string
}

const isWhole = (value: unknown, min: number, max: number): boolean =>
  typeof value === "number" && Number.isInteger(value) && value >= min && value <= max

const isText = (value: unknown): boolean => typeof value === "string" && /^[^\p{Cc}]{1,256}$/u.test(value)

const isSecret = (value: unknown): boolean =>
  Redacted.isRedacted(value) && typeof Redacted.value(value) === "string" && Redacted.value(value) !== ""

export interface Given extends Omit<Target, "url"> {
  readonly url: string | Redacted.Redacted | undefined
  readonly prefix: string
}

const urlProblem = (url: unknown): string | undefined => {
  const text: unknown = Redacted.isRedacted(url) ? Redacted.value(url) : url
  const parsed = typeof text === "string" && URL.canParse(text) ? new URL(text) : undefined
  if (parsed === undefined || !["redis:", "rediss:"].includes(parsed.protocol)) {
    return "must be a URL such as redis://localhost:6379"
  }
  return parsed.password !== "" && !Redacted.isRedacted(url) ? "holds a password: give it as `Redacted`" : undefined
}

export const problemsOf = (given: Given): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const unless = (allowed: boolean, path: string, message: string): void => {
    if (!allowed) problems.push({ path, message })
  }
  const optional = (path: keyof Given, allowed: (value: unknown) => boolean, message: string): void =>
    unless(given[path] === undefined || allowed(given[path]), path, message)
  const wrong = given.url === undefined ? undefined : urlProblem(given.url)
  if (wrong !== undefined) problems.push({ path: "url", message: wrong })
  for (const path of ["host", "port", "username", "password", "database", "tls"] as const) {
    unless(given.url === undefined || given[path] === undefined, path, "cannot be given together with `url`")
  }
  optional("host", isText, "must be a host name or an address")
  optional("port", (value) => isWhole(value, 1, 65_535), "must be an integer from 1 to 65535")
  optional("username", isText, "must be text of 1 to 256 characters")
  optional("password", isSecret, "must be a `Redacted` text that is not empty")
  optional("database", (value) => isWhole(value, 0, 1_000_000), "must be an integer of at least 0")
  optional("tls", (value) => typeof value === "boolean", "must be true or false")
  unless(isText(given.prefix), "prefix", "must be text of 1 to 256 characters without control characters")
  return problems
}
