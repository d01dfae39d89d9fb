/**
 * The contenders by the names they have in the table. Each is loaded only in its own load process.
 *
 * The rows with policies (retry, limiter, breaker) come with the policies of Millrace; `undici + cockatiel` is what they
 * will be held against and already shows here what such a stack costs elsewhere.
 */
import type { Contender } from "../Work.ts"

export interface Entry {
  readonly name: string
  readonly load: () => Promise<Contender>
}

export const reference = "undici.Pool(8).request"
export const millrace = "millrace, 8 slots"

export const contenders: ReadonlyArray<Entry> = [
  { name: reference, load: async () => (await import("./UndiciPoolRequest.ts")).contender },
  { name: millrace, load: async () => (await import("./Millrace.ts")).contender },
  { name: "undici.Pool(8).dispatch", load: async () => (await import("./UndiciPoolDispatch.ts")).contender },
  { name: "8 undici.Client by dispatch", load: async () => (await import("./UndiciClients.ts")).contender },
  { name: "undici + cockatiel", load: async () => (await import("./Cockatiel.ts")).contender },
  { name: "effect undici, untraced", load: async () => (await import("./EffectUndici.ts")).untraced },
  { name: "effect undici", load: async () => (await import("./EffectUndici.ts")).traced },
  { name: "ky", load: async () => (await import("./Ky.ts")).contender },
  { name: "got", load: async () => (await import("./Got.ts")).contender },
  { name: "axios", load: async () => (await import("./Axios.ts")).contender }
]
