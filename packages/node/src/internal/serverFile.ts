/** A file of servers as text and tree, with the texts of the certificates that it names. */
import * as Effect from "effect/Effect"
import * as Yaml from "effect/encoding/Yaml"
import { hasProperty, isObject } from "effect/Predicate"
import * as Result from "effect/Result"
import { createHash } from "node:crypto"
import { readFile, stat } from "node:fs/promises"
import * as Path from "node:path"

interface Problem {
  readonly path: string
  readonly message: string
}

export interface Loaded {
  /** The same as long as all that was read is the same. */
  readonly digest: string
  /** With the texts of certificates; `undefined` if the file cannot be read or understood. */
  readonly tree: object | undefined
  readonly problems: ReadonlyArray<Problem>
  /** The files that it names. */
  readonly files: ReadonlyArray<string>
}

const reasons: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "there is no such file"],
  ["EACCES", "its permissions do not allow it"],
  ["EISDIR", "it is a directory"]
])

/** In MiB; a longer file has another purpose. */
const largest = 16

const system = <A>(act: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, string> =>
  Effect.tryPromise({
    try: act,
    catch: (cause) => {
      const code = hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : "unknown error"
      return `cannot be read: ${reasons.get(code) ?? code}`
    }
  })

const text = (file: string): Effect.Effect<Result.Result<string, string>> =>
  Effect.gen(function* () {
    const stats = yield* system(() => stat(file))
    // To read from a pipe waits, perhaps for ever, and no process ends while it does.
    if (!stats.isFile() && !stats.isDirectory()) {
      return yield* Effect.fail("cannot be read: it is a pipe or a device, not a file")
    }
    if (stats.size > largest * 1024 * 1024) return yield* Effect.fail(`is longer than ${largest} MiB`)
    return yield* system((signal) => readFile(file, { encoding: "utf8", signal }))
  }).pipe(Effect.result)

/** How many values a file may have, where those that aliases repeat count each time. */
const mostValues = 100_000

/** A few lines of aliases can stand for more values than anybody could look at. */
const isEndless = (tree: object): boolean => {
  let values = 0
  const waiting: Array<unknown> = [tree]
  while (waiting.length > 0) {
    const value = waiting.pop()
    if (++values + waiting.length > mostValues) return true
    if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) waiting.push(inner)
  }
  return false
}

/** A file as a tree, or what is wrong with it; parsers of JSON quote what they read, which may be secret. */
const understand = (content: string, json: boolean): Result.Result<object, string> => {
  const parsed = Result.try({
    try: (): unknown => (json ? JSON.parse(content) : Yaml.parse(content)),
    catch: (cause) => {
      // What begins with an asterisk is an alias, or a secret that nobody has quoted.
      const where = json
        ? /line \d+ column \d+/.exec(String(cause))?.[0]
        : String(cause)
            .replace(/^SyntaxError: /, "")
            .replace(/alias '\*.*?'/, "alias")
      return `is not valid ${json ? "JSON" : "YAML"}${where === undefined ? "" : `: ${where}`}`
    }
  })
  return Result.flatMap(parsed, (tree) => {
    if (tree === null || tree === undefined) return Result.fail("is empty")
    if (!isObject(tree) || Array.isArray(tree)) return Result.fail("must be an object")
    return isEndless(tree)
      ? Result.fail(`holds more than ${mostValues} values, aliases included`)
      : Result.succeed(tree)
  })
}

/** Stands in for a certificate that cannot be read, so that its absence is not reported a second time. */
const unread = "-----BEGIN -----"

const named = { certFile: "cert", keyFile: "key", caFile: "ca" } as const

/** Loads a file and what it names. */
export const load = Effect.fnUntraced(function* (
  file: string,
  options: { readonly format?: "yaml" | "json" | undefined; readonly path?: ReadonlyArray<string> | undefined }
): Effect.fn.Return<Loaded> {
  const path = options.path ?? []
  const hash = createHash("sha256")
  const problems: Array<Problem> = []
  const files: Array<string> = []
  const take = Effect.fnUntraced(function* (from: string) {
    const content = yield* text(from)
    hash.update(JSON.stringify([from, Result.isSuccess(content), Result.merge(content)]))
    return content
  })

  const content = yield* take(file)
  const json = (options.format ?? (/\.json$/i.test(file) ? "json" : "yaml")) === "json"
  const understood = Result.flatMap(content, (found) => understand(found, json))
  if (Result.isFailure(understood)) {
    problems.push({ path: file, message: understood.failure })
    return { digest: hash.digest("hex"), tree: undefined, problems, files }
  }

  /** The same TLS with texts instead of the names of files. */
  const withTexts = Effect.fnUntraced(function* (tls: object, at: string) {
    const out = new Map<string, unknown>(Object.entries(tls))
    for (const [name, option] of Object.entries(named)) {
      const given = out.get(name)
      if (given === undefined || given === null) continue
      const refuse = (message: string): void => void problems.push({ path: `${at}.${name}`, message })
      const instead = out.get(option) ?? undefined
      out.delete(name)
      out.set(option, unread)
      if (instead !== undefined) refuse(`is given, and ${option} too: one of them must go`)
      if (typeof given !== "string" || given === "") {
        refuse("must be the name of a file")
        continue
      }
      const from = Path.resolve(Path.dirname(file), given)
      files.push(from)
      const found = yield* take(from)
      if (Result.isFailure(found)) refuse(found.failure)
      else if (!found.success.includes("-----BEGIN ")) refuse('is the name of a file without PEM text ("-----BEGIN …")')
      else out.set(option, found.success)
    }
    return Object.fromEntries(out)
  })

  /** Options of one server, or of all. */
  const settings = (value: unknown, at: string): Effect.Effect<unknown> => {
    if (!isObject(value) || !hasProperty(value, "tls") || !isObject(value.tls)) return Effect.succeed(value)
    return Effect.map(withTexts(value.tls, `${at}.tls`), (tls) => ({ ...value, tls }))
  }

  const inside = (value: object, keys: ReadonlyArray<string>): Effect.Effect<object> =>
    Effect.gen(function* () {
      const [key, ...rest] = keys
      const out = new Map<string, unknown>(Object.entries(value))
      if (key !== undefined) {
        const next = out.get(key)
        if (isObject(next)) out.set(key, yield* inside(next, rest))
        return Object.fromEntries(out)
      }
      for (const name of out.keys()) {
        if (name === "httpServer" || name === "httpServers" || !/^http_?servers?$/i.test(name)) continue
        const meant = /s$/i.test(name) ? "httpServers" : "httpServer"
        problems.push({ path: [...path, name].join("."), message: `is not read; did you mean "${meant}"?` })
      }
      const common = [...path, "httpServer"].join(".")
      if (out.has("httpServer")) out.set("httpServer", yield* settings(out.get("httpServer"), common))
      const list: unknown = out.get("httpServers")
      if (Array.isArray(list)) {
        const servers = yield* Effect.forEach(list, (server: unknown, n) => settings(server, `${common}s[${n}]`))
        out.set("httpServers", servers)
      }
      return Object.fromEntries(out)
    })

  const tree = yield* inside(understood.success, path)
  return { digest: hash.digest("hex"), tree, problems, files }
})
