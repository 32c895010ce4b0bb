"""The four gRPC services of Mekiki and the runtime they share."""
