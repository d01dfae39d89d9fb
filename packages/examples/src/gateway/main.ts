/** `npm run gateway`: runs until Ctrl-C; with `--once` it checks itself by a few requests and ends. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { UndiciConnector } from "@millrace/node"
import * as NodeListener from "@millrace/node/NodeListener"
import { ConfigProvider, Console, Effect, Layer } from "effect"
import { selfSigned } from "./Certificate.ts"
import * as Gateway from "./Gateway.ts"
import * as SelfCheck from "./SelfCheck.ts"

const certificate = selfSigned("localhost", "assets.localhost")

/** As if the environment had given the certificate, unless it does. */
const environment = ConfigProvider.fromEnvRecord({
  HTTP_SERVER_TLS_CERT: certificate.cert,
  HTTP_SERVER_TLS_KEY: certificate.key,
  ...Object.fromEntries(
    Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]]))
  )
})

const program = Effect.gen(function* () {
  yield* Effect.addFinalizer(() => Console.log("stopped"))
  const pool = yield* Gateway.start(certificate)
  if (process.argv.includes("--once")) return yield* SelfCheck.run(pool, certificate)
  yield* Console.log("runs until Ctrl-C")
  return yield* Effect.never
})

program.pipe(
  Effect.scoped,
  Effect.provide(Layer.merge(UndiciConnector.layer, NodeListener.layer)),
  Effect.provideService(ConfigProvider.ConfigProvider, environment),
  NodeRuntime.runMain
)
