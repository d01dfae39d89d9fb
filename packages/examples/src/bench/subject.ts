/**
 * A server that is measured, in a process of its own: tells its port, and what it has used of the machine since it was last
 * asked. With a program that is not ours, this process only starts it, asks the system for its processor time and ends it.
 */
import { PerformanceObserver, performance } from "node:perf_hooks"
import * as V8 from "node:v8"
import { subjects } from "./servers/index.ts"

export interface SubjectArguments {
  readonly name: string
  readonly upstream: string
}

export type Began =
  | { readonly _tag: "Listening"; readonly port: number }
  /** The program is not installed. */
  | { readonly _tag: "Missing" }

/** Since the last question. */
export interface Figures {
  /** Share of a core. */
  readonly busy: number
  /** Share of a core that went into staying awake. */
  readonly waiting: number
  /** Share of time in garbage collection. */
  readonly gc: number
}

/** Bytes: the most that was seen since the last question. */
export interface Memory {
  readonly heap: number
  readonly rss: number
}

export type Question = { readonly _tag: "Figures" } | { readonly _tag: "Memory" }

const watchEvery = 20

/** The most memory that was used at any moment; watched from the first question on. */
const watchMemory = (): (() => Memory) => {
  let most = { heap: 0, rss: 0 }
  const look = () => {
    most = {
      heap: Math.max(most.heap, V8.getHeapStatistics().used_heap_size),
      rss: Math.max(most.rss, process.memoryUsage.rss())
    }
  }
  setInterval(look, watchEvery).unref()
  return () => {
    look()
    const seen = most
    most = { heap: 0, rss: 0 }
    return seen
  }
}

const watchWork = (cpu: () => number): (() => Figures) => {
  let collecting = 0
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) collecting += duration
  }).observe({ entryTypes: ["gc"] })
  let since = { at: performance.now(), cpu: cpu() }
  return () => {
    const now = { at: performance.now(), cpu: cpu() }
    const elapsed = now.at - since.at
    const figures = { busy: (now.cpu - since.cpu) / 1000 / elapsed, waiting: 0, gc: collecting / elapsed }
    since = now
    collecting = 0
    return figures
  }
}

const ownCpu = (): number => {
  const { system, user } = process.cpuUsage()
  return system + user
}

const run = async ({ name, upstream }: SubjectArguments): Promise<Began> => {
  const entry = subjects.find((subject) => subject.name === name)
  if (entry === undefined) throw new Error(`no server is called ${name}`)
  const start = await entry.load()
  const running = await start(upstream)
  if (running === undefined) return { _tag: "Missing" }
  const figures = watchWork(running.cpu ?? ownCpu)
  let memory: (() => Memory) | undefined
  process.on("message", ({ _tag }: Question) => {
    if (_tag === "Figures") return process.send?.(figures())
    memory ??= watchMemory()
    return process.send?.(memory())
  })
  return { _tag: "Listening", port: running.port }
}

process.on("disconnect", () => process.exit())
// So that what is to be done at the exit is done.
process.on("SIGTERM", () => process.exit())
run(JSON.parse(process.argv[2] ?? "{}") as SubjectArguments).then(
  (began) => process.send?.(began),
  (error: unknown) => process.send?.({ _tag: "Failed", message: String(error) })
)
