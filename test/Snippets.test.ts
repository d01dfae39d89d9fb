// Every ```ts fence in the documentation and in JSDoc compiles; one whose first line is `// run` also runs and ends well.

import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"

interface Snippet {
  /** Where the fence opens, from the root of the repository. */
  readonly file: string
  readonly line: number
  readonly code: string
}

const root = join(import.meta.dirname, "..")
// Inside a package that depends on all others, so that imports resolve as a user's do; outside node_modules, where Node strips no types.
const folder = join(root, "packages", "examples", ".snippets", String(process.pid))

const fences = (file: string, lines: ReadonlyArray<string>): ReadonlyArray<Snippet> => {
  const found: Array<Snippet> = []
  let open:
    | { readonly line: number; readonly indent: number; readonly language: string; readonly code: Array<string> }
    | undefined
  lines.forEach((text, index) => {
    const [, indent = "", language] = /^(\s*)```(\S*)/.exec(text) ?? []
    if (open === undefined) {
      if (language !== undefined) open = { line: index + 1, indent: indent.length, language, code: [] }
    } else if (language !== undefined) {
      if (open.language === "ts") found.push({ file, line: open.line, code: open.code.join("\n") })
      open = undefined
    } else {
      open.code.push(text.slice(Math.min(open.indent, text.length - text.trimStart().length)))
    }
  })
  if (open !== undefined) throw new Error(`${file}:${open.line}: the fence is never closed`)
  return found
}

/** The text of JSDoc comments; every other line is left empty, so that line numbers stay true. */
const comments = (lines: ReadonlyArray<string>): ReadonlyArray<string> => {
  let inside = false
  return lines.map((text) => {
    if (!inside) {
      inside = /^\s*\/\*\*/.test(text) && !text.includes("*/")
      return ""
    }
    inside = !text.includes("*/")
    return inside ? text.replace(/^\s*\* ?/, "") : ""
  })
}

const read = (file: string) => readFileSync(join(root, file), "utf8").split(/\r?\n/)

const sources = (...patterns: ReadonlyArray<string>) => globSync(patterns, { cwd: root }).sort()

const snippets = [
  ...sources("README.md", "CONTRIBUTING.md", "docs/**/*.md", "packages/*/README.md").flatMap((file) =>
    fences(file, read(file))
  ),
  ...sources("packages/*/src/**/*.ts").flatMap((file) => fences(file, comments(read(file))))
]

const pathOf = (index: number) => join(folder, `snippet-${index}.ts`)

const execute = (args: ReadonlyArray<string>, timeout: number) =>
  new Promise<{ readonly failed: boolean; readonly output: string }>((resolve) => {
    execFile(process.execPath, args, { cwd: root, timeout, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      const end = error?.killed ? `\nstill running after ${timeout} ms` : ""
      resolve({ failed: error !== null, output: stdout + stderr + end })
    })
  })

/** Names a place in a generated file by the line that a person wrote. */
const located = (output: string) =>
  output.replaceAll(/[^\s:()]*snippet-(\d+)\.ts(?:\((\d+),(\d+)\)|:(\d+):(\d+))?/g, (text, index, ...place) => {
    const snippet = snippets[Number(index)]
    if (snippet === undefined) return text
    const [line = place[2], column = place[3]] = place
    return `${snippet.file}:${snippet.line + Number(line ?? 0)}${column === undefined ? "" : `:${column}`}`
  })

let complaints = ""

beforeAll(async () => {
  mkdirSync(folder, { recursive: true })
  snippets.forEach(({ code }, index) => writeFileSync(pathOf(index), `${code}\n`))
  if (snippets.length === 0) return
  const settings = {
    extends: relative(folder, join(root, "tsconfig.base.json")),
    compilerOptions: {
      composite: false,
      incremental: false,
      declaration: false,
      declarationMap: false,
      noEmit: true,
      noUnusedLocals: false,
      rootDir: relative(folder, root),
      tsBuildInfoFile: null,
      types: ["node"]
    },
    files: snippets.map((_, index) => `snippet-${index}.ts`)
  }
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(settings, null, 2))
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  const { failed, output } = await execute([tsc, "--project", folder, "--pretty", "false"], 120_000)
  complaints = failed ? output : ""
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe("Snippets", () => {
  it("compile", () => {
    assert.strictEqual(located(complaints), "")
  })

  snippets.forEach(({ code, file, line }, index) => {
    if (code.split("\n")[0]?.trim() !== "// run") return
    it.concurrent(`${file}:${line} runs`, async () => {
      const { failed, output } = await execute([pathOf(index)], 10_000)
      assert.isFalse(failed, `${file}:${line}\n${located(output)}`)
    })
  })
})
