"""The handles on what runs: a deployment of ours, or any v2 server that was connected to."""

from tritonnb.handle.connection import Connection, connect
from tritonnb.handle.current import deployment, deployments
from tritonnb.handle.deployed import Deployment
from tritonnb.handle.served import Served

__all__ = ["Connection", "Deployment", "Served", "connect", "deployment", "deployments"]
