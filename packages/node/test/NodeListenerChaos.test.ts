/**
 * The figure of the design: replacing what stands behind an accepting socket, under load, loses nothing.
 *
 * Node's agent is as hard a judge as there is: it sends the next request in the tick in which the last answer ended.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Backend } from "@millrace/core/server/Listener"
import { Effect } from "effect"
import { type Report, startCallers } from "./fixtures/callers.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { echoAs, eventually, plain, replace, serving, tlsOf } from "./fixtures/listener.ts"

const callersOfEachKind = 64

/** Calls until its scope closes. */
const calling = (port: number, ca: string | undefined) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const worker = startCallers({ ca, callers: 2 * callersOfEachKind, port })
      const load: Report = { answered: 0, connections: 0, failures: [], wrong: 0 }
      worker.on("message", (report: Report) => Object.assign(load, report))
      const exited = new Promise((resolve) => worker.once("exit", resolve))
      const stop = Effect.promise(() => {
        worker.postMessage("stop")
        return exited
      })
      return { load, stop }
    }),
    ({ stop }) => stop
  )

const churn = (secure: boolean) =>
  Effect.gen(function* () {
    const certificates = [selfSigned("localhost"), selfSigned("localhost")]
    const settings = { ...plain, tls: secure ? tlsOf(certificates[0]!) : undefined }
    const { acceptor, backend, port } = yield* serving(echoAs("start"), settings)
    let current: Backend = backend
    let requests = 0
    let cut = 0
    let longest = 0
    const ca = secure ? certificates[0]!.cert : undefined
    const { load, stop } = yield* calling(port, ca)
    const more = (count: number) =>
      Effect.suspend(() => {
        const before = load.answered
        return eventually(() => load.answered >= before + count || load.failures.length > 0)
      })
    yield* more(100)
    for (let i = 0; i < 100; i++) {
      yield* current.handle(echoAs(`handler ${i}`))
      yield* more(5)
    }
    for (let i = 0; i < 40; i++) {
      const old = current
      current = yield* replace(acceptor, echoAs(`server ${i}`), settings)
      const start = performance.now()
      const { connections } = yield* old.drain(10_000)
      longest = Math.max(longest, performance.now() - start)
      cut += connections
      requests += old.counts().requests
      assert.strictEqual(old.counts().connections, 0)
      yield* more(20)
      // The same names and key: what a renewal does.
      if (secure) yield* current.secure(tlsOf(certificates[0]!))
    }
    yield* stop
    yield* eventually(() => current.counts().active === 0)
    requests += current.counts().requests
    assert.deepStrictEqual(load.failures, [])
    assert.strictEqual(load.wrong, 0)
    assert.strictEqual(cut, 0)
    assert.strictEqual(requests, load.answered)
    assert.isBelow(longest, 500)
    // Callers that keep their connection do keep it between two replacements.
    assert.isAtMost(load.connections, callersOfEachKind * 42)
  })

describe("100 handler swaps and 40 server replacements under 128 callers who never retry", () => {
  it.live(
    "HTTP: every request is answered, none by the wrong answer, and no connection is reset",
    () => churn(false),
    60_000
  )

  it.live("HTTPS, with 40 renewed certificates: the same", () => churn(true), 60_000)
})
