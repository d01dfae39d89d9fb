/** What differs between two configurations of servers, and what a pool has to touch for it. */
import * as Redacted from "effect/Redacted"
import type { Settings, TlsSettings } from "../Listener.ts"
import type { Change, Diff, ServerConfig, Touch } from "../ServerConfig.ts"

const sameValue = (a: unknown, b: unknown): boolean => {
  if (Redacted.isRedacted(a) && Redacted.isRedacted(b)) return Redacted.value(a) === Redacted.value(b)
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => item === b[i])
  return a === b
}

type TlsName = keyof TlsSettings
type SettingName = Exclude<keyof Settings, "tls">

// Written as objects so that the compiler asks for every member.
const tlsTouches: Record<TlsName, Touch> = {
  cert: "certificates",
  key: "certificates",
  ca: "certificates",
  // Which certificates are asked for belongs to the server, not to its certificates.
  clientAuth: "backend",
  minVersion: "certificates"
}

const settingNames: Record<SettingName, true> = {
  readTimeout: true,
  readHeaderTimeout: true,
  writeTimeout: true,
  idleTimeout: true,
  maxHeaderBytes: true,
  maxBodyBytes: true,
  maxConnections: true,
  keepAlive: true
}

const entries = <K extends string, V>(record: Record<K, V>): ReadonlyArray<readonly [K, V]> => {
  const out: Array<readonly [K, V]> = []
  for (const key in record) out.push([key, record[key]])
  return out
}

/** What differs between two configurations, their addresses aside; `undefined` if nothing does. */
export const compare = (before: ServerConfig, after: ServerConfig): Change | undefined => {
  const fields: Array<string> = []
  const touches = new Set<Touch>()
  const differs = (field: string, touch: Touch): void => {
    fields.push(field)
    touches.add(touch)
  }

  if (before.name !== after.name) differs("name", "pool")
  if (before.expose.href !== after.expose.href) differs("expose", "pool")
  if (before.disabled !== after.disabled) differs("disabled", "running")
  if (before.handler !== after.handler) differs("handler", "handler")
  for (const [name] of entries(settingNames)) {
    if (before.settings[name] !== after.settings[name]) differs(name, "backend")
  }
  if (before.drainTimeout !== after.drainTimeout) differs("drainTimeout", "pool")
  if (before.drainDelay !== after.drainDelay) differs("drainDelay", "pool")
  const [was, is] = [before.monitor, after.monitor]
  if (was?.path !== is?.path || was?.interval !== is?.interval || was?.timeout !== is?.timeout)
    differs("monitor", "pool")
  else if (was?.rise !== is?.rise || was?.fall !== is?.fall) differs("monitor", "pool")

  const [old, now] = [before.settings.tls, after.settings.tls]
  if (old !== undefined && now !== undefined) {
    for (const [name, touch] of entries(tlsTouches)) if (!sameValue(old[name], now[name])) differs(`tls.${name}`, touch)
  } else if (old !== now) {
    differs("tls", "backend")
  }
  return fields.length === 0 ? undefined : { before, after, fields, touches }
}

/**
 * What finds a server again in another list: its address; where the system chooses the port, its name too. The n-th of
 * those that share both is told from the others by its number.
 */
const byIdentity = (servers: ReadonlyArray<ServerConfig>): ReadonlyMap<string, ServerConfig> => {
  const out = new Map<string, ServerConfig>()
  for (const server of servers) {
    const identity = server.bind.port === 0 ? `${server.bind.key} ${server.name}` : server.bind.key
    let unique = identity
    for (let n = 2; out.has(unique); n++) unique = `${identity} ${n}`
    out.set(unique, server)
  }
  return out
}

export const diff = (before: ReadonlyArray<ServerConfig>, after: ReadonlyArray<ServerConfig>): Diff => {
  const old = byIdentity(before)
  const now = byIdentity(after)
  const added: Array<ServerConfig> = []
  const changed: Array<Change> = []
  const same: Array<ServerConfig> = []
  for (const [identity, server] of now) {
    const counterpart = old.get(identity)
    const change = counterpart === undefined ? undefined : compare(counterpart, server)
    if (counterpart === undefined) added.push(server)
    else if (change === undefined) same.push(server)
    else changed.push(change)
  }
  return {
    added,
    removed: [...old].filter(([identity]) => !now.has(identity)).map(([, server]) => server),
    changed,
    same
  }
}
