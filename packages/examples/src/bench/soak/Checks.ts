/** What the soak watches, and when it is too much. */
import { median, slope } from "../Statistics.ts"

/** How things stand at one moment, after garbage collection. */
export interface Sample {
  readonly seconds: number
  readonly heap: number
  /** TCP sockets of the process that holds the pool. */
  readonly sockets: number
  /** Connections that the balancer has. */
  readonly connections: number
  readonly active: number
  readonly waiting: number
  readonly callers: number
}

const mebibyte = 1024 * 1024

/** What a run may add to the heap from its first third to its end, by the trend, before it counts as a leak. */
export const heapAllowance = (samples: ReadonlyArray<Sample>): number =>
  Math.max(4 * mebibyte, 0.1 * median(samples.map(({ heap }) => heap)))

/** The growth of the heap by its trend; the first third is left out, as code is still compiled and caches fill. */
export const heapGrowth = (samples: ReadonlyArray<Sample>): number => {
  const settled = samples.slice(Math.floor(samples.length / 3))
  const first = settled[0]
  const last = settled.at(-1)
  if (first === undefined || last === undefined || settled.length < 3) return 0
  return slope(settled.map(({ seconds, heap }) => [seconds, heap])) * (last.seconds - first.seconds)
}

/** Sockets that are being closed or opened while the sample is taken. */
const passing = 16

/** What is wrong with a moment in the middle of the run. */
export const troubles = (
  { sockets, callers, active, waiting }: Sample,
  of: { readonly size: number; readonly callers: number }
): ReadonlyArray<string> => {
  const found: Array<string> = []
  if (sockets > of.size + passing) found.push(`${sockets} sockets are open for ${of.size} slots`)
  if (callers !== of.callers) found.push(`${callers} of ${of.callers} callers are under way`)
  if (active > of.size) found.push(`${active} requests are active on ${of.size} slots`)
  if (waiting > of.callers) found.push(`${waiting} requests wait for ${of.callers} callers`)
  return found
}
