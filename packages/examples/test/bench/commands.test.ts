/** The benchmark and the soak as a user starts them, shortened. */
import { describe, expect, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const run = (file: string, ...args: ReadonlyArray<string>): Promise<Ended> =>
  new Promise((resolve) => {
    const script = fileURLToPath(new URL(`../../src/bench/${file}`, import.meta.url))
    execFile(process.execPath, [script, ...args], { timeout: 100_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr })
    })
  })

describe("npm run bench", () => {
  it(
    "--quick --only prints one scenario as JSON, keeps its tables, and does not judge",
    { timeout: 60_000 },
    async () => {
      const page = join(await mkdtemp(join(tmpdir(), "millrace-bench-")), "page.md")
      const only = ["--only", "^(post-64|memory-waiting)$"]
      const { code, stdout, stderr } = await run("main.ts", "--quick", "--json", ...only, "--save", page)
      expect(stderr).toBe("")
      expect(code).toBe(0)
      const kept = await readFile(page, "utf8")
      await rm(dirname(page), { recursive: true })
      expect(kept).toMatch(/^# The benchmark\n/)
      expect(kept).toContain("POST 1 KiB, 64 callers")
      expect(kept).toMatch(/Not judged: a quick run.\n```\n$/)
      const report = JSON.parse(stdout)
      expect(report).toMatchObject({
        judged: false,
        machine: { node: process.version },
        scenarios: [{ id: "post-64", callers: 64 }]
      })
      for (const row of report.scenarios[0].rows) {
        expect(row.perSecond.median, row.contender).toBeGreaterThan(100)
        expect(row.ratio.median, row.contender).toBeGreaterThan(0)
        expect(row.p99).toBeNull()
      }
      expect(report.checks.map(({ id }: { readonly id: string }) => id)).toEqual(["post-64", "memory-waiting"])
      expect(report.checks[1].value).toBeGreaterThan(100)
    }
  )

  it("measures servers, proxies and streams too", { timeout: 120_000 }, async () => {
    const only = "^(server|proxy-latency|proxy-stream up|memory-server)$"
    const { code, stdout, stderr } = await run("main.ts", "--quick", "--json", "--only", only)
    expect(stderr).toBe("")
    expect(code).toBe(0)
    const report = JSON.parse(stdout)
    expect(report.scenarios).toMatchObject([{ id: "server" }, { id: "proxy-latency" }])
    const [servers, latencies] = report.scenarios
    expect(servers.rows).toHaveLength(3)
    for (const row of servers.rows) expect(row.perSecond.median, row.contender).toBeGreaterThan(100)
    // Those of npm are there, and ours; the programs are a machine's own.
    expect(latencies.rows.length + latencies.missing.length).toBe(6)
    for (const name of latencies.missing) expect(name).toMatch(/^(nginx|haproxy)/)
    for (const row of latencies.rows) expect(row.p50.median, row.contender).toBeGreaterThan(0)
    const [uploads] = report.streams
    expect(uploads).toMatchObject({ id: "proxy-stream up", bytes: 2 ** 26 })
    for (const row of uploads.rows) expect(row.mebibytesPerSecond, row.contender).toBeGreaterThan(0)
    expect(uploads.rows[0].growth).toBeGreaterThanOrEqual(0)
    const bytes = report.checks.find(({ id }: { readonly id: string }) => id === "memory-server").value
    expect(bytes).toBeGreaterThan(1000)
  })

  it("says when its tables cannot be kept", { timeout: 60_000 }, async () => {
    const nowhere = join(tmpdir(), "no-such-folder", "page.md")
    const { code, stderr, stdout } = await run("main.ts", "--quick", "--only", "^policy-auth$", "--save", nowhere)
    expect(code).toBe(1)
    expect(stderr).toContain("no-such-folder")
    expect(stdout).toContain("policy-auth")
  })

  it("says what there is when nothing matches", { timeout: 60_000 }, async () => {
    const { code, stderr } = await run("main.ts", "--only", "nothing-like-it")
    expect(code).toBe(2)
    expect(stderr).toContain("get-64")
  })
})

describe("npm run soak", () => {
  it("holds for a few seconds", { timeout: 60_000 }, async () => {
    const { code, stdout, stderr } = await run(
      "soak.ts",
      ...["--minutes", "0.05", "--callers", "64", "--slots", "8", "--seed", "1", "--json"]
    )
    const report = JSON.parse(stdout)
    expect(report.failures, stderr).toEqual([])
    expect(code).toBe(0)
    expect(report).toMatchObject({ ok: true, seed: 1, callers: 64 })
    expect(report.requests).toBeGreaterThan(64)
    expect(report.outcomes["200"]).toBeGreaterThan(0)
  })
})
