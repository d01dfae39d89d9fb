/** A server that is measured: how it is started, each in a process of its own. */

export interface Running {
  readonly port: number
  /** Microseconds of processor time that it has used, where it is not this process. */
  readonly cpu?: () => number
}

/** Gives nothing where the program is not installed. `upstream` is the origin that a proxy forwards to. */
export type Subject = (upstream: string) => Promise<Running | undefined>
