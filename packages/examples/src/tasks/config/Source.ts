/** Reads a schema of settings from a file and the environment, and names all that is wrong with both at once. */
import { ConfigError } from "@millrace/core/model/ConfigError"
import * as Effect from "effect/Effect"
import * as Yaml from "effect/encoding/Yaml"
import { hasProperty, isObject } from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import { readFile } from "node:fs/promises"
import * as Keys from "./Keys.ts"

interface Problem {
  readonly path: string
  readonly message: string
}

type Tree = Record<string, unknown>

/** Environment variables, as `process.env` has them. */
export type Environment = { readonly [name: string]: string | undefined }

export interface Options {
  /** YAML, or JSON if its name ends in `.json`. */
  readonly file?: string | undefined
  readonly environment: Environment
  /** What the variables begin with: `TASKS_`. */
  readonly prefix: string
  /** Keys that there were once, and what to do about them. */
  readonly former: ReadonlyMap<string, string>
}

const isTree = (value: unknown): value is Tree => isObject(value) && !Array.isArray(value)

// -----------------------------------------------------------------------------
// The file
// -----------------------------------------------------------------------------

const reasons: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "there is no such file"],
  ["EACCES", "its permissions do not allow it"],
  ["EISDIR", "it is a directory"]
])

const textOf = (file: string): Effect.Effect<string, string> =>
  Effect.tryPromise({
    try: (signal) => readFile(file, { encoding: "utf8", signal }),
    catch: (cause) => {
      const code = hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : "unknown error"
      return `cannot be read: ${reasons.get(code) ?? code}`
    }
  })

/** Parsers quote what they read, which may be secret; only where it stands is told. */
const treeOf = (text: string, json: boolean): Result.Result<Tree, string> => {
  const parsed = Result.try({
    try: (): unknown => (json ? JSON.parse(text) : Yaml.parse(text)),
    catch: (cause) => {
      const told = String(cause)
      const where = json
        ? /line \d+ column \d+/.exec(told)?.[0]
        : told.replace("SyntaxError: ", "").replace(/'.*'/s, "…")
      return `is not valid ${json ? "JSON" : "YAML"}${where === undefined ? "" : `: ${where}`}`
    }
  })
  return Result.flatMap(parsed, (tree) =>
    isTree(tree ?? {}) ? Result.succeed(isTree(tree) ? tree : {}) : Result.fail("must hold keys and their values")
  )
}

const load = (file: string): Effect.Effect<Tree, ConfigError> =>
  textOf(file).pipe(
    Effect.flatMap((text) => Effect.fromResult(treeOf(text.replace(/^\uFEFF/, ""), /\.json$/i.test(file)))),
    Effect.mapError((message) => new ConfigError({ problems: [{ path: file, message }] }))
  )

// -----------------------------------------------------------------------------
// What nobody asked for
// -----------------------------------------------------------------------------

const didYouMean = (name: string | undefined): string => (name === undefined ? "" : `; did you mean ${name}?`)

const unknownKeys = (
  ast: SchemaAST.AST,
  tree: unknown,
  former: Options["former"],
  path: ReadonlyArray<string> = []
): ReadonlyArray<Problem> => {
  const known = Keys.under(ast)
  if (known === undefined || !isTree(tree)) return []
  return Object.entries(tree).flatMap(([key, value]) => {
    const type = known.get(key)
    if (type !== undefined) return unknownKeys(type, value, former, [...path, key])
    const at = [...path, key].join(".")
    const advice = former.get(at)
    return [
      {
        path: at,
        message: `unknown key${advice === undefined ? didYouMean(Keys.meant(key, known.keys())) : `; ${advice}`}`
      }
    ]
  })
}

/**
 * What others put into an environment under the same prefix: Kubernetes and Docker for services and links with such a name
 * (`TASKS_SERVICE_HOST`, `TASKS_PORT_8080_TCP`), and those who run the tests.
 */
const foreign = (name: string, value: string): boolean =>
  (/(^|_)PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value)) ||
  /(^|_)SERVICE_(HOST|PORT(_\w+)?)$/.test(name) ||
  /(^|_)PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$/.test(name) ||
  name.startsWith("TEST_")

// -----------------------------------------------------------------------------
// Both together
// -----------------------------------------------------------------------------

/** Puts a value at a path; leaves as it is what is no group of keys, for the schema to complain about. */
const put = (tree: Tree, [key = "", ...rest]: ReadonlyArray<string>, value: unknown): Tree => {
  const inside = tree[key] ?? {}
  return { ...tree, [key]: rest.length === 0 ? value : isTree(inside) ? put(inside, rest, value) : inside }
}

/** A group whose keys are all commented out is `null` in YAML; it has its defaults. */
const withoutEmptyGroups = (ast: SchemaAST.AST, tree: Tree): Tree =>
  Object.fromEntries(
    Object.entries(tree).flatMap(([key, value]): ReadonlyArray<[string, unknown]> => {
      const type = Keys.under(ast)?.get(key)
      if (type === undefined || Keys.under(type) === undefined) return [[key, value]]
      return value === null ? [] : [[key, isTree(value) ? withoutEmptyGroups(type, value) : value]]
    })
  )

const problemsOf = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => (issue._tag === "InvalidType" ? "must be a group of keys" : SchemaIssue.defaultLeafHook(issue))
})

const nameOf = (path: ReadonlyArray<unknown> | undefined): string =>
  (path ?? []).map((part) => String(isObject(part) && "key" in part ? part.key : part)).join(".")

/** What a schema makes of a file and the environment, or everything that is wrong with them. */
export const read = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, options: Options) =>
  Effect.gen(function* () {
    const problems: Array<Problem> = []
    const file = options.file === undefined ? {} : yield* load(options.file)
    problems.push(...unknownKeys(schema.ast, file, options.former))

    const keys = new Map(Keys.of(schema.ast).map((key) => [key.variable, key]))
    const from = new Map<string, string>()
    let tree = withoutEmptyGroups(schema.ast, file)
    for (const [variable, value] of Object.entries(options.environment)) {
      if (!variable.startsWith(options.prefix) || value === undefined || value === "") continue
      const name = variable.slice(options.prefix.length)
      if (foreign(name, value)) continue
      const key = keys.get(name)
      if (key === undefined) {
        const near = Keys.meant(name, keys.keys())
        const hint = didYouMean(near === undefined ? undefined : options.prefix + near)
        problems.push({ path: variable, message: `unknown environment variable${hint}` })
        continue
      }
      tree = put(tree, key.path, value)
      from.set(key.name, variable)
    }

    const decoded = Schema.decodeUnknownResult(schema, { errors: "all" })(tree)
    if (Result.isFailure(decoded)) {
      for (const { message, path } of problemsOf(decoded.failure.issue).issues) {
        const name = nameOf(path)
        problems.push({ path: from.get(name) ?? name, message })
      }
    }
    if (Result.isFailure(decoded) || problems.length > 0) return yield* Effect.fail(new ConfigError({ problems }))
    return decoded.success
  })
