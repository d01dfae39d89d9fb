/**
 * The figure of the design: replacing what stands behind an accepting socket, under load, loses nothing.
 *
 * Callers POST and never retry; half of them keep their connection, half make a new one for each request. Node's agent is
 * as hard a judge as there is: it sends the next request in the tick in which the last answer ended.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Backend } from "@millrace/core/server/Listener"
import { Effect } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import { selfSigned } from "./fixtures/certificate.ts"
import { echoAs, eventually, plain, replace, serving, tlsOf } from "./fixtures/listener.ts"

const callersOfEachKind = 64

interface Load {
  answered: number
  /** Answers that were not the echo of what was sent. */
  wrong: number
  readonly failures: Array<unknown>
  /** Connections that were made by the callers who keep theirs. */
  connections: number
}

const post = (options: Https.RequestOptions, secure: boolean, body: string, load: Load) =>
  new Promise<string>((resolve, reject) => {
    const headers = { "content-length": body.length }
    const request = (secure ? Https : Http).request({ ...options, headers, method: "POST" }, (response) => {
      let text = ""
      response.on("data", (data: Buffer) => (text += data.toString()))
      response.on("end", () => resolve(text))
      response.on("error", reject)
    })
    request.on("socket", () => {
      if (options.agent !== false && !request.reusedSocket) load.connections++
    })
    request.on("error", reject)
    request.end(body)
  })

/** Calls until its scope closes. */
const calling = (port: number, ca: string | undefined) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const load: Load = { answered: 0, connections: 0, failures: [], wrong: 0 }
      let running = true
      const callers = Array.from({ length: 2 * callersOfEachKind }, async (_, index) => {
        const kind = { keepAlive: true, maxSockets: 1 }
        const agent = index % 2 === 1 ? false : ca === undefined ? new Http.Agent(kind) : new Https.Agent(kind)
        const options = { agent, ca, host: "127.0.0.1", port, servername: "localhost" }
        while (running) {
          const body = `${index}-${load.answered}`
          try {
            const answer = await post(options, ca !== undefined, body, load)
            load.answered++
            if (!answer.endsWith(`:${body}.`)) load.wrong++
          } catch (error) {
            load.failures.push(error)
          }
        }
        if (agent !== false) agent.destroy()
      })
      const stop = Effect.promise(() => {
        running = false
        return Promise.all(callers)
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
    return { ...load, longest }
  })

describe("100 handler swaps and 40 server replacements under 128 callers who never retry", () => {
  it.live(
    "HTTP: every request is answered, none by the wrong answer, and no connection is reset",
    () => churn(false),
    60_000
  )

  it.live("HTTPS, with 40 renewed certificates: the same", () => churn(true), 60_000)

  it.live("a stop under load ends within 100 ms, with 64 idle connections as well", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(echoAs("last"))
      const { load, stop } = yield* calling(port, undefined)
      yield* eventually(() => load.answered > 500)
      assert.deepStrictEqual(load.failures, [])
      yield* acceptor.close
      const start = performance.now()
      const stopping = yield* Effect.forkScoped(stop, { startImmediately: true })
      assert.deepStrictEqual(yield* backend.drain(10_000), { connections: 0, requests: 0 })
      const millis = performance.now() - start
      assert.isDefined(stopping)
      assert.isBelow(millis, 100)
    })
  )
})
