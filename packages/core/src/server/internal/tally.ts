/** Counters of a server, over all the backends that it has had. */
import type { Counts } from "../Listener.ts"

export const zero: Counts = { connections: 0, active: 0, accepted: 0, requests: 0, failures: 0, refused: 0 }

export const plus = (a: Counts, b: Counts): Counts => ({
  connections: a.connections + b.connections,
  active: a.active + b.active,
  accepted: a.accepted + b.accepted,
  requests: a.requests + b.requests,
  failures: a.failures + b.failures,
  refused: a.refused + b.refused
})

/** What stays of a backend that has ended. */
export const past = (counts: Counts): Counts => ({ ...counts, connections: 0, active: 0 })
