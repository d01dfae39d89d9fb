/**
 * Requests that Node's parser lets pass, and that two servers may read differently. What comes after one is not taken for a
 * request.
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"

/** RFC 9112, 6.1: HTTP/1.0 knows no codings, so that somebody on the way may have seen another end of the body. */
const hasCodingInHttp10 = ({ headers, httpVersion }: IncomingMessage): boolean =>
  httpVersion === "1.0" && headers["transfer-encoding"] !== undefined

/** RFC 9112, 3.2: Node tells of the first only; somebody on the way may have gone by the other. */
const hasTwoHosts = ({ rawHeaders }: IncomingMessage): boolean => {
  let hosts = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]!
    if (name.length === 4 && name.toLowerCase() === "host") hosts++
  }
  return hosts > 1
}

/** @internal */
export const isFaulty = (request: IncomingMessage): boolean => hasCodingInHttp10(request) || hasTwoHosts(request)
