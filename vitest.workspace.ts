import { type TestProjectInlineConfiguration } from "vitest/config"

const packageTests = (name: string): TestProjectInlineConfiguration => ({
  extends: true,
  test: { name, root: `packages/${name}`, include: ["test/**/*.test.ts"] }
})

/** The test projects: one for each package, and `workspace` for what only shows when all of them are together. */
export const projects: Array<TestProjectInlineConfiguration> = [
  packageTests("core"),
  packageTests("node"),
  packageTests("examples"),
  {
    extends: true,
    test: { name: "workspace", include: ["test/*.test.ts"], testTimeout: 180_000, hookTimeout: 180_000 }
  }
]
