/** The servers and proxies by the names they have in the tables. Each is loaded only in its own process. */
import type { Subject } from "./Subject.ts"

export interface Entry {
  readonly name: string
  readonly load: () => Promise<Subject>
}

export const effectServer = "effect NodeHttpServer"
export const pooled = "millrace server pool"
export const nodeServer = "node:http"

/** What a proxy adds is told beside it: the upstream itself. */
export const direct = "direct, without a proxy"
export const proxy = "millrace proxy"
export const httpProxy = "http-proxy"
export const fastProxy = "fast-proxy, by undici"
export const nginx = "nginx, 1 worker"
export const haproxy = "haproxy, 1 thread"

/** Sends and takes bodies of any size: what streams go to. */
export const streamUpstream = "the upstream of streams"

export const subjects: ReadonlyArray<Entry> = [
  { name: effectServer, load: async () => (await import("./EffectServer.ts")).subject },
  { name: pooled, load: async () => (await import("./Pooled.ts")).subject },
  { name: nodeServer, load: async () => (await import("./NodeServer.ts")).subject },
  { name: proxy, load: async () => (await import("./MillraceProxy.ts")).subject },
  { name: httpProxy, load: async () => (await import("./HttpProxy.ts")).subject },
  { name: fastProxy, load: async () => (await import("./FastProxy.ts")).subject },
  { name: nginx, load: async () => (await import("./Nginx.ts")).subject },
  { name: haproxy, load: async () => (await import("./HAProxy.ts")).subject },
  { name: streamUpstream, load: async () => (await import("./StreamUpstream.ts")).subject }
]
