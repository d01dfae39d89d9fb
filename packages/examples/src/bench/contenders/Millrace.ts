/** Millrace: a pool of eight slots, bare or with the standard stack. */
import { Pool, type PoolConfig } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Stack from "../Stack.ts"
import { type Contender, connections } from "../Work.ts"
import { byHttpClient } from "./Requests.ts"

const make =
  (options: PoolConfig.Options): Contender =>
  async (origin) => {
    const pool = await Effect.runPromise(
      Pool.make({ baseUrl: origin, size: connections, ...options }).pipe(
        Effect.provide(UndiciConnector.layer),
        Effect.provideService(Scope.Scope, Scope.makeUnsafe())
      )
    )
    return (work) => ({ _tag: "Effect", send: byHttpClient(pool.client, work.path, work) })
  }

export const contender = make({})
export const full = make(Stack.full({ traced: false }))
export const fullTraced = make(Stack.full({ traced: true }))
