import { assert, describe, it } from "@effect/vitest"
import { Connector } from "@millrace/core"
import { FaultInjection } from "@millrace/core/testing"
import { Effect, Layer } from "effect"
import { stat } from "node:fs"
import { afterTurn } from "../../src/internal/afterTurn.ts"
import * as NodeHttpConnector from "../../src/NodeHttpConnector.ts"
import * as UndiciConnector from "../../src/UndiciConnector.ts"

describe("afterTurn", () => {
  it("comes after ticks and microtasks, and before any timer", async () => {
    const log: Array<string> = []
    // In a callback of the poll phase, as those of sockets are.
    await new Promise<void>((resolve) => {
      stat(".", () => {
        setTimeout(() => resolve(void log.push("timer")), 0)
        afterTurn(() => log.push("turn"))
        process.nextTick(() => log.push("tick"))
        queueMicrotask(() => log.push("microtask"))
      })
    })
    assert.deepStrictEqual(log, ["tick", "microtask", "turn", "timer"])
  })

  it.effect("is told by the connectors of Node, also through faults", () =>
    Effect.gen(function* () {
      for (const layer of [UndiciConnector.layer, NodeHttpConnector.layer]) {
        const faulty = Layer.provide(FaultInjection.layer({}), layer)
        for (const connector of [layer, faulty]) {
          const { afterTurn: told } = yield* Effect.provide(Connector.Connector, connector)
          assert.strictEqual(told, afterTurn)
        }
      }
    })
  )
})
