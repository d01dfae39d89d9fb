/** What a pool knows of a server, besides how it stands. */
import { type Change, diff, type Options, type ServerConfig } from "../ServerConfig.ts"

export interface Spec {
  /** What finds it in the registry. */
  readonly key: string
  /** As it was given: read again where the default TLS changes. */
  readonly options: Options
  readonly config: ServerConfig
}

/** What differs; `undefined` if nothing does. */
export const changeOf = (previous: Spec, next: Spec): Change | undefined =>
  diff([previous.config], [next.config]).changed[0]
