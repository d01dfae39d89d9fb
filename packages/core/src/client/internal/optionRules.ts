/** What no option can know alone: which of them fit together. */
import type { Problem } from "../../model/internal/field.ts"
import { readFields } from "../../model/internal/groupField.ts"
import { fields } from "./options.ts"

/** Headers that prove who sends: they must not go to whatever host a request names. */
const credentials: ReadonlySet<string> = new Set(["authorization", "cookie", "proxy-authorization", "x-api-key"])

/** Reads options of unknown origin, each and together. */
export const check = (input: unknown) => {
  const problems: Array<Problem> = []
  const options = readFields(fields, input, "", problems)
  const refuse = (path: string, message: string): void => void problems.push({ path, message })
  // Not given, which is another thing than given and refused.
  const absent = (value: unknown, path: string): boolean =>
    value === undefined && !problems.some((problem) => problem.path === path)
  const { bodyBufferSize, ejection, maxDecompressedSize, tls } = options

  if (absent(options.baseUrl, "baseUrl")) {
    if (options.auth !== undefined && options.auth !== false)
      refuse("auth", "would go to every host, as there is no baseUrl; put it under `hosts`")
    for (const [name] of options.headers ?? []) {
      if (!credentials.has(name)) continue
      refuse(`headers.${name}`, "would go to every host, as there is no baseUrl; put it under `hosts`")
    }
  }
  if (tls?.cert !== undefined && absent(tls.key, "tls.key")) refuse("tls.key", "is missing: tls.cert needs it")
  if (tls?.key !== undefined && absent(tls.cert, "tls.cert")) refuse("tls.cert", "is missing: tls.key needs it")
  if (options.socketPath !== undefined) {
    if (typeof options.proxy === "object") refuse("proxy", "must not be a URL when socketPath is given")
    if (options.addresses === "spread") refuse("addresses", 'must not be "spread" when socketPath is given')
  }
  const buffer = bodyBufferSize ?? fields.bodyBufferSize.default
  if ((maxDecompressedSize ?? fields.maxDecompressedSize.default) < buffer) {
    refuse("maxDecompressedSize", `must be at least bodyBufferSize, which is ${buffer}`)
  }
  if (ejection !== undefined && ejection !== false) {
    const base = ejection.base ?? fields.ejection.fields.base.default
    if ((ejection.max ?? fields.ejection.fields.max.default) < base) {
      refuse("ejection.max", `must be at least ejection.base, which is ${base} ms`)
    }
  }
  return { options, problems }
}

/** Settings of one host, checked. */
export type CheckedHost = NonNullable<ReturnType<typeof fields.hosts.read>>[string]

/** Reads settings of one host. */
export const checkHost = (origin: string, host: unknown) => {
  const problems: Array<Problem> = []
  const hosts = fields.hosts.read({ [origin]: host }, "hosts", problems)
  const settings: CheckedHost = Object.values(hosts ?? {})[0] ?? {}
  return { settings, problems }
}
