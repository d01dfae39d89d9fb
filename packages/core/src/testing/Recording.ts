/**
 * Real traffic, recorded to a file once and replayed for ever.
 *
 * Both are connectors: `record` stands before the platform's and notes every attempt as it was really sent; `replay`
 * stands in its place, so that the real pool and its policies run on what was recorded.
 *
 * What it promises:
 *
 * - The file is JSON that a person can read and review; equal traffic gives equal files.
 * - Secrets are replaced before anything is written: headers of credentials (`authorization`, `cookie`, `set-cookie`,
 *   `x-api-key`, `proxy-authorization`), and headers, query parameters, and members of JSON bodies and forms whose names
 *   look secret (`access_token`, `client_secret`, `password`…), and whatever else is named in the options.
 * - A request that is not in the recording fails with `InvalidRequest`, which names the nearest one and what differs.
 * - Failures are recorded and replayed too, and so is a request that the caller gave up.
 *
 * What it never does: replay a request more often than it was recorded, or find secrets in plain text.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type { PlatformError } from "effect/PlatformError"
import { Connector } from "../client/Connector.ts"
import { Player } from "./internal/player.ts"
import { Recorder } from "./internal/recorder.ts"
import * as RecordingFile from "./internal/recordingFile.ts"

/**
 * The file is no recording, or one of a version that is not known.
 *
 * @category errors
 * @since 0.1.0
 */
export class RecordingError extends Data.TaggedError("RecordingError")<{
  readonly file: string
  readonly cause: unknown
}> {
  override get message(): string {
    return `${this.file} is not a recording of version 1: record it again`
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface RecordOptions {
  /** Where it is written, over what was there. */
  readonly file: string
  /** The largest body that is recorded, in bytes; default 1 MiB. A longer one reaches the caller, but not the file. */
  readonly maxBodySize?: number | undefined
  /** What is secret beside what is known for it. */
  readonly secrets?:
    | {
        /** Names of headers. */
        readonly headers?: ReadonlyArray<string> | undefined
        /** Paths of members of JSON bodies: `card.number`, `items.*.pin`. */
        readonly members?: ReadonlyArray<string> | undefined
        /** Names of headers, parameters or members that look secret and are not: `nextPageToken`. */
        readonly keep?: ReadonlyArray<string> | undefined
      }
    | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface ReplayOptions {
  readonly file: string
  /** `any` (default): each recorded request answers once, whenever it comes. `recorded`: in their order only. */
  readonly order?: "any" | "recorded" | undefined
}

/**
 * Records whatever goes through the connector below it. The file is written when the layer's scope ends, and made empty
 * when it begins: a place that cannot be written is told at once.
 *
 * No compressed response is asked for while it records.
 *
 * ```ts
 * import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
 * import { Pool } from "@millrace/core"
 * import { Recording } from "@millrace/core/testing"
 * import { UndiciConnector } from "@millrace/node"
 * import { Layer } from "effect"
 *
 * export const recorded = Pool.layer({ baseUrl: "https://billing.internal" }).pipe(
 *   Layer.provide(Recording.record({ file: "test/billing.json", secrets: { members: ["customer.iban"] } })),
 *   Layer.provide([UndiciConnector.layer, NodeFileSystem.layer])
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const record = (
  options: RecordOptions
): Layer.Layer<Connector, PlatformError, Connector | FileSystem.FileSystem> =>
  Layer.effect(
    Connector,
    Effect.gen(function* () {
      const { file, maxBodySize = 1024 * 1024, secrets } = options
      const files = yield* FileSystem.FileSystem
      const rules = {
        headers: (secrets?.headers ?? []).map((name) => name.toLowerCase()),
        members: secrets?.members ?? [],
        keep: secrets?.keep ?? []
      }
      const recorder = new Recorder(yield* Connector, rules, maxBodySize)
      const save = Effect.suspend(() => files.writeFileString(file, RecordingFile.write(rules, recorder.exchanges)))
      yield* save
      // A defect here would hide how whatever was recorded has ended.
      yield* Effect.addFinalizer(() =>
        Effect.catch(save, (error) => Effect.logError(`The recording is lost: ${file} cannot be written`, error))
      )
      return recorder.connector
    })
  )

/**
 * Answers from a recording, without a network.
 *
 * ```ts
 * import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
 * import { Pool } from "@millrace/core"
 * import { Recording } from "@millrace/core/testing"
 * import { Layer } from "effect"
 *
 * export const replayed = Pool.layer({ baseUrl: "https://billing.internal" }).pipe(
 *   Layer.provide(Recording.replay({ file: "test/billing.json" })),
 *   Layer.provide(NodeFileSystem.layer)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const replay = (
  options: ReplayOptions
): Layer.Layer<Connector, PlatformError | RecordingError, FileSystem.FileSystem> =>
  Layer.effect(
    Connector,
    Effect.gen(function* () {
      const { file, order = "any" } = options
      const files = yield* FileSystem.FileSystem
      const content = yield* Effect.mapError(
        RecordingFile.decode(yield* files.readFileString(file)),
        (cause) => new RecordingError({ file, cause })
      )
      return new Player(content, order === "recorded").connector
    })
  )
