// Builds the publishable packages and packs them as a release would: `node scripts/pack.mjs <folder>`.
// Prints the paths of the tarballs, one a line, core first.

import { existsSync, mkdirSync, readdirSync, realpathSync, rmSync } from "node:fs"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { capture, node, pnpmCommand, root, tool } from "./workspace.mjs"

export const published = ["core", "node"]

const must = async (command, args, options) => {
  const result = await capture(command, args, options)
  if (result.code !== 0) throw new Error(`${[command, ...args].join(" ")} failed:\n${result.output}`)
  return result.stdout
}

/** tsc leaves what it once wrote: a module that is gone from src must not be published from dist. */
const prune = (name) => {
  const folder = join(root, "packages", name)
  for (const file of readdirSync(join(folder, "dist"), { recursive: true })) {
    const [, module] = /^(.*?)(?:\.d\.ts|\.js)(?:\.map)?$/.exec(file) ?? []
    if (module !== undefined && !existsSync(join(folder, "src", `${module}.ts`))) rmSync(join(folder, "dist", file))
  }
}

export const pack = async (folder) => {
  mkdirSync(folder, { recursive: true })
  await must(node, [tool("typescript", "tsc"), "-b", ...published.map((name) => join("packages", name))])
  const tarballs = []
  for (const name of published) {
    prune(name)
    const { command, args, options } = pnpmCommand(["pack", "--json", "--pack-destination", folder])
    const stdout = await must(command, args, { ...options, cwd: join(root, "packages", name) })
    tarballs.push(resolve(folder, JSON.parse(stdout).filename))
  }
  return tarballs
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2]
  if (folder === undefined) {
    process.stderr.write("usage: node scripts/pack.mjs <folder>\n")
    process.exit(2)
  }
  try {
    for (const tarball of await pack(resolve(folder))) console.log(tarball)
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  }
}
