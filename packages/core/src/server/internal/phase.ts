/** How a server stands, with what it needs for what comes next. */
import type * as Scope from "effect/Scope"
import type { Acceptor, Backend, Handler } from "../Listener.ts"
import type { Address, State } from "../Server.ts"

export interface Running {
  readonly _tag: "Running"
  readonly address: Address
  readonly acceptor: Acceptor
  readonly backend: Backend
  /** What the backend answers with. */
  readonly handler: Handler
  /** Closes the acceptor, whatever else happens. */
  readonly scope: Scope.Closeable
  readonly since: number
}

export type Phase = Exclude<State, { readonly _tag: "Running" }> | Running

export const stopped: Phase = { _tag: "Stopped" }
