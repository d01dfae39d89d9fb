// Everything that is not a test. `npm run check` runs all, `npm run check -- lint format` runs those two.
// One line for each check as it ends; then, in full, the output of those that failed.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join, relative } from "node:path"
import { pack } from "./pack.mjs"
import { capture, node, packages, root, tool } from "./workspace.mjs"

/** A check gives `{ code, output }`; `skipped` in it says why there was nothing to do. */
const command =
  (script, ...args) =>
  () =>
    capture(node, [script, ...args])

const worst = (results) => ({
  code: Math.max(0, ...results.map((result) => result.code)),
  output: results
    .filter((result) => result.code !== 0)
    .map((result) => result.output)
    .join("\n")
})

const problems = (list) => ({ code: list.length === 0 ? 0 : 1, output: list.join("\n") })

const git = (...args) => capture("git", args)

const effect = async () => {
  const projects = [...packages().map((name) => `packages/${name}/tsconfig.json`), "tsconfig.tests.json"]
  const found = new Set()
  let code = 0
  for (const project of projects) {
    const args = ["diagnostics", "--project", project, "--format", "text", "--strict", "--severity", "error,warning"]
    const result = await capture(node, [tool("@effect/tsgo", "effect-tsgo"), ...args])
    code ||= result.code
    // A project also reads the sources of those it refers to: each finding once.
    if (result.code !== 0) for (const line of result.output.split("\n")) found.add(line)
  }
  return { code, output: [...found].join("\n") }
}

// Every sub-path a user may import: the compiled modules outside internal folders.
const entrypoints = (name) => {
  const dist = join(root, "packages", name, "dist")
  return readdirSync(dist, { recursive: true })
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => file.endsWith(".d.ts") && !/(^|\/)(internal\/|index\.d\.ts$)/.test(file))
    .map((file) => file.slice(0, -".d.ts".length))
    .sort()
}

const published = async () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-pack-"))
  try {
    const results = []
    for (const tarball of await pack(folder)) {
      const name = relative(folder, tarball).includes("millrace-core") ? "core" : "node"
      results.push(
        await capture(node, [tool("publint"), tarball, "--strict"]),
        await capture(node, [
          tool("@arethetypeswrong/cli", "attw"),
          tarball,
          ...["--profile", "esm-only", "--format", "ascii", "--no-color", "--no-emoji"],
          ...["--entrypoints", ".", ...entrypoints(name)]
        ])
      )
    }
    return worst(results)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const changesets = async () => {
  const names = packages().map((name) => JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8")))
  const known = new Set(names.filter((manifest) => !manifest.private).map((manifest) => manifest.name))
  const found = []
  for (const file of readdirSync(join(root, ".changeset"))) {
    if (!file.endsWith(".md") || file === "README.md") continue
    const text = readFileSync(join(root, ".changeset", file), "utf8")
    const [, front, body] = /^---\n([^]*?)\n---\n([^]*)$/.exec(text) ?? []
    if (front === undefined || body.trim() === "") {
      found.push(`.changeset/${file}: needs front matter and a sentence for the user`)
      continue
    }
    for (const line of front.split("\n").filter((entry) => entry.trim() !== "")) {
      const [, name, bump] = /^["']?([^"']+)["']?:\s*(\w+)$/.exec(line) ?? []
      if (!known.has(name)) found.push(`.changeset/${file}: "${line}" names no package of ours that is published`)
      if (!["major", "minor", "patch"].includes(bump))
        found.push(`.changeset/${file}: "${line}" is no major, minor or patch`)
    }
  }
  if (found.length > 0) return problems(found)
  // `status` compares with main; a checkout of one detached commit has none.
  const { code } = await git("rev-parse", "--verify", "--quiet", "main")
  return code === 0 ? capture(node, [tool("@changesets/cli", "changeset"), "status"]) : problems([])
}

const docs = () => {
  const script = join(root, "scripts", "docs.mjs")
  if (!existsSync(script)) return { code: 0, output: "", skipped: "no scripts/docs.mjs yet" }
  return capture(node, [script, "--check"])
}

/** Inside core, what a folder may import besides itself. A folder that is not named here is free. */
const directions = {
  model: [],
  policy: ["model"],
  observe: ["model"],
  client: ["model", "policy", "observe"],
  server: ["model", "policy", "client", "observe"],
  testing: ["model", "policy", "client"]
}

const layers = () => {
  const source = join(root, "packages", "core", "src")
  const found = []
  for (const file of readdirSync(source, { recursive: true })) {
    const path = file.replaceAll("\\", "/")
    const [folder] = path.split("/")
    if (!path.endsWith(".ts") || !Object.hasOwn(directions, folder)) continue
    const allowed = [folder, ...directions[folder]]
    const lines = readFileSync(join(source, file), "utf8").split("\n")
    lines.forEach((line, index) => {
      const [, specifier] = /^\s*(?:import|export|\}).*?["'](\.[^"']+)["']/.exec(line) ?? []
      if (specifier === undefined) return
      const target = new URL(specifier, `file:///${path}`).pathname.slice(1)
      if (!allowed.includes(target.split("/")[0])) {
        found.push(`packages/core/src/${path}:${index + 1}: ${folder} may import ${allowed.join(", ")}; not ${target}`)
      }
    })
  }
  return problems(found)
}

// Paths of one machine and hosts of one network, which mean nothing to anybody else.
const foreign = /\/work\/|\/tmp\/[a-z0-9]+\/|https?:\/\/(registry|deb)\./

const hygiene = async () => {
  const { code, stdout, output } = await git("ls-files", "-z", "--", ".", ":!pnpm-lock.yaml")
  if (code !== 0) return { code, output }
  const found = []
  for (const file of stdout.split("\0")) {
    const path = join(root, file)
    if (file === "" || !existsSync(path)) continue
    const text = readFileSync(path)
    if (text.includes(0)) continue
    text
      .toString()
      .split("\n")
      .forEach((line, index) => {
        if (foreign.test(line)) found.push(`${file}:${index + 1}: ${line.trim()}`)
      })
  }
  return problems(found)
}

const checks = [
  { name: "types", says: "tsc -b", run: command(tool("typescript", "tsc"), "-b", "--pretty") },
  { name: "lint", says: "oxlint, with types", run: command(tool("oxlint"), "--type-aware", "--deny-warnings") },
  { name: "format", says: "oxfmt", run: command(tool("oxfmt"), "--check") },
  { name: "effect", says: "Effect's diagnostics", run: effect },
  { name: "unused", says: "knip: files, exports, dependencies", run: command(tool("knip"), "--no-progress") },
  { name: "packages", says: "publint and attw on the packed tarballs", after: "types", run: published },
  { name: "changesets", says: "changesets parse and are there", run: changesets },
  { name: "docs", says: "generated docs are fresh", run: docs },
  { name: "layers", says: "testing → client → policy → model inside core", run: layers },
  { name: "hygiene", says: "no machine paths, no registry hosts", run: hygiene }
]

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !checks.some((check) => check.name === name))
if (unknown.length > 0) {
  console.error(`no check is called ${unknown.join(", ")}; there are ${checks.map((check) => check.name).join(", ")}`)
  process.exit(2)
}
const chosen = wanted.length === 0 ? checks : checks.filter((check) => wanted.includes(check.name))

const waiting = [...chosen]
const failed = []
const ended = new Map()
const wakers = []

const next = async () => {
  for (;;) {
    const index = waiting.findIndex(
      ({ after }) => after === undefined || ended.has(after) || !chosen.some((check) => check.name === after)
    )
    if (index >= 0) return waiting.splice(index, 1)[0]
    if (waiting.length === 0) return undefined
    await new Promise((resolve) => wakers.push(resolve))
  }
}

const outcome = async (check) => {
  if (ended.get(check.after) > 0) return { code: 0, output: "", skipped: `${check.after} failed` }
  try {
    return await check.run()
  } catch (error) {
    return { code: 1, output: String(error.message ?? error) }
  }
}

const worker = async () => {
  for (let check = await next(); check !== undefined; check = await next()) {
    const start = performance.now()
    const result = await outcome(check)
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(5)
    const mark = result.code > 0 ? "✗" : result.skipped ? "-" : "✓"
    const note = result.skipped ? ` (skipped: ${result.skipped})` : ""
    console.log(`${mark} ${check.name.padEnd(10)} ${seconds} s  ${check.says}${note}`)
    if (result.code > 0) failed.push({ ...check, output: result.output })
    ended.set(check.name, result.code)
    for (const wake of wakers.splice(0)) wake()
  }
}

await Promise.all(Array.from({ length: Math.min(4, Math.max(2, availableParallelism())) }, worker))

for (const { name, output } of failed) console.log(`\n── ${name} ──\n${output.trimEnd()}`)
console.log(
  failed.length === 0
    ? `\n${chosen.length} checks passed`
    : `\n${failed.length} of ${chosen.length} checks failed: ${failed.map(({ name }) => name).join(", ")}`
)
process.exitCode = failed.length === 0 ? 0 : 1
