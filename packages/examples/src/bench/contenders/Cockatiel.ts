/** undici's pool behind the stack that cockatiel's manual recommends: retry, breaker, bulkhead, timeout. */
import * as Cockatiel from "cockatiel"
import { Pool } from "undici"
import { type Contender, connections } from "../Work.ts"

export const contender: Contender = async (origin) => {
  const pool = new Pool(origin, { connections })
  const { handleAll, wrap } = Cockatiel
  const policy = wrap(
    Cockatiel.retry(handleAll, { maxAttempts: 3, backoff: new Cockatiel.ExponentialBackoff() }),
    Cockatiel.circuitBreaker(handleAll, {
      halfOpenAfter: 10_000,
      breaker: new Cockatiel.ConsecutiveBreaker(5)
    }),
    Cockatiel.bulkhead(512, 10_000),
    Cockatiel.timeout(30_000, Cockatiel.TimeoutStrategy.Aggressive)
  )
  return (work) => {
    const options = {
      method: work.method,
      path: work.path,
      body: work.body ?? null,
      headers: work.body === undefined ? {} : { "content-type": "application/json" }
    }
    return {
      _tag: "Promise",
      send: () =>
        policy.execute(async ({ signal }) => {
          const { body } = await pool.request({ ...options, signal })
          return work.read === "text" ? (await body.text()).length : (await body.arrayBuffer()).byteLength
        })
    }
  }
}
