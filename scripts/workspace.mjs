// What the scripts share: where things are, how a tool is started, how the workspace is installed.
// Plain JavaScript without dependencies: it runs on Node 20, before anything is installed.

import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
export const cache = join(root, "node_modules", ".cache", "millrace")

const pnpm = "pnpm@12.21.0"
const windows = process.platform === "win32"
const stamp = join(root, "node_modules", ".millrace-installed")

/** The repository's own Node 24; the one that runs this script may be older. */
export const node = join(root, "node_modules", "node", "bin", windows ? "node.exe" : "node")

/** The environment in which tools run: the repository's Node and commands come first. */
const environment = () => {
  const env = { ...process.env }
  const key = Object.keys(env).find((name) => name.toUpperCase() === "PATH") ?? "PATH"
  env[key] = [join(root, "node_modules", ".bin"), dirname(node), env[key] ?? ""].join(delimiter)
  return env
}

/** The script behind a command of a root dev dependency, so that it runs on our Node without a shell. */
export const tool = (packageName, command = packageName) => {
  const folder = join(root, "node_modules", packageName)
  const { bin } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
  return join(folder, typeof bin === "string" ? bin : bin[command])
}

/** The names of the folders in packages/ that hold a package. */
export const packages = () =>
  readdirSync(join(root, "packages")).filter((name) => existsSync(join(root, "packages", name, "package.json")))

/**
 * Starts a command and waits for it. Signals reach the child: from a terminal by its process group, else they are
 * handed on. Gives the exit code, or ends this process by the signal that ended the child.
 */
export const run = (command, args, options = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: environment(), stdio: "inherit", ...options })
    const handOn = (signal) => {
      if (signal === "SIGINT" && process.stdin.isTTY) return
      child.kill(signal)
    }
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"]
    for (const signal of signals) process.on(signal, handOn)
    const done = () => {
      for (const signal of signals) process.off(signal, handOn)
    }
    child.once("error", (error) => {
      done()
      reject(error)
    })
    child.once("close", (code, signal) => {
      done()
      if (signal) process.kill(process.pid, signal)
      else resolve(code ?? 1)
    })
  })

/** Runs a command and keeps what it prints: `output` is all of it, `stdout` that part alone. */
export const capture = (command, args, options = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: environment(), stdio: ["ignore", "pipe", "pipe"], ...options })
    let output = ""
    let stdout = ""
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text
      output += text
    })
    child.stderr.setEncoding("utf8").on("data", (text) => (output += text))
    child.once("error", reject)
    child.once("close", (code, signal) =>
      resolve({ code: code ?? 1, output: signal ? `${output}\nended by ${signal}` : output, stdout })
    )
  })

/** The pinned pnpm, fetched by npx: nobody needs one of their own. Its arguments hold no shell syntax. */
export const pnpmCommand = (args) => ({
  command: windows ? "npx.cmd" : "npx",
  args: ["--yes", "--loglevel=error", pnpm, ...args],
  options: { shell: windows }
})

const fingerprint = () => {
  const hash = createHash("sha256").update(pnpm)
  const files = [
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "package.json",
    ...packages().map((name) => join("packages", name, "package.json"))
  ]
  for (const file of files) {
    const path = join(root, file)
    hash.update(`\0${file}\0`).update(existsSync(path) ? readFileSync(path) : "")
  }
  return hash.digest("hex")
}

const installed = () => existsSync(node) && existsSync(stamp) && readFileSync(stamp, "utf8") === fingerprint()

/** Installs the workspace unless nothing changed since the last time. Everything it prints goes to stderr. */
export const install = async () => {
  if (installed()) return
  process.stderr.write("millrace: installing what is missing (the first time takes a minute)\n")
  // pnpm believes its own records: after an interrupted installation only --force brings a missing Node back.
  const repair = existsSync(join(root, "node_modules")) && !existsSync(node) ? ["--force"] : []
  const { command, args, options } = pnpmCommand(["install", ...repair])
  // On the caller's Node and PATH: an installation may replace the Node in node_modules.
  const code = await run(command, args, { ...options, env: process.env, stdio: ["ignore", 2, 2] })
  if (code !== 0 || !existsSync(node)) {
    process.stderr.write(`millrace: the installation failed (exit code ${code}); what pnpm said stands above\n`)
    process.exit(code || 1)
  }
  writeFileSync(stamp, fingerprint())
}
