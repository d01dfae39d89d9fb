/**
 * The kinds of option: what each allows, how it is read, and how it is written as text.
 *
 * A field never puts a value that may be secret into a message: numbers, durations, booleans and choices are shown,
 * all other values are not.
 */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** What is wrong, and where. */
export interface Problem {
  readonly path: string
  readonly message: string
}

/** One option. `A` is its value after reading. */
export interface Field<out A> {
  readonly description: string
  readonly unit: string
  /** As the documentation shows it. */
  readonly defaultText: string
  /** The fields inside, if this is a group. */
  readonly fields?: Fields | undefined
  /** Checks a value; adds to `problems` and gives `undefined` when it is not allowed. */
  readonly read: (value: unknown, path: string, problems: Array<Problem>) => A | undefined
  /** Turns text, as environments and files hold it, into a value for `read`. What it cannot turn stays as it is. */
  readonly fromText: (raw: unknown) => unknown
}

export interface FieldWithDefault<out A> extends Field<A> {
  readonly default: A
}

/** Any fields by name. */
export interface Fields {
  readonly [name: string]: Field<unknown>
}

/** The fields whose values are `V`. */
export type FieldsOf<V> = { readonly [K in keyof V]: Field<V[K]> }

export const child = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`)

/** JSON text as a value; other text, and what is no text, stays as it is. */
export const fromJson = (raw: unknown): unknown => {
  if (typeof raw !== "string") return raw
  try {
    return JSON.parse(raw)
  } catch {
    return raw
  }
}

const quote = (names: ReadonlyArray<string>): string => names.map((name) => `"${name}"`).join(", ")

interface Kind<A> {
  readonly unit: string
  readonly allowed: string
  readonly parse: (value: unknown) => A | undefined
  readonly fromText?: ((text: string) => unknown) | undefined
  /** Whether a refused value may be repeated in the message. */
  readonly show?: boolean | undefined
}

const shown = (value: unknown): string => {
  if (typeof value === "string") return value.length <= 40 ? `, not "${value}"` : ""
  return typeof value === "number" || typeof value === "boolean" ? `, not ${value}` : ""
}

export const field = <A>(description: string, kind: Kind<A>, defaultText = "none"): Field<A> => ({
  description,
  unit: kind.unit,
  defaultText,
  read: (value, path, problems) => {
    const parsed = kind.parse(value)
    if (parsed === undefined) {
      problems.push({ path, message: `must be ${kind.allowed}${kind.show === true ? shown(value) : ""}` })
    }
    return parsed
  },
  fromText: (raw) => (typeof raw === "string" && kind.fromText !== undefined ? kind.fromText(raw) : raw)
})

export const withDefault = <A>(field: Field<A>, value: A): FieldWithDefault<A> => ({ ...field, default: value })

/** A whole number; `"Infinity"` too where `max` is infinite. */
export const integer = (
  description: string,
  options: { readonly min: number; readonly max: number; readonly default: number; readonly unit?: string }
): FieldWithDefault<number> => {
  const { max, min } = options
  const bounded = Number.isFinite(max)
  const kind: Kind<number> = {
    unit: options.unit ?? "count",
    allowed: bounded ? `an integer from ${min} to ${max}` : `an integer of at least ${min}, or Infinity for none`,
    show: true,
    parse: (value) =>
      typeof value === "number" && value >= min && value <= max && (Number.isSafeInteger(value) || value === Infinity)
        ? value
        : undefined,
    fromText: (text) => (/^-?\d+$/.test(text) ? Number(text) : text === "Infinity" ? Infinity : text)
  }
  return withDefault(
    field(description, kind, Number.isFinite(options.default) ? String(options.default) : "none"),
    options.default
  )
}

/** A number of bytes. As text also `64 KiB`. */
export const bytes = (
  description: string,
  options: { readonly min: number; readonly max: number; readonly default: number }
): FieldWithDefault<number> => {
  const number = integer(description, { ...options, unit: "bytes" })
  return {
    ...number,
    fromText: (raw) => {
      const value = number.fromText(raw)
      if (typeof value !== "string") return value
      return Option.match(ByteSize.fromString(value), { onNone: () => value, onSome: Number })
    }
  }
}

/** The longest time that timers can measure; they take a longer one for none at all. */
const maxMillis = 2_147_483_647

const shortUnits: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["ms", 1],
  ["s", 1_000],
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000]
])

const durationFromText = (text: string): unknown => {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/.exec(text)
  const unit = shortUnits.get(match?.[2] ?? "none")
  return unit === undefined ? text : Number(match?.[1]) * unit
}

// `Duration.fromInput` refuses what is no duration; this only tells the compiler that anything may be tried.
const maybeDuration = (value: unknown): value is Duration.Input => value !== null && !Number.isNaN(value)

const durationText = (millis: number): string => {
  if (millis === Infinity) return "none"
  return millis % 60_000 === 0 && millis > 120_000 ? `${millis / 60_000} min` : `${millis / 1_000} s`
}

/** A time, read as milliseconds. As text also `500ms`, `5s`, `10m`, `1h`, or a number of milliseconds. */
export const duration = (
  description: string,
  options: { readonly default: Duration.Input; readonly min?: number; readonly finite?: boolean }
): FieldWithDefault<number> => {
  const min = options.min ?? 1
  const finite = options.finite === true
  const value = Duration.toMillis(Duration.fromInputUnsafe(options.default))
  const kind: Kind<number> = {
    unit: "duration",
    allowed: `a duration such as "5 seconds" or a number of milliseconds, from ${min} ms to 24 days${
      finite ? "" : ', or "Infinity" for none'
    }`,
    show: true,
    parse: (value) => {
      if (!maybeDuration(value)) return undefined
      const millis = Option.map(Duration.fromInput(value), Duration.toMillis)
      return Option.getOrUndefined(
        Option.filter(millis, (n) => n >= min && (n <= maxMillis || (n === Infinity && !finite)))
      )
    },
    fromText: durationFromText
  }
  return withDefault(field(description, kind, durationText(value)), value)
}

const truths: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["yes", true],
  ["on", true],
  ["1", true],
  ["false", false],
  ["no", false],
  ["off", false],
  ["0", false]
])

export const booleanFromText = (text: string): unknown => truths.get(text.toLowerCase()) ?? text

export const boolean = (description: string, byDefault: boolean): FieldWithDefault<boolean> =>
  withDefault(
    field(
      description,
      {
        unit: "boolean",
        allowed: "true or false",
        show: true,
        parse: (value) => (typeof value === "boolean" ? value : undefined),
        fromText: booleanFromText
      },
      String(byDefault)
    ),
    byDefault
  )

/** One of some names, or a value that `other` recognises and that has no text form. */
export const choice = <const A extends string, B = never>(
  description: string,
  names: readonly [A, ...Array<A>],
  other?: { readonly allowed: string; readonly is: (value: unknown) => value is B }
): FieldWithDefault<A | B> =>
  withDefault(
    field<A | B>(
      description,
      {
        unit: "choice",
        allowed: `one of ${quote(names)}${other === undefined ? "" : `, or ${other.allowed}`}`,
        show: true,
        parse: (value) => names.find((name) => name === value) ?? (other?.is(value) === true ? value : undefined)
      },
      names[0]
    ),
    names[0]
  )

// A control character in a name would end up in logs and metrics.
const printable = /^[^\p{Cc}]+$/u

const textKind = (maxLength: number): Kind<string> => ({
  unit: "text",
  allowed: `text of 1 to ${maxLength} characters without control characters`,
  parse: (value) =>
    typeof value === "string" && value.length <= maxLength && printable.test(value) ? value : undefined
})

export const text = (description: string, maxLength: number): Field<string> => field(description, textKind(maxLength))

export const textWithDefault = (description: string, maxLength: number, byDefault: string): FieldWithDefault<string> =>
  withDefault(field(description, textKind(maxLength), byDefault), byDefault)

/** A finite number, `1.5` say. */
export const number = (
  description: string,
  options: { readonly min: number; readonly max: number; readonly default: number }
): FieldWithDefault<number> => withDefault(numberWithoutDefault(description, options), options.default)

/** The same where none is meant when it is not given. */
export const numberWithoutDefault = (
  description: string,
  options: { readonly min: number; readonly max: number; readonly default?: number }
): Field<number> =>
  field(
    description,
    {
      unit: "number",
      allowed: `a number from ${options.min} to ${options.max}`,
      show: true,
      parse: (value) => (typeof value === "number" && value >= options.min && value <= options.max ? value : undefined),
      fromText: (text) => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text)
    },
    options.default === undefined ? "none" : String(options.default)
  )

/** A value that only code can give: a function, a service. It has no text form. */
export const code = <A>(description: string, allowed: string, is: (value: unknown) => value is A): Field<A> =>
  field(description, { unit: "code", allowed, parse: (value) => (is(value) ? value : undefined) })
