/** The kinds of option that HTTP and TLS bring: URLs, proxies, PEM texts, headers. */
import { isIterable, isObject } from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import { booleanFromText, child, field, type Field, type FieldWithDefault, fromJson, withDefault } from "./field.ts"

// -----------------------------------------------------------------------------
// URLs
// -----------------------------------------------------------------------------

const parseUrl = (value: unknown): URL | undefined => {
  if (!(typeof value === "string" || value instanceof URL) || !URL.canParse(String(value))) return undefined
  const url = new URL(value)
  return url.protocol === "http:" || url.protocol === "https:" ? url : undefined
}

const hasUserInfo = (url: URL): boolean => url.username !== "" || url.password !== ""

/** An absolute http or https URL, to which paths are joined. */
export const baseUrl = (description: string): Field<URL> => ({
  ...field<URL>(description, { unit: "URL", allowed: "", parse: parseUrl }),
  read: (value, path, problems) => {
    const url = parseUrl(value)
    const add = (message: string): void => void problems.push({ path, message })
    if (url === undefined) add('must be an absolute http or https URL such as "https://api.test/v1"')
    else if (hasUserInfo(url)) add("must not contain user info; use Auth, or an authorization header under `hosts`")
    else if (url.hash !== "") add('must not contain a fragment ("#…"): it is never sent to a server')
    else return url
    return undefined
  }
})

/** The normalised origin, if that is all that the text holds. */
export const parseOrigin = (text: string): string | undefined => {
  const url = parseUrl(text)
  return url === undefined || hasUserInfo(url) || `${url.origin}/` !== url.href ? undefined : url.origin
}

/** A URL for a message: without user info and query, where secrets stand. */
export const showUrl = (text: string): string => text.replace(/[?#][^]*$/, "").replace(/^[^]*@/, "…@")

/** `"environment"`, `false`, or the URL of a proxy, which may contain credentials. */
export const proxy = (description: string): FieldWithDefault<"environment" | false | Redacted.Redacted> =>
  withDefault(
    field<"environment" | false | Redacted.Redacted>(
      description,
      {
        unit: "URL or choice",
        allowed: '"environment", false, or an http or https URL without path, query and fragment',
        parse: (value) => {
          if (value === "environment" || value === false) return value
          const inner = Redacted.isRedacted(value) ? Redacted.value(value) : value
          const url = parseUrl(inner)
          const clean = url !== undefined && url.pathname === "/" && url.search === "" && url.hash === ""
          return clean ? Redacted.make(url.href, { label: "proxy" }) : undefined
        },
        fromText: (text) => {
          if (text === "environment") return text
          const truth = booleanFromText(text)
          return truth === false ? false : Redacted.make(text)
        }
      },
      "environment"
    ),
    "environment"
  )

// -----------------------------------------------------------------------------
// TLS
// -----------------------------------------------------------------------------

const isPem = (value: unknown): value is string => typeof value === "string" && value.includes("-----BEGIN ")

const pemAllowed = 'PEM text ("-----BEGIN …"), not the name of a file'

// Environment files cannot hold line breaks; PEM text never holds a backslash.
const pemFromText = (text: string): string => text.replaceAll("\\n", "\n")

export const pem = (description: string): Field<string> =>
  field(description, {
    unit: "PEM",
    allowed: pemAllowed,
    parse: (value) => (isPem(value) ? value : undefined),
    fromText: pemFromText
  })

export const pems = (description: string): Field<string | ReadonlyArray<string>> =>
  field<string | ReadonlyArray<string>>(description, {
    unit: "PEM",
    allowed: `${pemAllowed}, or a list of such`,
    parse: (value) => {
      if (isPem(value)) return value
      return Array.isArray(value) && value.length > 0 && value.every(isPem) ? value : undefined
    },
    fromText: pemFromText
  })

export const secretPem = (description: string): Field<Redacted.Redacted> =>
  field(description, {
    unit: "PEM, secret",
    allowed: `${pemAllowed}, wrapped in Redacted`,
    parse: (value) => {
      const inner = Redacted.isRedacted(value) ? Redacted.value(value) : undefined
      return isPem(inner) ? Redacted.make(inner, { label: "tls.key" }) : undefined
    },
    fromText: (text) => Redacted.make(pemFromText(text))
  })

// -----------------------------------------------------------------------------
// Headers
// -----------------------------------------------------------------------------

const headerName = /^[!#$%&'*+.^_`|~0-9a-z-]+$/

const headerValue = /^[\t\x20-\x7e\x80-\xff]*$/

/** These belong to one connection or one message; the transport writes them. */
const ownedHeaders: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])

const headerProblem = (name: string, value: unknown): string | undefined => {
  if (!headerName.test(name)) return "is not a header name: letters, digits and !#$%&'*+-.^_`|~ are allowed"
  if (ownedHeaders.has(name)) return "must not be set: the transport writes it for each message"
  if (typeof value !== "string") return "must be text or a list of texts"
  if (!headerValue.test(value)) return "must be Latin-1 text without control characters and line breaks"
  return undefined
}

/** A wrong name may be a whole header line with its value: only its beginning is shown. */
const showName = (name: string): string => (headerName.test(name) ? name : name.replace(/[^a-z0-9-][^]*$/, "…"))

const headerEntries = (value: unknown): ReadonlyArray<readonly [unknown, unknown]> | undefined => {
  if (typeof value === "string") return undefined
  if (isIterable(value)) {
    const entries = [...value]
    return entries.every((entry) => Array.isArray(entry)) ? entries.map((entry) => [entry[0], entry[1]]) : undefined
  }
  return isObject(value) ? Object.entries(value) : undefined
}

/** Name and value pairs; names in lower case, each once. As text: a JSON object. */
export const headers = (description: string): Field<ReadonlyArray<readonly [string, string]>> => ({
  description,
  unit: "headers",
  defaultText: "none",
  read: (value, path, problems) => {
    const entries = headerEntries(value)
    if (entries === undefined) {
      problems.push({ path, message: "must be an object of header names and values (as text: a JSON object)" })
      return undefined
    }
    const out = new Map<string, string>()
    for (const [key, given] of entries) {
      if (given === undefined) continue
      const name = String(key).toLowerCase()
      const joined: unknown =
        Array.isArray(given) && given.every((item) => typeof item === "string") ? given.join(", ") : given
      const message = headerProblem(name, joined)
      if (message !== undefined) problems.push({ path: child(path, showName(name)), message })
      else out.set(name, String(joined))
    }
    return [...out]
  },
  fromText: fromJson
})
