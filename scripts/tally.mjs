// The last line of .ci/run: how many tests of the last `npm test` passed and failed.

import { readFileSync } from "node:fs"
import { join } from "node:path"
import { cache } from "./workspace.mjs"

const tally = () => {
  const report = JSON.parse(readFileSync(join(cache, "tests.json"), "utf8"))
  // A file that fails before its first test has no failed test to count.
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed")
  )
  return { passed: report.numPassedTests, failed: report.numFailedTests + broken.length }
}

let counts = { passed: 0, failed: 1 }
try {
  counts = tally()
} catch {
  console.log("the tests left no report: they did not run to their end")
}
console.log(`${counts.passed} passed, ${counts.failed} failed`)
