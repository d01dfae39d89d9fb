/** Where servers come from when they are not written in code: environment names, and objects in files. */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { isObject } from "effect/Predicate"
import { child, fromJson, type Problem } from "../../model/internal/field.ts"
import { fieldsFromText, nearest } from "../../model/internal/groupField.ts"
import { load, meant, namesUnder, put, type Row, type Tree } from "../../model/internal/source.ts"
import { commonFields, commonRows, fields, rows } from "./serverOptions.ts"

/** What an option of a server is called in an environment, without the prefix. */
const ofOneServer: ReadonlySet<string> = new Set(
  rows.filter((row) => !commonRows.some(({ env }) => env === row.env)).map((row) => row.env)
)

/** An option by the row that it is, or is inside of. */
const rowOf = (option: string, among: ReadonlyArray<Row>): Row | undefined =>
  // A group stands before what is in it, so the last match is the closest.
  among.findLast(({ name }) => option === name || option.startsWith(`${name}.`) || option.startsWith(`${name}[`))

/** Servers as the current provider has them, not yet checked, and what their options are called there. */
export const read = Effect.fnUntraced(function* (prefix: string, path: ReadonlyArray<string>) {
  const provider = yield* ConfigProvider.ConfigProvider
  const problems: Array<Problem> = []
  const reading = <A>(name: string, effect: Effect.Effect<A, ConfigProvider.SourceError>) =>
    Effect.catch(effect, (error) =>
      Effect.sync((): undefined => {
        problems.push({ path: name, message: `cannot be read: ${error.message}` })
      })
    )
  const listName = [...path, "httpServers"].join(".")
  const commonName = [...path, "httpServer"].join(".")
  const listEnv = `${prefix}S`
  /** Where an option came from, if from the environment: `common.tls.cert`, `servers[0].bind`. */
  const environment = new Map<string, string>()

  /** Puts over `tree` what the environment has under `base`. */
  const override = Effect.fnUntraced(function* (tree: Tree, base: string, among: ReadonlyArray<Row>, at: string) {
    for (const row of among) {
      const name = `${base}_${row.env}`
      const raw = yield* reading(name, load(provider, [name]))
      if (raw === undefined) continue
      environment.set(`${at}.${row.name}`, name)
      if (!put(tree, row, row.field.fromText(raw))) {
        const message = `is given, but ${row.path[0]} as a whole is given too and is not an object`
        problems.push({ path: name, message })
      }
    }
    for (const name of (yield* reading(base, namesUnder(provider, base.split("_")))) ?? []) {
      const known = among.map(({ env }) => env)
      if (known.includes(name)) continue
      // Names that begin with the number of a server are nobody else's.
      const candidate = among === rows ? nearest(name, known) : meant(name, among)
      if (candidate !== undefined) {
        problems.push({ path: `${base}_${name}`, message: `is not an option; did you mean "${base}_${candidate}"?` })
      } else if (ofOneServer.has(name)) {
        problems.push({ path: `${base}_${name}`, message: `belongs to one server: write "${listEnv}_0_${name}"` })
      }
    }
  })

  const commonObject = yield* reading(commonName, load(provider, [...path, "httpServer"]))
  if (commonObject !== undefined && !isObject(commonObject)) {
    problems.push({ path: commonName, message: `must be an object; a list of servers is called ${listName}` })
  }
  const common: Tree = isObject(commonObject) ? { ...Object(fieldsFromText(commonFields, commonObject)) } : {}
  yield* override(common, prefix, commonRows, "common")

  const inEnvironment = yield* reading(
    listEnv,
    Effect.map(provider.load([listEnv]), (node) => node?.value)
  )
  const inFile = inEnvironment === undefined ? yield* reading(listName, load(provider, [...path, "httpServers"])) : []
  const whole = inEnvironment === undefined ? listName : listEnv
  const list = inEnvironment === undefined ? inFile : fromJson(inEnvironment)
  if (list !== undefined && !Array.isArray(list)) {
    problems.push({ path: whole, message: `must be a list of servers${whole === listEnv ? ", as JSON" : ""}` })
  }
  const servers: Array<unknown> = (Array.isArray(list) ? list : []).map((item: unknown) => fieldsFromText(fields, item))
  const fromList = servers.length

  const numbers = yield* reading(listEnv, numbersUnder(provider, listEnv.split("_")))
  for (const number of numbers ?? []) {
    const base = `${listEnv}_${number}`
    if (number > servers.length) {
      const next = servers.length
      problems.push({
        path: base,
        message: `is not the next server: there are ${next}, so the next is ${listEnv}_${next}`
      })
      continue
    }
    const before = servers[number]
    const tree: Tree = isObject(before) ? { ...before } : {}
    yield* override(tree, base, rows, `servers[${number}]`)
    if (number < servers.length || Object.keys(tree).length > 0) servers[number] = tree
  }
  if (list === undefined && servers.length === 0 && problems.length === 0) {
    problems.push({ path: listName, message: 'is missing: a list of servers, such as [{ bind: ":8080" }]' })
  }

  /** An option by the name that it has where it was found; a missing one by the name that it would have. */
  const nameOf = (option: string): string => {
    const [, number, ofServer] = /^servers\[(\d+)\]\.?(.*)$/.exec(option) ?? []
    if (number === undefined || ofServer === undefined) {
      const name = option.replace(/^common\.?/, "")
      const row = rowOf(name, commonRows)
      const known = row === undefined ? undefined : environment.get(`common.${row.name}`)
      return known === undefined ? child(commonName, name) : `${known}${name.slice(row?.name.length)}`
    }
    const row = rowOf(ofServer, rows)
    const inList = Number(number) < fromList
    const known = environment.get(`servers[${number}].${row?.name}`)
    const base = `${listEnv}_${number}`
    if (row !== undefined && (known !== undefined || !inList)) {
      return `${known ?? `${base}_${row.env}`}${ofServer.slice(row.name.length)}`
    }
    if (!inList) return base
    return ofServer === "" ? `${whole}[${number}]` : child(`${whole}[${number}]`, ofServer)
  }
  return { common, servers, problems, nameOf }
})

/** The numbers that stand below a path in an environment, ascending. */
const numbersUnder = (
  provider: ConfigProvider.ConfigProvider,
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<number>, ConfigProvider.SourceError> =>
  Effect.flatMap(provider.load(path), (node) => {
    const keys =
      node?._tag === "Record"
        ? [...node.keys]
        : node?._tag === "Array"
          ? [...Array(node.length).keys()].map(String)
          : []
    const numbers = keys.filter((key) => /^(0|[1-9]\d{0,3})$/.test(key)).map(Number)
    return Effect.filter(
      numbers.sort((a, b) => a - b),
      (number) => Effect.map(provider.load([...path, String(number)]), (below) => below !== undefined)
    )
  })
