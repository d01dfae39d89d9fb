/**
 * The kinds of setting: what each allows in a file and, as text, in an environment variable.
 *
 * What is refused is shown in the message, unless it may be secret.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { isObject } from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

interface Kind<A> {
  /** The end of "must be …". */
  readonly allowed: string
  readonly read: (raw: unknown) => Option.Option<A>
  /** Whether what is refused stays out of the message. */
  readonly secret?: boolean
}

const shown = (raw: unknown): string => {
  if (typeof raw === "string") return raw.length <= 40 ? `, not "${raw}"` : ""
  return typeof raw === "number" || typeof raw === "boolean" ? `, not ${raw}` : ""
}

const kind = <S extends Schema.Constraint>(
  type: S,
  { allowed, read, secret = false }: Kind<S["Encoded"]>
): Schema.decodeTo<S, Schema.Unknown> =>
  Schema.Unknown.pipe(
    Schema.decodeTo(type, {
      decode: SchemaGetter.transformEffect((raw: unknown) =>
        Effect.mapError(
          Effect.fromOption(read(raw)),
          () => new SchemaIssue.InvalidValue({ message: `must be ${allowed}${secret ? "" : shown(raw)}` })
        )
      ),
      encode: SchemaGetter.transform((value): unknown => value)
    })
  )

const units: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
  ["milli", 1],
  ["millisecond", 1],
  ["second", 1_000],
  ["minute", 60_000],
  ["hour", 3_600_000],
  ["day", 86_400_000]
])

const part = /\s*(\d+(?:\.\d+)?)\s*([a-z]+)/y

/** `5s`, `1m30s`, `5 minutes`; a number alone has no unit, and Go, YAML and Node would each read another one into it. */
const millisOf = (text: string): number | undefined => {
  let millis = 0
  part.lastIndex = 0
  for (let at = 0; at < text.length; at = part.lastIndex) {
    const [, count, name = ""] = part.exec(text) ?? []
    const unit = units.get(name) ?? units.get(name.replace(/s$/, ""))
    if (count === undefined || unit === undefined) return undefined
    millis += Number(count) * unit
  }
  return millis
}

/** The longest time that timers can measure; they take a longer one for none at all. */
const longest = 2_147_483_647

/** A time, as `5s`, `1m30s` or `5 minutes`; without `zero` at least one millisecond. */
export const duration = (options: { readonly zero?: boolean } = {}) => {
  const shortest = options.zero === true ? 0 : 1
  return kind(Schema.Duration, {
    allowed: `a duration with its unit, such as "5s", "1m30s" or "5 minutes", from ${shortest} ms to 24 days`,
    read: (raw) => {
      const text = typeof raw === "string" ? raw.trim() : ""
      const millis = text === "" ? undefined : text === "0" ? 0 : millisOf(text)
      return millis === undefined || millis < shortest || millis > longest
        ? Option.none()
        : Option.some(Duration.millis(millis))
    }
  })
}

const numeric = (raw: unknown): number =>
  typeof raw === "number" ? raw : typeof raw === "string" && /^-?\d+(\.\d+)?$/.test(raw.trim()) ? Number(raw) : NaN

/** A whole number between the two. */
export const integer = (min: number, max: number) =>
  kind(Schema.Int, {
    allowed: `an integer from ${min} to ${max}`,
    read: (raw) => Option.filter(Option.some(numeric(raw)), (n) => Number.isInteger(n) && n >= min && n <= max)
  })

/** From 0 to 1. */
export const share = kind(Schema.Finite, {
  allowed: "a number from 0 to 1",
  read: (raw) => Option.filter(Option.some(numeric(raw)), (n) => n >= 0 && n <= 1)
})

const truths: ReadonlyMap<unknown, boolean> = new Map<unknown, boolean>([
  [true, true],
  ["true", true],
  ["yes", true],
  ["on", true],
  ["1", true],
  [false, false],
  ["false", false],
  ["no", false],
  ["off", false],
  ["0", false]
])

export const flag = kind(Schema.Boolean, {
  allowed: "true or false",
  read: (raw) => Option.fromUndefinedOr(truths.get(typeof raw === "string" ? raw.trim().toLowerCase() : raw))
})

/** One of a few words, in any case. */
export const choice = <const L extends ReadonlyArray<string>>(...words: L) =>
  kind(Schema.Literals(words), {
    allowed: `one of ${words.join(", ")}`,
    read: (raw) =>
      Option.fromUndefinedOr(
        words.find((word): word is L[number] => typeof raw === "string" && word === raw.trim().toLowerCase())
      )
  })

const written = (raw: unknown): Option.Option<string> =>
  typeof raw === "string" && raw.trim() !== "" ? Option.some(raw.trim()) : Option.none()

const nothing = (raw: unknown): boolean => raw === null || raw === ""

/** What YAML takes for a number is asked for in quotes: `1e3` and `0x10` would come out as other texts. */
const quoted = "text, in quotes if it looks like a number"

export const text = kind(Schema.String, { allowed: quoted, read: written })

/** A name that SQL takes without quotes. */
export const identifier = kind(Schema.String, {
  allowed: "a name of letters, digits and _ that does not begin with a digit",
  read: (raw) => Option.filter(written(raw), (name) => /^[A-Za-z_]\w*$/.test(name))
})

/** The name of a file, or nothing: an empty value. */
export const optionalFile = kind(Schema.UndefinedOr(Schema.String), {
  allowed: "the name of a file, or empty",
  read: (raw) => (nothing(raw) ? Option.some(undefined) : written(raw))
})

/** A password or a token; empty: there is none. White space belongs to it. */
export const secret = kind(Schema.Redacted(Schema.String), {
  allowed: quoted,
  secret: true,
  read: (raw) =>
    nothing(raw) ? Option.some(Redacted.make("")) : Option.map(Option.filter(Option.some(raw), isText), Redacted.make)
})

const isText = (raw: unknown): raw is string => typeof raw === "string"

const isPort = (digits: string | undefined, min: number): boolean =>
  digits !== undefined && Number(digits) >= min && Number(digits) <= 65_535

/** An address to listen at: `127.0.0.1:8080`, `:8080` for all addresses, `[::1]:8080`; port 0 is chosen by the system. */
export const bind = kind(Schema.String, {
  allowed: 'an address such as "127.0.0.1:8080", ":8080" or "[::1]:8080"',
  read: (raw) =>
    Option.filter(written(raw), (text) => isPort(/^(?:\[[\da-f:.%\w]+\]|\*|[\w.-]*):(\d{1,5})$/i.exec(text)?.[1], 0))
})

const isHttp = (text: string): boolean => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)

const hasCredentials = (text: string): boolean => {
  const { password, username } = new URL(text)
  return username !== "" || password !== ""
}

/** An address of HTTP, or nothing: an empty value. Not shown when refused, as people write passwords into it. */
export const optionalUrl = kind(Schema.UndefinedOr(Schema.String), {
  allowed: 'a URL such as "https://api.example.com/work", without user and password, or empty',
  secret: true,
  read: (raw) =>
    nothing(raw) ? Option.some(undefined) : Option.filter(written(raw), (text) => isHttp(text) && !hasCredentials(text))
})

/** Where ClickHouse speaks HTTP. `host:9000` is where it speaks its own protocol, which this service does not. */
export const clickhouse = kind(Schema.String, {
  allowed:
    'the HTTP address of ClickHouse, such as "clickhouse:8123" or "https://clickhouse.example.com:8443", ' +
    "without user and password (port 9000 is that of its native protocol)",
  secret: true,
  read: (raw) =>
    written(raw).pipe(
      Option.filter((text) => !/^[^/]*:9000$/.test(text)),
      Option.map((text) => (text.includes("://") ? text : `http://${text}`)),
      Option.filter((text) => isHttp(text) && !hasCredentials(text))
    )
})

const fromJson = (raw: unknown): unknown => {
  if (typeof raw !== "string") return raw
  try {
    return JSON.parse(raw)
  } catch {
    return undefined
  }
}

/** Names of fields and their values, which may be secret; in an environment variable as JSON. */
export const headers = kind(Schema.Record(Schema.String, Schema.Redacted(Schema.String)), {
  allowed: "names of header fields, each with its text",
  secret: true,
  read: (raw) => {
    const given = raw === null ? {} : fromJson(raw)
    if (!isObject(given) || Array.isArray(given)) return Option.none()
    const fields = Object.entries(given).map(([name, value]): [string, Redacted.Redacted<string>] | undefined =>
      /^[\w!#$%&'*+.^`|~-]+$/.test(name) && isText(value) && !/[\r\n\0]/.test(value)
        ? [name, Redacted.make(value)]
        : undefined
    )
    return Option.map(Option.all(fields.map(Option.fromUndefinedOr)), Object.fromEntries)
  }
})

/** Names of hosts, without ports; in an environment variable as JSON. */
export const hosts = kind(Schema.Array(Schema.String), {
  allowed: "names of hosts, without ports",
  read: (raw) => {
    const given = raw === null ? [] : fromJson(raw)
    if (!Array.isArray(given)) return Option.none()
    const names = given.map((name: unknown) => (isText(name) && /^[\w.-]+$/.test(name) ? name : undefined))
    return Option.all(names.map(Option.fromUndefinedOr))
  }
})
