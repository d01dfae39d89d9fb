export * as MockPool from "./MockPool.ts"
