/** What no option of a server can know alone: which of them fit together, and which servers fit together. */
import { isObject } from "effect/Predicate"
import { child, type Problem } from "../../model/internal/field.ts"
import { nearest, readFields } from "../../model/internal/groupField.ts"
import type { TlsSettings } from "../Listener.ts"
import type { ServerConfig } from "../ServerConfig.ts"
import { clash, exposed } from "./bind.ts"
import {
  commonFields,
  defaultTls,
  fields,
  type Given,
  type GivenCommon,
  type GivenTls,
  resolveMonitor
} from "./serverOptions.ts"

/** What a server is checked against. */
export interface Surroundings {
  /** The keys of the handlers that there are; `undefined`: not known. */
  readonly handlers?: Iterable<string> | undefined
  /** The default TLS of the pool, not yet read. */
  readonly tls?: unknown
  /** What holds for all servers that say nothing else, not yet read. */
  readonly common?: unknown
}

interface Known {
  readonly handlers: ReadonlyArray<string> | undefined
  readonly tls: GivenTls | undefined
  readonly common: GivenCommon
}

interface Checked {
  /** What was given, for all servers or this one. */
  readonly given: Given
  /** What it comes to; meaningless where there are problems. */
  readonly config: ServerConfig
}

const needsBoth = (tls: GivenTls, path: string, problems: Array<Problem>): void => {
  const refused = (name: string): boolean => problems.some((problem) => problem.path === child(path, name))
  if (tls.cert !== undefined && tls.key === undefined && !refused("key")) {
    problems.push({ path: child(path, "key"), message: "is missing: cert needs it" })
  }
  if (tls.key !== undefined && tls.cert === undefined && !refused("cert")) {
    problems.push({ path: child(path, "cert"), message: "is missing: key needs it" })
  }
}

/** The TLS of one server: its own, over the default where it says so. */
const tlsOf = (
  own: GivenTls | undefined,
  base: GivenTls | undefined,
  path: string,
  problems: Array<Problem>
): TlsSettings | undefined => {
  if (own === undefined) return undefined
  const before = problems.length
  const wrongAlready = problems.some((problem) => problem.path === path || problem.path.startsWith(`${path}.`))
  needsBoth(own, path, problems)
  const inherits = own.inherit ?? fields.tls.fields.inherit.default
  const from = inherits ? { ...base, ...own } : own
  // A certificate and its key come from the same place.
  const { cert, key } = own.cert === undefined && own.key === undefined ? from : own
  const clientAuth = from.clientAuth ?? fields.tls.fields.clientAuth.default
  if (clientAuth !== "none" && from.ca === undefined && !wrongAlready) {
    problems.push({ path: child(path, "ca"), message: `is missing: clientAuth "${clientAuth}" needs it` })
  }
  if (clientAuth === "none" && own.ca !== undefined && !wrongAlready) {
    problems.push({
      path: child(path, "clientAuth"),
      message: 'must be "request" or "require": ca does nothing without'
    })
  }
  if (cert !== undefined && key !== undefined) {
    const minVersion = from.minVersion ?? fields.tls.fields.minVersion.default
    return { cert, key, ca: from.ca, clientAuth, minVersion }
  }
  if ((own.required ?? fields.tls.fields.required.default) && !wrongAlready && problems.length === before) {
    const otherwise = "or say `required: false` for plain HTTP"
    problems.push(
      inherits
        ? {
            path: child(path, "inherit"),
            message: `finds no certificate in the pool's default TLS: give one, ${otherwise}`
          }
        : { path: child(path, "cert"), message: `is missing: give cert and key, \`inherit: true\`, ${otherwise}` }
    )
  }
  return undefined
}

const unspecified = { text: "", key: "", host: undefined, port: 0 }

const one = (input: unknown, path: string, known: Known, problems: Array<Problem>): Checked => {
  const refuse = (name: string, message: string): void => void problems.push({ path: child(path, name), message })
  const own = readFields<Given>(fields, input, path, problems)
  const { tls: _, ...common } = known.common
  const given: Given = { ...common, ...own }

  if (own.bind === undefined && isObject(input) && input["bind"] === undefined) {
    refuse("bind", 'is missing: the address to accept on, such as ":8080"')
  }
  const handler = given.handler ?? fields.handler.default
  if (known.handlers !== undefined && !known.handlers.includes(handler)) {
    const help = known.handlers.length === 0 ? "there is none" : `did you mean "${nearest(handler, known.handlers)}"?`
    refuse("handler", `is "${handler}", which is not the key of a handler; ${help}`)
  }
  const readTimeout = given.readTimeout ?? fields.readTimeout.default
  const readHeaderTimeout = given.readHeaderTimeout ?? Math.min(fields.readHeaderTimeout.default, readTimeout)
  if (readHeaderTimeout > readTimeout) {
    refuse("readHeaderTimeout", `must be at most readTimeout, which is ${readTimeout} ms`)
  }
  const bind = given.bind ?? unspecified
  const tls = tlsOf(own.tls, known.tls, child(path, "tls"), problems)
  const config = {
    name: given.name ?? bind.text,
    bind,
    expose: given.expose ?? exposed(bind, tls !== undefined),
    handler,
    disabled: given.disabled ?? fields.disabled.default,
    settings: {
      tls,
      readTimeout,
      readHeaderTimeout,
      writeTimeout: given.writeTimeout ?? fields.writeTimeout.default,
      idleTimeout: given.idleTimeout ?? fields.idleTimeout.default,
      maxHeaderBytes: given.maxHeaderBytes ?? fields.maxHeaderBytes.default,
      maxBodyBytes: given.maxBodyBytes ?? fields.maxBodyBytes.default,
      maxConnections: given.maxConnections ?? fields.maxConnections.default,
      keepAlive: given.keepAlive ?? fields.keepAlive.default
    },
    drainTimeout: given.drainTimeout ?? fields.drainTimeout.default,
    drainDelay: given.drainDelay ?? fields.drainDelay.default,
    monitor: resolveMonitor(given.monitor)
  }
  return { given, config }
}

const knownFrom = (around: Surroundings, problems: Array<Problem>): Known => {
  const common: GivenCommon =
    around.common === undefined ? {} : readFields<GivenCommon>(commonFields, around.common, "common", problems)
  const tls = around.tls === undefined ? common.tls : defaultTls.read(around.tls, "tls", problems)
  if (tls !== undefined) needsBoth(tls, around.tls === undefined ? "common.tls" : "tls", problems)
  return { common, tls, handlers: around.handlers === undefined ? undefined : [...around.handlers] }
}

/** Reads one server. */
export const checkOne = (input: unknown, around: Surroundings) => {
  const problems: Array<Problem> = []
  const { config } = one(input, "", knownFrom(around, problems), problems)
  return { config, problems }
}

const clashes = (servers: ReadonlyArray<Checked>, problems: Array<Problem>): void => {
  servers.forEach(({ given: { bind } }, index) => {
    if (bind === undefined) return
    const earlier = servers.findIndex(
      ({ given }, before) => before < index && given.bind !== undefined && clash(given.bind, bind)
    )
    const other = servers[earlier]
    if (other === undefined) return
    const how = other.config.bind.key === bind.key ? "is the address" : "is within, or takes in, the address"
    const who = `server ${earlier} ("${other.config.name}", ${other.config.bind.text})`
    problems.push({ path: `servers[${index}].bind`, message: `${how} of ${who}: one address has one server` })
  })
}

/** Reads a list of servers, each and together. */
export const checkAll = (input: unknown, around: Surroundings) => {
  const problems: Array<Problem> = []
  const known = knownFrom(around, problems)
  if (!Array.isArray(input)) {
    problems.push({ path: "servers", message: "must be a list of servers" })
    return { servers: [], tls: known.tls, problems }
  }
  const servers = input.map((item: unknown, index) => one(item, `servers[${index}]`, known, problems))
  clashes(servers, problems)
  return { servers, tls: known.tls, problems }
}
