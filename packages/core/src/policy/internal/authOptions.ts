/** The options of authentication, each once: kind, default, meaning. */
import * as Effect from "effect/Effect"
import { hasProperty, isObject } from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import { ConfigError } from "../../model/ConfigError.ts"
import * as Field from "../../model/internal/field.ts"
import { readFields } from "../../model/internal/groupField.ts"
import { headers, parseOrigin } from "../../model/internal/httpField.ts"
import type { Input } from "../Auth.ts"

/** RFC 6750, 2.1 allows less, but a server may take more; what is no header value is a mistake for sure. */
const headerSecret = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/

/** What is accepted wherever authentication is. */
export const isInput = (value: unknown): value is Input =>
  typeof value === "function" || (hasProperty(value, "authorize") && typeof value.authorize === "function")

/** What a bearer token may consist of: no space, for that ends it. */
export const isToken = (text: string): boolean => /^[\x21-\x7e]+$/.test(text)

const control = /\p{Cc}/u

const inside = (value: Redacted.Redacted<unknown>): unknown => {
  try {
    return Redacted.value(value)
  } catch {
    // It was wiped.
    return undefined
  }
}

/** Text in a `Redacted`; a message never repeats it. */
const secret = (
  description: string,
  allowed: string,
  is: (text: string) => boolean = (text) => !control.test(text)
): Field.Field<Redacted.Redacted> => ({
  description,
  unit: "text, secret",
  defaultText: "none",
  read: (value, path, problems) => {
    const refuse = (message: string): undefined => void problems.push({ path, message })
    if (!Redacted.isRedacted(value)) return refuse("must be wrapped: Redacted.make(…), or Config.Redacted")
    const text = inside(value)
    if (typeof text !== "string" || text === "") return refuse("must not be empty: is it set where it comes from?")
    return is(text) ? Redacted.make(text) : refuse(`must be ${allowed}; a line break at its end is the usual reason`)
  },
  fromText: (raw) => (typeof raw === "string" ? Redacted.make(raw) : raw)
})

const bearer = {
  token: secret("The bearer token.", "visible ASCII characters without spaces", isToken)
}

const basic = {
  username: Field.field<string>("The user name.", {
    unit: "text",
    allowed: "text without control characters and without a colon, which ends it",
    parse: (value) => (typeof value === "string" && !/[\p{Cc}:]/u.test(value) ? value : undefined)
  }),
  password: secret("The password.", "text without control characters")
}

const apiKey = {
  name: Field.text("The name of the header or of the query parameter.", 256),
  value: secret("The key.", "text without control characters"),
  in: Field.choice("Where it is sent.", ["header", "query"])
}

const tokenUrl = Field.field<URL>("The token endpoint.", {
  unit: "URL",
  allowed: "an absolute http or https URL without user info and fragment",
  parse: (value) => {
    if (!(typeof value === "string" || value instanceof URL) || !URL.canParse(String(value))) return undefined
    const url = new URL(value)
    const clean = url.username === "" && url.password === "" && url.hash === ""
    return clean && (url.protocol === "http:" || url.protocol === "https:") ? url : undefined
  }
})

const oauth2 = {
  tokenUrl,
  clientId: Field.text("The client identifier.", 1024),
  clientSecret: secret("The client secret.", "text without control characters"),
  method: Field.choice("How the client shows who it is.", ["client_secret_basic", "client_secret_post"]),
  scope: Field.text("What the token shall allow: names with spaces between.", 4096),
  audience: Field.text("For whom the token shall be.", 1024),
  skew: Field.duration("How long before its end a token is renewed; at most half of its life.", {
    default: "60 seconds",
    min: 0,
    finite: true
  }),
  timeout: Field.duration("One token request, with its answer.", { default: "10 seconds", finite: true }),
  maxRetries: Field.integer("How often a token request that failed is sent again.", { min: 0, max: 10, default: 2 })
}

export const fields = { bearer, basic, apiKey, oauth2 }

/** What a token source works with. Times are milliseconds. */
export interface OAuth2 {
  readonly tokenUrl: URL
  readonly clientId: string
  readonly clientSecret: Redacted.Redacted
  readonly method: "client_secret_basic" | "client_secret_post"
  readonly scope: string | undefined
  readonly audience: string | undefined
  readonly skew: number
  readonly timeout: number
  readonly maxRetries: number
}

const has = <V, K extends keyof V>(
  read: Partial<V>,
  names: ReadonlyArray<K>
): read is Partial<V> & { [P in K]: V[P] } => names.every((name) => read[name] !== undefined)

/** The options, or everything that is wrong with them; `names` must be given. */
const complete = <V, K extends keyof V & string>(
  fields: Field.FieldsOf<V>,
  input: unknown,
  names: ReadonlyArray<K>,
  rules?: (read: Partial<V>) => ReadonlyArray<Field.Problem>
): Effect.Effect<Partial<V> & { [P in K]: V[P] }, ConfigError> =>
  Effect.suspend(() => {
    const problems: Array<Field.Problem> = []
    const read = readFields<V>(fields, input, "", problems)
    const missing = (name: string): boolean => isObject(input) && Reflect.get(input, name) === undefined
    problems.push(...names.filter(missing).map((path) => ({ path, message: "is required" })))
    problems.push(...(rules?.(read) ?? []))
    return problems.length === 0 && has(read, names) ? Effect.succeed(read) : Effect.fail(new ConfigError({ problems }))
  })

/** The only option of its own, named for messages. */
export const checkBearer = (token: unknown) => complete(bearer, { token }, ["token"])

export const checkBasic = (options: unknown) => complete(basic, options, ["username", "password"])

export const checkApiKey = (options: unknown) =>
  complete(apiKey, options, ["name", "value"], (read) => {
    if (read.in === "query") return []
    const problems: Array<Field.Problem> = []
    const refused: Array<Field.Problem> = []
    if (read.name !== undefined) headers("").read({ [read.name]: "x" }, "", refused)
    for (const { message } of refused) problems.push({ path: "name", message })
    if (read.value !== undefined && !headerSecret.test(Redacted.value(read.value))) {
      problems.push({ path: "value", message: "must be ASCII text without spaces at its ends to be sent in a header" })
    }
    return problems
  })

export const checkOAuth2 = (options: unknown): Effect.Effect<OAuth2, ConfigError> =>
  Effect.map(complete(oauth2, options, ["tokenUrl", "clientId", "clientSecret"]), (read) => ({
    tokenUrl: read.tokenUrl,
    clientId: read.clientId,
    clientSecret: read.clientSecret,
    method: read.method ?? oauth2.method.default,
    scope: read.scope,
    audience: read.audience,
    skew: read.skew ?? oauth2.skew.default,
    timeout: read.timeout ?? oauth2.timeout.default,
    maxRetries: read.maxRetries ?? oauth2.maxRetries.default
  }))

const policy = {
  auth: Field.code<Input>(
    "What puts credentials into requests.",
    "an Auth, or a function from request to request",
    isInput
  ),
  origins: Field.field<ReadonlyArray<string>>("Where credentials may be sent.", {
    unit: "origins",
    allowed: 'a list of at least one origin such as "https://api.test", each without path and user info',
    parse: (value) => {
      if (!Array.isArray(value) || value.length === 0) return undefined
      const parsed = value.map((text) => (typeof text === "string" ? parseOrigin(text) : undefined))
      return parsed.every((origin) => origin !== undefined) ? parsed : undefined
    }
  })
}

export const checkPolicy = (options: unknown) => complete(policy, options, ["auth", "origins"])
