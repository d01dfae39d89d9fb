/** Each upstream is a service of the application; its pool lives as long as the layer. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Context, Effect, Layer } from "effect"
import { server } from "./server.ts"

class Billing extends Context.Service<Billing, Pool.Pool>()("example/Billing") {
  static readonly layer = (baseUrl: string) => Layer.effect(this, Pool.make({ name: "billing", baseUrl, size: 2 }))
}

class Users extends Context.Service<Users, Pool.Pool>()("example/Users") {
  static readonly layer = (baseUrl: string) => Layer.effect(this, Pool.make({ name: "users", baseUrl, size: 4 }))
}

const report = Effect.gen(function* () {
  const user = yield* Effect.flatMap(Users, ({ client }) => client.get("/users/7"))
  const invoice = yield* Effect.flatMap(Billing, ({ client }) => client.get("/invoices/42"))
  yield* Console.log(yield* user.json, yield* invoice.json)
})

const program = Effect.gen(function* () {
  const origin = yield* server
  const pools = Layer.mergeAll(Billing.layer(origin), Users.layer(origin)).pipe(Layer.provide(UndiciConnector.layer))
  yield* Effect.provide(report, pools)
})

await Effect.runPromise(Effect.scoped(program))
