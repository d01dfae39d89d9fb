/**
 * The servers of a pool, in the order in which they came, by address. Where the system chooses the port, the name is part
 * of the key, and a number where that is not enough: port 0 is never a duplicate.
 */
import type { ServerConfig } from "../ServerConfig.ts"
import type { Server } from "../Server.ts"
import { clash, isBind, parse } from "./bind.ts"
import type { ServerUnit } from "./serverUnit.ts"

/** The key that `config` has where `taken` are in use. */
export const keyOf = (config: ServerConfig, taken: (key: string) => boolean): string => {
  const { key, port } = config.bind
  if (port !== 0) return key
  const identity = `${key} ${config.name}`
  let unique = identity
  for (let n = 2; taken(unique); n++) unique = `${identity} ${n}`
  return unique
}

/** The keys of a list: the n-th of a list finds the n-th of another again. */
export const keysOf = (configs: ReadonlyArray<ServerConfig>): ReadonlyArray<string> => {
  const keys = new Set<string>()
  for (const config of configs) keys.add(keyOf(config, (key) => keys.has(key)))
  return [...keys]
}

/** The one that has this address: as configured, or as the system chose it. */
export const find = (units: ReadonlyArray<ServerUnit>, which: string | Server): ServerUnit | undefined => {
  if (typeof which !== "string") return units.find((unit) => unit === which)
  const bind = parse(which)
  if (!isBind(bind)) return undefined
  const configured = units.find((unit) => unit.config.bind.key === bind.key)
  if (configured !== undefined || bind.port === 0) return configured
  return units.find(({ address, config }) => {
    if (address === undefined || address.port !== bind.port) return false
    return address.host === bind.host || config.bind.host === bind.host
  })
}

export class Registry {
  private readonly units = new Map<string, ServerUnit>()

  get all(): ReadonlyArray<ServerUnit> {
    return [...this.units.values()]
  }

  get(key: string): ServerUnit | undefined {
    return this.units.get(key)
  }

  keyOf(config: ServerConfig): string {
    return keyOf(config, (key) => this.units.has(key))
  }

  add(unit: ServerUnit): void {
    this.units.set(unit.spec.key, unit)
  }

  delete(unit: ServerUnit): void {
    if (this.units.get(unit.spec.key) === unit) this.units.delete(unit.spec.key)
  }

  /** One whose address takes in the address of `config`, or is within it, under another key. */
  inTheWay(key: string, config: ServerConfig): ServerUnit | undefined {
    return this.all.find((unit) => unit.spec.key !== key && clash(unit.config.bind, config.bind))
  }
}
