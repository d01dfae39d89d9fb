/** Apart from `Connector`, which exports it, because the transport of a plain function needs it too. */
import * as Data from "effect/Data"
import type { Failure } from "../Connector.ts"

/**
 * What a `Respond` fails with to play a certain failure of a connection; any other error plays one that broke.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransportError extends Data.TaggedError("TransportError")<{ readonly failure: Failure }> {}
