/** The keys of a schema: where they stand, what their environment variables are called, and which one a wrong one meant. */
import * as SchemaAST from "effect/SchemaAST"

/** One setting: a key that has a value, not keys, under it. */
export interface Key {
  readonly path: ReadonlyArray<string>
  /** `app.semaphore` */
  readonly name: string
  /** `APP_SEMAPHORE`, without the prefix. */
  readonly variable: string
}

/** What stands under a group of keys, by name; `undefined` for a setting. */
export const under = (ast: SchemaAST.AST): ReadonlyMap<string, SchemaAST.AST> | undefined =>
  SchemaAST.isObjects(ast) && ast.indexSignatures.length === 0
    ? new Map(ast.propertySignatures.map(({ name, type }) => [String(name), type]))
    : undefined

/** Every setting of a schema, in its order. */
export const of = (ast: SchemaAST.AST, path: ReadonlyArray<string> = []): ReadonlyArray<Key> => {
  const inside = under(ast)
  return inside === undefined
    ? [{ path, name: path.join("."), variable: path.join("_").toUpperCase() }]
    : [...inside].flatMap(([name, type]) => of(type, [...path, name]))
}

/** How many letters have to be changed, added or left out. */
const distance = (a: string, b: string): number => {
  let above = Array.from({ length: b.length + 1 }, (_, n) => n)
  for (const [i, letter] of Array.from(a).entries()) {
    const row = [i + 1]
    for (const [j, other] of Array.from(b).entries()) {
      const replaced = (above[j] ?? 0) + (letter === other ? 0 : 1)
      row.push(Math.min(replaced, (above[j + 1] ?? 0) + 1, (row[j] ?? 0) + 1))
    }
    above = row
  }
  return above[b.length] ?? 0
}

const plain = (name: string): string => name.toLowerCase().replace(/[^a-z\d]/g, "")

const letters = (name: string): string => Array.from(name).sort().join("")

/** The name that was probably meant: `readTimeout`, `read-timeout` and `read_timeuot` are `read_timeout`, `prot` is `port`. */
export const meant = (wrong: string, names: Iterable<string>): string | undefined => {
  let best: { readonly name: string; readonly far: number } | undefined
  for (const name of names) {
    const [a, b] = [plain(wrong), plain(name)]
    const far = letters(a) === letters(b) ? Math.min(1, distance(a, b)) : distance(a, b)
    if (far <= Math.max(1, Math.floor(name.length / 4)) && far < (best?.far ?? Infinity)) best = { name, far }
  }
  return best?.name
}
