import * as FetchConnector from "../src/FetchConnector.ts"
import { connectorContract } from "./connectorContract.ts"

connectorContract("FetchConnector", FetchConnector.layer, { interim: false, ownsConnection: false })
