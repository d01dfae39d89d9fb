export * as FaultInjection from "./FaultInjection.ts"
export * as MockPool from "./MockPool.ts"
export * as Recording from "./Recording.ts"
