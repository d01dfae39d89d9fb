/** Where the figures come from; they mean little elsewhere. */
import * as Os from "node:os"

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly platform: string
  readonly node: string
  readonly date: string
}

export const machine = (): Machine => ({
  cpu: Os.cpus()[0]?.model.trim() ?? "unknown",
  cores: Os.availableParallelism(),
  memoryGiB: Math.round(Os.totalmem() / 2 ** 30),
  platform: `${process.platform} ${process.arch}`,
  node: process.version,
  date: new Date().toISOString()
})
