// What a user gets: the packages as pnpm packs them, installed by plain npm in an empty project, outside the workspace.

import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const root = join(import.meta.dirname, "..")
const folder = mkdtempSync(join(tmpdir(), "millrace-packaging-"))
const project = join(folder, "project")

const run = async (command: string, args: ReadonlyArray<string>, cwd = project): Promise<string> => {
  const { stdout } = await promisify(execFile)(command, args, { cwd, timeout: 120_000 }).catch(
    (error: Error & { stdout: string; stderr: string }) => {
      throw new Error(`${error.message}\n${error.stdout}\n${error.stderr}`)
    }
  )
  return stdout
}

const node = (...args: ReadonlyArray<string>) => run(process.execPath, args)

interface Manifest {
  readonly version: string
  readonly exports: Record<string, unknown>
  readonly dependencies?: Record<string, string>
}

const manifestOf = (name: string) =>
  JSON.parse(readFileSync(join(project, "node_modules", name, "package.json"), "utf8")) as Manifest

const program = `
import { Effect, Layer } from "effect"
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { createServer } from "node:http"
import { type AddressInfo } from "node:net"

const server = createServer((request, response) => response.end("you asked for " + request.url))
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
const baseUrl = "http://127.0.0.1:" + (server.address() as AddressInfo).port

const program = Effect.gen(function*() {
  const pool = yield* Pool.Pool
  const response = yield* pool.client.get("/hello")
  console.log(response.status, yield* response.text)
}).pipe(Effect.provide(Pool.layer({ baseUrl, size: 2 }).pipe(Layer.provide(UndiciConnector.layer))))

await Effect.runPromise(program)
server.close()
`

beforeAll(async () => {
  const tarballs = await run(process.execPath, [join(root, "scripts", "pack.mjs"), join(folder, "tarballs")], root)
  const { version } = JSON.parse(readFileSync(join(root, "node_modules/effect/package.json"), "utf8")) as Manifest
  mkdirSync(project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }))
  await run("npm", [
    "install",
    ...["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"],
    ...tarballs.trim().split("\n"),
    `effect@${version}`
  ])
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Modules that need an optional peer, which a project without servers does not install. */
const optional: ReadonlyArray<string> = ["NodeListener"]

describe("Packaging", () => {
  for (const name of ["@millrace/core", "@millrace/node"]) {
    describe(name, () => {
      const files = () => globSync("**/*", { cwd: join(project, "node_modules", name) })

      it("holds compiled modules, their types and their sources, and nothing else", () => {
        const found = files().map((file) => file.replaceAll("\\", "/"))
        for (const file of ["LICENSE", "dist/index.js", "dist/index.d.ts", "dist/index.d.ts.map", "src/index.ts"]) {
          assert.include(found, file)
        }
        const foreign = /(^|\/)tests?(\/|$)|\.test\.|\.tsbuildinfo$|tsconfig|\.env/
        assert.deepStrictEqual(
          found.filter((file) => foreign.test(file)),
          []
        )
      })

      it("exports dist, with versions instead of workspace protocols", () => {
        const manifest = manifestOf(name)
        assert.deepStrictEqual(manifest.exports["."], { types: "./dist/index.d.ts", default: "./dist/index.js" })
        assert.notMatch(JSON.stringify(manifest), /workspace:|catalog:/)
      })

      it("compiled modules import compiled modules", () => {
        for (const file of files().filter((path) => path.endsWith(".js"))) {
          const text = readFileSync(join(project, "node_modules", name, file), "utf8")
          assert.notMatch(text, /(?:from|import\()\s*["']\.[^"']*\.ts["']/, file)
        }
      })

      it("opens every public module", async () => {
        const modules = files()
          .map((file) => file.replaceAll("\\", "/"))
          .filter((file) => /^dist\/.*\.js$/.test(file) && !/(\/|^)(internal\/|index\.js$)/.test(file))
          .map((file) => file.slice("dist/".length, -".js".length))
          .filter((module) => !optional.includes(module))
        assert.isNotEmpty(modules)
        const script = `for (const path of ${JSON.stringify(modules)}) await import(${JSON.stringify(name)} + "/" + path)`
        await node("--input-type=module", "--eval", script)
      })

      it("blocks every internal folder", async () => {
        const modules = files()
          .map((file) => file.replaceAll("\\", "/"))
          .filter((file) => /^dist\/(.*\/)?internal\/.*\.js$/.test(file))
          .map((file) => file.slice("dist/".length, -".js".length))
        const script = `
          const open = []
          for (const path of ${JSON.stringify([...modules, "internal/x", "index"])}) {
            const code = await import(${JSON.stringify(name)} + "/" + path).then(() => "open", (error) => error.code)
            if (code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") open.push(path + ": " + code)
          }
          console.log(JSON.stringify(open))`
        assert.deepStrictEqual(JSON.parse(await node("--input-type=module", "--eval", script)), [])
      })
    })
  }

  it("depends on the core of the same release", () => {
    assert.strictEqual(
      manifestOf("@millrace/node").dependencies?.["@millrace/core"],
      `^${manifestOf("@millrace/core").version}`
    )
    assert.isFalse(existsSync(join(project, "node_modules/@millrace/node/node_modules/@millrace")))
  })

  it("blocks the exchange, and opens the pool by its sub-path", async () => {
    const blocked = `await import("@millrace/core/client/internal/exchange").catch((error) => console.log(error.code))`
    assert.strictEqual((await node("--input-type=module", "--eval", blocked)).trim(), "ERR_PACKAGE_PATH_NOT_EXPORTED")
    const open = `console.log(typeof (await import("@millrace/core/client/Pool")).layer)`
    assert.strictEqual((await node("--input-type=module", "--eval", open)).trim(), "function")
  })

  it("type-checks a program of ten lines", async () => {
    writeFileSync(join(project, "program.ts"), program)
    const settings = {
      compilerOptions: {
        module: "NodeNext",
        target: "ES2023",
        strict: true,
        skipLibCheck: true,
        noEmit: true,
        types: ["node"],
        typeRoots: [join(root, "node_modules/@types")]
      },
      files: ["program.ts"]
    }
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify(settings))
    await node(join(root, "node_modules/typescript/bin/tsc"), "--project", project)
  })

  it("runs a program of ten lines", async () => {
    writeFileSync(join(project, "program.ts"), program)
    assert.strictEqual((await node("program.ts")).trim(), "200 you asked for /hello")
  })

  it("opens the modules with an optional peer where that is installed", async () => {
    const { version } = JSON.parse(
      readFileSync(join(root, "packages/node/node_modules/@effect/platform-node/package.json"), "utf8")
    ) as Manifest
    const args = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
    await run("npm", ["install", ...args, `@effect/platform-node@${version}`])
    for (const module of optional) {
      await node("--input-type=module", "--eval", `await import("@millrace/node/${module}")`)
    }
  })
})
