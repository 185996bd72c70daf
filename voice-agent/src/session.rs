//! The gRPC stream to gateways, signalling and media servers.
