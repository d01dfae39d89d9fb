/** Options from the environment and a YAML file; every mistake is reported at once. */
import { Pool, PoolConfig } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { ConfigProvider, Console, Effect, Layer } from "effect"
import { Yaml } from "effect/encoding"

const file = ConfigProvider.fromUnknown(Yaml.parse("httpClient:\n  size: 4\n  requestTimeout: 30s\n"))
const environment = ConfigProvider.fromEnvRecord({
  HTTP_CLIENT_SIZE: "2",
  HTTP_CLIENT_BASE_URL: "http://localhost:8080"
})
const broken = ConfigProvider.fromEnvRecord({ HTTP_CLIENT_SIZE: "many", HTTP_CLIENT_DIAL_TIMEOUT: "soon" })

const show = Effect.gen(function* () {
  const { baseUrl, requestTimeout, size } = yield* PoolConfig.fromConfig()
  yield* Console.log({ baseUrl: String(baseUrl), requestTimeout, size })
})

const program = Effect.gen(function* () {
  yield* Effect.provide(show, ConfigProvider.layer(ConfigProvider.orElse(environment, file)))
  const pool = Pool.layerFromConfig().pipe(
    Layer.provide(UndiciConnector.layer),
    Layer.provide(ConfigProvider.layer(broken))
  )
  const error = yield* Effect.flip(Effect.scoped(Layer.build(pool)))
  yield* Console.log(error.message)
})

await Effect.runPromise(program)
