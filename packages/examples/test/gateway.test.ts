/** The gateway, as a person starts it. */
import { assert, describe, it } from "@effect/vitest"
import { execFile, spawn } from "node:child_process"
import { join } from "node:path"
import { text } from "node:stream/consumers"

const main = join(import.meta.dirname, "../src/gateway/main.ts")

const limit = 30_000

/** Ports that the system chooses: those of the file may be taken. */
const env = { ...process.env, HTTP_SERVERS_0_BIND: "127.0.0.1:0", HTTP_SERVERS_1_BIND: "127.0.0.1:0" }

describe.concurrent("gateway", () => {
  it("checks itself, and ends", { timeout: limit + 10_000 }, async () => {
    const { failure, stderr, stdout } = await new Promise<Record<"failure" | "stderr" | "stdout", string>>((resolve) =>
      execFile(
        process.execPath,
        [main, "--once"],
        { env, timeout: limit, killSignal: "SIGKILL" },
        (error, stdout, stderr) => {
          resolve({ failure: error?.message ?? "", stdout, stderr })
        }
      )
    )
    assert.strictEqual(failure, "", stdout)
    assert.strictEqual(stderr, "")
    assert.include(stdout, "requests were answered as they should be")
    assert.match(stdout, /stopped\n$/)
  })

  it("runs until Ctrl-C, and stops in order", { timeout: limit + 10_000 }, async () => {
    const child = spawn(process.execPath, [main], { env, stdio: ["ignore", "pipe", "pipe"] })
    const guard = setTimeout(() => child.kill("SIGKILL"), limit)
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
    const errors = text(child.stderr)
    let output = ""
    for await (const chunk of child.stdout.setEncoding("utf8")) {
      output += String(chunk)
      if (String(chunk).includes("Ctrl-C")) child.kill("SIGINT")
    }
    // 130: ended by the interrupt, as a shell expects it.
    assert.strictEqual(await ended, 130, output)
    clearTimeout(guard)
    assert.strictEqual(await errors, "")
    assert.match(output, /public +https:/)
    assert.match(output, /stopped\n$/)
  })
})
