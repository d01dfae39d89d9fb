/**
 * A load process: contenders of one scenario, of which one works when it is told to.
 *
 * By default all contenders of a scenario share one load process, as clients share an application's: they take turns, at
 * any time one of them works and the others hold idle connections. With `--isolated` each has a process of its own, where
 * the code of none changes how the engine compiles what they have in common (streams, promises, undici itself).
 */
import { PerformanceObserver, performance } from "node:perf_hooks"
import { contenders } from "./contenders/index.ts"
import { drive, pace } from "./Drive.ts"
import { quantile } from "./Statistics.ts"
import { type Send, works, type WorkName } from "./Work.ts"

/** Who makes load, and where. */
export interface Contending {
  /** By which it is told to work. */
  readonly name: string
  /** The client. */
  readonly client: string
  readonly origin: string
}

/** What a load process is started with. */
export interface LoadArguments {
  readonly contenders: ReadonlyArray<Contending>
  readonly work: WorkName
  readonly callers: number
  /** Take the time of every request: for latencies, and for rates of few long requests. */
  readonly timed: boolean
  /** So many requests a second, rather than as many as so many callers can. */
  readonly pace: number | undefined
}

/** What it is asked. */
export interface LoadTurn {
  readonly contender: string
  readonly seconds: number
}

/** What it answers. */
export interface LoadResult {
  readonly requests: number
  readonly perSecond: number
  /** Milliseconds; `null` where requests are not timed. */
  readonly p50: number | null
  readonly p99: number | null
  /** Share of time in garbage collection. */
  readonly gc: number
  /** Microseconds of processor time, all threads, for one request: what other programs on the machine disturb least. */
  readonly cpuMicros: number
}

const run = async (args: LoadArguments): Promise<void> => {
  const work = works[args.work]
  const sends = new Map<string, Send>()
  for (const { client, name, origin } of args.contenders) {
    const entry = contenders.find((contender) => contender.name === client)
    if (entry === undefined) throw new Error(`no contender is called ${client}`)
    const contender = await entry.load()
    const prepare = await contender(origin)
    sends.set(name, prepare(work))
  }

  let collecting = 0
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) collecting += duration
  }).observe({ entryTypes: ["gc"] })

  const measure = async ({ contender, seconds }: LoadTurn): Promise<LoadResult> => {
    const send = sends.get(contender)
    if (send === undefined) throw new Error(`${contender} does not work here`)
    const latencies: Array<number> = []
    let running = true
    let requests = 0
    let last = 0
    collecting = 0
    const cpu = process.cpuUsage()
    const begin = performance.now()
    const load = {
      more: () => running,
      start: args.timed ? () => performance.now() : () => 0,
      end: args.timed
        ? (started: number) => {
            if (!running) return
            last = performance.now()
            latencies.push(last - started)
            requests++
          }
        : () => {
            requests++
          }
    }
    let result: LoadResult | undefined
    const timer = setTimeout(() => {
      running = false
      // Of few long requests, a part is under way when time is up: their rate ends at the last whole one.
      const used = process.cpuUsage(cpu)
      const elapsed = (args.timed ? last : performance.now()) - begin
      result = {
        requests,
        perSecond: (requests / elapsed) * 1000,
        p50: args.timed ? quantile(latencies, 0.5) : null,
        p99: args.timed ? quantile(latencies, 0.99) : null,
        gc: collecting / elapsed,
        cpuMicros: (used.user + used.system) / requests
      }
    }, seconds * 1000)
    try {
      if (args.pace === undefined) await drive(send, work, args.callers, load)
      else await pace(send, work, args.pace, load)
    } finally {
      clearTimeout(timer)
    }
    if (result === undefined) throw new Error("the callers stopped before the time was up")
    return result
  }

  process.on("message", (turn: LoadTurn) => {
    measure(turn).then(
      (result) => process.send?.({ _tag: "Measured", result }),
      (error: unknown) => process.send?.({ _tag: "Failed", message: String(error) })
    )
  })
  process.send?.({ _tag: "Ready" })
}

process.on("disconnect", () => process.exit())
await run(JSON.parse(process.argv[2] ?? "{}") as LoadArguments)
