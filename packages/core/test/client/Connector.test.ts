import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpClientResponse } from "effect/http"
import * as Connector from "../../src/client/Connector.ts"
import * as Pool from "../../src/client/Pool.ts"
import { text } from "../fixtures/pools.ts"

describe("Connector", () => {
  it.effect("of a plain function is enough for a pool", () =>
    Effect.gen(function* () {
      const pool = yield* Pool.Pool
      const seen: Array<string> = []
      for (let i = 0; i < 4; i++) seen.push(yield* text(pool.client.get("/path")))
      assert.deepStrictEqual(seen, [
        "http://test.local slot 0",
        "http://test.local slot 1",
        "http://test.local slot 2",
        "http://test.local slot 0"
      ])
    }).pipe(
      Effect.provide(
        Pool.layer({ baseUrl: "http://test.local", size: 3 }).pipe(
          Layer.provide(
            Connector.layerFunction((request, { origin, slot }) =>
              Effect.succeed(HttpClientResponse.fromWeb(request, new Response(`${origin} slot ${slot}`)))
            )
          )
        )
      )
    )
  )

  it("a failure to play is an error that a function can fail with", () => {
    const failure: Connector.Failure = { _tag: "Broken", cause: "test" }
    const error = new Connector.TransportError({ failure })
    assert.instanceOf(error, Error)
    assert.strictEqual(error._tag, "TransportError")
    assert.strictEqual(error.failure, failure)
  })
})
