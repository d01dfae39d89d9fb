/**
 * One server of a pool: a live view of it. What it does is told to the pool.
 *
 * ```
 *            start                 accepts
 * Stopped ──────────► Starting ──────────────► Running
 *    ▲                   │ cannot bind            │ stop
 *    │                   ▼                        ▼
 *    │◄────────────── Failed ◄─(a defect)──── Stopping
 *    │                                            │ drained
 *    └────────────────────────────────────────────┘
 * ```
 *
 * A server whose address is lost while it runs is `Failed`, too; its connections drain. A start that is interrupted goes
 * back to `Stopped`; one that is told to a `Failed` server tries again.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Traffic } from "../observe/ServerMetrics.ts"
import type { Counts, Drained } from "./Listener.ts"
import type { ServerConfig } from "./ServerConfig.ts"

/**
 * Where a server accepts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Address {
  readonly host: string
  readonly port: number
}

/**
 * How a server stands.
 *
 * @category models
 * @since 0.1.0
 */
export type State =
  | { readonly _tag: "Stopped" }
  | { readonly _tag: "Starting" }
  | { readonly _tag: "Running"; readonly address: Address }
  /** Not ready any more; what is under way may finish. */
  | { readonly _tag: "Stopping" }
  | { readonly _tag: "Failed"; readonly error: unknown }

/**
 * One server. Properties read how it stands now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  readonly name: string
  /** Normalised, as configured: with port 0 where the system chooses. */
  readonly bind: string
  /** Where clients find it; with the port that the system chose, where it runs and `expose` is not given. */
  readonly expose: string
  readonly config: ServerConfig
  readonly state: State
  /** With the port that the system chose; `undefined` while it does not run. */
  readonly address: Address | undefined
  readonly isRunning: Effect.Effect<boolean>
  /** It runs, and nobody has asked it to stop. */
  readonly ready: Effect.Effect<boolean>
  /** Since it last started; zero while it does not run. A replacement does not interrupt it. */
  readonly uptime: Effect.Effect<Duration.Duration>
  /** Since the server was made, over restarts and replacements; `connections` and `active` count what drains, too. */
  readonly counts: Effect.Effect<Counts>
  /** Since the server was made, over restarts and replacements: its requests by method and status. */
  readonly traffic: Traffic
  readonly health: Effect.Effect<Health>
}

/**
 * What a monitor and a supervisor want to know about a server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Health {
  readonly state: State["_tag"]
  readonly ready: boolean
  /** It should run: it was started, and nobody has asked it to stop since. Where it does not, it has failed. */
  readonly wanted: boolean
  readonly uptime: Duration.Duration
  /** Since it last ran, or was made; zero while it runs. */
  readonly downtime: Duration.Duration
  /** Why it last failed, even where it has run since. */
  readonly lastError: unknown
  /** How often its address was opened. */
  readonly starts: number
  readonly counts: Counts
}

/**
 * How a stop ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stopped {
  readonly name: string
  readonly bind: string
  /** Milliseconds. */
  readonly uptime: number
  /** What did not end within `drainTimeout`. */
  readonly cut: Drained
}
