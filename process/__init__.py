"""What both programs do alike as processes: settings from flags and environment, logs, the HTTP endpoint."""

import os

# gRPC's own lines on standard error are no log of ours: one for each stranger who speaks no TLS, and never JSON. It reads
# this when it is first imported, and whoever sets it keeps it. What fails is told by the programs themselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
