/**
 * A service whose faults are planned: for every call, what becomes of the first, the second, the third time that it is
 * sent. A call is known by its path, so that the plan holds in whatever order calls come. Counts how often each was sent.
 */
import { allIsWell, type Options } from "../Cluster.ts"

/** A status, or a broken connection. */
export type Fault = 500 | 503 | "reset"

export interface Flaky {
  readonly reply: NonNullable<Options["reply"]>
  /** How often each call was sent whose path begins so. */
  readonly sent: (prefix: string) => ReadonlyArray<number>
}

/** Once its faults are used up a call is answered. */
export const make = (faultsOf: (path: string) => ReadonlyArray<Fault>): Flaky => {
  const sent = new Map<string, number>()
  return {
    reply: ({ url = "" }) => {
      const before = sent.get(url) ?? 0
      sent.set(url, before + 1)
      const fault = faultsOf(url)[before]
      if (fault === undefined) return allIsWell
      return fault === "reset" ? fault : { status: fault }
    },
    sent: (prefix) => [...sent].filter(([path]) => path.startsWith(prefix)).map(([, times]) => times)
  }
}
