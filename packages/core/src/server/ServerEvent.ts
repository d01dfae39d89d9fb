/**
 * What happens in a server pool, apart from requests: for logs, alerts and tests.
 *
 * @since 0.1.0
 */
import type { ConfigError } from "../model/ConfigError.ts"
import type { Drained } from "./Listener.ts"
import type { Address } from "./Server.ts"

interface OfServer {
  readonly name: string
  /** Normalised, as configured: with port 0 where the system chooses. */
  readonly bind: string
}

/**
 * One event. Durations are milliseconds.
 *
 * - `Added`, `Removed`: a server came into the pool, or left it; one that was taken out still runs.
 * - `Started`: its address accepts.
 * - `Failed`: it could not start, or not stop in order, or its address was lost while it ran.
 * - `Stopping`: it is not ready any more, and drains; `Stopped`: nothing of it is left. `cut` is what did not end within
 *   `drainTimeout`.
 * - `Updated`: these options changed under its connections, none of which noticed.
 * - `Replaced`: a new server took over its address. The old one has `Drained` later.
 * - `Reloaded`: a list of configurations is in force; only the binds named here were touched.
 * - `RolledBack`: it could not come into force; what had been changed was changed back.
 * - `ConfigRejected`: it is not valid, or not even one, as a file that cannot be read; nothing was touched.
 * - `Closed`: the scope of the pool has ended. The last event.
 *
 * @category models
 * @since 0.1.0
 */
export type ServerEvent =
  | (OfServer & { readonly _tag: "Added" })
  | (OfServer & { readonly _tag: "Removed" })
  | (OfServer & { readonly _tag: "Started"; readonly address: Address })
  | (OfServer & { readonly _tag: "Failed"; readonly error: unknown })
  | (OfServer & { readonly _tag: "Stopping" })
  | (OfServer & { readonly _tag: "Stopped"; readonly uptime: number; readonly cut: Drained })
  | (OfServer & { readonly _tag: "Updated"; readonly fields: ReadonlyArray<string> })
  | (OfServer & { readonly _tag: "Replaced" })
  | (OfServer & { readonly _tag: "Drained"; readonly cut: Drained })
  | {
      readonly _tag: "Reloaded"
      readonly added: ReadonlyArray<string>
      readonly changed: ReadonlyArray<string>
      readonly removed: ReadonlyArray<string>
    }
  | { readonly _tag: "RolledBack"; readonly error: unknown }
  | { readonly _tag: "ConfigRejected"; readonly error: ConfigError }
  | { readonly _tag: "Closed" }
