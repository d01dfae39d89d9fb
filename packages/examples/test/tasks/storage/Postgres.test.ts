import * as postgres from "../postgres.ts"
import { contract } from "./contract.ts"
import { model } from "./model.ts"

postgres.describeDatabase("a PostgreSQL", () => {
  contract("Postgres", postgres.storage())
  model("Postgres", postgres.storage(), 60)
})
