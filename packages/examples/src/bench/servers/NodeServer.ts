/** Node alone: what an Effect server is built on. */
import * as Http from "node:http"
import { smallAnswer } from "../Work.ts"
import { contentType } from "./Answer.ts"
import { listen } from "./Listening.ts"
import type { Subject } from "./Subject.ts"

export const subject: Subject = () =>
  listen(
    Http.createServer((_, response) => {
      response.writeHead(200, { "content-type": contentType, "content-length": Buffer.byteLength(smallAnswer) })
      response.end(smallAnswer)
    })
  )
