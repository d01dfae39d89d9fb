/**
 * The command line. Everything that is wrong with it is said at once.
 */
import { parseArgs } from "node:util"

export type Command =
  | { readonly _tag: "Help" }
  | { readonly _tag: "Tour"; readonly json: boolean }
  | {
      readonly _tag: "Measure"
      readonly json: boolean
      readonly url: URL
      readonly requests: number
      readonly slots: number
      readonly byHeader: string | undefined
    }
  | { readonly _tag: "Wrong"; readonly problems: ReadonlyArray<string> }

const limits = { requests: { default: 200, max: 10_000 }, slots: { default: 8, max: 64 } } as const

export const usage = `The tour of Millrace: four instances, one balancer, three clients; then what the policies do.

  npm start                         play the tour (about 10 s)
  npm start -- --url URL            measure who reaches which instance of a service of yours

  --url URL         http or https; it gets GET requests only, one at a time, first over one
                    keep-alive connection, then through Millrace
  --requests N      requests through each of the two (${limits.requests.default}; at most ${limits.requests.max})
  --slots N         slots of Millrace, that is connections (${limits.slots.default}; at most ${limits.slots.max})
  --by-header NAME  the response header that tells instances apart
                    (without it, headers like x-instance, x-served-by, x-pod-name are tried)
  --json            print the figures as one JSON object
                    (npm start --silent -- --json keeps npm's own lines out)
  --help            print this

Exit status: 0 all claims hold, 1 one does not (or no request was answered), 2 wrong arguments.
`

const options = {
  url: { type: "string" },
  requests: { type: "string" },
  slots: { type: "string" },
  "by-header": { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" }
} as const

type Name = keyof typeof options

export const parse = (args: ReadonlyArray<string>): Command => {
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true })
  const problems: Array<string> = []
  const given = new Map<Name, string>()
  for (const token of tokens) {
    if (token.kind === "positional") problems.push(`${quote(token.value)} is not an option`)
    if (token.kind !== "option") continue
    if (!isName(token.name)) {
      problems.push(`${token.rawName} is not an option`)
      continue
    }
    const wantsValue = options[token.name].type === "string"
    if (given.has(token.name)) problems.push(`${token.rawName} is given twice`)
    else if (!wantsValue && token.value !== undefined) problems.push(`${token.rawName} takes no value`)
    else if (wantsValue && !hasValue(token)) problems.push(`${token.rawName} needs a value`)
    given.set(token.name, hasValue(token) ? (token.value ?? "") : "")
  }
  if (given.has("help")) return { _tag: "Help" }

  const json = given.has("json")
  const read = <A>(name: Name, decode: (text: string) => A | Problem): A | undefined => {
    const text = given.get(name)
    // An empty value has been reported above.
    const value = text === undefined || text === "" ? undefined : decode(text)
    if (!(value instanceof Problem)) return value
    problems.push(`--${name} ${value.text}`)
    return undefined
  }
  const url = read("url", decodeUrl)
  const requests = read("requests", decodeCount(limits.requests.max)) ?? limits.requests.default
  const slots = read("slots", decodeCount(limits.slots.max)) ?? limits.slots.default
  const byHeader = read("by-header", decodeHeaderName)
  if (!given.has("url")) {
    for (const name of ["requests", "slots", "by-header"] as const) {
      if (given.has(name)) problems.push(`--${name} goes with --url only`)
    }
  }
  if (problems.length > 0) return { _tag: "Wrong", problems }
  return url === undefined ? { _tag: "Tour", json } : { _tag: "Measure", json, url, requests, slots, byHeader }
}

class Problem {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

const isName = (name: string): name is Name => Object.hasOwn(options, name)

const quote = (text: string): string => JSON.stringify(text)

/** `--requests --slots 4` leaves `--requests` without a value; `--requests=-4` has a wrong one. */
const hasValue = (token: {
  readonly value?: string | undefined
  readonly inlineValue?: boolean | undefined
}): boolean =>
  token.value !== undefined && token.value !== "" && (token.inlineValue === true || !token.value.startsWith("--"))

const decodeUrl = (text: string): URL | Problem => {
  const url = URL.parse(text)
  if (url === null) return new Problem(`${quote(text)} is not a URL; write for example http://127.0.0.1:8080/`)
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return new Problem(`must begin with http:// or https://, not ${url.protocol}`)
  }
  if (url.username !== "" || url.password !== "") return new Problem("must not hold a user name or a password")
  return url
}

const decodeCount =
  (max: number) =>
  (text: string): number | Problem =>
    /^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= max
      ? Number(text)
      : new Problem(`must be a whole number from 1 to ${max}, not ${quote(text)}`)

const decodeHeaderName = (text: string): string | Problem =>
  /^[!#$%&'*+.^_`|~\w-]+$/.test(text) ? text.toLowerCase() : new Problem(`${quote(text)} is not a header name`)
