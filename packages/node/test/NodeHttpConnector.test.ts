import * as NodeHttpConnector from "../src/NodeHttpConnector.ts"
import { connectorContract } from "./connectorContract.ts"

connectorContract("NodeHttpConnector", NodeHttpConnector.layer)
