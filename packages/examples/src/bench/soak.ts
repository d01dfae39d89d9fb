/**
 * The soak: `npm run soak`. One pool, hundreds of callers, and a world (soak/world.ts) in which instances die and come
 * back and answers fail in every way. It holds when at the end
 *
 * - every request has ended, in a response or a `PoolError`, and every caller has come home,
 * - every slot is free and works: as many sequential requests as there are slots use each slot once,
 * - heap and sockets stayed flat, and nothing is open when the pool is closed,
 * - the process heard of no unhandled rejection, no uncaught exception, no warning.
 *
 * The pool lives in this process, its world in another, so that heap and sockets counted here are the pool's.
 */
import { Pool, type PoolConfig } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { performance } from "node:perf_hooks"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Child from "./Child.ts"
import { type Command, parse, usage } from "./soak/Arguments.ts"
import { callers, tally } from "./soak/Callers.ts"
import { heapAllowance, heapGrowth, type Sample, troubles } from "./soak/Checks.ts"
import { make as makeRandom } from "./soak/Random.ts"
import type { WorldArguments, WorldQuestion, WorldReport } from "./soak/world.ts"

// Has the effect of `--expose-gc` without a second process.
setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)

/** Several turns: finalizers and weak references come one after the other. */
const collectAll = Effect.gen(function* () {
  for (let i = 0; i < 3; i++) {
    collect()
    yield* Effect.sleep(10)
  }
})

/** Looks again, garbage collected, until nothing is wrong any more or the time is up; gives what is wrong then. */
const settles = (problem: Effect.Effect<string | undefined>, millis: number): Effect.Effect<string | undefined> =>
  Effect.gen(function* () {
    const until = performance.now() + millis
    while (true) {
      yield* collectAll
      const found = yield* problem
      if (found === undefined || performance.now() > until) return found
      yield* Effect.sleep(100)
    }
  })

const poolOptions = (port: number, size: number): PoolConfig.Options => ({
  baseUrl: `http://127.0.0.1:${port}`,
  size,
  dialTimeout: "1 second",
  responseHeaderTimeout: "2 seconds",
  bodyIdleTimeout: "1 second",
  requestTimeout: "20 seconds",
  acquireTimeout: "10 seconds",
  maxConnectionAge: "5 seconds",
  drainTimeout: "5 seconds",
  ejection: { base: "100 millis", max: "1 second" }
})

type Log = (line: string) => void

type Options = Extract<Command, { readonly _tag: "Soak" }>

/** Puts the pool under load, then looks whether it is whole. Gives the reasons why it is not. */
const underLoad = (options: Options, world: Child.Child, port: number, heard: ReadonlyArray<string>, log: Log) =>
  Effect.gen(function* () {
    const { callers: count, size } = options
    const failures: Array<string> = []
    const samples: Array<Sample> = []
    const ask = (question: WorldQuestion) =>
      Effect.map(world.ask<{ readonly report: WorldReport }>(question), ({ report }) => report)

    const pool = yield* Pool.make(poolOptions(port, size))
    const to = tally()
    const begin = performance.now()
    const end = begin + options.minutes * 60_000
    const load = callers(pool, {
      callers: count,
      random: makeRandom(options.seed),
      tally: to,
      running: () => performance.now() < end
    })
    const fiber = yield* Effect.forkScoped(load)

    // ---------------------------------------------------------------- during the load

    const interval = Math.min(10_000, (options.minutes * 60_000) / 6)
    let endedBefore = 0
    for (let next = begin + interval; next <= end; next += interval) {
      // The last look is a little before the end, while all callers are still at it.
      yield* Effect.sleep(Math.max(0, next - performance.now() - 50))
      yield* collectAll
      const callersNow = to.started - to.ended
      const { active, waiting } = yield* pool.stats
      const { connections, deaths } = yield* ask({ _tag: "Report" })
      const sample: Sample = {
        seconds: (performance.now() - begin) / 1000,
        heap: process.memoryUsage().heapUsed,
        sockets: sockets(),
        connections,
        active,
        waiting,
        callers: callersNow
      }
      samples.push(sample)
      log(
        `${sample.seconds.toFixed(0).padStart(5)} s ${String(to.ended - endedBefore).padStart(8)} requests ` +
          `${mebibytes(sample.heap).padStart(7)} MiB ${String(sample.sockets).padStart(4)} sockets ` +
          `${String(active).padStart(4)} active ${String(waiting).padStart(4)} waiting ${String(deaths).padStart(4)} deaths ` +
          `${to.outcomes["unexpected"] ?? 0} unexpected`
      )
      if (to.ended === endedBefore) failures.push(`no request ended in the ${interval / 1000} s before`)
      endedBefore = to.ended
      if (performance.now() < end) failures.push(...troubles(sample, options))
      if (failures.length + heard.length > 0) break
    }

    // ---------------------------------------------------------------- after it

    const home = failures.length > 0 ? Option.none() : yield* Effect.timeoutOption(Fiber.await(fiber), "30 seconds")
    if (Option.isNone(home)) {
      failures.push(`${to.started - to.ended} requests had not ended when the run was over`)
      yield* Fiber.interrupt(fiber)
    }
    if (to.started !== to.ended) failures.push(`${to.started} requests started, ${to.ended} ended`)
    for (const text of to.unexpected) failures.push(`unexpected: ${text}`)

    const { deaths, answers } = yield* ask({ _tag: "Calm" })
    const unrest = Effect.gen(function* () {
      const { active, waiting } = yield* pool.stats
      if (active + waiting > 0) return `${active} requests are active and ${waiting} wait after the end of the load`
      const states = yield* Effect.forEach(pool.slots, (slot) => slot.stats)
      const busy = states.flatMap(({ state }, index) => (state === "free" ? [] : [`${index} ${state}`]))
      return busy.length === 0 ? undefined : `slots are not free: ${busy.join(", ")}`
    })
    const lost = yield* settles(unrest, 15_000)
    if (lost !== undefined) failures.push(lost)
    else {
      const probe = Effect.gen(function* () {
        const before = yield* Effect.forEach(pool.slots, (slot) => slot.stats)
        for (let i = 0; i < size; i++) {
          const response = yield* pool.client.get(`/probe/${i}`)
          yield* response.text
        }
        const after = yield* Effect.forEach(pool.slots, (slot) => slot.stats)
        return after.flatMap(({ requests }, index) => (requests - before[index]!.requests === 1 ? [] : [index]))
      })
      const probed = yield* Effect.exit(probe)
      if (probed._tag === "Failure") failures.push(`a probe failed: ${String(probed.cause)}`)
      else if (probed.value.length > 0)
        failures.push(`${size} probes should use each slot once; these they did not: ${probed.value.join(", ")}`)
    }
    const grown = heapGrowth(samples)
    const allowed = heapAllowance(samples)
    if (grown > allowed) failures.push(`the heap grew by ${mebibytes(grown)} MiB, ${mebibytes(allowed)} are allowed`)
    const stats = yield* pool.stats
    return { failures, samples, outcomes: to.outcomes, requests: to.ended, heapGrowth: grown, deaths, answers, stats }
  }).pipe(Effect.scoped, Effect.provide(UndiciConnector.layer))

const soak = (options: Options) =>
  Effect.gen(function* () {
    const log: Log = (line) => void (options.json ? process.stderr : process.stdout).write(`${line}\n`)
    const heard: Array<string> = []
    process.on("unhandledRejection", (reason) => heard.push(`unhandled rejection: ${String(reason)}`))
    process.on("uncaughtException", (error) => heard.push(`uncaught exception: ${error.stack}`))
    process.on("warning", (warning) => heard.push(`warning: ${warning.message}`))

    const { minutes, callers, size, seed } = options
    log(`Soak: ${minutes} min, ${callers} callers, ${size} slots, seed ${seed}, Node ${process.version}`)
    const socketsBefore = sockets()
    const args: WorldArguments = { seed, instances: 4 }
    const world = yield* Child.start("the world", new URL("./soak/world.ts", import.meta.url), {
      args: [JSON.stringify(args)]
    })
    const { port } = yield* world.next<{ readonly port: number }>()
    const result = yield* underLoad(options, world, port, heard, log)

    const failures = [...result.failures]
    const open = Effect.sync(() => {
      const left = sockets() - socketsBefore
      return left > 0 ? `${left} sockets are open after the pool was closed` : undefined
    })
    const leftOpen = yield* settles(open, 2000)
    if (leftOpen !== undefined) failures.push(leftOpen)
    failures.push(...heard)

    const outcomes = Object.entries(result.outcomes).sort(([, a], [, b]) => b - a)
    for (const [name, count] of outcomes) log(`  ${String(count).padStart(9)}  ${name}`)
    for (const failure of failures) log(`FAILED: ${failure}`)
    log(failures.length === 0 ? `Held: ${result.requests} requests, nothing lost.` : "The soak failed.")
    if (options.json) {
      process.stdout.write(
        `${JSON.stringify({ ...options, ok: failures.length === 0, ...result, failures }, null, 2)}\n`
      )
    }
    return failures.length === 0 ? 0 : 1
  }).pipe(
    Effect.scoped,
    Effect.catchTags({
      ChildError: ({ message }) => Effect.sync(() => (process.stderr.write(`The soak broke off: ${message}\n`), 1)),
      ConfigError: ({ message }) => Effect.sync(() => (process.stderr.write(`${message}\n`), 1))
    })
  )

const command = parse(process.argv.slice(2))
switch (command._tag) {
  case "Help":
    process.stdout.write(usage)
    break
  case "Wrong":
    process.stderr.write(`${command.problems.join("\n")}\n\n${usage}`)
    process.exitCode = 2
    break
  case "Soak":
    NodeRuntime.runMain(Effect.map(soak(command), (code) => void (process.exitCode = code)))
}
