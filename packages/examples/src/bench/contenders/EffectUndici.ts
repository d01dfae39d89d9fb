/** Effect's own undici client: as it comes, with a span for each request, and with spans off. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { type Contender, connections } from "../Work.ts"
import { byHttpClient } from "./Requests.ts"

const make =
  (options: { readonly traced: boolean }): Contender =>
  async (origin) => {
    const runtime = ManagedRuntime.make(NodeHttpClient.layerUndiciOptions({ connections }))
    const client = await runtime.runPromise(HttpClient.HttpClient)
    return (work) => {
      const send = byHttpClient(client, origin + work.path, work)
      return {
        _tag: "Effect",
        send: options.traced ? send : Effect.provideService(send, HttpClient.TracerDisabledWhen, () => true)
      }
    }
  }

export const traced = make({ traced: true })
export const untraced = make({ traced: false })
