/** The contenders by the names they have in the tables. Each is loaded only in its own load process. */
import type { Contender } from "../Work.ts"

export interface Entry {
  readonly name: string
  readonly load: () => Promise<Contender>
}

export const reference = "undici.Pool(8).request"
export const millrace = "millrace, 8 slots"
export const fullStack = "millrace, full stack"
export const fullStackTraced = "millrace, traced stack"
export const effectStack = "effect's own stack"
export const cockatiel = "undici + cockatiel"
export const got = "got"
/** Who asks the servers that are measured. */
export const sockets = "a socket for each caller"

/** Clients without policies, but for one, which shows what a stack costs elsewhere. */
const clients: ReadonlyArray<Entry> = [
  { name: reference, load: async () => (await import("./UndiciPoolRequest.ts")).contender },
  { name: millrace, load: async () => (await import("./Millrace.ts")).contender },
  { name: "undici.Pool(8).dispatch", load: async () => (await import("./UndiciPoolDispatch.ts")).contender },
  { name: "8 undici.Client by dispatch", load: async () => (await import("./UndiciClients.ts")).contender },
  { name: cockatiel, load: async () => (await import("./Cockatiel.ts")).contender },
  { name: "effect undici, untraced", load: async () => (await import("./EffectUndici.ts")).untraced },
  { name: "effect undici", load: async () => (await import("./EffectUndici.ts")).traced },
  { name: "ky", load: async () => (await import("./Ky.ts")).contender },
  { name: got, load: async () => (await import("./Got.ts")).contender },
  { name: "axios", load: async () => (await import("./Axios.ts")).contender }
]

export const bare: ReadonlyArray<string> = clients.map(({ name }) => name)

export const contenders: ReadonlyArray<Entry> = [
  ...clients,
  { name: fullStack, load: async () => (await import("./Millrace.ts")).full },
  { name: fullStackTraced, load: async () => (await import("./Millrace.ts")).fullTraced },
  { name: effectStack, load: async () => (await import("./EffectStack.ts")).contender },
  { name: sockets, load: async () => (await import("./Sockets.ts")).contender }
]
