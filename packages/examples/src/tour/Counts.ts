/**
 * How often each of some names was seen, in the order of their first appearance.
 */
export type Counts = Readonly<Record<string, number>>

/** Counts as they grow. */
export interface Tally {
  readonly add: (name: string) => void
  readonly counts: () => Counts
}

export const tally = (names: ReadonlyArray<string> = []): Tally => {
  const seen = new Map<string, number>(names.map((name) => [name, 0]))
  return {
    add: (name) => void seen.set(name, (seen.get(name) ?? 0) + 1),
    counts: () => Object.fromEntries(seen)
  }
}

export const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((sum, n) => sum + n, 0)

export const total = (counts: Counts): number => sum(Object.values(counts))

/** `NaN` of none. */
export const median = (numbers: ReadonlyArray<number>): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN

/** What was added between two readings. */
export const since = (before: Counts, now: Counts): Counts =>
  Object.fromEntries(Object.entries(now).map(([name, n]) => [name, n - (before[name] ?? 0)]))
