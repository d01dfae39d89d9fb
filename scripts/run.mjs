// The one entry behind every npm script: `node scripts/run.mjs <task> [arguments]`.
// Installs what is missing, then runs the task on the repository's own Node 24.

import { existsSync, mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { cache, install, node, root, run, tool } from "./workspace.mjs"

const script = (file) => async (args) => {
  if (!existsSync(join(root, file))) {
    process.stderr.write(`millrace: ${file} does not exist yet\n`)
    return 1
  }
  return run(node, [join(root, file), ...args])
}

const test = async (args) => {
  const report = join(cache, "tests.json")
  mkdirSync(cache, { recursive: true })
  rmSync(report, { force: true })
  // A part of the tests cannot reach the floor of the whole.
  const coverage = args.length === 0 ? ["--coverage"] : []
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`]
  return run(node, [tool("vitest"), "run", ...coverage, ...reporters, ...args])
}

const fix = async (args) => {
  const lint = await run(node, [tool("oxlint"), "--type-aware", "--fix", ...args])
  const format = await run(node, [tool("oxfmt"), ...args])
  return lint || format
}

const tasks = {
  tour: {
    says: "the tour: four instances, one balancer, three clients",
    run: script("packages/examples/src/tour/main.ts")
  },
  gateway: {
    says: "a gateway in front of three services, until Ctrl-C",
    run: script("packages/examples/src/gateway/main.ts")
  },
  tasks: {
    says: "the tasks service, until Ctrl-C",
    run: script("packages/examples/src/tasks/main.ts")
  },
  load: {
    says: "10 000 tasks through the tasks service, on a PostgreSQL",
    run: script("packages/examples/src/tasks/load/main.ts")
  },
  test: { says: "all tests; name a file or -t pattern for some", run: test },
  check: { says: "everything that is not a test; name checks for some", run: script("scripts/check.mjs") },
  bench: { says: "the benchmark, beside its peers", run: script("packages/examples/src/bench/main.ts") },
  soak: { says: "the soak: ten minutes of traffic and failures", run: script("packages/examples/src/bench/soak.ts") },
  fix: { says: "what linter and formatter can mend by themselves", run: fix },
  docs: { says: "the generated parts of the documentation", run: script("scripts/docs.mjs") },
  changeset: {
    says: "a note on this change for the next release",
    run: (args) => run(node, [tool("@changesets/cli", "changeset"), ...args])
  }
}

const [name = "", ...args] = process.argv.slice(2)
const task = Object.hasOwn(tasks, name) ? tasks[name] : undefined
if (task === undefined) {
  const list = Object.entries(tasks).map(([key, { says }]) => `  ${key.padEnd(10)} ${says}`)
  process.stderr.write(`usage: node scripts/run.mjs <task> [arguments]\n\n${list.join("\n")}\n`)
  process.exit(2)
}

await install()
process.stderr.write(`millrace: ${task.says}\n`)
process.exitCode = await task.run(args)
