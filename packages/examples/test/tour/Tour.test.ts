import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { acts, broken, toJson } from "../../src/tour/Tour.ts"

const main = fileURLToPath(new URL("../../src/tour/main.ts", import.meta.url))
const bound = 30_000

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs the tour as a process of its own. `onStderr` may end it; the bound does in any case. */
const run = (args: ReadonlyArray<string>, onStderr?: (kill: (signal: NodeJS.Signals) => void) => void) =>
  new Promise<Ended>((resolve, reject) => {
    const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"], timeout: bound })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
    if (onStderr !== undefined) child.stderr.once("data", () => onStderr((signal) => child.kill(signal)))
    child.once("error", reject)
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }))
  })

const sum = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0)

describe("Tour", () => {
  it("names the claims that do not hold", () => {
    const claim = (text: string, holds: boolean) => ({ text, holds, seen: "1" })
    const played = acts.map((act, i) => ({
      act,
      millis: 10,
      outcome: { tables: [], claims: [claim("a", true), claim("b", i !== 1)], figures: { i } }
    }))
    assert.deepStrictEqual(broken(played), [claim("b", false)])
    const json = toJson(played)
    assert.isFalse(json.ok)
    assert.strictEqual(json.millis, 10 * acts.length)
    assert.deepStrictEqual(
      json.acts.map(({ figures, ok }) => ({ figures, ok })),
      acts.map((_, i) => ({ figures: { i }, ok: i !== 1 }))
    )
  })

  it("keeps its promises", { timeout: bound + 5000 }, async () => {
    const { code, stderr, stdout } = await run(["--json"])
    assert.strictEqual(code, 0, stderr)
    assert.include(stderr, "... spread:")
    const tour = JSON.parse(stdout)
    assert.isTrue(tour.ok)
    assert.isBelow(tour.millis, 20_000)
    const [spread, death, join, retries, limit, breaker, token] = tour.acts
    assert.deepStrictEqual(
      tour.acts.map((act: { readonly key: string }) => act.key),
      ["spread", "death", "join", "retries", "limit", "breaker", "token"]
    )

    const [single, peer, ours] = spread.figures.contenders
    assert.deepStrictEqual(single.loads.sequential.perInstance, { ash: 200, elm: 0, fir: 0, oak: 0 })
    assert.deepStrictEqual(ours.loads.sequential.perInstance, { ash: 50, elm: 50, fir: 50, oak: 50 })
    for (const load of Object.values(ours.loads) as Array<{ readonly connections: number }>) {
      assert.strictEqual(load.connections, 8)
    }
    assert.strictEqual(sum(peer.loads.concurrent.perInstance), 2000)

    const [, , { busy, idle }] = death.figures.contenders
    assert.deepStrictEqual(
      { answered: idle.answered, dead: idle.deadConnections, errors: idle.errors, resent: idle.resent },
      { answered: 200, dead: 2, errors: {}, resent: 2 }
    )
    assert.strictEqual(busy.answered + sum(busy.errors), 640)

    const reached = join.figures.contenders.map((row: { readonly reachedAfter: number | null }) => row.reachedAfter)
    assert.strictEqual(reached[0], null)
    assert.isAtMost(reached[3], join.figures.bound)

    const { get, post } = retries.figures.with.kinds
    assert.deepStrictEqual(
      { ok: get.ok, sent: get.sent, extraLoad: retries.figures.extraLoad, posts: post.sent },
      { ok: 300, sent: 378, extraLoad: 0.26, posts: 100 }
    )
    const [unlimited, limited] = limit.figures.clients
    assert.deepStrictEqual(limited.statuses, { 200: 360 })
    assert.isAbove(unlimited.upstream.refused, 0)
    const [unbroken, broken] = breaker.figures.clients
    assert.strictEqual(unbroken.outage.reached, 300)
    assert.strictEqual(broken.recovery.reached, 1)
    assert.isAbove(breaker.figures.spared, 0.9)
    assert.strictEqual(token.figures.tokenRequests, 5)
  })

  it("ends at once when it is interrupted", { timeout: bound + 5000 }, async () => {
    const { code, stderr } = await run([], (kill) => kill("SIGINT"))
    assert.strictEqual(code, 130)
    assert.isBelow(stderr.split("\n").length, 5)
  })

  it("says all that is wrong with its arguments", { timeout: bound }, async () => {
    const { code, stderr, stdout } = await run(["--slots", "0", "--quick"])
    assert.strictEqual(code, 2)
    assert.strictEqual(stdout, "")
    assert.include(stderr, "--quick is not an option")
    assert.include(stderr, "--slots must be")
  })
})
