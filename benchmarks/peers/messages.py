"""What protoc makes of shop.proto, made anew when it is imported; nothing generated is kept."""

import grpc

# The path is looked for below the folders of sys.path, of which the repository's root is one.
messages, services = grpc.protos_and_services("benchmarks/peers/shop.proto")
"""The modules that `protoc --python_out --grpc_python_out` would have written."""
