import { defineConfig } from "vitest/config"
import { projects } from "./vitest.workspace.ts"

const floor = { lines: 90, branches: 90 }

export default defineConfig({
  test: {
    projects,
    coverage: {
      provider: "v8",
      include: ["packages/{core,node}/src/**/*.ts", "packages/examples/src/tasks/**/*.ts"],
      // Programs: tests run them as processes of their own.
      exclude: ["packages/examples/src/tasks/{main.ts,load/**}"],
      reporter: ["text-summary", "json-summary", "lcovonly"],
      thresholds: { "packages/core/src/**": floor, "packages/node/src/**": floor, "packages/examples/src/**": floor }
    }
  }
})
