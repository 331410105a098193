// Package embedded runs nats-server with JetStream inside this process, on file
// storage: one server for `dispatcher run` without a NATS and for the demo, or a
// cluster of three on loopback for the tests of replication and failover.
//
// What is guaranteed: when Start has returned, the server takes connections and
// JetStream answers; a store directory belongs to one server at a time, and a
// second one is refused (nats-server itself would open it and damage it); when
// Close has returned, everything is on disk and the directory is free again.
//
// Nothing here asks for a password or speaks TLS. A server that is reachable
// from other machines is better run by itself, with NATS_URL pointing at it.
package embedded
