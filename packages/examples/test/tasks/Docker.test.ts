/** The container files, as far as they can be checked without Docker: what they name exists, and their commands run. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Yaml from "effect/encoding/Yaml"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join, resolve } from "node:path"
import { promisify } from "node:util"
import * as Settings from "../../src/tasks/Settings.ts"
import { field } from "./service.ts"

const root = join(import.meta.dirname, "../../../..")
const folder = join(root, "packages/examples/src/tasks")

interface Instruction {
  readonly name: string
  readonly text: string
}

const known = /^(FROM|WORKDIR|COPY|RUN|USER|ENV|EXPOSE|VOLUME|HEALTHCHECK|ENTRYPOINT) (.+)$/

const instructions: ReadonlyArray<Instruction> = readFileSync(join(folder, "Dockerfile"), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map((line) => {
    const [, name, text] = known.exec(line) ?? []
    if (name === undefined || text === undefined) throw new Error(`not an instruction: ${line}`)
    return { name, text }
  })

const of = (name: string) => instructions.filter((one) => one.name === name).map(({ text }) => text)

/** Files of the repository that are copied, and where to. */
const copies = of("COPY")
  .filter((text) => !text.startsWith("--from"))
  .map((text) => text.split(" "))
  .map((words) => ({ from: words.slice(0, -1), to: words.at(-1) ?? "" }))

const environment: Record<string, string> = Object.fromEntries(
  of("ENV").flatMap((text) => text.split(" ").map((pair) => pair.split("=", 2) as [string, string]))
)

const compose: unknown = Yaml.parse(readFileSync(join(folder, "docker-compose.yml"), "utf8"))
const services = Object.entries((field(compose, "services") ?? {}) as Record<string, unknown>)

const run = promisify(execFile)

describe("Dockerfile", () => {
  it("copies what exists, and has the Node and the pnpm of the repository", () => {
    for (const { from } of copies) for (const path of from) assert.isTrue(existsSync(join(root, path)), path)
    const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      readonly devDependencies: { readonly node: string }
    }
    for (const text of of("FROM")) assert.include(text, `node:${devDependencies.node.split(".")[0]}-`)
    const [, pnpm] = /pnpm@([\d.]+)/.exec(of("RUN")[0] ?? "") ?? []
    assert.include(readFileSync(join(root, "scripts/workspace.mjs"), "utf8"), `pnpm@${pnpm}`)
  })

  it("its environment is one of the service, and the health check asks the address of operators", async () => {
    const settings = await Effect.runPromise(Settings.read({ environment }))
    assert.strictEqual(settings.server.bind, `:${of("EXPOSE")[0]}`)
    assert.include(of("HEALTHCHECK")[0], `http://${settings.admin.bind}/health/ready`)
  })

  it(
    "its commands make a folder in which the service starts, is healthy, and stops",
    { timeout: 180_000 },
    async () => {
      const image = mkdtempSync(join(tmpdir(), "tasks-image-"))
      try {
        const app = join(image, "app")
        for (const { from, to } of copies) {
          const target = to.startsWith("/") ? join(image, to) : resolve(app, to)
          for (const path of from) {
            // A folder's content is copied, a file goes into the folder.
            const end = statSync(join(root, path)).isDirectory() ? target : join(target, basename(path))
            mkdirSync(join(end, ".."), { recursive: true })
            cpSync(join(root, path), end, { recursive: true })
          }
        }
        await run("sh", ["-c", of("RUN")[0] ?? "false"], { cwd: app, env: { ...process.env, CI: "true" } })

        const [command = "", ...args] = JSON.parse(of("ENTRYPOINT")[0] ?? "[]") as ReadonlyArray<string>
        assert.strictEqual(command, "node")
        const child = spawn(
          process.execPath,
          args.map((arg) => join(image, arg)),
          {
            cwd: image,
            env: {
              ...process.env,
              ...environment,
              TASKS_SERVER_BIND: "127.0.0.1:0",
              TASKS_ADMIN_BIND: "127.0.0.1:0",
              TASKS_STORAGE_DIRECTORY: join(image, "data"),
              TASKS_LOGGER_HANDLER: "json"
            },
            stdio: ["ignore", "pipe", "pipe"]
          }
        )
        const exit = once(child, "exit")
        let output = ""
        child.stderr.setEncoding("utf8").on("data", (chunk: string) => (output += chunk))
        const admin = await new Promise<string>((resolve, reject) => {
          child.once("exit", () => reject(new Error(output)))
          child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
            output += chunk
            const [, url] = /"admin":"http:\/\/([^"/]+)/.exec(output) ?? []
            if (url !== undefined) resolve(url)
          })
        })
        const [, script = ""] = /CMD node -e "(.*)"$/.exec(of("HEALTHCHECK")[0] ?? "") ?? []
        await run(process.execPath, ["-e", script.replace(environment["TASKS_ADMIN_BIND"] ?? "", admin)])
        child.kill("SIGTERM")
        assert.deepStrictEqual(await exit, [0, null], output)
      } finally {
        rmSync(image, { recursive: true, force: true })
      }
    }
  )
})

describe("docker-compose.yml", () => {
  it("builds from what exists, and gives the service an environment that it takes", async () => {
    const [, tasks] = services.find(([name]) => name === "tasks") ?? []
    const build = field(tasks, "build")
    const context = resolve(folder, String(field(build, "context")))
    assert.strictEqual(context, resolve(root))
    assert.isTrue(existsSync(join(context, String(field(build, "dockerfile")))))
    const given = Object.entries((field(tasks, "environment") ?? {}) as Record<string, string>).map(
      ([name, value]) => [name, value.replace(/^\$\{\w+:-(.*)\}$/, "$1")] as const
    )
    const settings = await Effect.runPromise(
      Settings.read({ environment: { ...environment, ...Object.fromEntries(given) } })
    )
    const names = services.map(([name]) => name)
    assert.include(names, settings.storage.host)
    assert.include(names, settings.clickhouse.address.replace(/^(?:\w+:\/\/)?([^:/]+).*$/, "$1"))
    const grace = Number.parseInt(String(field(tasks, "stop_grace_period")), 10)
    assert.isAbove(grace, 10 + 14 + 5)
  })

  it("who is waited for has a health check, and every volume is declared", () => {
    const volumes = Object.keys((field(compose, "volumes") ?? {}) as object)
    for (const [name, service] of services) {
      for (const [other, how] of Object.entries((field(service, "depends_on") ?? {}) as Record<string, unknown>)) {
        const [, dependency] = services.find(([name]) => name === other) ?? []
        assert.isDefined(dependency, `${name} waits for ${other}`)
        if (field(how, "condition") === "service_healthy") assert.isDefined(field(dependency, "healthcheck"))
      }
      for (const mount of (field(service, "volumes") ?? []) as ReadonlyArray<string>) {
        assert.include(volumes, mount.split(":")[0])
      }
    }
  })
})
