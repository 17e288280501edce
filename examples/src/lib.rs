//! Programs to copy from: `quickstart`, the shortest service, and `checkout`, three services with a load and a fault.
