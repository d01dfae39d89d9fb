export * as FetchConnector from "./FetchConnector.ts"
export * as NodeHttpConnector from "./NodeHttpConnector.ts"
export * as SharedPolicies from "./SharedPolicies.ts"
export * as UndiciConnector from "./UndiciConnector.ts"
