export * as UndiciConnector from "./UndiciConnector.ts"
