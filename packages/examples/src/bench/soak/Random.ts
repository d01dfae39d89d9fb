/** Chance that can be repeated: a small generator with a seed (mulberry32). */

/** The next number, from 0 up to but not including 1. */
export type Random = () => number

export const make = (seed: number): Random => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A whole number from `min` to `max`. */
export const between = (random: Random, min: number, max: number): number =>
  min + Math.floor(random() * (max - min + 1))

/** One of the names, as often as its weight says. */
export const weighted = <Name extends string>(random: Random, weights: { readonly [K in Name]: number }): Name => {
  const entries = Object.entries(weights) as Array<[Name, number]>
  let rest = random() * entries.reduce((sum, [, weight]) => sum + weight, 0)
  for (const [name, weight] of entries) {
    rest -= weight
    if (rest < 0) return name
  }
  return entries[0]![0]
}
