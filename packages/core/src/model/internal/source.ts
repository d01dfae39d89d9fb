/** What reads options that are not written in code: their names in environments, and what a provider has under them. */
import type * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { isObject } from "effect/Predicate"
import type { Field, Fields } from "./field.ts"
import { distance, nearest } from "./groupField.ts"

/** One option, flat, with its names. */
export interface Row {
  /** `["tls", "ca"]` */
  readonly path: ReadonlyArray<string>
  /** `tls.ca` */
  readonly name: string
  /** `TLS_CA`, without the prefix. */
  readonly env: string
  readonly field: Field<unknown>
}

/** Every option; a group before what is in it. */
export const rowsOf = (inside: Fields, parents: ReadonlyArray<string> = []): ReadonlyArray<Row> =>
  Object.entries(inside).flatMap(([key, field]) => {
    const path = [...parents, key]
    const env = path.map((name) => name.replace(/[A-Z]/g, "_$&").toUpperCase()).join("_")
    const row = { path, name: path.join("."), env, field }
    return [row, ...rowsOf(field.fields ?? {}, path)]
  })

export type Tree = Record<string, unknown>

/** What a provider has at a path, as plain objects, arrays and text. */
export const load = (
  provider: ConfigProvider.ConfigProvider,
  path: ConfigProvider.Path
): Effect.Effect<unknown, ConfigProvider.SourceError> =>
  Effect.flatMap(provider.load(path), (node) => {
    switch (node?._tag) {
      case undefined:
        return Effect.void
      case "Value":
        return Effect.succeed(node.value)
      case "Array":
        return Effect.forEach(Array(node.length).keys(), (index) => load(provider, [...path, index]))
      case "Record":
        return Effect.map(
          Effect.forEach(node.keys, (key) => Effect.map(load(provider, [...path, key]), (value) => [key, value])),
          Object.fromEntries
        )
    }
  })

/** The names below a path in an environment, as far as they have values: `["SIZE", "TLS_CA"]`. */
export const namesUnder = (
  provider: ConfigProvider.ConfigProvider,
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>, ConfigProvider.SourceError> =>
  Effect.flatMap(provider.load(path), (node) => {
    if (node?._tag !== "Record") return Effect.succeed([])
    return Effect.map(
      Effect.forEach(node.keys, (key) =>
        Effect.map(Effect.all([provider.load([...path, key]), namesUnder(provider, [...path, key])]), ([at, below]) => [
          ...(at?.value === undefined ? [] : [key]),
          ...below.map((name) => `${key}_${name}`)
        ])
      ),
      (names) => names.flat()
    )
  })

const parts = (name: string): number => name.split("_").length

/** What a name was probably meant to be: an option's name from which one letter in four, at most two, differ. */
export const meant = (name: string, rows: ReadonlyArray<Row>): string | undefined => {
  const known = rows.map((row) => row.env).filter((env) => parts(env) === parts(name))
  if (known.length === 0 || known.includes(name)) return undefined
  const candidate = nearest(name, known)
  return distance(name, candidate) <= Math.min(2, candidate.length / 4) ? candidate : undefined
}

/** Puts the value of an option into the tree of all; `false` if something other than an object is in the way. */
export const put = (tree: Tree, { path }: Row, value: unknown): boolean => {
  let at = tree
  for (const key of path.slice(0, -1)) {
    // `true` is a group with all its defaults.
    if (at[key] === true) at[key] = {}
    const next = (at[key] ??= {})
    if (!isObject(next)) return false
    at = next
  }
  const last = path.at(-1) ?? ""
  at[last] = value
  return true
}
