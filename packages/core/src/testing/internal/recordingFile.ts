/** The file of a recording: readable JSON, with a version, without secrets. */
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { RawHeaders } from "../../client/Connector.ts"
import { parseJson } from "./sentRequest.ts"
import * as Secrets from "./secrets.ts"

/** `json` where writing it again gives the same bytes, `text` where it is UTF-8, `base64` for all else. */
const Body = Schema.Union([
  Schema.Struct({ json: Schema.Json }),
  Schema.Struct({ text: Schema.String }),
  Schema.Struct({ base64: Schema.String }),
  /** Longer than `maxBodySize`, or a stream of the platform. */
  Schema.Struct({ notRecorded: Schema.String })
])
export type Body = typeof Body.Type

const Headers = Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Array(Schema.String)]))

const Failure = Schema.Struct({
  kind: Schema.Literals(["Connect", "ConnectTimeout", "Broken", "Protocol", "Rejected"]),
  phase: Schema.optionalKey(Schema.String),
  millis: Schema.optionalKey(Schema.Number),
  reason: Schema.String
})
export type Failure = typeof Failure.Type

const RecordedRequest = Schema.Struct({
  method: Schema.String,
  url: Schema.String,
  headers: Headers,
  body: Schema.optionalKey(Body)
})

const RecordedResponse = Schema.Struct({ status: Schema.Number, headers: Headers, body: Schema.optionalKey(Body) })

const Recorded = Schema.Struct({
  request: RecordedRequest,
  /** None when the request failed before, or was given up. */
  response: Schema.optionalKey(RecordedResponse),
  /** How it ended, unless the whole response came: with a failure, or because the caller gave up. */
  end: Schema.optionalKey(Schema.Union([Failure, Schema.Literal("given up")]))
})
export type Recorded = typeof Recorded.Type

const File = Schema.Struct({
  format: Schema.Literal("millrace-recording"),
  version: Schema.Literal(1),
  secrets: Schema.Struct({
    headers: Schema.Array(Schema.String),
    members: Schema.Array(Schema.String),
    keep: Schema.Array(Schema.String)
  }),
  exchanges: Schema.Array(Recorded)
})
export type File = typeof File.Type

export const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(File))

export const write = (secrets: Secrets.Rules, exchanges: ReadonlyArray<Recorded>): string => {
  const file: File = { format: "millrace-recording", version: 1, secrets, exchanges }
  return `${JSON.stringify(file, null, 2)}\n`
}

// -----------------------------------------------------------------------------
// without secrets
// -----------------------------------------------------------------------------

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return strict.decode(bytes)
  } catch {
    return undefined
  }
}

const isForm = (type: string): boolean => type.startsWith("application/x-www-form-urlencoded")

/** A body as the file holds it. */
export const bodyOf = (bytes: Uint8Array, type: string, rules: Secrets.Rules): { readonly body?: Body } => {
  if (bytes.length === 0) return {}
  const text = textOf(bytes)
  if (text === undefined) return { body: { base64: Base64.encode(bytes) } }
  const json = parseJson(text)
  if (json !== undefined) {
    const safe = Secrets.json(json, rules)
    const changed = JSON.stringify(safe) !== JSON.stringify(json)
    if (changed || JSON.stringify(json) === text) return { body: { json: safe } }
  }
  return { body: { text: isForm(type) ? Secrets.form(text, rules) : text } }
}

export const bytesOf = (body: Body | undefined): Uint8Array => {
  if (body === undefined || "notRecorded" in body) return new Uint8Array()
  if ("base64" in body) return Result.getOrElse(Base64.decode(body.base64), () => new Uint8Array())
  return new TextEncoder().encode("json" in body ? JSON.stringify(body.json) : body.text)
}

export const headersOf = (headers: RawHeaders, rules: Secrets.Rules): Recorded["request"]["headers"] =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([given, value]) => {
      const name = given.toLowerCase()
      if (value === undefined) return []
      const safe =
        typeof value === "string"
          ? Secrets.header(name, value, rules)
          : value.map((one) => Secrets.header(name, one, rules))
      return [[name, safe]]
    })
  )

/** Flat ones, as a transport gets them. */
export const flatHeadersOf = (flat: ReadonlyArray<string>, rules: Secrets.Rules): Recorded["request"]["headers"] => {
  const headers: Record<string, string> = {}
  for (let i = 0; i < flat.length; i += 2) headers[flat[i] ?? ""] = flat[i + 1] ?? ""
  return headersOf(headers, rules)
}
