/** Options that hold options. */
import { isObject } from "effect/Predicate"
import { booleanFromText, child, type Field, type Fields, type FieldsOf, fromJson, type Problem } from "./field.ts"
import { parseOrigin, showUrl } from "./httpField.ts"

/** How many letters must change to make one text of the other. */
export const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const change = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

/** The known name that looks most like `name`. */
export const nearest = (name: string, known: ReadonlyArray<string>): string => {
  const how = (candidate: string): number => distance(name.toLowerCase(), candidate.toLowerCase())
  return known.reduce((best, candidate) => (how(candidate) < how(best) ? candidate : best))
}

/** Reads every field of a group, and refuses names that it does not know. */
export const readFields = <V>(
  fields: FieldsOf<V>,
  input: unknown,
  path: string,
  problems: Array<Problem>
): Partial<V> => {
  const out: Partial<V> = {}
  if (!isObject(input) || Array.isArray(input)) {
    problems.push({ path: path === "" ? "options" : path, message: "must be an object" })
    return out
  }
  const one = <K extends keyof V>(key: K, value: unknown, at: string): void => {
    const read = fields[key].read(value, at, problems)
    if (read !== undefined) out[key] = read
  }
  for (const key in fields) {
    const value = Object.hasOwn(input, key) ? input[key] : undefined
    if (value !== undefined) one(key, value, child(path, key))
  }
  for (const key of Object.keys(input)) {
    if (Object.hasOwn(fields, key)) continue
    const known = nearest(key, Object.keys(fields))
    problems.push({ path: child(path, key), message: `is not an option; did you mean "${known}"?` })
  }
  return out
}

/** Turns the text in an object into values, each as its field does. */
export const fieldsFromText = (fields: Fields, input: unknown): unknown =>
  isObject(input)
    ? Object.fromEntries(
        Object.entries(input).map(([key, raw]) => [key, Object.hasOwn(fields, key) ? fields[key]?.fromText(raw) : raw])
      )
    : input

/** Options inside an option. As text: a JSON object. */
export const group = <V, F extends FieldsOf<V> & Fields>(
  description: string,
  fields: F & FieldsOf<V>
): Field<Partial<V>> & { readonly fields: F } => ({
  description,
  unit: "group",
  defaultText: "",
  fields,
  read: (value, path, problems) => readFields<V>(fields, value, path, problems),
  fromText: (raw) => fieldsFromText(fields, fromJson(raw))
})

/**
 * A policy: `true` is all its defaults, `false` is none. `rules` adds what no option of it can know alone, and finds
 * what makes `isComplete` false. As text: `true`, `false`, or a JSON object.
 */
export const policy = <V, F extends FieldsOf<V> & Fields, A extends Partial<V> = Partial<V>>(
  description: string,
  fields: F & FieldsOf<V>,
  rules: (given: Partial<V>, input: object) => ReadonlyArray<Problem>,
  isComplete: (given: Partial<V>) => given is A,
  defaultText = "none"
): Field<A | false> & { readonly fields: F } => {
  const inside = group<V, F>(description, fields)
  return {
    ...inside,
    defaultText,
    read: (value, path, problems) => {
      if (value === false) return false
      if (value !== true && !isObject(value)) {
        problems.push({ path, message: "must be an object, true for its defaults, or false for none" })
        return undefined
      }
      const input = value === true ? {} : value
      const given = readFields<V>(fields, input, path, problems)
      problems.push(...rules(given, input).map((problem) => ({ ...problem, path: child(path, problem.path) })))
      return isComplete(given) ? given : undefined
    },
    fromText: (raw) => {
      const truth = typeof raw === "string" ? booleanFromText(raw) : raw
      return typeof truth === "boolean" ? truth : inside.fromText(raw)
    }
  }
}

/** A group that `false` turns off. */
export const groupOrFalse = <A, F extends Fields>(
  self: Field<A> & { readonly fields: F }
): Field<A | false> & { readonly fields: F } => ({
  ...self,
  read: (value, path, problems) => {
    if (value === false) return false
    if (isObject(value)) return self.read(value, path, problems)
    problems.push({ path, message: "must be an object, or false for none" })
    return undefined
  },
  fromText: (raw) => (typeof raw === "string" && booleanFromText(raw) === false ? false : self.fromText(raw))
})

/** A group for each origin. As text: a JSON object. */
export const byOrigin = <A>(description: string, each: Field<A>): Field<Readonly<Record<string, A>>> => ({
  description,
  unit: "group by origin",
  defaultText: "none",
  read: (value, path, problems) => {
    if (!isObject(value) || Array.isArray(value)) {
      problems.push({ path, message: "must be an object whose keys are origins" })
      return undefined
    }
    const out = new Map<string, A>()
    for (const [key, given] of Object.entries(value)) {
      if (given === undefined) continue
      const at = `${path}["${showUrl(key)}"]`
      const origin = parseOrigin(key)
      if (origin === undefined) {
        problems.push({
          path: at,
          message: 'must be an origin such as "https://api.test:8443", without path and user info'
        })
      } else if (out.has(origin)) {
        problems.push({ path: at, message: `is given twice: it is the origin ${origin}` })
      }
      const read = each.read(given, at, problems)
      if (origin !== undefined && read !== undefined) out.set(origin, read)
    }
    return Object.fromEntries(out)
  },
  fromText: (raw) => {
    const tree = fromJson(raw)
    return isObject(tree)
      ? Object.fromEntries(Object.entries(tree).map(([origin, host]) => [origin, each.fromText(host)]))
      : tree
  }
})
