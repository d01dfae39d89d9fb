import { defineConfig } from "vitest/config"
import { projects } from "./vitest.workspace.ts"

const floor = { lines: 90, branches: 90 }

export default defineConfig({
  test: {
    projects,
    coverage: {
      provider: "v8",
      include: ["packages/{core,node}/src/**/*.ts"],
      reporter: ["text-summary", "json-summary", "lcovonly"],
      thresholds: { "packages/core/src/**": floor, "packages/node/src/**": floor }
    }
  }
})
