/** Where options come from when they are not written in code: environment names, objects in files, `Config`s. */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { isObject } from "effect/Predicate"
import * as Result from "effect/Result"
import { child, type Problem } from "../../model/internal/field.ts"
import { fieldsFromText } from "../../model/internal/groupField.ts"
import { load, meant, namesUnder, put, type Tree } from "../../model/internal/source.ts"
import { fields, rows } from "./options.ts"

/** Options as the current provider has them, not yet checked, and what they are called there. */
export const read = Effect.fnUntraced(function* (prefix: string, path: ReadonlyArray<string>) {
  const provider = yield* ConfigProvider.ConfigProvider
  const problems: Array<Problem> = []
  const reading = <A>(name: string, effect: Effect.Effect<A, ConfigProvider.SourceError>) =>
    Effect.catch(effect, (error) =>
      Effect.sync((): undefined => {
        problems.push({ path: name, message: `cannot be read: ${error.message}` })
      })
    )

  const objectName = path.join(".")
  const object = yield* reading(objectName, load(provider, path))
  if (object !== undefined && !isObject(object)) problems.push({ path: objectName, message: "must be an object" })
  const decoded = fieldsFromText(fields, object)
  const input: Tree = isObject(decoded) ? { ...decoded } : {}

  const environment = new Map<string, string>()
  for (const row of rows) {
    const name = `${prefix}_${row.env}`
    const raw = yield* reading(name, load(provider, [name]))
    if (raw === undefined) continue
    environment.set(row.name, name)
    if (!put(input, row, row.field.fromText(raw))) {
      problems.push({
        path: name,
        message: `is given, but ${row.path[0]} as a whole is given too and is not an object`
      })
    }
  }
  for (const name of (yield* reading(prefix, namesUnder(provider, prefix.split("_")))) ?? []) {
    const candidate = meant(name, rows)
    if (candidate === undefined) continue
    problems.push({ path: `${prefix}_${name}`, message: `is not an option; did you mean "${prefix}_${candidate}"?` })
  }

  /** An option by the name that it has where it was found; a missing one by the name that it would have. */
  const nameOf = (option: string): string => {
    // A group stands before what is in it, so the last match is the closest.
    const row = rows.findLast(
      ({ name }) => option === name || option.startsWith(`${name}.`) || option.startsWith(`${name}[`)
    )
    if (row === undefined) return child(objectName, option)
    const rest = option.slice(row.name.length)
    const inEnvironment = environment.get(row.name) ?? (object === undefined ? `${prefix}_${row.env}` : undefined)
    return inEnvironment === undefined ? child(objectName, option) : `${inEnvironment}${rest}`
  }
  return { input, problems, nameOf }
})

/** Messages about these may hold what the option holds. */
const secret: ReadonlySet<string> = new Set(["headers", "hosts", "key", "proxy", "baseUrl"])

/** Runs every `Config` in a tree of them. */
export const unwrap = Effect.fnUntraced(function* (wrapped: unknown) {
  const problems: Array<Problem> = []
  const walk = (value: unknown, path: string): Effect.Effect<unknown> => {
    if (Config.isConfig(value)) {
      return Effect.map(Effect.result(value), (result) => {
        if (Result.isSuccess(result)) return result.success
        const hidden = path.split(".").some((name) => secret.has(name))
        const why = hidden ? "its value is missing or malformed" : result.failure.message.replace(/\s*\n\s*/g, " ")
        problems.push({ path: path === "" ? "options" : path, message: `cannot be read: ${why}` })
        return undefined
      })
    }
    // What is made by a class is a value, not a group of options.
    if (!isObject(value) || Object.getPrototypeOf(value) !== Object.prototype) return Effect.succeed(value)
    return Effect.map(
      Effect.forEach(Object.entries(value), ([name, inner]) =>
        Effect.map(walk(inner, child(path, name)), (read) => [name, read])
      ),
      Object.fromEntries
    )
  }
  const input = yield* walk(wrapped, "")
  return { input: input ?? {}, problems }
})
