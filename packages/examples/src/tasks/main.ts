/** `npm run tasks`: the tasks service, until Ctrl-C. `--help` says the rest. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { ServerPool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as Fibers from "@millrace/node/Admin/Fibers"
import * as NodeListener from "@millrace/node/NodeListener"
import { Cause, Console, Effect, Exit, Layer, type Runtime } from "effect"
import * as Arguments from "./Arguments.ts"
import * as Logging from "./logging/Logging.ts"
import * as Settings from "./Settings.ts"
import * as Tasks from "./Tasks.ts"

/** Where it can be reached: as lines for people, or as one row of a log that machines read. */
const announce = Effect.fnUntraced(function* (pool: ServerPool.ServerPool, { logger }: Settings.Settings) {
  const [api = "", admin = ""] = yield* pool.list("name", "expose")
  const addresses = { api, docs: new URL("docs", api).href, admin }
  const text = logger.handler === "text" || (logger.handler === "auto" && process.stdout.isTTY)
  if (!text && logger.output_internal) return yield* Effect.annotateLogs(Effect.logInfo("The service runs"), addresses)
  for (const [name, url] of Object.entries(addresses)) yield* Console.log(`${name.padEnd(6)} ${url}`)
})

const serve = (file: string | undefined) =>
  Effect.gen(function* () {
    const settings = yield* Settings.read({ file })
    const service = Effect.gen(function* () {
      let runs = false
      yield* Effect.addFinalizer(() => (runs ? Effect.logInfo("The service has stopped") : Effect.void))
      const pool = yield* Layer.build(Tasks.layer(settings))
      yield* announce(yield* Effect.provide(ServerPool.ServerPool, pool), settings)
      runs = true
      yield* Effect.addFinalizer(() => Effect.logInfo("The service stops"))
      return yield* Effect.never
    })
    return yield* service.pipe(Effect.scoped, Fibers.named("main"), Effect.provide(Logging.layer(settings)))
  }).pipe(
    // A fault of the surroundings is told in words; a fault of the program with its stack.
    Effect.tapCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : Console.error(Cause.hasDies(cause) ? Cause.pretty(cause) : messageOf(Cause.squash(cause)))
    ),
    Effect.provide(Layer.mergeAll(UndiciConnector.layer, NodeListener.layer, Fibers.layer))
  )

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** To be told to stop is no failure. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)

/** Who reads the log may leave before the service does; tasks are worth more than lines about them. */
const outliveReaders = (): void => {
  process.stdout.once("error", ({ message }) => console.error(`Nobody reads the log any more: ${message}`))
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})
}

const command = Arguments.parse(process.argv.slice(2))
switch (command._tag) {
  case "Help":
    process.stdout.write(Arguments.usage)
    break
  case "Wrong":
    process.stderr.write(`${command.problem}\n\n${Arguments.usage}`)
    process.exitCode = 2
    break
  case "Serve":
    outliveReaders()
    NodeRuntime.runMain(serve(command.file), { disableErrorReporting: true, teardown })
}
